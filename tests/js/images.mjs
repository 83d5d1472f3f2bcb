// What LM Studio's own JavaScript SDK, unmodified, makes of images: tells what the model sees in those it is given.
// Arguments: the engine's address, the model, the question, then image files. Prints {file: answer or error}, with
// the answer to all of them at once under "all".
import { LMStudioClient } from "@lmstudio/sdk";
import { readFileSync } from "node:fs";

const [address, key, question, ...files] = process.argv.slice(2);
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const client = new LMStudioClient({ baseUrl: `ws://${address}`, logger: quiet });
const model = await client.llm.model(key, { verbose: false });
const answers = {};

async function ask(name, images) {
  try {
    const result = await model.respond([{ role: "user", content: question, images }], { temperature: 0 });
    answers[name] = result.content;
  } catch (error) {
    answers[name] = error.message;
  }
}

const images = [];
for (const file of files) {
  const image = await client.files.prepareImage(file);
  await ask(file, [image]);
  if (!answers[file].includes("cannot")) images.push(image);
}
const content = readFileSync(files[0]).toString("base64");
await ask("all", [await client.files.prepareImageBase64("first.png", content), ...images]);
console.log(JSON.stringify(answers));
await client[Symbol.asyncDispose]();
