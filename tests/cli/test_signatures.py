"""Option groups: a record in a signature becomes its options, and the command gets the record back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from lmstrix.cli.app import COMMANDS, common_parameters
from lmstrix.cli.kinds import Flag, Tokens
from lmstrix.cli.signatures import Commands, Only, describe, options_of
from lmstrix.cli.words import parse
from lmstrix.ground.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a thing is shaped.

    Args:
        width: How wide.
        colour: Which colour.
        deep: Whether it is
            deep.
    """

    width: Tokens = 4
    colour: Literal["red", "blue"] = "red"
    deep: Annotated[bool, Flag("abyss")] = False


def make(what: str, /, name: str, *, shape: Shape, fast: bool = False) -> None:
    """Make it.

    Args:
        name: Its name.
        colour: The colour it is sold in.
    """


def mend(what: str, /, *, shape: Annotated[Shape, Only("deep", "width")]) -> None:
    """Mend it."""


THINGS: Commands = {("make",): make, ("mend",): mend}


def test_a_group_stands_where_its_parameter_stands_and_the_commands_own_text_wins() -> None:
    command = describe(("make",), make)
    assert [(p.flag, p.help) for p in command.parameters] == [
        ("name", "Its name."),
        ("width", "How wide."),
        ("colour", "The colour it is sold in."),
        ("abyss", "Whether it is deep."),
        ("fast", ""),
    ]
    assert [p.help for p in options_of(Shape)] == ["How wide.", "Which colour.", "Whether it is deep."]


def test_a_command_may_take_part_of_a_group_in_its_own_order() -> None:
    assert [p.flag for p in describe(("mend",), mend).parameters] == ["abyss", "width"]
    with pytest.raises(UsageError, match="unknown option --colour"):
        parse(["mend", "--colour", "red"], THINGS, ())


@pytest.mark.parametrize(
    ("words", "shape"),
    [
        ([], Shape()),
        (["--width", "2k", "--abyss"], Shape(width=2048, deep=True)),
        (["--no-abyss", "--colour=blue"], Shape(colour="blue")),
    ],
)
def test_the_command_gets_the_record(words: list[str], shape: Shape) -> None:
    asked = parse(["make", "a", *words, "--fast"], THINGS, ())
    assert asked.command is not None
    assert asked.command.arguments(asked.options) == {"name": "a", "shape": shape, "fast": True}


@pytest.mark.parametrize("path", COMMANDS)
def test_no_option_is_spelled_twice_in_a_command(path: tuple[str, ...]) -> None:
    parameters = [*describe(path, COMMANDS[path]).parameters, *common_parameters()]
    for names in ([p.flag for p in parameters], [p.name for p in parameters]):
        assert sorted(set(names)) == sorted(names)


def test_a_command_is_described_once() -> None:
    path = ("infer",)
    assert describe(path, COMMANDS[path]) is describe(path, COMMANDS[path])
