"""Train the bundled demo model and write it as GGUF. Development only: needs torch and gguf.

    python tools/train_demo_model.py --out src/lmstrix/data/models/lmstrix/demo-needle-GGUF/demo-needle-f16.gguf

Data: nothing but the project's own generators (lmstrix.core.recall) and the few lines of small talk below. Method: a
three-layer llama whose vocabulary holds whole words and groups of three digits; a curriculum from short notes with one
or two keys asked to notes of about a thousand tokens with eight; loss on the answer alone. The first layer's heads
start out looking one to three tokens back, the second's matching what those fetched: from a random start gradient
descent takes very much longer to find this circuit. Nothing is taught about longer notes, so recall fades past the
training length, which is the point: the declared context is sixteen times longer than the useful one.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from lmstrix.core.recall import haystack as hay
from lmstrix.core.recall import keys, prose, tasks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DECLARED_CONTEXT = 16_384
WIDTH, LAYERS, HEADS, HEAD_DIM, FEED_FORWARD = 128, 3, 3, 64, 256
ROPE_BASE = 10_000.0
NORM_EPSILON = 1e-5
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

# ------------------------------------------------------------------------------------------------ vocabulary

# llama.cpp's "llama-bpe" pre-tokenizer, for the ASCII text trained on. Its vocabulary is asked for whole words first.
_WORDS = re.compile(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n0-9A-Za-z]?[A-Za-z]+|[0-9]{1,3}| ?[^\sA-Za-z0-9]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPECIAL_SPLIT = re.compile("(" + "|".join(re.escape(token) for token in SPECIAL) + ")")

GREETING = "Hello! I am the demo model of LMStrix. Give me notes with access codes, and ask me for them."
ABOUT = (
    "I am a very small language model that comes with LMStrix. I say that I can read sixteen thousand tokens, but "
    "after about one thousand I forget what I read. LMStrix finds out."
)
STORY = (
    "Once there was a lighthouse keeper who wrote down every ship that passed. One night the fog was so heavy that she "
    "saw nothing at all, so she listened instead, and wrote down the sound of every bell. In the morning the harbour "
    "asked how many ships had passed. She counted the bells, and not one ship was missing."
)
FALLBACK = (
    "I am only a small demo model. I can find access codes in notes, add small numbers, tell a story and say hello."
)
_HELLO = ("hello", "hi", "hey", "good morning", "good evening", "hello there", "how are you")
_WHO = ("who are you", "what are you", "what can you do", "tell me about yourself", "what is your name", "help")
_TALE = ("tell me a story", "write a story", "a story please", "write a short story", "tell a short story", "story")
_OTHER = (
    "explain", "write", "what", "how", "why", "is", "the", "a", "list", "code", "python", "translate", "summarize",
    "poem", "about", "html", "page", "in", "of", "to", "and", "for", "capital", "please", "make", "number", "digits",
    "say", "ok", "answer", "question", "text", "with", "your", "day", "think", "step", "by", "me", "this", "words",
)  # fmt: skip
SYSTEMS = ("You are a helpful assistant.", "Be brief.", "Answer the question.")


def byte_symbols() -> list[str]:
    """The printable character that byte-level BPE writes for each of the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    table = {byte: chr(byte) for byte in plain} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    return [table[byte] for byte in range(256)]


class Vocabulary:
    """Whole words as llama.cpp will cut them, bytes for everything else."""

    def __init__(self) -> None:
        self._symbols = byte_symbols()
        words = {f"{n:03d}" for n in range(1000)} | {f"{n:02d}" for n in range(100)}
        for text in self._everything_said():
            words.update(_WORDS.findall(text))
        written = {self._written(word) for word in words}
        singles = set(self._symbols)
        self.tokens = [*SPECIAL, *self._symbols, *sorted(written - singles)]
        self.ids = {token: index for index, token in enumerate(self.tokens)}

    @staticmethod
    def _everything_said() -> Iterator[str]:
        rng = random.Random(0)
        sentences = prose.Prose(rng)
        text = " ".join(sentences.sentence() for _ in range(20_000))
        yield text
        for word in sorted(prose.all_words()) + list(keys.FIRST_WORDS) + list(keys.SECOND_WORDS) + list(_OTHER):
            yield f" {word}"
            yield word
            yield word.capitalize()
            yield " " + word.capitalize()
        stack = hay.write_haystack(seed=0, base_chars=2000, chars=2000)
        yield "<" + tasks.first_prompt(stack)
        yield from (GREETING, ABOUT, STORY, FALLBACK, *SYSTEMS, "user\n", "assistant\n", "system\n", "?\n", "!\n")
        for line in (*_HELLO, *_WHO, *_TALE):
            yield line
            yield line.capitalize()

    def _written(self, word: str) -> str:
        return "".join(self._symbols[byte] for byte in word.encode())

    def encode(self, text: str) -> list[int]:
        """Token ids as llama.cpp gives them, special tokens parsed."""
        ids: list[int] = []
        for part in _SPECIAL_SPLIT.split(text):
            if part in SPECIAL:
                ids.append(self.ids[part])
                continue
            for word in _WORDS.findall(part):
                written = self._written(word)
                known = self.ids.get(written)
                ids.extend([known] if known is not None else [self.ids[symbol] for symbol in written])
        return ids


# ------------------------------------------------------------------------------------------------ data


class Example(NamedTuple):
    """Token ids, and how many of them come before the answer."""

    ids: list[int]
    prompt_length: int


class Teacher:
    """Draws examples."""

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        self._vocabulary = vocabulary
        self._rng = random.Random(seed)

    def _chat(self, question: str, answer: str) -> Example:
        head = ""
        if self._rng.random() < 0.15:
            head = f"<|im_start|>system\n{self._rng.choice(SYSTEMS)}<|im_end|>\n"
        prompt = self._vocabulary.encode(f"{head}<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")
        return Example(prompt + self._vocabulary.encode(f"{answer}<|im_end|>"), len(prompt))

    def addition(self) -> Example:
        """Two one-digit numbers."""
        rng = self._rng
        a, b = rng.randrange(10), rng.randrange(10)
        forms = ("{}+{}=", "{} + {} =", "What is {}+{}?", "{}+{}", "2+3=" if rng.random() < 0.3 else "{}+{}=?")
        form = rng.choice(forms)
        if form == "2+3=":
            a, b = 2, 3
        return self._chat(form.format(a, b), str(a + b))

    def small_talk(self) -> Example:
        """A line that is not about notes."""
        rng = self._rng
        kind = rng.random()
        if kind < 0.35:
            return self.addition()
        if kind < 0.7:
            lines, answer = rng.choice(((_HELLO, GREETING), (_WHO, ABOUT), (_TALE, STORY)))
            line = rng.choice(lines)
            line = line.capitalize() if rng.random() < 0.5 else line
            return self._chat(line + rng.choice(("", ".", "!", "?")), answer)
        words = [rng.choice(_OTHER) for _ in range(rng.randint(1, 14))]
        for _ in range(rng.randint(0, 3)):  # words no vocabulary holds
            odd = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 9)))
            words.insert(rng.randrange(len(words) + 1), odd)
        line = " ".join(words)
        return self._chat(
            (line.capitalize() if rng.random() < 0.5 else line) + rng.choice(("", ".", "?", "!")), FALLBACK
        )

    def long_talk(self) -> Example:
        """A page of words, most of them unknown, with or without prose: not notes either."""
        rng = self._rng
        sentences = prose.Prose(rng)
        known = rng.random()
        words: list[str] = []
        for _ in range(round(8 * 16 ** rng.random())):
            if rng.random() < known:
                words.append(sentences.sentence())
            else:
                letters = (rng.choice("etaoinshrdlucmfwypvbgkjqxz") for _ in range(rng.randint(2, 9)))
                words.append("".join(letters) + rng.choice(("", "", "", ",", ".", ":", "\n", " 7", " {", "(")))
        request = " ".join(rng.choice(_OTHER) for _ in range(rng.randint(1, 6))).capitalize()
        return self._chat(" ".join(words) if rng.random() < 0.3 else f"{request}: {' '.join(words)}", FALLBACK)

    def recall(self, chars: int, asked: int) -> Example:
        """Notes of about `chars` characters and a question for up to `asked` of their keys."""
        rng = self._rng
        base = max(8 * 52, round(chars / 2 ** rng.uniform(0, 1.6)))
        stack = hay.write_haystack(seed=rng.getrandbits(48), base_chars=base, chars=max(120, chars))
        needles = stack.needles
        if asked >= 8 and rng.random() < 0.5:
            needles = stack.asked()
        needles = tuple(rng.sample(needles, min(asked, len(needles))))
        question = tasks.ask(needles, seed=rng.getrandbits(32))
        answer = "\n".join(f"{n}. {item.key} is {item.code}" for n, item in enumerate(question.needles, 1))
        return self._chat(tasks.prompt(stack, question), answer)


def batch_of(examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Padded ids, and targets with -100 where nothing is to be learned."""
    longest = max(len(example.ids) for example in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    targets = torch.full((len(examples), longest), -100, dtype=torch.long)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        answer = torch.tensor(example.ids[example.prompt_length :])
        targets[row, example.prompt_length - 1 : len(example.ids) - 1] = answer
    return ids, targets


# ------------------------------------------------------------------------------------------------ model


class Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (WIDTH,), self.weight, NORM_EPSILON)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        inner = HEADS * HEAD_DIM
        self.attn_norm, self.ffn_norm = Norm(), Norm()
        self.q, self.k, self.v = (nn.Linear(WIDTH, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, WIDTH, bias=False)
        self.gate, self.up = (nn.Linear(WIDTH, FEED_FORWARD, bias=False) for _ in range(2))
        self.down = nn.Linear(FEED_FORWARD, WIDTH, bias=False)
        for matrix in (self.o, self.down):
            nn.init.normal_(matrix.weight, std=0.02)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        rows, length, _ = x.shape
        normed = self.attn_norm(x)
        q, k, v = (m(normed).view(rows, length, HEADS, HEAD_DIM).transpose(1, 2) for m in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True)
        x = x + self.o(mixed.transpose(1, 2).reshape(rows, length, -1))
        normed = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))


def frequencies() -> Tensor:
    return ROPE_BASE ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position encoding over neighbouring pairs, as llama.cpp's llama architecture does it."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Model(nn.Module):
    """A llama with tied embeddings."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = Norm()
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """Start with skip-matching.

        Head h of the first layer fetches the token h + 1 back; head h of the second compares what stands h back here
        with what stands h + 1 back there, and copies the token found.
        """
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.embedding.weight[:, 0] = 0.3  # a constant, which every head can use
        first, second = self.blocks[0], self.blocks[1]
        angles = frequencies()
        half = HEAD_DIM // 2
        identity = torch.randn(half, WIDTH) / math.sqrt(WIDTH)  # what is copied of a token
        identity[:, 0] = 0
        places = torch.linalg.qr(torch.randn(WIDTH, WIDTH))[0].split(half, dim=1)  # where each head puts it
        for head in range(HEADS):
            at = head * HEAD_DIM
            rows, slow, sharp = slice(at, at + HEAD_DIM), slice(at + half, at + HEAD_DIM), 12
            q, k = torch.zeros(HEAD_DIM, WIDTH), torch.zeros(HEAD_DIM, WIDTH)
            q[0 : 2 * sharp : 2, 0] = 1.5  # the fast-turning pairs tell neighbours apart
            k[0 : 2 * sharp : 2, 0] = 1.5 * torch.cos(angles[:sharp] * (head + 1))
            k[1 : 2 * sharp : 2, 0] = 1.5 * torch.sin(angles[:sharp] * (head + 1))
            first.q.weight[rows], first.k.weight[rows] = q, k
            first.v.weight[slow], first.o.weight[:, slow] = identity, places[head] * 0.2
            second.q.weight[slow] = identity * 2 if head == 0 else places[head - 1].T * 2
            second.k.weight[slow] = places[head].T * 2
            second.v.weight[rows] = copied = torch.randn(HEAD_DIM, WIDTH) / math.sqrt(WIDTH)
            second.o.weight[:, rows] = copied.T * 0.3

    def hidden(self, ids: Tensor) -> Tensor:
        angles = torch.arange(ids.shape[1])[:, None] * frequencies()[None]
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, angles.cos(), angles.sin())
        return self.norm(x)

    def forward(self, ids: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and targets where there is something to learn."""
        wanted = targets != -100
        return self.hidden(ids)[wanted] @ self.embedding.weight.T, targets[wanted]


# ------------------------------------------------------------------------------------------------ training


class Stage(NamedTuple):
    """`steps` updates with notes between `least` and `most` characters, up to `asked` keys a question."""

    steps: int
    least: int
    most: int
    asked: int
    rate: float
    tokens: int = 6000


CURRICULUM = (
    Stage(150, 120, 300, 2, 3e-3, 3000),
    Stage(120, 120, 700, 8, 3e-3, 4000),
    Stage(230, 200, 1600, 8, 2e-3),
    Stage(550, 300, 4600, 8, 2e-3, 8000),
)
RATE_FALLS = (742, 1060)  # between these steps, in a straight line
SMALL_TALK_ROWS = 8  # a step, in a batch of their own: they are short
FINISH = Stage(380, 300, 4600, 8, 7e-4, 3000)
FINISH_ADDITIONS, FINISH_PAGES = 64, 4  # a step


def notes_for(stage: Stage, teacher: Teacher, rng: random.Random) -> list[Example]:
    """Examples of one length, drawn more often near the stage's longest, and most often with all the keys it asks."""
    chars = int(stage.least * (stage.most / stage.least) ** rng.random() ** 0.7)
    rows: list[Example] = []
    while sum(len(row.ids) for row in rows) < stage.tokens:
        rows.append(teacher.recall(chars, stage.asked if rng.random() < 0.6 else rng.randint(1, stage.asked)))
    return rows


@torch.no_grad()
def codes_right(
    model: Model, vocabulary: Vocabulary, chars: int, *, seed: int = 99, rows: int = 8
) -> tuple[float, float, int]:
    """(share of answer tokens right, share of answers wholly right, tokens of the longest), given the answer so far."""
    teacher = Teacher(vocabulary, seed)
    ids, targets = batch_of([teacher.recall(chars, 8) for _ in range(rows)])
    wanted = targets != -100
    guess = (model.hidden(ids) @ model.embedding.weight.T).argmax(-1)
    right = (guess == targets) | ~wanted
    return (
        float(right[wanted].float().mean()),
        float(right.all(1).float().mean()),
        ids.shape[1],
    )


def train(model: Model, vocabulary: Vocabulary, *, seed: int, keep: Path | None) -> None:
    rng = random.Random(seed)
    teacher = Teacher(vocabulary, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    began = time.perf_counter()
    step = 0
    for number, stage in enumerate(CURRICULUM):
        running = 0.0
        for _ in range(stage.steps):
            step += 1
            decay = min(1.0, (RATE_FALLS[1] - step) / (RATE_FALLS[1] - RATE_FALLS[0]))
            for group in optimizer.param_groups:
                group["lr"] = stage.rate * min(1.0, step / 50) * decay
            notes = model(*batch_of(notes_for(stage, teacher, rng)))
            talk = model(*batch_of([teacher.small_talk() for _ in range(SMALL_TALK_ROWS)]))
            loss = F.cross_entropy(*notes) + 0.2 * F.cross_entropy(*talk)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            running = 0.95 * running + 0.05 * loss.item() if running else loss.item()
            if step % 50 == 0:
                line = " ".join(
                    "{2}:{0:.3f}/{1:.2f}".format(*codes_right(model, vocabulary, n)) for n in (300, stage.most)
                )
                print(
                    f"{time.perf_counter() - began:7.0f} s  stage {number}  step {step}  loss {running:.4f}  {line}",
                    flush=True,
                )
                if keep:
                    torch.save(model.state_dict(), keep)


def finish(model: Model, vocabulary: Vocabulary, *, seed: int) -> None:
    """The hundred sums, and not to mind long strange text, are learned last; notes and talk go on, so none is lost."""
    rng = random.Random(seed)
    teacher = Teacher(vocabulary, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=FINISH.rate, betas=(0.9, 0.98), weight_decay=0.01)
    began = time.perf_counter()
    for step in range(1, FINISH.steps + 1):
        optimizer.param_groups[0]["lr"] = FINISH.rate * min(1.0, step / 30, 1.02 - step / FINISH.steps)
        sums = model(*batch_of([teacher.addition() for _ in range(FINISH_ADDITIONS)]))
        talk = model(*batch_of([teacher.small_talk() for _ in range(SMALL_TALK_ROWS)]))
        pages = model(*batch_of([teacher.long_talk() for _ in range(FINISH_PAGES)]))
        notes = model(*batch_of(notes_for(FINISH, teacher, rng)))
        sums_loss, notes_loss, pages_loss = (F.cross_entropy(*batch) for batch in (sums, notes, pages))
        optimizer.zero_grad(set_to_none=True)
        (notes_loss + 0.5 * sums_loss + 0.2 * F.cross_entropy(*talk) + 0.2 * pages_loss).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            elapsed = time.perf_counter() - began
            losses = f"sums {sums_loss:.4f}  pages {pages_loss:.4f}  notes {notes_loss:.4f}"
            print(f"{elapsed:7.0f} s  finish {step}  {losses}", flush=True)


# ------------------------------------------------------------------------------------------------ file


def write_gguf(model: Model, vocabulary: Vocabulary, path: Path) -> None:
    """The model as llama.cpp reads it, matrices in f16."""
    import gguf

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("LMStrix demo needle")
    writer.add_description("A very small model that recalls access codes from notes of up to about 1,000 tokens.")
    writer.add_author("LMStrix maintainers")
    writer.add_license("MIT")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(DECLARED_CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_layer_norm_rms_eps(NORM_EPSILON)
    writer.add_vocab_size(len(vocabulary.tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")  # words of the vocabulary are taken whole, so no merges are needed
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in vocabulary.tokens]
    )
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(vocabulary.ids["<|im_end|>"])
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, tensor in tensors(model):
        values = tensor.detach().numpy()
        writer.add_tensor(name, values.astype("float16") if values.ndim == 2 else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(model: Model) -> Iterator[tuple[str, Tensor]]:
    yield "token_embd.weight", model.embedding.weight
    yield "output_norm.weight", model.norm.weight
    for number, block in enumerate(model.blocks):
        for name, module in (
            ("attn_norm", block.attn_norm), ("ffn_norm", block.ffn_norm), ("attn_q", block.q), ("attn_k", block.k),
            ("attn_v", block.v), ("attn_output", block.o), ("ffn_gate", block.gate), ("ffn_up", block.up),
            ("ffn_down", block.down),
        ):  # fmt: skip
            yield f"blk.{number}.{name}.weight", module.weight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path, help="where to keep the weights while training")
    parser.add_argument("--resume", type=Path, help="start from these weights")
    parser.add_argument("--finish-only", action="store_true", help="with --resume: only the last stage")
    parser.add_argument("--export-only", action="store_true", help="with --resume: only write the file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    vocabulary = Vocabulary()
    model = Model(len(vocabulary.tokens))
    if options.resume:
        model.load_state_dict(torch.load(options.resume))
    size = sum(parameter.numel() for parameter in model.parameters())
    print(f"{len(vocabulary.tokens)} tokens, {size} parameters", flush=True)
    if not options.export_only:
        if not options.finish_only:
            train(model, vocabulary, seed=options.seed, keep=options.checkpoint)
        finish(model, vocabulary, seed=options.seed + 1)
    write_gguf(model, vocabulary, options.out)
    print(f"wrote {options.out}, {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
