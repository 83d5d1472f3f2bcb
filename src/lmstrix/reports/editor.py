"""A text written in the user's editor, which $VISUAL or $EDITOR names."""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path

from lmstrix.ground.errors import UsageError
from lmstrix.ground.processes import Command, run_on_terminal, typed


def edited(text: str = "") -> str:
    """What somebody makes of `text` in their editor; nothing when they leave it empty. Raises UsageError."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or _usual()
    # Made by mkstemp, which lets nobody else read it; closed before the editor opens it, as Windows wants.
    descriptor, name = tempfile.mkstemp(prefix="lmstrix-", suffix=".md")
    file = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(text.encode("utf-8", "surrogatepass"))
        # On Windows backslashes separate folders, and must not be taken for quotes.
        words = shlex.split(editor, posix=os.name != "nt")
        status = run_on_terminal(Command(words=(*words, name))).exit_code
        if status:
            raise UsageError(f"the editor {editor} ended with {status}; nothing was sent (VISUAL or EDITOR names it)")
        return file.read_text(encoding="utf-8").strip("\n")
    except (OSError, ValueError) as exc:
        raise UsageError(f"the editor {editor} cannot be used ({exc}); set VISUAL or EDITOR; nothing was sent") from exc
    finally:
        file.unlink(missing_ok=True)


def _usual() -> str:
    if os.name == "nt":
        return "notepad"
    with typed() as terminal:
        # Without one it reads its end and stays.
        if terminal is None:
            raise UsageError("there is no terminal for the editor vi; give the text in words, or set VISUAL")
    return "vi"
