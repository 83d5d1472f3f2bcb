"""What MLX runtimes log of a load: lines that users posted, the form of a newer runtime, and lines that are damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lmstrix.core.memory.context_fit import ContextFit, context_fits
from lmstrix.ground.types import RuntimeVersion

GIB = 2**30
LINES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "data" / "context_fit_lines.json").read_text(encoding="utf-8")
)["lines"]


def expected(told: dict[str, Any]) -> ContextFit:
    told = dict(told)
    for name in ("working_set", "baseline"):
        gib = told.pop(f"{name}_gib")
        told[f"{name}_bytes"] = None if gib is None else round(gib * GIB)
    if told["runtime"] is not None:
        name, version = told["runtime"]
        told["runtime"] = RuntimeVersion(name=name, version=version)
    return ContextFit(**told)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line["source"].rpartition("/")[2])
def test_lines_that_users_posted(line: dict[str, Any]) -> None:
    assert context_fits(line["text"]) == [expected(fit) for fit in line["fits"]]


def test_all_of_a_log_in_order() -> None:
    text = "".join(line["text"] + "\n" for line in LINES)
    assert [fit.fitted_tokens for fit in context_fits(text)] == [152_576, 208_384, 262_144, 4096]
    assert [fit.configured_tokens for fit in context_fits(text)] == [200_000, 16_384, 131_065, None]


def test_a_runtime_that_names_other_fields() -> None:
    """As mlx-engine's source has them since prefill steps shrink near the limit."""
    (fit,) = context_fits(
        "Model context auto-fit: family=gpt_oss max=131,072 fitted=98,304 working_set=24.96GiB reserve=3.00GiB "
        "baseline=12.10GiB full_kv=49152B/token prompt_inputs=5760B/token attention_coefficient=0B/context/step "
        "rotating_constant=0.01GiB rotating_per_step=24576B steps=2048:90,112,1024:98,304"
    )
    assert (fit.fitted_tokens, fit.full_kv_bytes_per_token) == (98_304, 49_152)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Model context auto-fit: ",
        "Model context auto-fit: fitted=",
        "Model context auto-fit: fitted=many max=5",
        "fitted=5",
    ],
)
def test_lines_that_say_nothing(text: str) -> None:
    assert context_fits(text) == []


def test_the_words() -> None:
    first, second = context_fits("\n".join(line["text"] for line in (LINES[0], LINES[2])))
    assert first.words == (
        "LM Studio's log: it fitted 152,576 of 262,144 tokens for 200,000 configured, 20,480 bytes of cache per token,"
        " 20.2 GiB before any, of 36.0 GiB"
    )
    assert second.words == "LM Studio's log: it fitted 262,144 of 262,144 tokens for 131,065 configured"
