"""What a command imports: those that need no server import no event loop and no SDK, which would double their start."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran

CODE = """
import sys
from lmstrix.cli.app import run

run(sys.argv[1:])
sys.stderr.write(" ".join(name for name in {costly} if name in sys.modules))
"""
COSTLY = ("asyncio", "lmstudio", "aiohttp", "httpx")
THINKING = ("bench history",)
"""What compares: that takes the records of what models answer."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        *THINKING,
        "list",
        "logs",
        "logs --stats",
        "history scripted",
        "reset scripted",
        "save --dry-run",
        "engine status",
        "version",
        "config show",
    ],
)
def test_a_command_that_needs_no_server_imports_no_event_loop(
    cli: Callable[..., Ran], engine: EmbeddedEngine, words: str
) -> None:
    cli("scan").ok()
    code = CODE.format(costly=COSTLY if words in THINKING else (*COSTLY, "pydantic", "lmstrix.ground.types"))
    done = subprocess.run(
        [sys.executable, "-c", code, *words.split(), "--quiet"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""


def test_the_version_is_told_without_the_costly_parts_of_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); sys.argv[1:] = ['--version'];"
        "from lmstrix.__main__ import main; main(); new = set(sys.modules) - before;"
        "sys.stderr.write(' '.join({'typing', 're', 'dataclasses', 'pathlib', 'asyncio'} & new))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
