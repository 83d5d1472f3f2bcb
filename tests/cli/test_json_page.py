"""The site's page on JSON: each command of its table prints the schema and the main key that stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import SCRIPTED, TINY

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran

PAGE = Path(__file__).parent.parent.parent / "src_docs" / "reference" / "json.md"
TABLE = re.findall(r"^\| `([\w -]+)` \| `([\w./-]+)` \| `(\w+)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
MORE_WORDS = {
    "test": (TINY, "--fast", "--ctx", "256"),
    "test --dry-run": (TINY,),
    "history": (TINY,),
    "infer": ("2+3=", "-m", SCRIPTED),
    "estimate": (SCRIPTED,),
    "load": (SCRIPTED,),
    "unload": (SCRIPTED,),
    "save": ("--dry-run",),
    "reset": (TINY,),
}


def test_the_table_is_read() -> None:
    assert len(TABLE) >= 16


@pytest.mark.slow
@pytest.mark.parametrize(("command", "schema", "key"), TABLE, ids=[row[0] for row in TABLE])
def test_a_command_prints_what_the_page_says(
    command: str, schema: str, key: str, cli: Callable[..., Ran], engine: EmbeddedEngine
) -> None:
    cli("scan", "--quiet").ok()
    if command == "history":
        cli("test", TINY, "--fast", "--ctx", "256").ok()
    if command == "unload":
        cli("load", SCRIPTED).ok()
    told = cli(*command.split(), *MORE_WORDS.get(command, ()), "--json").json
    assert told["schema"] == schema
    assert key in told
