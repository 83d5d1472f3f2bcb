# ruff: noqa: ARG001 - these are the earlier signatures, and some of their arguments have no effect
"""The registry as the earlier LMStrix handed it out: models by name, read at once, and written by scans and tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstrix.earlier.client import LMStrix
from lmstrix.earlier.gone_names import WithoutEquivalents
from lmstrix.earlier.models import Model
from lmstrix.ground.errors import RegistryError, UsageError
from lmstrix.ground.paths import resolve_paths

if TYPE_CHECKING:
    from pathlib import Path

ModelRegistryError = RegistryError


class _Loading:
    """`ModelRegistry.load()` made a registry in some versions and read one again in others."""

    def __get__(self, registry: ModelRegistry | None, owner: type[ModelRegistry]) -> Any:
        return owner if registry is None else registry.reload


class ModelRegistry(WithoutEquivalents):
    """All models that are known."""

    load = _Loading()

    def __init__(self, models_file: Path | None = None) -> None:
        if models_file is not None:
            raise UsageError("a registry of another file: use lmstrix.LMStrix(home=FOLDER).list_models()")
        self.reload()

    def reload(self) -> None:
        """Read it again."""
        with LMStrix() as lms:
            self._models = {record.model_key: Model.of(record) for record in lms.list_models()}

    @property
    def models(self) -> dict[str, Model]:
        """The models by model key."""
        return dict(self._models)

    @property
    def models_file(self) -> Path:
        """Where it lies."""
        return resolve_paths().home / "lmstrix.json"

    def list_models(self) -> list[Model]:
        """All models."""
        return list(self._models.values())

    def find_model(self, name: str) -> Model | None:
        """The model of this key or path."""
        return next((model for model in self._models.values() if name in (model.model_key, model.path)), None)

    get_model = find_model

    def has_model(self, name: str) -> bool:
        """Whether there is one."""
        return self.find_model(name) is not None

    def save(self) -> None:
        """Nothing is left to write: scans and tests write what they find at once."""

    def __len__(self) -> int:
        return len(self._models)

    def __contains__(self, name: str) -> bool:
        return self.has_model(name)


class ModelScanner(WithoutEquivalents):
    """Finds models."""

    def scan(self) -> ModelRegistry:
        """Find models; returns all that are known then."""
        return scan_and_update_registry()

    def update_registry(self, registry: ModelRegistry | None = None) -> ModelRegistry:
        """Find models; the registry given has them too."""
        found = self.scan()
        if registry is not None:
            registry.reload()
        return registry or found

    def scan_models(self) -> dict[str, dict[str, Any]]:
        """The same, as JSON objects by path."""
        return {model.path: model.to_dict() for model in self.scan().list_models()}


class LMStudioClient(WithoutEquivalents):
    """What other objects were made with; they find the server by themselves now."""

    def __init__(self, verbose: bool = False) -> None:
        self.verbose = verbose

    def list_models(self) -> list[dict[str, Any]]:
        """The models as JSON objects."""
        return [model.to_dict() for model in scan_and_update_registry().list_models()]


class _Awaitable(ModelRegistry):
    """A registry that a script of the asynchronous versions may await."""

    def __await__(self) -> Any:
        return self
        yield


def load_model_registry(json_path: Path | None = None, verbose: bool = False) -> ModelRegistry:
    """The registry."""
    return ModelRegistry(json_path)


def save_model_registry(registry: ModelRegistry, json_path: Path | None = None) -> Path:
    """Where it lies: it is written by scans and tests."""
    return registry.models_file


def scan_and_update_registry(
    rescan_failed: bool = False, rescan_all: bool = False, verbose: bool = False
) -> ModelRegistry:
    """Find models; forget the results of those that failed, or of all."""
    with LMStrix() as lms:
        lms.scan(forget="all" if rescan_all else "failed" if rescan_failed else None)
    return _Awaitable()


def reset_test_data(model_identifier: str, verbose: bool = False) -> bool:
    """Forget a model's results."""
    with LMStrix() as lms:
        lms.reset(model_identifier)
    return True
