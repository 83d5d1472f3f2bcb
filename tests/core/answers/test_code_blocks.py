"""The code blocks of an answer, byte for byte."""

from __future__ import annotations

import pytest

from lmstrix.core.answers.code_blocks import code_blocks


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("no code", []),
        ("", []),
        ("Here:\n```python\nprint(1)\n```\nDone.", ["print(1)\n"]),
        ("```\na\n\n  b\n```", ["a\n\n  b\n"]),
        ("```\none\n```\ntext\n~~~sh\ntwo\n~~~\n", ["one\n", "two\n"]),
        ("````md\n```\ninner\n```\n````", ["```\ninner\n```\n"]),
        ("~~~\n```\n~~~", ["```\n"]),
        ("1. So:\n   ```c\n   int a;\n     b;\n\n   ```", ["int a;\n  b;\n\n"]),
        ("```\nunder-indented stays\n ```", ["under-indented stays\n"]),
        ("``` not a fence ``` in a line\n", []),
        ("cut short:\n```\na\nb", ["a\nb\n"]),
        ("```\n```", [""]),
        ("```\na\u2028b\x0cc\n```", ["a\u2028b\x0cc\n"]),
        ("```\r\na\r\n```\r\n", ["a\r\n"]),
    ],
)
def test_blocks_are_what_stands_between_fences(text: str, blocks: list[str]) -> None:
    assert code_blocks(text) == blocks
