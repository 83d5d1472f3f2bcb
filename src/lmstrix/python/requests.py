"""What a call of the Python API is told, as the request record of its use case."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lmstrix.ground.errors import UsageError
from lmstrix.python.values import check_fields, messages, numbers, paths, text, texts
from lmstrix.python.values import variables as checked_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lmstrix.core.answers.answer_schema import AnswerSchema
    from lmstrix.core.answers.request import InferRequest
    from lmstrix.core.benchmark.records import BenchRequest
    from lmstrix.ground.loads import LoadConfig
    from lmstrix.python.options import AnswerKeywords, BenchKeywords, ContextTestKeywords, LoadKeywords, PromptKeywords
    from lmstrix.service import LMStrixService
    from lmstrix.service.benching import BenchOptions
    from lmstrix.service.due_tests import ContextTestRequest


def open_service(
    server: str | None,
    home: str | Path | None,
    models_dir: str | Path | None,
    api_token: str | None,
    timeout_s: float | None,
    notify: Callable[[str], None] | None,
) -> LMStrixService:
    """The use cases, with the settings of the caller over those of files and environment."""
    import os

    from lmstrix.core.moving_in import move_in
    from lmstrix.ground.environment import unknown_variables
    from lmstrix.ground.paths import HOME_VARIABLE, resolve_paths
    from lmstrix.ground.settings import load_settings
    from lmstrix.service import LMStrixService

    # A home that the caller names counts as LMSTRIX_HOME does: LM Studio's own folder is then not looked for.
    paths = resolve_paths({HOME_VARIABLE: str(home)} if home is not None else None)
    tell = notify or warnings.warn
    unknown = unknown_variables(os.environ)
    if unknown is not None:
        tell(unknown)
    move_in(paths.home, tell)
    flags = {
        "server": server,
        "models_dir": str(models_dir) if models_dir is not None else None,
        "api_token": api_token,
        "timeout_s": timeout_s,
    }
    settings = load_settings(paths.own, flags=flags, notify=tell).settings
    return LMStrixService(paths=paths, settings=settings, notify=notify)


def schema_of(options: AnswerKeywords) -> AnswerSchema | None:
    """The shape that the answer is to have, if any. Raises UsageError where it is none."""
    shape = options.get("json_schema")
    if shape is None:
        return None
    # Imported here, because few answers have a shape.
    from lmstrix.core.answers.answer_schema import schema_of_class, schema_of_mapping

    if isinstance(shape, str):
        from lmstrix.service.answer_shapes import load_schema

        return load_schema(shape)
    if isinstance(shape, type):
        return schema_of_class(shape, name=shape.__name__)
    return schema_of_mapping(shape, name="json_schema")


def answer_request(
    prompt: str, model: str | None, options: AnswerKeywords, schema: AnswerSchema | None
) -> InferRequest:
    """The request of one answer, its prompt as it is."""
    from lmstrix.core.answers.request import InferRequest

    values: dict[str, Any] = {
        **options,
        "stop": texts("stop", options.get("stop")),
        "images": paths("images", options.get("images")),
        "messages": messages(options.get("messages", ())),
        "json_schema": schema.json_schema if schema is not None else None,
    }
    request = InferRequest(prompt=prompt, model=model, **values)
    check_fields(request)
    return request


def filled_request(
    prompt: str, model: str | None, options: PromptKeywords, schema: AnswerSchema | None
) -> InferRequest:
    """The same, its prompt filled first where the options make it a template."""
    variables, file = checked_variables(options.pop("variables", None)), options.pop("prompt_file", None)
    if file is None and not variables:
        return answer_request(prompt, model, options, schema)
    from lmstrix.loaders.prompts import parse_names
    from lmstrix.service.prompting import fill, fill_from_file

    names = () if file is None or not text("prompt", prompt) else parse_names(prompt)
    composed = fill(prompt, variables) if file is None else fill_from_file(file, names, variables)
    if composed.unused:
        raise UsageError(f"the prompt does not ask for {', '.join(composed.unused)}; leave it out of `variables`")
    request = answer_request(composed.text, model, options, schema)
    return request if request.system_prompt else replace(request, system_prompt=composed.system_prompt)


def load_config(context_length: int | None, options: LoadKeywords) -> LoadConfig:
    """How to load a model."""
    from lmstrix.ground.loads import LoadConfig

    config = LoadConfig(context_length=context_length, **options)
    check_fields(config)
    return config


def context_test_request(request: ContextTestRequest | None, changes: ContextTestKeywords) -> ContextTestRequest:
    """What a context test is to do."""
    from lmstrix.service.due_tests import ContextTestRequest

    wanted = replace(request or ContextTestRequest(), **changes)
    check_fields(wanted)
    return wanted


def bench_options(
    models: str | Sequence[str] | None,
    request: BenchRequest | None,
    changes: BenchKeywords,
    *,
    out: str | Path | None,
    power: bool,
    resume: bool,
) -> BenchOptions:
    """What a benchmark is to measure, and where its report goes."""
    from pathlib import Path

    from lmstrix.core.benchmark.records import BenchRequest
    from lmstrix.service.benching import BenchOptions

    names = texts("models", models)
    if models is not None and not names:
        raise UsageError("`models` is empty; name one at least, or give None for all")
    values: dict[str, Any] = {**changes}
    values |= {name: numbers(values[name]) for name in ("tiers", "concurrency") if name in values}
    wanted = replace(request or BenchRequest(), **values)
    # A prompt of the caller's own makes its report comparable with no other task's.
    if wanted.prompt is not None:
        wanted = replace(wanted, task="custom")
    check_fields(wanted)
    folder = Path(out).expanduser() if out is not None else None
    return BenchOptions(models=names, request=wanted, out=folder, power=power, resume=resume)
