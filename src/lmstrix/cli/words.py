"""Words to values: argv checked and converted by the commands' signatures, before Fire dispatches. Pure.

Fire reads words as Python literals, runs a command before it notices an unknown flag, and prints help to stderr. So the
words are read here: a prompt stays the exact string it was, every flag is known and its value converted before anything
runs, and help is text for stdout. Fire is then handed a command that needs no more words.

-o NAME VALUE is --NAME=VALUE, which users of other tools write so. A bare - is the switch `stdin` where a command has
it; the text "-" goes after --.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lmstrix.cli.help_text import HELP_WIDTH, SHORT_FLAGS, command_help, group_overview, overview
from lmstrix.cli.signatures import describe
from lmstrix.ground.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lmstrix.cli.signatures import Command, Commands, Parameter

_LETTERS_OF_LLM = {"n": ("--top", "--last"), "a": ("--image",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What was asked. `command` None means: show `help_text` and leave."""

    command: Command | None
    positionals: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    common: dict[str, Any] = field(default_factory=dict)
    help_text: str = ""


def suggestion(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?", or nothing."""
    import difflib  # only a typing error needs it: at the top it would slow every start

    # The dashes of options are alike in all of them, and would make any two short ones seem close.
    names = {each.lstrip("-"): each for each in known}
    close = difflib.get_close_matches(word.lstrip("-"), names, n=1, cutoff=0.6)
    return f"; did you mean {names[close[0]]!r}?" if close else ""


def _by_letter(letter: str, flags: Iterable[str]) -> str:
    """What a letter means to users of `llm`, where it is another option here."""
    meant = [flag for flag in flags if flag in _LETTERS_OF_LLM.get(letter, ())]
    return f"; did you mean {meant[0]!r}?" if meant else ""


def parse(
    words: Sequence[str],
    commands: Commands,
    common: Sequence[Parameter],
    *,
    help_width: int = HELP_WIDTH,
    alias: Callable[[str, Mapping[str, Any]], list[str] | None] | None = None,
) -> Invocation:
    """Check and convert all words. Raises UsageError naming the word that is wrong and what to do.

    Help texts are at most `help_width` columns wide. `alias` gives the words that a name of the user's stands for,
    with the options of every command that were given before it.
    """
    found: dict[str, Any] = {}
    words = _take_leading(list(words), common, found)
    if alias is not None and words and words[0] not in {"help", "-", "--", *(path[0] for path in commands)}:
        meant = alias(words[0], found)
        if meant is not None:
            words = _take_leading([*meant, *words[1:]], common, found)
    if found.pop("help", False) or not words:
        return Invocation(command=None, help_text=overview(commands, common, help_width), common=found)
    if words[0] == "help":
        return Invocation(command=None, help_text=_help_for(words[1:], commands, common, help_width), common=found)
    path = _find(words, commands)
    if path is None:
        return Invocation(command=None, help_text=_help_for(words[:1], commands, common, help_width), common=found)
    return _parse_command(describe(path, commands[path]), words[len(path) :], common, found, help_width)


def _take_leading(words: list[str], common: Sequence[Parameter], found: dict[str, Any]) -> list[str]:
    """Take the options of every command that stand before the command: lmstrix --json list."""
    while words and words[0].startswith("-") and words[0] not in ("-", "--"):
        words = take_option(words, common, found, where="")
    return words


def _find(words: Sequence[str], commands: Commands) -> tuple[str, ...] | None:
    """The longest path the words begin with (a command may also be a group); None when a mere group is named alone."""
    paths = [path for path in commands if tuple(words[: len(path)]) == path]
    if paths:
        # "bench compare" and "bench" both begin the words of a comparison; the longer one is meant.
        return max(paths, key=len)
    names = {path[1]: path for path in commands if path[0] == words[0] and len(path) > 1}
    if not names:
        known = {path[0] for path in commands}
        raise UsageError(f"unknown command {words[0]!r}{suggestion(words[0], known)} (lmstrix --help lists them)")
    if len(words) == 1 or words[1] in ("-h", "--help"):
        return None
    raise UsageError(
        f"{words[0]}: unknown command {words[1]!r}{suggestion(words[1], names)} (there are: {', '.join(sorted(names))})"
    )


def _parse_command(
    command: Command, words: list[str], common: Sequence[Parameter], found: dict[str, Any], help_width: int
) -> Invocation:
    options: dict[str, Any] = {}
    taken: list[str] = []
    while words:
        if words[0] == "--":
            taken += words[1:]
            break
        if words[0] == "-" and any(p.name == "stdin" for p in command.parameters):
            options["stdin"] = True
            words.pop(0)
            continue
        if looks_like_option(words[0]):
            # Looked up in one list with the options of every command, so that a typo is told the nearest of all;
            # what was found is then parted by whose it is.
            both = {**found, **options}
            # *names takes what is left over and has no flag: --names would replace all of them by one.
            known = [p for p in command.parameters if not p.variadic]
            words = take_option(words, [*known, *common], both, where=command.name)
            own = {p.name for p in known}
            options = {name: value for name, value in both.items() if name in own}
            found = {name: value for name, value in both.items() if name not in own}
        else:
            taken.append(words.pop(0))
    # Before words are assigned: who asks for help need not give what the command requires.
    if found.pop("help", False):
        return Invocation(command=None, help_text=command_help(command, common, help_width), common=found)
    positionals = _assign(command, taken, options)
    return Invocation(command=command, positionals=positionals, options=options, common=found)


def looks_like_option(word: str) -> bool:
    """-x and --word are options; "-", "- item", "-5" and "-a b" are text."""
    return re.fullmatch(r"-[A-Za-z]|--[A-Za-z][\w-]*(=.*)?|-[A-Za-z]{2,}", word, re.DOTALL) is not None


def take_option(words: list[str], known: Sequence[Parameter], found: dict[str, Any], *, where: str) -> list[str]:
    """Read the option at the front into `found`; returns the words after it."""
    word, *rest = words
    if word == "-o":
        return take_option(_written_out(rest, known, where), known, found, where=where)
    name, has_value, value = word.lstrip("-").partition("=")
    key = name.replace("_", "-")
    if not word.startswith("--"):
        # -stream is refused as unknown: read as -s -t …, as other tools do, it would set what nobody asked for.
        key = SHORT_FLAGS.get(name, name) if len(name) == 1 else ""
    parameter = next((p for p in known if key in (p.flag, p.name.replace("_", "-"))), None)
    negated = False
    if parameter is None and key.startswith("no-"):
        parameter = next((p for p in known if p.switch and key[3:] == p.flag), None)
        negated = parameter is not None
    if parameter is None:
        flags = [f"--{p.flag}" for p in known]
        # One letter is near to nothing: what was guessed from it would be any option that has the letter.
        meant = suggestion("--" + name, flags) if len(name) > 1 else _by_letter(name, flags)
        raise UsageError(
            f"{where + ': ' if where else ''}unknown option {word.partition('=')[0]}{meant}"
            " (text that begins with - goes after --)"
        )
    # --no-x=false says x; a switch never takes the word after it, which may be the prompt.
    if parameter.switch:
        found[parameter.name] = _switch_value(parameter, value if has_value else "true") != negated
        return rest
    if not has_value:
        # A known option is no value (--model --stream forgot one); any other word is, however odd: -m -x.
        if not rest or (looks_like_option(rest[0]) and _is_known(rest[0], known)):
            raise UsageError(f"--{parameter.flag} needs a value ({parameter.kind.shown})")
        value, *rest = rest
    # The option as it was written, where that is its other name; a positional one given as --name has its own words.
    written = None if parameter.positional or key == parameter.flag else f"--{key}"
    converted = parameter.convert(value, written)
    if parameter.many:
        found[parameter.name] = [*found.get(parameter.name, []), converted]
    elif parameter.name in found:
        raise UsageError(f"--{parameter.flag} is given twice")
    else:
        found[parameter.name] = converted
    return rest


def _written_out(words: list[str], known: Sequence[Parameter], where: str) -> list[str]:
    """-o NAME VALUE, or -o NAME=VALUE, as --NAME=VALUE."""
    name, has_value, value = words[0].partition("=") if words else ("", "", "")
    rest = words[1:]
    if not name or looks_like_option(name):
        raise UsageError("-o needs the name of an option and its value, such as -o temperature 0.7")
    if not _is_known(f"--{name}", known):
        # Only a typing error needs it.
        from lmstrix.cli.model_options import meant

        near = meant(name, known)
        hint = f"; did you mean {near!r}?" if near else ""
        raise UsageError(f"{where + ': ' if where else ''}-o sets no option {name!r}{hint} (--help lists them)")
    if not has_value:
        if not rest or (looks_like_option(rest[0]) and _is_known(rest[0], known)):
            raise UsageError(f"-o {name} needs a value, such as -o temperature 0.7")
        value, *rest = rest
    return [f"--{name}={value}", *rest]


def _is_known(word: str, known: Sequence[Parameter]) -> bool:
    name = word.lstrip("-").partition("=")[0].replace("_", "-")
    name = SHORT_FLAGS.get(name, name) if not word.startswith("--") else name
    return any(name in (p.flag, p.name.replace("_", "-"), f"no-{p.flag}") for p in known)


def _switch_value(parameter: Parameter, word: str) -> bool:
    if word.lower() in ("true", "yes", "on", "1"):
        return True
    if word.lower() in ("false", "no", "off", "0"):
        return False
    raise UsageError(f"--{parameter.flag}: {word!r} is not true or false (write --{parameter.flag} alone)")


def _assign(command: Command, taken: list[str], options: dict[str, Any]) -> tuple[Any, ...]:
    """Words to positional parameters, in order, passing over those given as --name."""
    rest: tuple[Any, ...] = ()
    remaining = list(taken)
    for parameter in command.parameters:
        # One given as --name is done; the words that remain go to the others, in order.
        if not parameter.positional or parameter.name in options:
            continue
        if parameter.variadic:
            rest = tuple(parameter.convert(word) for word in remaining)
            remaining = []
        elif remaining:
            options[parameter.name] = parameter.convert(remaining.pop(0))
        elif parameter.required:
            raise UsageError(f"{command.name} needs {parameter.flag.upper()} (lmstrix {command.name} --help)")
    if remaining:
        raise UsageError(
            f"{command.name}: unexpected word {remaining[0]!r} (quote text that has spaces;"
            f" lmstrix {command.name} --help shows the options)"
        )
    missing = [p for p in command.parameters if p.required and p.name not in options and not p.positional]
    if missing:
        raise UsageError(f"{command.name} needs --{missing[0].flag}")
    if rest:
        # What takes the remaining words is called in order, and so is what stands before it.
        before = [p.name for p in command.parameters if p.positional and not p.variadic]
        rest = (*(options.pop(name) for name in before), *rest)
    return rest


def _help_for(words: Sequence[str], commands: Commands, common: Sequence[Parameter], width: int) -> str:
    if not words:
        return overview(commands, common, width)
    path = _find(words, commands)
    if path is not None:
        return command_help(describe(path, commands[path]), common, width)
    return group_overview(words[0], commands, width)
