"""What messages call things while a command runs: parameters by the options of that command, methods by commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lmstrix.cli.signatures import Command

_OPTIONS = {"model": "-m MODEL", "tiers": "--context-tiers", "images": "--image", "text_columns": "--text-column"}
"""What is not simply the parameter's name, without its unit, in the spelling of options."""
_FLAGS = {"gpu_ratio": "gpu", "eval_batch_size": "batch-size", "keep_in_memory": "mlock", "enable_thinking": "think"}
_COMMANDS = {
    "list_models": "list",
    "test_model": "test",
    "test_all": "test --all",
    "benches.history": "bench history",
    "collections.add": "collections add",
    "collections.parts": "collections show",
}
_UNITS = ("_s", "_bytes")


class OptionWording:
    """The words of one command."""

    def __init__(self, command: Command) -> None:
        self._flags = {each.name: each.flag for each in command.parameters}

    def parameter(self, name: str, value: str | float | None) -> str:
        option = _OPTIONS.get(name) or f"--{self._flag(name)}"
        if value is None or value is True:
            return option
        if value is False:
            return f"--no-{self._flag(name)}"
        return f"{option} {f'{value:.0%}' if isinstance(value, float) else value}"

    def call(self, method: str, arguments: Sequence[str], switches: Sequence[str], load: Mapping[str, str]) -> str:
        options = [self.parameter(name, value=True) for name in switches]
        options += [self.parameter(name, value) for name, value in load.items()]
        return " ".join(["lmstrix", _COMMANDS.get(method, method), *arguments, *options])

    def variables(self, names: Sequence[str]) -> str:
        # {{text}} has options of its own where a command reads texts.
        others = [name for name in names if name != "text" or "text" not in self._flags]
        text = "give text with --text, --text-file or stdin" if len(others) < len(names) else ""
        if not others:
            return text
        return f"{f'{text}, the others' if text else 'give them'} with --var NAME=VALUE"

    def _flag(self, name: str) -> str:
        plain = next((name.removesuffix(unit) for unit in _UNITS if name.endswith(unit)), name)
        return _FLAGS.get(name) or self._flags.get(name) or self._flags.get(plain) or plain.replace("_", "-")
