"""How single models are asked where a request does not say: the [models."NAME"] tables of the settings."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmstrix.core.answers.request import InferRequest
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.ground.settings import ModelDefaults, Settings


def defaults_of(settings: Settings, record: ModelRecord) -> ModelDefaults | None:
    """What the settings say of a model, by its key or its path."""
    return settings.model_defaults.get(record.model_key) or settings.model_defaults.get(record.path)


def with_model_defaults(asked: InferRequest, settings: Settings, record: ModelRecord) -> InferRequest:
    """The request, with the defaults of its model where it says nothing."""
    defaults = defaults_of(settings, record)
    if defaults is None:
        return asked
    chosen = {each.name: getattr(defaults, each.name) for each in fields(defaults)}
    return replace(
        asked,
        **{name: value for name, value in chosen.items() if value is not None and getattr(asked, name) is None},
    )
