"""LMStrix with the keywords, methods and results of the earlier version beside its own, which stay what they are."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Any

from lmstrix.core.context.report import ContextOutcome
from lmstrix.core.registry.listing import ScanReport
from lmstrix.earlier.answers import InferenceResult
from lmstrix.earlier.models import Model
from lmstrix.earlier.warning import warn
from lmstrix.ground.errors import ModelNotFoundError
from lmstrix.ground.units import parse_tokens_or_ratio
from lmstrix.python import client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lmstrix.core.registry.records import ModelRecord

_KEYWORDS = {
    "model_id": "model",
    "in_ctx": "context_length",
    "out_ctx": "max_tokens",
    "force_reload": "reload",
    "fast_mode": "fast",
    "ctx": "context_length",
}


def _stands_for(method: Callable[..., object]) -> Callable[[Callable[..., Any]], Any]:
    """With the signature and the text of this method; its type is what a type checker reads in the class below."""
    return wraps(method)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan(ScanReport):
    """A scan, which was once the list of the models found."""

    found: tuple[Model, ...]

    @property
    def models_found(self) -> int:
        """How many models there are."""
        return self.models

    def __iter__(self) -> Iterator[Model]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, place: int) -> Model:
        return self.found[place]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(ContextOutcome):
    """What a context test came to, under the earlier names too."""

    declared: int | None = None

    @property
    def optimal_context(self) -> int | None:
        """The context to use."""
        return self.result.tested_context_length or None

    tested_max_context = optimal_context

    @property
    def succeeded(self) -> bool:
        """Whether any context was proven."""
        return self.optimal_context is not None

    @property
    def efficiency(self) -> float:
        """Tested per declared context length."""
        return (self.optimal_context or 0) / (self.declared or self.optimal_context or 1)

    @property
    def error(self) -> str | None:
        """Why nothing was proven."""
        return self.refused or self.result.error


class LMStrix(client.LMStrix):
    """The blocking Python API; each method's own text is that of `lmstrix.python.client.LMStrix`."""

    @_stands_for(client.LMStrix.__init__)
    def __init__(self, **options: Any) -> None:
        if "verbose" in options:
            warn("LMStrix(verbose=…)", "LMStrix(notify=print)")
            options |= {"notify": print} if options.pop("verbose") and "notify" not in options else {}
        super().__init__(**options)

    @_stands_for(client.LMStrix.scan)
    def scan(self, *places: Any, **options: Any) -> ScanReport:
        report = super().scan(*places, **options)
        return Scan(**_values(report), found=tuple(Model.of(record) for record in super().list_models()))

    @_stands_for(client.LMStrix.list_models)
    def list_models(self, *filters: Any, **options: Any) -> list[ModelRecord]:
        return [Model.of(record) for record in super().list_models(*filters, **options)]

    @_stands_for(client.LMStrix.infer)
    def infer(self, prompt: str = "", model: str | None = None, **options: Any) -> InferenceResult:
        named = _named(model, options)
        try:
            return InferenceResult.asked(super().infer(prompt, **named), prompt)
        except ModelNotFoundError as exc:
            vars(exc)["available_models"] = [record.model_key for record in super().list_models()]
            raise

    @_stands_for(client.LMStrix.stream)
    def stream(self, prompt: str = "", model: str | None = None, **options: Any) -> Iterator[str]:
        return super().stream(prompt, **_named(model, options))

    @_stands_for(client.LMStrix.test_model)
    def test_model(self, model: str = "", *requests: Any, **changes: Any) -> ContextOutcome:
        changes = _named(model or None, changes)
        name = str(changes.pop("model", ""))
        outcome = super().test_model(name, *requests, **changes)
        known = (record for record in super().list_models() if name in (record.model_key, record.path))
        declared = (record.max_context_length for record in known)
        return Outcome(**_values(outcome), declared=next(declared, None))

    def __getattr__(self, name: str) -> Any:
        methods = {"list": "list_models", "scan_models": "scan", "test": "test_model"}
        if name not in methods:
            raise AttributeError(f"'LMStrix' object has no attribute {name!r}")
        warn(f"LMStrix.{name}", f"LMStrix.{methods[name]}")
        return getattr(self, methods[name])


def _values(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _named(model: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """The options under today's names, and sizes as they are given today: shares as floats, no limit as None."""
    named: dict[str, Any] = {} if model is None else {"model": model}
    for name, value in options.items():
        now = _KEYWORDS.get(name, name)
        if now != name:
            warn(f"{name}=", f"{now}=")
        named[now] = _size(value) if now in ("max_tokens", "context_length") else value
    return named


def _size(value: Any) -> Any:
    if value in (-1, "-1", "auto", "max"):
        return None
    return parse_tokens_or_ratio(value) if isinstance(value, str) else value
