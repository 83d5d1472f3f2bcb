"""Write src_docs/reference/settings.md from the Settings record; `--check` says whether it is current."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from pathlib import Path

from lmstrix.ground import settings

PAGE = Path(__file__).parent.parent / "src_docs" / "reference" / "settings.md"
_BEGINNING = """# Settings

Written by `tools/write_settings_docs.py`; do not edit.

Each layer overrides the ones before it: defaults, `lmstrix/config.toml` (or `config.json`) in the LMStrix home, its
profile (`--profile NAME`), `.lmstrix.toml` of the folder you work in, the environment, options of the command line. A
file that is not valid is one message that names file and key.
"""


def page() -> str:
    """The whole page."""
    parts = [_BEGINNING, *_tables("", settings.Settings)]
    rows = [f"| `{name}` | `{key}` |" for name, key in settings._VARIABLES.items()]
    parts.append("\n".join(["## Environment", "", "| variable | setting |", "|---|---|", *rows]) + "\n")
    parts.append(
        "`LMSTRIX_HOME` chooses the folder of everything LMStrix keeps; then LM Studio's own is not looked for.\n"
    )
    return "\n".join(parts)


def _tables(section: str, record: type) -> list[str]:
    """A table of one record's settings; fields that are records themselves are sections with tables of their own."""
    texts = dict(re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", inspect.getdoc(record) or "", re.MULTILINE))
    rows, sections = [], []
    for field in dataclasses.fields(record):
        default = field.default_factory() if callable(field.default_factory) else field.default
        if dataclasses.is_dataclass(default):
            sections += _tables(f"{section}.{field.name}".lstrip("."), type(default))
        else:
            rows.append(f"| `{field.name}` | {_toml(default)} | {' '.join(texts.get(field.name, '').split())} |")
    title = f"## [{section}]" if section else "## All settings"
    return ["\n".join([title, "", "| setting | default | is |", "|---|---|---|", *rows]) + "\n", *sections]


def _toml(value: object) -> str:
    """A default as a file of settings would have it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
