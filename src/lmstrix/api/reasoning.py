"""How a model is told how much to reason: by a field of its own, which its model.yaml declares.

LM Studio turns a level of its REST interface into such a field, and warns in its log where a model has none; the name
below is that of OpenAI's models, the only ones known to have levels. The embedded engine heeds it for every model.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmstrix.ground.types import ServerInfo

_SWITCH: Final = frozenset({"off", "on"})
_HAVE_LEVELS: Final = re.compile(r"openai/gpt-oss-[\w.-]+")


def effort_key(model_key: str) -> str:
    """The key of a model's level of reasoning: of openai/gpt-oss-20b it ends with openai.gptOss20b.reasoningEffort."""
    owner, _, name = model_key.rpartition("/")
    return ".".join(("ext.virtualModel.customField", *map(_camel, filter(None, (owner, name))), "reasoningEffort"))


def steerable(options: Sequence[str], model_key: str, server: ServerInfo) -> tuple[str, ...]:
    """Those of a model's options that can be asked for over the SDK's wire."""
    levels = server.engine == "embedded" or _HAVE_LEVELS.fullmatch(model_key) is not None
    return tuple(option for option in options if levels or option in _SWITCH)


def _camel(text: str) -> str:
    first, *rest = [word for word in re.split(r"[^A-Za-z0-9]+", text) if word] or ["model"]
    return first + "".join(word[0].upper() + word[1:] for word in rest)
