"""The environment variables that LMStrix knows, and one line about those under its name that it does not.

A variable that nobody reads looks as if it worked. So whatever begins with LMSTRIX_ and is not known here is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PREFIX = "LMSTRIX_"
SETTING_VARIABLES: Mapping[str, str] = {
    "LMSTRIX_SERVER": "server",
    "LMSTUDIO_BASE_URL": "server",
    "LMSTRIX_API_TOKEN": "api_token",
    "LM_API_TOKEN": "api_token",
    "LMSTUDIO_API_KEY": "api_token",
    "LMSTRIX_TIMEOUT": "timeout_s",
    "LMSTRIX_MODELS_DIR": "models_dir",
    "LMSTUDIO_MODELS_PATH": "models_dir",
    "LMSTRIX_LOG": "log_inference",
    "LMSTRIX_CONNECT_TIMEOUT": "connect_timeout_s",
    "LMSTRIX_MAX_RETRIES": "retries",
    "LMSTRIX_SAFETY_THRESHOLD": "threshold",
    "LMSTRIX_SAFETY_HEADROOM": "headroom",
    "LMSTRIX_DEBUG": "debug",
    "LMSTRIX_NO_COLOR": "color",
    "LMSTRIX_LOG_FILE": "log_file",
    "LMSTRIX_LOG_LEVEL": "log_level",
}
"""The setting that each variable gives. Of two for one setting the first wins."""

_OFF_SWITCHES = ("LMSTRIX_NO_COLOR",)
"""Variables that turn their setting off."""

CONFIG_VARIABLES = ("LMSTRIX_CONFIG", "LMSTRIX_CONFIG_PATH")
"""The configuration file, as with --config; the first wins."""
PROFILE_VARIABLE = "LMSTRIX_PROFILE"

OTHER_VARIABLES = frozenset(
    {*CONFIG_VARIABLES, PROFILE_VARIABLE, "LMSTRIX_HOME", "LMSTRIX_ENGINE_TOKEN", "LMSTRIX_ENGINE_RUN_KEY"}
)
"""Read elsewhere: where things are, the embedded engine's own."""

EARLIER_VARIABLES: Mapping[str, str] = {
    "LMSTRIX_AGGRESSIVE_GC": "each model runs in a process of its own, and its end frees all memory",
    "LMSTRIX_CACHE_DIR": "the cache lies in the LMStrix home: set LMSTRIX_HOME",
    "LMSTRIX_COMPACT_OUTPUT": "tables are as wide as the terminal; choose columns in [defaults.list] of the settings",
    "LMSTRIX_CONVERGENCE_THRESHOLD": "set precision in [defaults.test] of the settings",
    "LMSTRIX_DEBUG_COMPONENTS": "LMSTRIX_DEBUG logs all of it",
    "LMSTRIX_ENABLE_MONITORING": "memory is always watched while a test runs",
    "LMSTRIX_MAX_TEST_ITERATIONS": "a test ends once it is exact enough; set budget in [defaults.test] of the settings",
    "LMSTRIX_MEMORY_MONITORING": "memory is always watched while a test runs",
    "LMSTRIX_NO_EMOJI": "nothing here prints emoji",
    "LMSTRIX_REGISTRY_PATH": "the registry is lmstrix.json in the LMStrix home: set LMSTRIX_HOME",
    "LMSTRIX_RETRY_DELAY": "waits between attempts are random and double each time",
    "LMSTRIX_TEST_TIMEOUT": "set load_timeout in [defaults.test] of the settings",
    "LMSTUDIO_HOST": "set LMSTRIX_SERVER to HOST:PORT",
    "LMSTUDIO_PORT": "set LMSTRIX_SERVER to HOST:PORT",
}
"""Variables of the earlier LMStrix's documentation that have no effect, and why."""


def unknown_variables(environ: Mapping[str, str]) -> str | None:
    """One line about the variables of ours, or once of ours, that have no effect; None where every one has."""
    ours = (name for name in environ if name.startswith(PREFIX) or name in EARLIER_VARIABLES)
    unknown = sorted(name for name in ours if not _is_known(name))
    if not unknown:
        return None
    many = "variables have" if len(unknown) > 1 else "variable has"
    return f"environment {many} no effect: {'; '.join(map(_told, unknown))}"


def setting_value(variable: str, word: str) -> str | bool | None:
    """What a variable says of its setting; None where it says nothing."""
    if variable not in _OFF_SWITCHES:
        return word
    return False if word.strip().lower() in ("1", "true", "yes", "on") else None


def chosen_config(environ: Mapping[str, str]) -> str | None:
    """The configuration file that the environment names."""
    return next((environ[name] for name in CONFIG_VARIABLES if environ.get(name)), None)


def near(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant."""
    import difflib  # only a slip needs it

    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def _is_known(name: str) -> bool:
    return name in SETTING_VARIABLES or name in OTHER_VARIABLES


def _told(name: str) -> str:
    if name in EARLIER_VARIABLES:
        return f"{name} ({EARLIER_VARIABLES[name]})"
    # By what differs: the beginning that all share would make any name seem near.
    ours = [known for known in (*SETTING_VARIABLES, *OTHER_VARIABLES) if known.startswith(PREFIX)]
    meant = near(name.removeprefix(PREFIX), [known.removeprefix(PREFIX) for known in ours])
    return f"{name} (did you mean {PREFIX}{meant}?)" if meant else f"{name} (unknown)"
