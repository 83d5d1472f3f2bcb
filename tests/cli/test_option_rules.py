"""Options that would do nothing are refused, each by a line that names both options."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.cli.app import COMMANDS, common_parameters
from lmstrix.cli.option_rules import RULES, OptionRule
from lmstrix.cli.signatures import describe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer

VALUES = {
    "mirostat": "2",
    "max_rounds": "3",
    "last": "3",
    "full": "3",
    "ttl": "3",
    "top_p": "0.5",
    "min_p": "0.5",
}
"""Words for options that do not take any text."""
ROUNDS = ("infer", "hi", "--max-rounds", "3")


def words_of(rule: OptionRule, *conditions: str) -> list[str]:
    """A command line with these options, of this kind: NAME=VALUE has its value."""
    path = tuple(rule.command.split())
    known = {each.name: each for each in (*describe(path, COMMANDS[path]).parameters, *common_parameters())}
    words = [each.flag for each in known.values() if each.positional and each.required]
    words += [f"--{each.flag}=x" for each in known.values() if each.required and not each.positional]
    for condition in conditions:
        name, _, value = condition.partition("=")
        parameter = known[name]
        if parameter.positional:
            words.append(value.replace("*", "x"))
            continue
        value = value or VALUES.get(name) or (parameter.choices[0] if parameter.choices else "3")
        words.append(f"--{parameter.flag}" if parameter.switch else f"--{parameter.flag}={value}")
    return [*path, *words]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.command} {rule.option}")
def test_every_rule_names_options_that_there_are(rule: OptionRule) -> None:
    path = tuple(rule.command.split())
    known = {each.name: each for each in (*describe(path, COMMANDS[path]).parameters, *common_parameters())}
    assert bool(rule.needs) != bool(rule.without)
    for condition in (rule.option, *rule.needs, *rule.without):
        name, equals, value = condition.partition("=")
        assert name in known
        if equals and known[name].choices:
            assert value in known[name].choices


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.command} {rule.option}")
def test_every_rule_refuses_and_names_both(cli: Callable[..., Ran], faulty: FaultyServer, rule: OptionRule) -> None:
    for other in rule.without or ("",):
        words = words_of(rule, rule.option, *([other] if other else []))
        ran = cli(*words)
        assert (ran.code, ran.out, len(ran.lines)) == (2, "", 1), ran
        said = "does not go with" if other else "has no effect without"
        assert f" {said} " in ran.err
        assert rule.why in ran.err
    assert faulty.seen == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (ROUNDS, "--max-rounds has no effect without --tools: it limits the rounds of calling tools; give that too"),
        (("infer", "hi", "--stream", "--json"), "--stream does not go with --json"),
        (("infer", "hi", "--stream", "--format", "yaml"), "--stream does not go with --format yaml"),
        (("infer", "hi", "--markdown", "-x"), "--markdown does not go with --extract: that is printed as it is"),
        (("chat", "--top-k", "3", "--mirostat", "2"), "--top-k does not go with --mirostat"),
        (("test", "m", "--sort", "size"), "--sort has no effect without --all, --continue or tag:NAME"),
        (("test", "m", "--ctx", "1024", "--threshold", "512"), "--threshold does not go with --ctx"),
        (("collections", "add", "c", "a", "--form", "csv"), "--form has no effect without --rows or --stdin"),
        (("collections", "search", "c", "--like", "a", "-m", "x"), "--model does not go with --like"),
    ],
)
def test_the_line_is_what_a_reader_types(cli: Callable[..., Ran], words: tuple[str, ...], line: str) -> None:
    cli(*words).failed(2, line)


@pytest.mark.parametrize(
    "words",
    [
        ("--no-stream", "--json"),
        ("--no-markdown", "--json"),
        ("--mirostat", "0", "--top-k", "3"),
        ("--no-approve",),
        ("--format", "json", "--json"),
        ("-x", "--json"),
    ],
)
def test_what_is_switched_off_is_no_contradiction(
    cli: Callable[..., Ran], faulty: FaultyServer, words: tuple[str, ...]
) -> None:
    fragment = {"content": "```\nx\n```", "tokensCount": 1, "containsDrafted": False, "reasoningType": "none"}
    faulty.script = [{"type": "fragment", "fragment": fragment | {"isStructural": False}}]
    cli("infer", "hi", "-m", "acme/tiny", *words).ok()


def test_a_default_of_the_settings_is_no_slip_and_counts_as_given(
    cli: Callable[..., Ran], home: Path, faulty: FaultyServer
) -> None:
    settings = home / "lmstrix" / "config.toml"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text("[defaults.infer]\nmax-rounds = 3\nstream = true\n", encoding="utf-8")
    cli("infer", "hi", "-m", "acme/tiny", "--json").ok()
    settings.write_text('[defaults.infer]\ntools = ["json:dumps"]\n', encoding="utf-8")
    assert "has no effect" not in cli(*ROUNDS, "-m", "acme/tiny").err
