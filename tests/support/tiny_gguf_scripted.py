"""Tiny GGUF models that say exactly what a test wants, through the real llama.cpp.

    path = scripted_model()                                          answers as `REPLIES` says
    path = scripted_model([Reply("5", when="2+3=")], n_layers=1)

The chat template looks at the last message and ends the prompt with a control token of the reply that matches; from
there each token leads to one other. Embeddings are one-hot, attention and feed-forward are zero and the output matrix
holds the successors, so the state is the last token and every piece of text is a token of its own. Such a model cannot
lose track over a long context: what it should forget must be scripted. A raw prompt that ends in a byte or a common
word starts the last reply, one that ends in "=" the first.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tests.support.tiny_gguf import TinyShape, cached, write_model
from tests.support.tiny_gguf_architectures import TinyModel
from tests.support.tiny_gguf_tokenizer import TURN_END, Vocabulary, spelled, vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_PIECE = re.compile(r"\s*\w+|\s*[^\w\s]|\s+")
_CERTAINTY = 4.0
"""Weight of the one successor: with the norm before it, far beyond what sampling or penalties can upset."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A text, and when it is given: the last message is by `role` and contains `when`, and the Jinja `condition` holds.

    The first reply that matches is given. An `endless` one starts again instead of ending.
    """

    text: str
    when: str = ""
    role: str = "user"
    condition: str = ""
    endless: bool = False


RAMBLE = Reply(
    "Once there was a river that ran down from cold hills, past seven mills and nine old bridges, slowly, "
    "until one morning it met another stream, stopped to listen, then wandered on towards some distant sea. ",
    when="story",
    endless=True,
)
THOUGHT = Reply("<think>\nTwo plus three makes five.\n</think>\n\nThe answer: five.", when="think")
TOOL_CALL = Reply(
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
    when="weather",
    condition="tools",
)
TOOL_ANSWER = Reply("It is 21 degrees in Paris today.", role="tool")
JSON_ANSWER = Reply('{"name": "Ada", "age": 36}', when="JSON")
GREETING = Reply("Hello! I am a tiny model with few words.")
REPLIES = (Reply("5", when="2+3="), RAMBLE, THOUGHT, TOOL_CALL, TOOL_ANSWER, JSON_ANSWER, GREETING)

_TEMPLATE = """\
{%- if tools %}{{- '<|im_start|>system\\n# Tools\\n\\nYou may call these functions:\\n<tools>' }}
{%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
{{- '\\n</tools>\\n\\nTo call one, answer with its name and arguments:\\n<tool_call>\\n' }}
{{- '{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
{%- elif message.role == 'assistant' %}
{{- '<|im_start|>assistant\\n' }}
{%- if message.reasoning_content %}{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}{%- endif %}
{%- if message.content %}{{- message.content }}{%- endif %}
{%- if message.tool_calls %}{%- for call in message.tool_calls %}
{%- if (loop.first and message.content) or not loop.first %}{{- '\\n' }}{%- endif %}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{%- if call.function.arguments is string %}{{- call.function.arguments }}
{%- else %}{{- call.function.arguments | tojson }}{%- endif %}
{{- '}\\n</tool_call>' }}
{%- endfor %}{%- endif %}
{{- '<|im_end|>\\n' }}
{%- else %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
{%- set last = messages[-1] %}
{%- set said = last.content or '' %}
"""


SCRIPTED_SHAPE = TinyShape(n_layers=1, n_heads=1, n_kv_heads=1, head_dim=32, feed_forward=32)
"""The least work per token: over 10,000 tokens per second. The width follows from the vocabulary; to slow a model down,
give it more layers and a larger `feed_forward`."""


def scripted_model(replies: Sequence[Reply] = REPLIES, *, name: str | None = None, **dimensions: int) -> Path:
    """A model as `write_scripted` writes it with `TinyShape(**dimensions)`, from the cache when written before."""
    shape = replace(SCRIPTED_SHAPE, **dimensions)
    return cached(
        f"scripted {name} {tuple(replies)} {shape}", lambda path: write_scripted(path, replies, shape, name=name)
    )


def write_scripted(
    path: Path,
    replies: Sequence[Reply] = REPLIES,
    shape: TinyShape = SCRIPTED_SHAPE,
    *,
    name: str | None = None,
) -> None:
    """Write a llama model that gives the first of `replies` that matches, and the last when none does."""
    model, words, template = build_scripted(replies, shape)
    write_model(path, "llama", model, words, name=name or "Tiny scripted", chat_template=template)


def build_scripted(
    replies: Sequence[Reply], shape: TinyShape = SCRIPTED_SHAPE, *, spare_dimensions: int = 0
) -> tuple[TinyModel, Vocabulary, str]:
    """The model, its vocabulary and its chat template. No token uses the last `spare_dimensions` of its states."""
    controls = [f"<|reply_{number}|>" for number in range(len(replies))]
    chains = _chains(replies)
    words = vocabulary(
        pieces=tuple(piece for chain in chains for piece in chain), controls=tuple(controls), size=shape.vocab_size
    )
    successors = _successors(words, replies, controls, chains)
    shape = replace(shape, width=-(-(len(words) + spare_dimensions) // 64) * 64)
    model = TinyModel(shape, len(words))
    _fill(model, successors)
    return model, words, _template(replies, controls)


def _chains(replies: Sequence[Reply]) -> list[list[str]]:
    """Each reply's text in pieces: none twice, and none that prompts are tokenized to unless it is all there is."""
    common, used = set(vocabulary().tokens), set[str]()
    chains = []
    for reply in replies:
        chain: list[str] = []
        pending = ""
        for piece in _PIECE.findall(reply.text):
            pending += piece
            if spelled(pending) not in common and pending not in used:
                chain.append(pending)
                used.add(pending)
                pending = ""
        while pending and chain and (spelled(pending) in common or pending in used):
            used.remove(chain[-1])
            pending = chain.pop() + pending
        if pending in used:
            raise ValueError(f"no pieces of {reply.text!r} are left that other replies do not use; reword it")
        if pending:
            chain.append(pending)
            used.add(pending)
        chains.append(chain)
    return chains


def _successors(
    words: Vocabulary, replies: Sequence[Reply], controls: Sequence[str], chains: Sequence[Sequence[str]]
) -> dict[int, int]:
    """The token that follows each token."""
    ids = {token: number for number, token in enumerate(words.tokens)}
    following: dict[int, int] = {}
    for reply, control, chain in zip(replies, controls, chains, strict=True):
        path = [ids[control], *(ids[spelled(piece)] for piece in chain)]
        following |= pairwise([*path, path[1] if reply.endless else ids[TURN_END]])
    following.setdefault(ids["="], following[ids[controls[0]]])
    fallback = following[ids[controls[-1]]]
    return {token: following.get(token, fallback) for token in range(len(words))}


def _fill(model: TinyModel, successors: dict[int, int]) -> None:
    shape, n_vocab = model.shape, model.n_vocab
    model.add_heads()
    model.tensors["token_embd.weight"] = np.eye(n_vocab, shape.width, dtype=np.float16)
    output = np.zeros((n_vocab, shape.width), dtype=np.float16)
    output[list(successors.values()), list(successors)] = _CERTAINTY
    model.tensors["output.weight"] = output
    model.norms("", "output_norm")
    for block in model.blocks():
        model.norms(block, "attn_norm", "ffn_norm")
        for tensor, rows, columns in _zero_matrices(shape):
            model.tensors[f"{block}{tensor}.weight"] = np.zeros((rows, columns), dtype=np.float16)


def _zero_matrices(shape: TinyShape) -> Iterator[tuple[str, int, int]]:
    query, key = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
    yield from (("attn_q", query, shape.width), ("attn_k", key, shape.width), ("attn_v", key, shape.width))
    yield "attn_output", shape.width, query
    yield from (("ffn_gate", shape.feed_forward, shape.width), ("ffn_up", shape.feed_forward, shape.width))
    yield "ffn_down", shape.width, shape.feed_forward


def _template(replies: Sequence[Reply], controls: Sequence[str]) -> str:
    """The ChatML template with tools, ending in the choice of the reply."""
    branches = []
    for number, (reply, control) in enumerate(zip(replies, controls, strict=True)):
        tests = [f"last.role == {json.dumps(reply.role)}"]
        if reply.when:
            tests.append(f"{json.dumps(reply.when, ensure_ascii=False)} in said")
        if reply.condition:
            tests.append(f"({reply.condition})")
        keyword = "elif" if number else "if"
        branches.append(f"{{%- {keyword} {' and '.join(tests)} %}}{{{{- '{control}' }}}}\n")
    fallback = f"{{%- else %}}{{{{- '{controls[-1]}' }}}}{{%- endif %}}\n{{%- endif %}}"
    return _TEMPLATE + "".join(branches) + fallback
