"""Which runtime LM Studio has chosen for a format of models, from what its `/runtime` namespace answers. Pure.

The namespace is no settled API: every shape seen so far is read, and what has another shape says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lmstrix.api.convert import list_of, text_of
from lmstrix.ground.types import RuntimeVersion

_NAMES = {"gguf": "GGUF", "ggml": "GGML"}


def format_name(model_format: str) -> str:
    """What the runtimes call the format of a model: LM Studio has its MLX runtimes load all that is no GGUF."""
    return _NAMES.get(model_format, "MLX")


def chosen_runtime(selections: object, name: str) -> RuntimeVersion | None:
    """The one chosen for the format `name`, from `getEngineSelections`."""
    # A map, which travels as a list of pairs, since JSON has none.
    told = selections.get("json", selections) if isinstance(selections, Mapping) else selections
    pairs: Iterable[object] = told.items() if isinstance(told, Mapping) else told if isinstance(told, list) else ()
    for pair in pairs:
        if isinstance(pair, list | tuple) and len(pair) == 2 and pair[0] == name:
            return _runtime(pair[1])
    return None


def only_runtime(engines: object, name: str) -> RuntimeVersion | None:
    """The one that loads the format `name`, from `listEngines`; None where several do, as nobody says which is used."""
    listed = [each for each in engines if isinstance(each, Mapping)] if isinstance(engines, list) else []
    loading = [each for each in listed if name in list_of(each, "supportedModelFormatNames")]
    return _runtime(loading[0]) if len(loading) == 1 else None


def _runtime(told: object) -> RuntimeVersion | None:
    if not isinstance(told, Mapping):
        return None
    name, version = text_of(told, "name"), text_of(told, "version")
    return RuntimeVersion(name=name, version=version) if name and version else None
