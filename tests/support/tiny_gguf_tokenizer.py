"""A byte-level BPE vocabulary for tiny models: every UTF-8 text tokenizes, and a few common words are one token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gguf import TokenType

if TYPE_CHECKING:
    from gguf import GGUFWriter

COMMON_WORDS = (
    " the",
    " of",
    " and",
    " to",
    " in",
    " is",
    " that",
    " it",
    " for",
    " was",
    " on",
    " are",
    " code",
    "\n\n",
)
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TOKEN_TYPE_COUNT = 2
"""Kinds of sentence; encoders ask for it, the others ignore it."""
CONTROL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)

CHATML = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def _byte_alphabet() -> tuple[str, ...]:
    """The printable character that stands for each byte, as GPT-2 chose them."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    stand_ins = iter(range(256, 512))
    return tuple(chr(byte) if byte in printable else chr(next(stand_ins)) for byte in range(256))


BYTE_ALPHABET = _byte_alphabet()


def spelled(text: str) -> str:
    """`text` in the alphabet vocabularies are written in."""
    return "".join(BYTE_ALPHABET[byte] for byte in text.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Tokens as they stand in the file, the type of each, and the merges that make words of bytes."""

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    def id_of(self, token: str) -> int:
        """The id of a token, spelled as in the file."""
        return self.tokens.index(token)


def vocabulary(*, pieces: tuple[str, ...] = (), controls: tuple[str, ...] = (), size: int | None = None) -> Vocabulary:
    """256 bytes, common words, `pieces` (generated, but never tokenized to), controls, and fillers up to `size`."""
    tokens = dict.fromkeys(BYTE_ALPHABET, TokenType.NORMAL)
    merges: dict[str, None] = {}
    for word in map(spelled, COMMON_WORDS):
        for end in range(1, len(word)):
            tokens.setdefault(word[: end + 1], TokenType.NORMAL)
            merges[f"{word[:end]} {word[end]}"] = None
    tokens |= dict.fromkeys(map(spelled, pieces), TokenType.NORMAL)
    tokens |= dict.fromkeys((*CONTROL_TOKENS, *controls), TokenType.CONTROL)
    if size is not None:
        if size < len(tokens):
            raise ValueError(f"{size} tokens are fewer than the {len(tokens)} every tiny vocabulary has")
        tokens |= {f"<|unused_{number}|>": TokenType.UNUSED for number in range(size - len(tokens))}
    return Vocabulary(tokens=tuple(tokens), types=tuple(tokens.values()), merges=tuple(merges))


def add_vocabulary(writer: GGUFWriter, words: Vocabulary, *, chat_template: str | None, markers: bool = False) -> None:
    """Write the tokenizer section; with `markers`, a text stands between two control tokens, as encoders want it."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(words.tokens))
    writer.add_token_types(list(words.types))
    writer.add_token_merges(list(words.merges))
    writer.add_bos_token_id(words.id_of(END_OF_TEXT))
    writer.add_eos_token_id(words.id_of(TURN_END))
    writer.add_pad_token_id(words.id_of(END_OF_TEXT))
    writer.add_add_bos_token(markers)
    writer.add_add_eos_token(markers)
    writer.add_token_type_count(TOKEN_TYPE_COUNT)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
