// LM Studio's own JavaScript SDK, unmodified, against the engine whose address is given.
// Prints one JSON object: the name of every check, with "ok" or what went wrong. Each check has a time limit,
// because this SDK drops what it does not understand and then waits for ever. With an API token only the first runs.
import { LMStudioClient, tool } from "@lmstudio/sdk";
import { z } from "zod";
import assert from "node:assert/strict";

const [address, apiToken] = process.argv.slice(2);
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const warnings = [];
const logger = { ...quiet, warn: (...words) => warnings.push(words.join(" ")) };
const client = new LMStudioClient({ baseUrl: `ws://${address}`, logger, ...(apiToken ? { apiToken } : {}) });
const SCRIPTED = "scripted";
const EMBEDDING = "text-embedding-embed";
const results = {};
const limited = (work, seconds = 15) =>
  Promise.race([
    work,
    new Promise((_, reject) => setTimeout(() => reject(new Error("no answer in time")), seconds * 1000).unref()),
  ]);

async function check(name, work) {
  if (apiToken && name !== "list downloaded") return;
  try {
    await limited(work());
    results[name] = "ok";
  } catch (error) {
    results[name] = `${error.name}: ${error.message}`;
  }
}

await check("list downloaded", async () => {
  const models = await client.system.listDownloadedModels();
  assert.deepEqual(models.map((model) => model.modelKey).sort(), ["scripted", "text-embedding-embed", "tiny"]);
  assert.equal((await client.system.listDownloadedModels("embedding")).length, 1);
});
await check("version", async () => {
  const { version } = await client.system.getLMStudioVersion();
  assert.match(version, /^\d+\.\d+/);
});
await check("load with a config", async () => {
  const progress = [];
  const model = await client.llm.load(SCRIPTED, {
    identifier: "mine",
    ttl: 60,
    config: { contextLength: 640, gpu: { ratio: 0.5 }, flashAttention: true, llamaKCacheQuantizationType: "q8_0" },
    onProgress: (ratio) => progress.push(ratio),
    verbose: false,
  });
  assert.equal(model.identifier, "mine");
  assert.equal(progress.at(-1), 1);
  assert.equal(await model.getContextLength(), 640);
  const config = await model.getLoadConfig();
  assert.equal(config.contextLength, 640);
  assert.equal(config.llamaKCacheQuantizationType, "q8_0");
  assert.equal(config.maxParallelPredictions, 1);
  const info = await model.getModelInfo();
  assert.equal(info.contextLength, 640);
  assert.equal(info.ttlMs, 60000);
  assert.deepEqual((await client.llm.listLoaded()).map((each) => each.identifier), ["mine"]);
  await model.unload();
  assert.deepEqual(await client.llm.listLoaded(), []);
});
await check("respond", async () => {
  const model = await client.llm.model(SCRIPTED, { verbose: false });
  const result = await model.respond("2+3=", { temperature: 0, topPSampling: false });
  assert.equal(result.content, "5");
  assert.equal(result.stats.stopReason, "eosFound");
  assert.equal(result.modelInfo.identifier, SCRIPTED);
});
await check("stream", async () => {
  const model = await client.llm.model(SCRIPTED, { verbose: false });
  const prediction = model.respond("a story", { maxTokens: 12 });
  let text = "";
  let tokens = 0;
  for await (const fragment of prediction) {
    text += fragment.content;
    tokens += fragment.tokensCount;
  }
  const result = await prediction.result();
  assert.equal(text, result.content);
  assert.equal(tokens, 12);
  assert.equal(result.stats.stopReason, "maxPredictedTokensReached");
});
await check("reasoning", async () => {
  const model = await client.llm.model(SCRIPTED, { verbose: false });
  const result = await model.respond("think");
  assert.match(result.reasoningContent, /Two plus three/);
  assert.equal(result.nonReasoningContent.trim(), "The answer: five.");
});
await check("complete", async () => {
  const model = await client.llm.model(SCRIPTED, { verbose: false });
  assert.equal((await model.complete("2+3=")).content, "5");
});
await check("structured output", async () => {
  const model = await client.llm.model(SCRIPTED, { verbose: false });
  const structured = { type: "json", jsonSchema: { enum: ["red"] } };
  assert.equal((await model.respond("hello", { structured })).content, '"red"');
});
await check("act", async () => {
  const model = await client.llm.model(SCRIPTED, { verbose: false });
  const calls = [];
  const weather = tool({
    name: "get_weather",
    description: "The weather of a city",
    parameters: { city: z.string() },
    implementation: ({ city }) => {
      calls.push(city);
      return "21 degrees";
    },
  });
  const messages = [];
  const result = await model.act("weather?", [weather], { onMessage: (message) => messages.push(message) });
  assert.deepEqual(calls, ["Paris"]);
  assert.equal(result.rounds, 2);
  assert.equal(messages.at(-1).getText(), "It is 21 degrees in Paris today.");
});
await check("tokens and templates", async () => {
  const model = await client.llm.model(SCRIPTED, { verbose: false });
  const tokens = await model.tokenize("hello world");
  assert.equal(await model.countTokens("hello world"), tokens.length);
  assert.match(await model.applyPromptTemplate([{ role: "user", content: "hello" }]), /hello/);
});
await check("cancel", async () => {
  const model = await client.llm.model(SCRIPTED, { verbose: false });
  const prediction = model.respond("a story", { contextOverflowPolicy: "rollingWindow" });
  for await (const _ of prediction) {
    await prediction.cancel();
    break;
  }
  assert.equal((await prediction.result()).stats.stopReason, "userStopped");
});
await check("abort a load", async () => {
  const controller = new AbortController();
  const loading = client.llm.load(SCRIPTED, { identifier: "aborted", signal: controller.signal, verbose: false });
  controller.abort();
  await assert.rejects(loading);
});
await check("embed", async () => {
  const model = await client.embedding.model(EMBEDDING, { verbose: false });
  const { embedding } = await model.embed("hello");
  assert.ok(embedding.length > 1 && embedding.every((value) => typeof value === "number"));
  assert.ok((await model.countTokens("hello")) > 0);
});
await check("estimate", async () => {
  const usage = await client.llm.estimateResourcesUsage(SCRIPTED, { contextLength: 512 });
  assert.equal(usage.passesGuardrails, true);
  assert.ok(usage.memory.totalBytes > usage.memory.contextBytes);
});
await check("logs", async () => {
  const model = await client.llm.model(SCRIPTED, { verbose: false });
  const seen = new Promise((resolve) => {
    const stop = client.diagnostics.unstable_streamLogs((log) => {
      if (log.data.type === "llm.prediction.input") {
        stop();
        resolve(log.data.input);
      }
    });
  });
  await new Promise((resolve) => setTimeout(resolve, 100));
  await model.respond("2+3=");
  assert.match(await seen, /2\+3=/);
});
await check("upload", async () => {
  const content = Buffer.from("\x89PNG\r\n\x1a\n....", "latin1").toString("base64");
  const image = await client.files.prepareImageBase64("a.png", content);
  assert.equal(image.type, "image");
});
await check("runtime", async () => {
  const engines = await client.runtime.engine.list();
  assert.equal(engines[0].engine, "llama.cpp");
  const selections = await client.runtime.engine.getSelections();
  assert.ok(selections.get("GGUF"));
});
await check("hardware survey", async () => {
  for (const scope of [undefined, { type: "selected" }, { type: "all" }]) {
    const survey = await client.runtime.surveyHardware(scope);
    assert.equal(survey.status, "ok");
    const [engine] = survey.engines;
    assert.equal(engine.engine, "llama.cpp");
    assert.equal(engine.compatibility.status, "compatible");
    assert.ok(engine.memoryInfo.ramCapacity > 0);
    const gpus = engine.hardwareSurvey.gpuSurveyResult;
    assert.equal(gpus.result.code, gpus.gpuInfo.length ? "success" : "noDevicesFound");
    assert.notEqual(engine.hardwareSurvey.cpuSurveyResult.cpuInfo.architecture, "unknown");
  }
});
await check("errors", async () => {
  await assert.rejects(client.llm.load("nobody", { verbose: false }), /nobody/);
  await assert.rejects(client.llm.unload("nobody"), /nobody|loaded/);
  await assert.rejects(client.repository.searchModels({ searchTerm: "x" }), /no model hub/);
  const small = await client.llm.load(SCRIPTED, { identifier: "small", config: { contextLength: 64 }, verbose: false });
  const long = small.respond("x ".repeat(200), { contextOverflowPolicy: "stopAtLimit" });
  await assert.rejects(long.result(), /context length of only 64 tokens/);
  await small.unload();
  await assert.rejects(small.respond("x").result());
});

const leaving = limited(client[Symbol.asyncDispose](), 10).then(
  () => "ok",
  (error) => error.message,
);
results["dispose"] = await leaving;
results["no warnings"] = warnings.length === 0 ? "ok" : warnings.join("\n");
process.stdout.write(JSON.stringify(results));
