"""The Python API reaches what the command line does: results, logs, prompt files, reports, trust, this machine."""

from __future__ import annotations

import ast
import inspect
import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lmstrix
from lmstrix import (
    AsyncLMStrix,
    BenchRequest,
    LMStrix,
    LMStrixError,
    ModelReport,
    PromptError,
    SettingsError,
    UsageError,
)
from lmstrix.python import aio, client
from tests.support.sources import parsed

if TYPE_CHECKING:
    from lmstrix import BenchEvent, EmbeddedEngine, Step

PROMPTS = 'greet = "Say hello to {{name}}."\nbare = "2+3="\n'


def test_results_are_found_told_planned_and_forgotten(python_engine: EmbeddedEngine) -> None:
    steps: list[Step] = []
    with LMStrix(server=python_engine.address) as lms:
        assert [model.model_key for model in lms.list_models(sort="size", reverse=True)] == []
        planned = lms.plan_tests("scripted", threshold=1024)  # fills an empty registry first
        assert [test.ceiling for test in planned] == [1024]
        outcome = lms.test_model("scripted", threshold=1024, fast=True, on_step=steps.append)
        assert outcome.result.tested_context_length == 1024
        assert steps
        told = lms.test_history("scripted")
        assert told.record.model_key == "scripted"
        assert told.events
        # What was measured on our engine is never written into LM Studio's defaults; the refusal says what would be.
        with pytest.raises(LMStrixError, match=r"`test_model\('scripted'\)` with `server='lmstudio'`"):
            lms.save("scripted")
        assert lms.save(dry_run=True) == []
        assert [model.model_key for model in lms.reset("scripted")] == ["scripted"]
        assert lms.reset_all() == []
        assert lms.test_history("scripted").events == ()


def test_the_log_of_calls(python_engine: EmbeddedEngine) -> None:
    with LMStrix(server=python_engine.address) as lms:
        lms.infer("2+3=", "scripted")
        lms.infer("hello", "scripted")
        assert [entry.call.prompt for entry in lms.logs.calls()] == ["hello", "2+3="]
        assert len(lms.logs.calls("hello")) == 1
        assert [entry.model_key for entry in lms.logs.statistics()] == ["scripted"]
        with pytest.raises(UsageError, match="last"):
            lms.logs.calls(last=0)


def test_prompt_files(python_engine: EmbeddedEngine, tmp_path: Path) -> None:
    file = tmp_path / "prompts.toml"
    file.write_text(PROMPTS, encoding="utf-8")
    with LMStrix(server="127.0.0.1:1") as lms:  # none of this asks a server
        assert {template.name: template.placeholders for template in lms.prompts.templates(file)} == {
            "greet": ("name",),
            "bare": (),
        }
        assert lms.prompts.render(file, "greet", {"name": "Ada"}).text == "Say hello to Ada."
        with pytest.raises(PromptError, match="give it in `variables`"):
            lms.prompts.render(file, "greet")
        assert [finding.severity for finding in lms.prompts.lint(file)] == ["note"]
    with LMStrix(server=python_engine.address) as lms:
        assert lms.infer("bare", "scripted", prompt_file=file).text == "5"


def test_what_would_be_sent(python_engine: EmbeddedEngine) -> None:
    with LMStrix(server=python_engine.address) as lms:
        lms.scan()
        lms.load("scripted", 1024)  # the bytes of a prompt, which are counted else, leave out its template
        found = lms.dry_run("2+3=", "scripted", context_length=512, max_tokens=500)
        assert found.context_length == 512
        assert found.fits is False


@pytest.mark.slow
def test_benchmarks_are_made_found_compared_and_written(python_engine: EmbeddedEngine, tmp_path: Path) -> None:
    events: list[BenchEvent] = []
    request = BenchRequest(runs=1, max_tokens=8, idle_s=0.0)
    with LMStrix(server=python_engine.address) as lms:
        first = lms.bench("scripted", request, out=tmp_path / "first", power=False, on_event=events.append)
        second = lms.bench(None, request, prompt="2+3=", out=tmp_path / "second", power=False)
        assert [cell.cell.target.model_key for cell in second.cells] == ["scripted"]
        assert events
        assert (tmp_path / "first" / "index.html").is_file()
        assert second.request.task == "custom"  # as on the command line: comparable with no other task's
        assert {run.session for run in lms.benches.history("scripted")} == {first.session, second.session}
        assert lms.benches.find().session == second.session
        assert lms.benches.compare(first, tmp_path / "first").regressions(0.0) == ()
        assert lms.benches.write(first, tmp_path / "again") == tmp_path / "again" / "index.html"
        assert json.loads(lms.benches.text(first, "json"))["session"] == first.session
        assert "scripted" in lms.benches.text(first)
        with pytest.raises(UsageError, match=r"`benches.history\(\)` lists them"):
            lms.benches.find("nosuch")
        with pytest.raises(UsageError, match="`format`: 'html' is not one of"):
            lms.benches.text(first, "html")


@pytest.mark.slow
async def test_the_same_on_a_loop(python_engine: EmbeddedEngine, tmp_path: Path) -> None:
    async with AsyncLMStrix(server=python_engine.address) as lms:
        await lms.scan()
        report = await lms.bench(
            "scripted", runs=1, max_tokens=8, idle_s=0.0, tiers=[0], power=False, out=tmp_path / "out"
        )
        assert (await lms.benches.find("last")).session == report.session
        assert (await lms.benches.compare(report, report)).regressions(0.0) == ()
        assert await lms.logs.calls() == []
        assert (await lms.doctor()).checks
        assert (await lms.power(0.01)).span_s >= 0.0


def test_folders_are_trusted(tmp_path: Path) -> None:
    with LMStrix() as lms:
        with pytest.raises(SettingsError, match=r"no \.lmstrix\.toml"):
            lms.trusted.add(tmp_path)
        (tmp_path / ".lmstrix.toml").write_text('server = "127.0.0.1:1"\n', encoding="utf-8")
        lms.trusted.add(tmp_path)
        assert [(each.folder, each.is_current) for each in lms.trusted.folders()] == [(tmp_path, True)]
        assert lms.trusted.remove(tmp_path)
        assert not lms.trusted.remove(tmp_path)


def test_this_machine(python_engine: EmbeddedEngine) -> None:
    with LMStrix(server=python_engine.address) as lms:
        assert {check.name for check in lms.doctor().checks} >= {"python", "server"}
        assert lms.power(0.01).span_s >= 0.0
        seen: list[float] = []
        loaded = lms.load("scripted", 1024, instance_id="mine", on_progress=seen.append)
        assert loaded.instance_id == "mine"
        report = lms.doctor("scripted")
        assert isinstance(report, ModelReport)
        assert (report.model_key, report.figures.loaded_context_length) == ("scripted", 1024)
        assert report.improvements[0].how == "`test_model('scripted')`"
        assert lms.unload("mine")[0].instance_id == "mine"


def public(kind: type) -> dict[str, inspect.Signature | None]:
    return {
        name: inspect.signature(member) if inspect.isfunction(member) else None
        for name, member in vars(kind).items()
        if not name.startswith("_")
    }


@pytest.mark.parametrize(
    ("blocking", "asynchronous"),
    [
        ("client.LMStrix", "aio.AsyncLMStrix"),
        ("chat.Chat", "chat.AsyncChat"),
        ("benches.Benches", "benches.AsyncBenches"),
        ("collections.Collections", "collections.AsyncCollections"),
    ],
)
def test_both_have_the_same_methods_and_parameters(blocking: str, asynchronous: str) -> None:
    def kind(name: str) -> type:
        module, _, member = name.partition(".")
        found: type = getattr(import_module(f"lmstrix.python.{module}"), member)
        return found

    ours, theirs = public(kind(blocking)), public(kind(asynchronous))
    assert set(ours) == set(theirs)
    for name, signature in ours.items():
        other = theirs[name]
        if signature is not None and other is not None:
            assert list(signature.parameters.values()) == list(other.parameters.values()), name


def test_what_the_api_takes_and_returns_is_public() -> None:
    """Every record that a signature names can be imported from lmstrix, to annotate one's own functions with."""
    for module in (client, aio):
        tree = parsed(Path(module.__file__ or ""))
        (facade,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        named = {
            name.id
            for node in ast.walk(facade)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_")
            for hint in [node.returns, *(each.annotation for each in (*node.args.args, *node.args.kwonlyargs))]
            if hint is not None
            for name in ast.walk(hint)
            if isinstance(name, ast.Name) and name.id[0].isupper()
        }
        # Value is any value that JSON and TOML can hold.
        foreign = {
            "Value",
            "Path",
            "Sequence",
            "Mapping",
            "Callable",
            "Iterable",
            "Iterator",
            "Generator",
            "AsyncGenerator",
        }
        assert named - foreign - set(lmstrix.__all__) == set()
