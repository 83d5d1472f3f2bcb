"""Every variable under our name is known, or told with the reason why it has no effect."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lmstrix
from lmstrix.ground.environment import EARLIER_VARIABLES, OTHER_VARIABLES, SETTING_VARIABLES, unknown_variables

DOCUMENTED = [
    "LMSTUDIO_BASE_URL",
    "LMSTUDIO_API_KEY",
    "LMSTRIX_TIMEOUT",
    "LMSTRIX_CONNECT_TIMEOUT",
    "LMSTRIX_REGISTRY_PATH",
    "LMSTRIX_CONFIG_PATH",
    "LMSTRIX_CACHE_DIR",
    "LMSTRIX_SAFETY_THRESHOLD",
    "LMSTRIX_MAX_RETRIES",
    "LMSTRIX_RETRY_DELAY",
    "LMSTRIX_DEBUG",
    "LMSTRIX_LOG_LEVEL",
    "LMSTRIX_LOG_FILE",
    "LMSTRIX_NO_COLOR",
    "LMSTRIX_NO_EMOJI",
    "LMSTRIX_COMPACT_OUTPUT",
    "LMSTRIX_PROFILE",
    "LMSTRIX_MAX_TEST_ITERATIONS",
    "LMSTRIX_MEMORY_MONITORING",
    "LMSTRIX_AGGRESSIVE_GC",
    "LMSTRIX_TEST_TIMEOUT",
    "LMSTRIX_ENABLE_MONITORING",
    "LMSTRIX_CONVERGENCE_THRESHOLD",
    "LMSTRIX_DEBUG_COMPONENTS",
    "LMSTUDIO_MODELS_PATH",
    "LMSTUDIO_HOST",
    "LMSTUDIO_PORT",
    "LM_API_TOKEN",
]
"""All that the documentation of the earlier LMStrix names."""


def test_variables_that_are_read_are_not_told() -> None:
    environ = dict.fromkeys([*SETTING_VARIABLES, *OTHER_VARIABLES, "PATH", "LMS_API_SERVER_INFO_PATH"], "1")
    assert unknown_variables(environ) is None


def test_a_slip_is_told_with_what_was_meant() -> None:
    told = unknown_variables({"LMSTRIX_SEVER": "127.0.0.1:1", "LMSTRIX_HOME": "/x"})
    assert told == "environment variable has no effect: LMSTRIX_SEVER (did you mean LMSTRIX_SERVER?)"


def test_all_are_told_in_one_line_each_with_its_reason() -> None:
    told = unknown_variables({"LMSTRIX_QQ": "1", "LMSTRIX_CACHE_DIR": "/c"})
    assert told == (
        "environment variables have no effect: "
        "LMSTRIX_CACHE_DIR (the cache lies in the LMStrix home: set LMSTRIX_HOME); LMSTRIX_QQ (unknown)"
    )


def test_where_lm_studio_was_is_told_though_the_name_is_not_ours() -> None:
    assert unknown_variables({"LMSTUDIO_PORT": "4321"}) == (
        "environment variable has no effect: LMSTUDIO_PORT (set LMSTRIX_SERVER to HOST:PORT)"
    )


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_documented_variable_has_its_equivalent_or_its_reason(name: str) -> None:
    assert (name in SETTING_VARIABLES or name in OTHER_VARIABLES) != (name in EARLIER_VARIABLES)


def test_whatever_the_code_reads_is_known() -> None:
    source = Path(lmstrix.__file__).parent
    named = {
        name for file in source.rglob("*.py") for name in re.findall(r"LMSTRIX_[A-Z_]*[A-Z]", file.read_text("utf-8"))
    }
    assert named - set(SETTING_VARIABLES) - OTHER_VARIABLES - set(EARLIER_VARIABLES) == set()
