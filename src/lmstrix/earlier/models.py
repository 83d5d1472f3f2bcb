"""A model of the registry under the names of the earlier LMStrix: its attributes, and its JSON object."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lmstrix.core.registry.records import ModelRecord
from lmstrix.earlier.gone_names import WithoutEquivalents
from lmstrix.earlier.warning import warn
from lmstrix.ground.model_names import file_stem

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import Self

_MOST_ANSWER_TOKENS = 4096
"""What the earlier version wrote as `ctx_out` of every model, unless it declares less."""


class ContextTestStatus(StrEnum):
    """How far a model's context test is."""

    UNTESTED = "untested"
    TESTING = "testing"
    COMPLETED = "completed"
    FAILED = "failed"


class _Earlier:
    """An attribute that has another name today."""

    def __init__(self, now: str, read: Callable[[Model], Any]) -> None:
        self._now, self._read = now, read

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, model: Model, owner: type) -> Any:
        warn(f"Model.{self._name}", f"ModelRecord.{self._now}")
        return self._read(model)


class Model(WithoutEquivalents, ModelRecord):
    """A ModelRecord that also answers to the earlier names; its other attributes are those of the record."""

    __slots__ = ()

    id = _Earlier("model_key", lambda model: model.model_key)
    name = _Earlier("display_name", lambda model: model.model_key)
    short_id = _Earlier("display_name", lambda model: file_stem(model.path))
    size = _Earlier("all_bytes", lambda model: model.all_bytes)
    context_limit = _Earlier("max_context_length", lambda model: model.max_context_length or 0)
    context_out = _Earlier("max_context_length", lambda model: model.most_answer_tokens)
    has_tools = _Earlier("trained_for_tool_use", lambda model: model.trained_for_tool_use)
    supports_tools = _Earlier("trained_for_tool_use", lambda model: model.trained_for_tool_use)
    has_vision = _Earlier("vision", lambda model: model.vision)
    supports_vision = _Earlier("vision", lambda model: model.vision)
    tested_max_context = _Earlier("tested_context_length", lambda model: model.tested_context_length)
    max_context_tested = _Earlier("tested_context_length", lambda model: model.tested_context_length)
    last_known_good_context = _Earlier("tested_context_length", lambda model: model.tested_context_length)
    loadable_max_context = _Earlier("best_result.loadable_context_length", lambda model: model.loadable)
    context_test_status = _Earlier("test_status", lambda model: ContextTestStatus(model.test_status))
    context_test_date = _Earlier("tested_at", lambda model: model.tested_at)
    last_known_bad_context = _Earlier("best_result.last_known_bad", lambda model: model.shortest_bad)
    ttft_seconds = _Earlier("best_result.ttft_s", lambda model: model.first_token_s)
    tps = _Earlier("best_result.decode_tokens_per_second", lambda model: model.speed)
    description = _Earlier("note", lambda model: model.note)
    efficiency = _Earlier("effectiveness_ratio", lambda model: model.effectiveness_ratio)
    failed = _Earlier("test_status", lambda model: model.test_status == "failed")
    error_msg = _Earlier("best_result.error", lambda model: model.error)
    keywords = _Earlier("tags", lambda model: list(model.tags))

    @classmethod
    def of(cls, record: ModelRecord) -> Self:
        """The same record."""
        return cls(record.path, record.raw, record.place)

    @property
    def most_answer_tokens(self) -> int:
        """What the earlier version let an answer take."""
        return min(_MOST_ANSWER_TOKENS, self.max_context_length or _MOST_ANSWER_TOKENS)

    @property
    def loadable(self) -> int | None:
        """The longest context that was loaded."""
        return self.best_result.loadable_context_length if self.best_result else None

    @property
    def shortest_bad(self) -> int | None:
        """The shortest context that is known to fail."""
        return self.best_result.last_known_bad if self.best_result else None

    @property
    def first_token_s(self) -> float | None:
        """Seconds until the first token of the test that filled the context."""
        return self.best_result.ttft_s if self.best_result else None

    @property
    def speed(self) -> float | None:
        """Tokens per second, as tested."""
        return self.best_result.decode_tokens_per_second if self.best_result else None

    @property
    def error(self) -> str:
        """Why the test did not go well; empty where it did."""
        return (self.best_result.error or "") if self.best_result else ""

    def get_short_id(self) -> str:
        """The file's name without its ending."""
        return file_stem(self.path)

    def sanitized_id(self) -> str:
        """The model key, as a file may be named."""
        return re.sub(r'[<>:"/\\|?*@!]', "_", self.model_key)

    def to_dict(self) -> dict[str, Any]:
        """The object of the earlier lmstrix.json, with the `name` and `status` that its documentation uses."""
        tested_at: datetime | None = self.tested_at
        return {
            "id": self.model_key,
            "name": self.model_key,
            "short_id": file_stem(self.path),
            "path": self.path,
            "size_bytes": self.all_bytes,
            "ctx_in": self.max_context_length or 0,
            "ctx_out": self.most_answer_tokens,
            "has_tools": self.trained_for_tool_use,
            "has_vision": self.vision,
            "tested_max_context": self.tested_context_length,
            "context_test_status": self.test_status,
            "status": "tested" if self.test_status == "completed" else self.test_status,
            "context_test_date": tested_at.isoformat() if tested_at else None,
            "ttft_seconds": self.first_token_s,
            "tps": self.speed,
            "description": self.note,
            "keywords": list(self.tags),
            "last_known_good_context": self.tested_context_length,
            "last_known_bad_context": self.shortest_bad,
            "loadable_max_context": self.loadable,
            "context_test_log": None,
            "failed": self.test_status == "failed",
            "error_msg": self.error,
        }

    to_registry_dict = to_dict
