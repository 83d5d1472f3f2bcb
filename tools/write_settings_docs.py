"""Write src_docs/reference/settings.md from the table of settings; `--check` says whether it is current."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from pathlib import Path

from lmstrix.ground.environment import (
    CONFIG_VARIABLES,
    EARLIER_VARIABLES,
    PROFILE_VARIABLE,
    SETTING_VARIABLES,
)
from lmstrix.ground.setting_keys import BY_FIELD, KEYS, SettingKey
from lmstrix.ground.settings import Settings

PAGE = Path(__file__).parent.parent / "src_docs" / "reference" / "settings.md"
_BEGINNING = """# Settings

Written by `tools/write_settings_docs.py`; do not edit.

Each layer overrides the ones before it: defaults, `lmstrix/config.toml` (or `config.json`) in the LMStrix home, its
profile (`--profile NAME`), `.lmstrix.toml` of the folder you work in, the environment, options of the command line. A
file that is not valid is one message that names file, key, line and column. `lmstrix config set KEY VALUE` changes one
setting, `lmstrix config effective` shows which layer each value comes from.
"""
_TRUST = {
    "always": "counts in every folder's `.lmstrix.toml`",
    "if_off": "counts there where it is off",
    "never": "counts there only in a folder you trust (`lmstrix trust`)",
}


def page() -> str:
    """The whole page."""
    meanings = _meanings()
    rows = [_row(key, meanings) for key in KEYS]
    head = ["## All settings", "", "| setting | default | is | expects |", "|---|---|---|---|"]
    parts = [_BEGINNING, "\n".join([*head, *rows]) + "\n", _trust(), _variables()]
    return "\n".join(parts)


def _meanings() -> dict[str, str]:
    texts = dict(re.findall(r"^ {4}([\w, ]+): (.*(?:\n {8}.*)*)", inspect.getdoc(Settings) or "", re.MULTILINE))
    return {name.strip(): " ".join(text.split()) for names, text in texts.items() for name in names.split(",")}


def _row(key: SettingKey, meanings: dict[str, str]) -> str:
    field = next(each for each in dataclasses.fields(Settings) if each.name == key.field)
    default = field.default_factory() if callable(field.default_factory) else field.default
    name = f"`[{key.key}]`" if key.table else f"`{key.key}`"
    return f"| {name} | {_toml(default)} | {meanings.get(key.field, '')} | {key.expects} |"


def _toml(value: object) -> str:
    """A default as a file of settings would have it."""
    if value is None or value == {}:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def _trust() -> str:
    lines = [
        f"- {meaning}: {', '.join(f'`{key.key}`' for key in KEYS if key.harmless == trust)}"
        for trust, meaning in _TRUST.items()
    ]
    return "\n".join(["## In the file of a project", "", *lines]) + "\n"


def _variables() -> str:
    read = [f"| `{name}` | `{BY_FIELD[field].key}` |" for name, field in SETTING_VARIABLES.items()]
    read += [f"| `{name}` | the config file, as `--config` |" for name in CONFIG_VARIABLES]
    read.append(f"| `{PROFILE_VARIABLE}` | the profile, as `--profile` |")
    read.append("| `LMSTRIX_HOME` | the folder of everything LMStrix keeps; LM Studio's own is then not looked for |")
    earlier = [f"| `{name}` | {reason} |" for name, reason in EARLIER_VARIABLES.items()]
    return "\n".join(
        [
            "## Environment",
            "",
            "| variable | sets |",
            "|---|---|",
            *read,
            "",
            "Any other variable that begins with `LMSTRIX_` is told when a command runs. Those of the earlier LMStrix",
            "that have no effect:",
            "",
            "| variable | because |",
            "|---|---|",
            *earlier,
            "",
        ]
    )


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
