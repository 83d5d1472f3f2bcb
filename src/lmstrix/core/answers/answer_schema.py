"""The shape an answer must have: sent to the server, which constrains what the model may say, and checked afterwards.

The check stays because servers differ in what they constrain, and an answer cut off by its limit is no valid JSON. JSON
schemas are checked by `jsonschema`, without following references out of the schema; classes by pydantic.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from lmstrix.ground.errors import InvalidAnswerError, UsageError
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from lmstrix.ground.types import GenerationResult


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSchema:
    """`json_schema` goes to the server; `read` gives the answer as a value, or raises InvalidAnswerError."""

    name: str
    json_schema: Mapping[str, Any]
    read: Callable[[str], object]

    def check(self, result: GenerationResult) -> None:
        """Raise InvalidAnswerError, with the whole result, unless the answer is of this shape."""
        try:
            self.read(result.text)
        except InvalidAnswerError as exc:
            exc.result, exc.model_key = result, result.model_key
            raise


def schema_of_mapping(schema: object, *, name: str) -> AnswerSchema:
    """The shape that a JSON schema gives. Raises UsageError when `schema` is not a valid one."""
    from jsonschema import SchemaError, validators
    from referencing import Registry

    if not isinstance(schema, Mapping):
        raise UsageError(f'{name}: a JSON schema is an object, such as {{"type": "object", "properties": …}}')
    kind = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        kind.check_schema(dict(schema))
    except SchemaError as exc:
        raise UsageError(f"{name} is no valid JSON schema: {exc.json_path}: {exc.message}") from exc
    # An empty registry follows no reference out of the schema, not even to a URL: checking must not use the network.
    validator = kind(dict(schema), registry=Registry())

    def read(text: str) -> object:
        value = _parsed(text, name)
        fault = next(iter(validator.iter_errors(cast("Any", value))), None)
        if fault is not None:
            raise InvalidAnswerError(
                f"the answer does not match {name} at {fault.json_path}: {_short(fault.message)}", text=text
            )
        return value

    return AnswerSchema(name=name, json_schema=schema, read=read)


def schema_of_class(kind: type[Any], *, name: str) -> AnswerSchema:
    """A pydantic model, dataclass or TypedDict. Raises UsageError when pydantic cannot describe it."""
    from pydantic import TypeAdapter, ValidationError
    from pydantic.errors import PydanticUserError

    try:
        adapter = TypeAdapter(kind)
        schema = adapter.json_schema()
    except (PydanticUserError, TypeError) as exc:
        raise UsageError(f"{name} is no class that pydantic can describe: {exc}") from exc

    def read(text: str) -> object:
        _parsed(text, name)  # its message for text that is no JSON names the likely reasons; pydantic's does not
        try:
            value: object = adapter.validate_json(text)
        except ValidationError as exc:
            fault = exc.errors(include_url=False)[0]
            where = ".".join(["$", *map(str, fault["loc"])])
            raise InvalidAnswerError(f"the answer does not match {name} at {where}: {fault['msg']}", text=text) from exc
        return value

    return AnswerSchema(name=name, json_schema=schema, read=read)


def _parsed(text: str, name: str) -> object:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InvalidAnswerError(
            f"the answer is no JSON, which {name} asks for ({exc}); it may be cut off ({parameter('max_tokens')}), "
            "or the model too small for it",
            text=text,
        ) from exc
    return value


def _short(message: str) -> str:
    return message if len(message) <= 200 else message[:200] + "…"
