"""Every number that a command, a settings file or the Python API takes has a range, and one outside it a line."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, get_args

import pytest

from lmstrix import LMStrix
from lmstrix.cli.app import COMMANDS, common_parameters
from lmstrix.cli.kinds import PLAIN_KINDS, ListColumns, SomeText
from lmstrix.cli.signatures import describe
from lmstrix.cli.words import parse
from lmstrix.core.answers.recommend import Wish
from lmstrix.core.answers.request import InferRequest
from lmstrix.core.benchmark.records import BenchRequest
from lmstrix.engine.options import EngineOptions
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.loads import LoadConfig
from lmstrix.ground.paths import own_folder
from lmstrix.ground.ranges import RANGES, check_numbers
from lmstrix.ground.settings import Settings
from lmstrix.ground.types import Deadlines
from lmstrix.service.due_tests import ContextTestRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.cli.signatures import Parameter
    from tests.cli.conftest import Ran

NO_NUMBERS = {PLAIN_KINDS[str].shown, get_args(ListColumns)[1].shown, get_args(SomeText)[1].shown}
RECORDS = (InferRequest, LoadConfig, Deadlines, ContextTestRequest, BenchRequest, Wish, Settings, EngineOptions)
# Counted by their own rules: a port, and what a machine has.
UNRANGED_FIELDS = {"port", "budget_bytes", "headroom"}


def numeric_options() -> list[tuple[str, Parameter]]:
    """Every option of every command whose value is a number, or several."""
    commands = [describe(path, function) for path, function in COMMANDS.items()]
    found = [(command.name, each) for command in commands for each in command.parameters]
    found += [("list", each) for each in common_parameters()]
    return [
        (name, each)
        for name, each in found
        if not each.switch and not each.choices and each.kind.shown not in NO_NUMBERS
    ]


def ids(value: object) -> str | None:
    return getattr(value, "flag", None)


def test_the_table_has_the_numbers() -> None:
    flags = {parameter.flag for _, parameter in numeric_options()}
    assert {"temperature", "top-k", "seed", "ttl", "timeout", "port", "last", "lines", "runs", "max-tokens"} <= flags


@pytest.mark.parametrize(("command", "parameter"), numeric_options(), ids=ids)
@pytest.mark.parametrize("word", ["-1", "nan", "inf", "1e999", "x", "", "9" * 400, "9" * 5000])
def test_a_number_out_of_its_range_is_refused(command: str, parameter: Parameter, word: str) -> None:
    if word == "-1" and parameter.range is not None and parameter.range.least < 0:
        word = "-1000"  # a penalty may be a reward
    with pytest.raises(UsageError) as caught:
        parse([*command.split(), f"--{parameter.flag}={word}"], COMMANDS, common_parameters())
    assert str(caught.value).startswith(f"--{parameter.flag}: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["infer", "hi", "--temperature=-1"], ["--temperature", "-1", "at least 0, at most 100"]),
        (["infer", "hi", "--top-p", "5"], ["--top-p", "5", "at least 0, at most 1)"]),
        (["infer", "hi", "--out-ctx", "0"], ["--out-ctx", "0", "at least 1"]),
        (["infer", "hi", "--out-ctx", "0%"], ["--out-ctx", "0%"]),
        (["infer", "hi", "--seed", "4294967296"], ["--seed", "4,294,967,296", "4,294,967,294"]),
        (["infer", "hi", "--stop", ""], ["--stop", "empty"]),
        (["infer", "hi", "--repeat-penalty", "0"], ["--repeat-penalty", "more than 0"]),
        (["infer", "hi", "--first-token-timeout", "0"], ["--first-token-timeout", "more than 0"]),
        (["infer", "hi", "--max-rounds", "0"], ["--max-rounds"]),
        (["list", "--timeout", "0"], ["--timeout"]),
        (["batch", "--parallel", "0"], ["--parallel"]),
        (["load", "m", "--gpu", "2"], ["--gpu", "2", "at least 0, at most 1)"]),
        (["bench", "m", "--concurrency", "1,999"], ["--concurrency", "999"]),
        (["recommend", "--top", "0"], ["--top"]),
        (["engine", "run", "--port", "65536"], ["--port", "65535"]),
        (["engine", "run", "--memory-limit", "0"], ["--memory-limit"]),
    ],
)
def test_option_value_and_range_are_named(words: list[str], parts: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        parse(words, COMMANDS, common_parameters())
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ["infer", "hi", "--temperature", "0", "--top-p", "1", "--top-k", "0", "--seed", "0", "--min-p", "0"],
        ["infer", "hi", "--in-ctx", "0", "--out-ctx", "max", "--ttl", "0"],
        ["infer", "hi", "--in-ctx", "100%", "--out-ctx", "50%"],
        ["bench", "m", "--context-tiers", "0,4k"],
        ["engine", "logs", "--lines", "0"],
    ],
)
def test_what_is_in_range_is_taken(words: list[str]) -> None:
    assert parse(words, COMMANDS, common_parameters()).command is not None


@pytest.mark.parametrize("record", RECORDS)
def test_every_number_of_a_record_has_a_range(record: type[Any]) -> None:
    assert is_dataclass(record)
    numeric = [field.name for field in fields(record) if any(word in str(field.type) for word in ("int", "float"))]
    assert [name for name in numeric if name not in RANGES and name not in UNRANGED_FIELDS] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"top_p": 5},
        {"min_p": -0.1},
        {"top_k": 1.5},
        {"seed": -1},
        {"seed": True},
        {"max_tokens": 0},
        {"max_tokens": 1.5},
        {"context_length": -1},
        {"context_length": 4096.0},
        {"ttl_s": -1},
        {"timeout_s": 0},
        {"first_token_s": float("nan")},
        {"temperature": "hot"},
        {"stop": ("",)},
        {"stop": ""},
        {"raw": True, "system_prompt": "Be brief."},
    ],
)
def test_the_python_api_refuses_them_before_anything_runs(wrong: dict[str, Any], home: Path) -> None:
    with LMStrix(server="127.0.0.1:1", home=home) as lms:
        with pytest.raises(UsageError) as caught:
            lms.infer("hi", "m", **wrong)
        with pytest.raises(UsageError):
            list(lms.stream("hi", "m", **wrong))
    assert next(iter(wrong)).split("_")[0] in str(caught.value)


def test_loads_tests_and_benchmarks_are_checked_too(home: Path) -> None:
    with LMStrix(server="127.0.0.1:1", home=home) as lms:
        for call in (
            lambda: lms.load("m", 0),
            lambda: lms.load("m", 4096, gpu_ratio=2.0),
            lambda: lms.estimate("m", 4096, parallel_slots=0),
            lambda: lms.test_model("m", threshold=-1),
            lambda: lms.bench("m", runs=0),
            lambda: lms.bench("m", tiers=(-1,)),
            lambda: lms.recommend(max_memory_bytes=0),
            lambda: lms.embed("a", ttl_s=-1),
        ):
            with pytest.raises(UsageError, match=r"out of range|is not"):
                call()
        with pytest.raises(UsageError, match="top_p"):
            lms.chat("m", top_p=2).send("hi")
    with pytest.raises(LMStrixError, match="timeout_s"):
        LMStrix(home=home, timeout_s=-5)
    with pytest.raises(UsageError, match="between_tokens_s"):
        check_numbers(BenchRequest(deadlines=Deadlines(between_tokens_s=0)))


def test_a_settings_file_with_such_a_number_is_refused(cli: Callable[..., Ran], home: Path) -> None:
    own_folder(home).mkdir(parents=True, exist_ok=True)
    for line, name in (("timeout_s = -5", "timeout_s"), ("log_keep_days = 0", "log_keep_days")):
        (own_folder(home) / "config.toml").write_text(line + "\n", encoding="utf-8")
        cli("list").failed(2, "config.toml", name, "out of range")


def test_a_raw_prompt_has_no_system_prompt(cli: Callable[..., Ran]) -> None:
    cli("infer", "hi", "--raw", "--system-prompt", "Be brief.").failed(2, "--raw", "--system-prompt")
