"""Prompts of a TOML text, filled or refused."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.prompts.parsing import parse
from lmstrix.core.prompts.rendering import render
from lmstrix.ground.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmstrix.core.prompts.library import PromptLibrary
    from lmstrix.ground.documents import Value


def library(toml: str, parts: Mapping[str, str] | None = None) -> PromptLibrary:
    return parse(tomllib.loads(toml), source="p.toml", parts=parts)


def filled(toml: str, *names: str, **variables: Value) -> str:
    return render(library(toml), names, variables).text


def refusal(toml: str, *names: str, **variables: Value) -> str:
    with pytest.raises(PromptError) as caught:
        render(library(toml), names, variables)
    message = str(caught.value)
    assert "\n" not in message
    return message
