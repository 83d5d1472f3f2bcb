"""Write docs/migration.md from the table of what was called otherwise in LMStrix 1; `--check` says whether it is
current.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lmstrix.earlier.migration import ROWS, Kind, Migration
from lmstrix.ground.earlier_settings import KEYS_GONE, RENAMED, SECTIONS_GONE
from lmstrix.ground.environment import EARLIER_VARIABLES, SETTING_VARIABLES
from lmstrix.ground.setting_keys import BY_FIELD

PAGE = Path(__file__).parent.parent / "docs" / "migration.md"

INTRODUCTION = """\
# From LMStrix 1

Written by `tools/write_migration_docs.py` from `lmstrix.earlier.migration`; do not edit. A test runs every row.

Scripts of LMStrix 1 go on working. Its words on the command line are understood wherever today's parser would refuse
them, and one line on stderr names the words of today (`--quiet` leaves it out). Its Python modules, keywords, results
and exceptions are there too; each tells its new name with a `DeprecationWarning` (`python -W default script.py` shows
them all). What has no equivalent fails, and says what to use instead.

Some things are the same word and mean something else today, because what they did was a fault:

- `lmstrix infer MODEL PROMPT`, the order of the oldest versions, asks the model of the second word; so does
  `LMStrix().infer(model_id, prompt)` without keywords. Write the prompt first.
- `lmstrix list size`, a sort order without `--sort`, is a filter; `test True` and the like name a model.
- An option that is given twice is refused; of two, the last one was taken without a word.
- `lmstrix scan --reset` and `reset --all` forget every result, and want `--yes` with it.
- `lmstrix list` reads the registry and never asks the server; `lmstrix scan` does.
- A placeholder that nothing fills is an error and not sent; `core.prompts.PromptResolver` alone still leaves it.
- A command that fails ends with an exit code other than 0.
"""
SECTIONS: dict[str, tuple[Kind, ...]] = {
    "Commands and words": ("command", "words"),
    "Options": ("option",),
    "Output": ("output",),
    "What they do": ("behaviour",),
    "Python: modules": ("python",),
    "Python: keywords and methods": ("keyword", "method", "member"),
}


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for title, kinds in SECTIONS.items():
        rows = "\n".join(_line(row) for row in ROWS if row.kind in kinds)
        parts.append(_table(title, rows))
    parts += [_table("Settings", "\n".join(_settings())), _table("Environment", "\n".join(_variables()))]
    return "\n".join(parts)


def _table(title: str, rows: str) -> str:
    return f"## {title}\n\n| LMStrix 1 | Today | |\n|---|---|---|\n{rows}\n"


def _settings() -> list[str]:
    renamed = [f"| `{old}` | `{new}` | |" for old, new in RENAMED.items()]
    gone = [f"| {', '.join(f'`{key}`' for key in keys.split())} | none | {why} |" for keys, why in KEYS_GONE.items()]
    return [*renamed, *gone, *(f"| all else in `{name}` | none | {why} |" for name, why in SECTIONS_GONE.items())]


def _variables() -> list[str]:
    read = [f"| `{name}` | `{BY_FIELD[field].key}` | |" for name, field in SETTING_VARIABLES.items()]
    return [*read, *(f"| `{name}` | none | {why} |" for name, why in EARLIER_VARIABLES.items())]


def _line(row: Migration) -> str:
    if row.kind == "behaviour":  # sentences, and no code
        return f"| {row.old} | {row.new or 'none'} | {row.note} |"
    new = "none" if row.new is None else f"`{row.new}`"
    return f"| `{row.old}` | {new} | {row.note.replace('|', chr(92) + '|')} |"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
