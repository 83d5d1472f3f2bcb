# ruff: noqa: ARG001 - these are the earlier signatures, and some of their arguments have no effect
"""Prompt files with the rules of the earlier LMStrix: what no value is given for stays in the text, and is listed.

{{path}} is first looked up in the file, then among the caller's values. Values are put in as they are, never expanded
again, and a prompt that refers to itself stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmstrix.core.answers.tokens import estimate_tokens
from lmstrix.earlier.gone_names import WithoutEquivalents
from lmstrix.ground.errors import PromptError
from lmstrix.loaders.prompts import load_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_PLACE = re.compile(r"\{\{([^{}]+)\}\}")
_MOST_CHARACTERS = 4 * 2**20
_SPARE_TOKENS = 100
"""Room that the earlier version left beside a text it had shortened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedPrompt:
    """A prompt with its values; `tokens` is an estimate."""

    name: str
    template: str
    resolved: str
    tokens: int
    placeholders_found: list[str]
    placeholders_resolved: list[str]
    placeholders_unresolved: list[str]


class _Filling:
    """One prompt being filled: what was found on the way, and how long it has become."""

    def __init__(self, data: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        self._data, self._values = data, values
        self.resolved: dict[str, None] = {}
        self.unresolved: dict[str, None] = {}
        self._characters = 0

    def fill(self, text: str, within: tuple[str, ...]) -> str:
        """The text with everything in it that there is a value for."""

        def value(match: re.Match[str]) -> str:
            name = match[1].strip()
            template = _text_at(self._data, name)
            if template is not None and name not in within:
                self.resolved[name] = None
                return self.fill(template, (*within, name))
            if template is None and name in self._values:
                self.resolved[name] = None
                return self._counted(str(self._values[name]))
            self.unresolved[name] = None
            return match[0]

        return self._counted(_PLACE.sub(value, text))

    def _counted(self, text: str) -> str:
        # Prompts that name each other several times double with each step.
        self._characters += len(text)
        if self._characters > _MOST_CHARACTERS:
            raise PromptError(f"the prompt grows beyond {_MOST_CHARACTERS:,} characters: its parts name each other")
        return text


class PromptResolver(WithoutEquivalents):
    """Fills prompts that are there as tables."""

    def __init__(self, verbose: bool = False) -> None:
        self.verbose = verbose

    def resolve_prompt(self, prompt_name: str, prompts_data: Mapping[str, Any], **params: Any) -> ResolvedPrompt:
        """Fill one. Raises PromptError where there is none of this name."""
        template = _text_at(prompts_data, prompt_name)
        if template is None:
            raise PromptError(f"there is no prompt {prompt_name!r} (there are: {', '.join(prompts_data)})")
        filling = _Filling(prompts_data, params)
        resolved = filling.fill(template, (prompt_name,))
        return ResolvedPrompt(
            name=prompt_name,
            template=template,
            resolved=resolved,
            tokens=estimate_tokens(resolved).tokens,
            placeholders_found=[name.strip() for name in _PLACE.findall(template)],
            placeholders_resolved=list(filling.resolved),
            placeholders_unresolved=list(filling.unresolved),
        )

    def resolve_all_prompts(self, prompts_data: Mapping[str, Any], **params: Any) -> dict[str, ResolvedPrompt]:
        """Fill every prompt, by its dotted name."""
        return {name: self.resolve_prompt(name, prompts_data, **params) for name in _names(prompts_data)}

    def truncate_to_limit(self, text: str, limit: int, strategy: str = "end") -> str:
        """The text within about so many tokens, without its "end", "start" or "middle"."""
        tokens = estimate_tokens(text).tokens
        if tokens <= limit:
            return text
        kept = max(0, len(text) * limit // tokens)
        if strategy == "start":
            return text[len(text) - kept :]
        return text[: kept // 2] + text[len(text) - kept // 2 :] if strategy == "middle" else text[:kept]

    def inject_context(
        self, prompt: str, context: str, context_placeholder: str = "{{text}}", out_ctx: int | None = None
    ) -> str:
        """The prompt with a text in its place, shortened so that all of it is about `out_ctx` tokens."""
        room = (out_ctx or 0) - estimate_tokens(prompt.replace(context_placeholder, "")).tokens - _SPARE_TOKENS
        if out_ctx and room > 0:
            context = self.truncate_to_limit(context, room)
        return prompt.replace(context_placeholder, context)


def load_prompts(
    toml_path: Path | str, resolver: PromptResolver | None = None, verbose: bool = False, **params: Any
) -> dict[str, ResolvedPrompt]:
    """Fill all prompts of a file."""
    return (resolver or PromptResolver()).resolve_all_prompts(load_document(toml_path).tables, **params)


def load_single_prompt(
    toml_path: Path | str,
    prompt_name: str | Iterable[str],
    resolver: PromptResolver | None = None,
    verbose: bool = False,
    **params: Any,
) -> ResolvedPrompt:
    """Fill one prompt of a file, or several joined with a blank line."""
    data = load_document(toml_path).tables
    names = [name.strip() for name in prompt_name.split(",")] if isinstance(prompt_name, str) else list(prompt_name)
    found = [(resolver or PromptResolver()).resolve_prompt(name, data, **params) for name in names]
    return ResolvedPrompt(
        name=",".join(names),
        template="\n\n".join(each.template for each in found),
        resolved="\n\n".join(each.resolved for each in found),
        tokens=sum(each.tokens for each in found),
        placeholders_found=_all(each.placeholders_found for each in found),
        placeholders_resolved=_all(each.placeholders_resolved for each in found),
        placeholders_unresolved=_all(each.placeholders_unresolved for each in found),
    )


def _all(lists: Iterable[list[str]]) -> list[str]:
    return list(dict.fromkeys(name for names in lists for name in names))


def _names(data: Mapping[str, Any], within: str = "") -> Iterator[str]:
    for key, value in data.items():
        if isinstance(value, str) or (isinstance(value, Mapping) and isinstance(value.get("template"), str)):
            yield within + key
        elif isinstance(value, Mapping):
            yield from _names(value, f"{within}{key}.")


def _text_at(data: Mapping[str, Any], path: str) -> str | None:
    """The text under a dotted path; of a table its `template` or `prompt`."""
    found: Any = data
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, Mapping):
        found = found.get("template", found.get("prompt"))
    return found if isinstance(found, str) else None
