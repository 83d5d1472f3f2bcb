"""Every setting: its key in a file, the field it fills, what it expects, and what a stranger's file may say of it.

A key is a section and a name. Files of earlier versions name some settings without a section; they are still read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Harmless = Literal["always", "if_off", "never"]
"""Whether a setting counts in the file of a project that is not trusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingKey:
    """One setting. `flat` is its key without a section, `table` whether it holds entries of any name."""

    key: str
    field: str
    expects: str
    harmless: Harmless = "never"
    flat: str | None = None
    table: bool = False
    secret: bool = False


KEYS = (
    SettingKey(key="server.address", field="server", expects="auto, lmstudio, embedded, or an address", flat="server"),
    SettingKey(key="server.api_token", field="api_token", expects="a text", flat="api_token", secret=True),
    SettingKey(
        key="server.timeout_s", field="timeout_s", expects="a number of seconds", harmless="always", flat="timeout_s"
    ),
    SettingKey(
        key="server.connect_timeout_s", field="connect_timeout_s", expects="a number of seconds", harmless="always"
    ),
    SettingKey(key="server.retries", field="retries", expects="a whole number", harmless="always"),
    # Who could turn it off could put another server in the place of the user's own.
    SettingKey(key="server.verify_tls", field="verify_tls", expects="true or false"),
    SettingKey(key="server.ca_file", field="ca_file", expects="the name of a file"),
    SettingKey(key="server.headers", field="headers", expects="texts by name", table=True, secret=True),
    SettingKey(key="servers", field="servers", expects="a table per address", table=True, secret=True),
    SettingKey(key="safety.threshold", field="threshold", expects="a whole number of tokens", harmless="always"),
    # A project could give away what its user wants free.
    SettingKey(key="safety.headroom", field="headroom", expects="bytes such as 2GB, or a share such as 10%"),
    SettingKey(key="output.color", field="color", expects="true or false", harmless="always"),
    SettingKey(key="output.verbose", field="verbose", expects="true or false", harmless="always"),
    # It would also silence the remark about what was left out.
    SettingKey(key="output.quiet", field="quiet", expects="true or false"),
    SettingKey(key="output.debug", field="debug", expects="true or false", harmless="always"),
    SettingKey(key="logging.file", field="log_file", expects="the name of a file"),
    SettingKey(key="logging.level", field="log_level", expects="debug, info, warn or error", harmless="always"),
    SettingKey(key="logging.max_bytes", field="log_max_bytes", expects="a whole number of bytes"),
    SettingKey(
        key="logging.calls", field="log_inference", expects="true or false", harmless="if_off", flat="log_inference"
    ),
    SettingKey(key="logging.texts", field="log_texts", expects="true or false", harmless="if_off", flat="log_texts"),
    SettingKey(key="logging.keep_days", field="log_keep_days", expects="a number of days", flat="log_keep_days"),
    SettingKey(key="paths.models_dir", field="models_dir", expects="the name of a folder", flat="models_dir"),
    SettingKey(key="defaults", field="command_defaults", expects="a table of options per command", table=True),
    SettingKey(key="aliases", field="command_aliases", expects="words of a command line by name", table=True),
    SettingKey(key="models", field="model_defaults", expects="a table per model", table=True),
)
BY_KEY: Mapping[str, SettingKey] = {
    **{each.flat: each for each in KEYS if each.flat is not None},
    **{each.key: each for each in KEYS},
}
"""By every name a file may use."""
BY_FIELD: Mapping[str, SettingKey] = {each.field: each for each in KEYS}
SECTIONS = frozenset(each.key.partition(".")[0] for each in KEYS if "." in each.key)
