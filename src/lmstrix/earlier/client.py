"""LMStrix with the keywords, methods and results of the earlier version beside its own, which stay what they are."""

from __future__ import annotations

from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

from lmstrix.earlier.exceptions import telling
from lmstrix.earlier.warning import warn
from lmstrix.ground.errors import ModelNotFoundError
from lmstrix.ground.units import parse_tokens_or_ratio
from lmstrix.python import client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lmstrix.core.context.report import ContextOutcome
    from lmstrix.core.registry.listing import ScanReport
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.earlier.answers import InferenceResult

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
        from lmstrix.earlier.reports import Scan

        return Scan.of(super().scan(*places, **options), super().list_models())

    @_stands_for(client.LMStrix.list_models)
    def list_models(self, *filters: Any, **options: Any) -> list[ModelRecord]:
        from lmstrix.earlier.models import Model

        return [Model.of(record) for record in super().list_models(*filters, **options)]

    @_stands_for(client.LMStrix.infer)
    def infer(self, prompt: str = "", model: str | None = None, **options: Any) -> InferenceResult:
        from lmstrix.earlier.answers import InferenceResult

        named = _named(model, options)
        with self._telling(named.get("model")):
            return InferenceResult.asked(super().infer(prompt, **named), prompt)

    @_stands_for(client.LMStrix.stream)
    def stream(self, prompt: str = "", model: str | None = None, **options: Any) -> Iterator[str]:
        named = _named(model, options)
        return self._told(super().stream(prompt, **named), named.get("model"))

    @_stands_for(client.LMStrix.test_model)
    def test_model(self, model: str = "", *requests: Any, **changes: Any) -> ContextOutcome:
        from lmstrix.earlier.reports import Outcome

        changes = _named(model or None, changes)
        name = str(changes.pop("model", ""))
        with telling(name):
            outcome = super().test_model(name, *requests, **changes)
        known = (record for record in super().list_models() if name in (record.model_key, record.path))
        declared = (record.max_context_length for record in known)
        return Outcome.of(outcome, next(declared, None))

    def _told(self, texts: Iterator[str], model: str | None) -> Iterator[str]:
        with self._telling(model):
            yield from texts

    @contextmanager
    def _telling(self, model: str | None) -> Iterator[None]:
        try:
            with telling(model):
                yield
        except ModelNotFoundError as exc:
            vars(exc)["available_models"] = [record.model_key for record in super().list_models()]
            raise

    def __getattr__(self, name: str) -> Any:
        methods = {"list": "list_models", "scan_models": "scan", "test": "test_model"}
        if name not in methods:
            raise AttributeError(f"'LMStrix' object has no attribute {name!r}")
        warn(f"LMStrix.{name}", f"LMStrix.{methods[name]}")
        return getattr(self, methods[name])


def _named(model: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """The options under today's names, and sizes as they are given today: shares as floats, no limit as None."""
    named: dict[str, Any] = {} if model is None else {"model": model}
    for name, value in options.items():
        now = _KEYWORDS.get(name, name)
        if now != name:
            warn(f"{name}=", f"{now}=")
        # By their names of today, sizes are read and refused as today.
        named[now] = _size(value) if now != name and now in ("max_tokens", "context_length") else value
    return named


def _size(value: Any) -> Any:
    if value in (-1, "-1", "auto", "max"):
        return None
    return parse_tokens_or_ratio(value) if isinstance(value, str) else value
