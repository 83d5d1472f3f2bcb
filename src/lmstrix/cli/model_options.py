"""What is told of a name that -o does not know: most likely a model option misspelt, or called as elsewhere."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from lmstrix.cli.options import SamplingOptions
from lmstrix.cli.signatures import options_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.cli.signatures import Parameter

ELSEWHERE = {
    "num-ctx": "in-ctx",
    "context-length": "in-ctx",
    "num-predict": "max-tokens",
    "max-output-tokens": "max-tokens",
    "max-completion-tokens": "max-tokens",
    "stop-sequences": "stop",
    "repetition-penalty": "repeat-penalty",
    "num-gpu": "gpu",
    "json-object": "schema",
}
"""Model options by the names that Ollama, the plugins of llm and OpenAI give them, and by ours. They are told rather
than taken: some count differently there (-1, layers)."""


def meant(name: str, known: Sequence[Parameter]) -> str | None:
    """The option that was most likely meant; None where nothing is near."""
    key = name.replace("_", "-").lower()
    valued = [each.flag for each in known if not each.switch]
    if ELSEWHERE.get(key) in valued:
        return ELSEWHERE[key]
    sampling = [each.flag for each in options_of(SamplingOptions) if each.flag in valued]
    begun = [flag for flag in sampling if len(key) > 1 and flag.startswith(key)]
    # Those about how tokens are drawn first: they are what -o is for elsewhere.
    close = begun if len(begun) == 1 else get_close_matches(key, sampling, n=1) or get_close_matches(key, valued, n=1)
    return close[0] if close else None
