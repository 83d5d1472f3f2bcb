"""Options that do nothing without another one, or beside it: one table, checked before a command runs.

Only what the words say is judged. A default of the settings may stand for all calls of a command, also for those where
it has no effect; and it counts as given where an option needs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from lmstrix.ground.choices import TAG_PREFIX
from lmstrix.ground.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from lmstrix.cli.signatures import Command, Parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionRule:
    """What an option of a command needs, any of `needs`, or what it does not go with, each of `without`.

    They are parameters' names; NAME=VALUE is one that has this value, in which * stands for any text. `why` is a clause
    of its own, about the option or, with `without`, about both.
    """

    command: str
    option: str
    needs: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    why: str


_JSON = ("json", "compat", "format=json", "format=yaml")
_CODE = ("extract", "extract_last")
# llama.cpp draws by temperature and mirostat alone then: none of these are in its chain of samplers.
_NOT_WITH_MIROSTAT = ("top_k", "top_p", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty")

RULES: tuple[OptionRule, ...] = (
    OptionRule(command="infer", option="max_rounds", needs=("tools",), why="it limits the rounds of calling tools"),
    OptionRule(command="infer", option="approve", needs=("tools",), why="it asks before each call of a tool"),
    OptionRule(
        command="infer",
        option="stream",
        without=(*_JSON, *_CODE),
        why="its output is known at the end of the answer only",
    ),
    OptionRule(command="infer", option="markdown", without=(*_JSON, *_CODE), why="that is printed as it is"),
    OptionRule(
        command="infer", option="compat", without=("format=yaml", *_CODE), why="it is a form of JSON of its own"
    ),
    OptionRule(command="infer", option="compat", without=("dry_run",), why="it is a form of answers"),
    OptionRule(command="infer", option="save_response", without=("dry_run",), why="a dry run has no answer"),
    OptionRule(command="infer", option="format=text", without=("json", "compat"), why="one says text, the other JSON"),
    OptionRule(command="infer", option="format=yaml", without=("json",), why="one says YAML, the other JSON"),
    OptionRule(command="infer", option="no_log", without=("cache",), why="one keeps nothing, the other the answer"),
    OptionRule(command="chat", option="markdown", without=("json",), why="that is printed as it is"),
    *(
        OptionRule(command=command, option=option, without=("mirostat",), why="mirostat alone chooses among the tokens")
        for command in ("infer", "chat", "batch")
        for option in _NOT_WITH_MIROSTAT
    ),
    OptionRule(
        command="test",
        option="sort",
        needs=("all_models", "resume", f"model={TAG_PREFIX}*"),
        why="it is the order of several models",
    ),
    OptionRule(command="test", option="precision", without=("context_length",), why="one length is no search"),
    OptionRule(command="test", option="threshold", without=("context_length",), why="one length is tried as it is"),
    OptionRule(command="collections add", option="form", needs=("rows", "stdin"), why="it says how rows are written"),
    OptionRule(command="collections add", option="id_column", needs=("rows", "stdin"), why="it is a column of rows"),
    OptionRule(command="collections add", option="text_column", needs=("rows", "stdin"), why="it is a column of rows"),
    OptionRule(command="collections search", option="model", without=("like",), why="that asks no model"),
    OptionRule(command="collections search", option="ttl", without=("like",), why="that loads no model"),
    OptionRule(command="logs", option="search", without=("full", "stats"), why="only the list of calls is searched"),
    OptionRule(command="logs", option="last", without=("full", "stats"), why="only the list of calls has a length"),
    OptionRule(command="logs", option="model", without=("full",), why="that shows one call"),
    OptionRule(command="logs", option="stats", without=("full",), why="that shows one call"),
)


def check_options(command: Command, said: Container[str], options: Mapping[str, Any]) -> None:
    """Raise UsageError for an option that was `said` and would do nothing, given all `options`, those of the settings
    and of every command included.
    """
    known = {each.name: each for each in command.parameters}
    for rule in _rules_of(command):
        if rule.option.partition("=")[0] not in said or not _holds(rule.option, options):
            continue
        option = _shown(rule.option, known)
        other = next((each for each in rule.without if _holds(each, options)), None)
        if other is not None:
            raise UsageError(f"{option} does not go with {_shown(other, known)}: {rule.why}; leave out one of them")
        if rule.needs and not any(_holds(each, options) for each in rule.needs):
            *most, last = (_shown(each, known) for each in rule.needs)
            needed = f"{', '.join(most)} or {last}" if most else last
            raise UsageError(f"{option} has no effect without {needed}: {rule.why}; give that too, or leave it out")


def _rules_of(command: Command) -> Iterator[OptionRule]:
    return (rule for rule in RULES if rule.command == command.name)


def _holds(condition: str, options: Mapping[str, Any]) -> bool:
    """Whether an option is given and switched on, or has this value."""
    name, equals, wanted = condition.partition("=")
    value = options.get(name)
    if equals:
        return isinstance(value, str) and fnmatchcase(value, wanted)
    # 0 is a number like others, but for mirostat, which it switches off.
    return value is not None and value is not False and not (name == "mirostat" and value == 0)


def _shown(condition: str, known: Mapping[str, Parameter]) -> str:
    """An option, or a word, as it is written on a command line."""
    name, _, value = condition.partition("=")
    parameter = known.get(name)
    if parameter is not None and parameter.positional:
        return value.replace("*", "NAME") or parameter.flag.upper()
    flag = f"--{parameter.flag if parameter is not None else name}"
    return f"{flag} {value}" if value else flag
