"""Scripts as they were written for the earlier LMStrix, one for each of its examples and for its README, run today."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest

import lmstrix

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix import EmbeddedEngine

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* is of the earlier LMStrix:DeprecationWarning"),
    pytest.mark.usefixtures("server"),
]


def run(script: str, **names: Any) -> dict[str, Any]:
    """Run a script; returns its names."""
    space: dict[str, Any] = {"__name__": "script", **names}
    exec(compile(script, "script.py", "exec"), space)
    return space


def test_basic_usage() -> None:
    found = run("""
from lmstrix import LMStrix
from lmstrix.api.exceptions import InferenceError, ModelLoadError, ModelNotFoundError

lms = LMStrix(verbose=False)
count = lms.scan().models_found
first = lms.list()[0]
facts = (first.id, first.size_bytes > 0, first.context_limit, first.tested_max_context)
one = lms.infer(prompt="2+3=", model_id=first.id, out_ctx=200, temperature=0.0)
two = lms.infer(prompt="2+3=", model_id=first.id, in_ctx=4096, out_ctx="25%")
try:
    lms.infer(prompt="2+3=", model_id="nowhere")
except ModelNotFoundError as missing:
    available = missing.available_models
    told = (missing.model_id, missing.details, missing.reason == missing.message == str(missing))
try:
    lms.infer(prompt="word " * 9000, model_id=first.id, in_ctx=4096)
except InferenceError as too_long:
    sizes = (too_long.input_tokens > 9000, too_long.context_limit, too_long.model_id)
lms.close()
""")
    assert found["count"] == 1
    assert found["facts"] == ("scripted", True, 8192, None)
    assert found["one"].response == found["two"].response == "5"
    assert found["one"].tokens_used == found["one"]["tokens_used"] > 0
    assert found["one"].inference_time > 0
    assert found["two"].context_length == 4096
    assert found["available"] == ["scripted"]
    assert found["told"] == ("nowhere", {}, True)
    assert found["sizes"] == (True, 4096, "scripted")


@pytest.mark.slow
def test_advanced_testing() -> None:
    found = run("""
from lmstrix import LMStrix
from lmstrix.core.models import ContextTestStatus

lms = LMStrix()
lms.scan()
before = [m for m in lms.list() if m.test_status != ContextTestStatus.COMPLETED]
whole = lms.test(before[0].id, fast_mode=True)
lower = lms.test(before[0].id, threshold=4096, force=True, fast_mode=True)
exact = lms.test(before[0].id, ctx=2048, fast_mode=True)
after = [m for m in lms.list() if m.test_status == ContextTestStatus.COMPLETED]
lms.close()
""")
    assert found["whole"].succeeded
    assert (found["whole"].optimal_context, found["whole"].efficiency, found["whole"].error) == (8192, 1.0, None)
    assert found["lower"].optimal_context == 4096
    assert found["exact"].optimal_context == 2048
    (model,) = found["after"]
    assert (model.tested_max_context, model.efficiency) == (8192, 1.0)


def test_batch_processing() -> None:
    found = run("""
from lmstrix import LMStrix

lms = LMStrix(verbose=True, notify=remarks.append)
lms.scan()
models = sorted(lms.list(), key=lambda model: model.size_bytes)
answers = [lms.infer("2+3=", model.id, out_ctx=50, temperature=0.7) for model in models]
rows = [{"model": answer["model_id"], "text": answer.response, "time": answer.inference_time} for answer in answers]
lms.close()
""", remarks=[])  # fmt: skip
    assert [row["text"] for row in found["rows"]] == ["5"]


def test_custom_inference(tmp_path: Path) -> None:
    file = tmp_path / "prompts.toml"
    file.write_text('[sums]\nplain = "{{ left }}+3="\n', encoding="utf-8")
    found = run("""
from lmstrix import LMStrix
from lmstrix.loaders.prompt_loader import load_single_prompt

lms = LMStrix()
model_id = lms.scan()[0].id
resolved = load_single_prompt(toml_path=file, prompt_name="sums.plain", left="2")
result = lms.infer(resolved.resolved, model_id, out_ctx=100)
again = lms.infer("2+3=", model_id, in_ctx=1024, out_ctx=-1, force_reload=True)
lms.close()
""", file=file)  # fmt: skip
    assert found["resolved"].resolved == "2+3="
    assert found["result"].response == found["again"].response == "5"


def test_prompt_templates(tmp_path: Path) -> None:
    file = tmp_path / "prompts.toml"
    file.write_text(
        '[a]\nx = "Do {{b.y}} to {{what}}."\n[b]\ny = "this, {{who}},"\n[c]\nz = "{{c.z}}"', encoding="utf-8"
    )
    found = run("""
from lmstrix.core.prompts import PromptResolver
from lmstrix.loaders.prompt_loader import load_prompts, load_single_prompt

resolver = PromptResolver(verbose=True)
data = {"a": {"x": "Do {{b.y}} to {{what}}."}, "b": {"y": "this, {{who}},"}}
whole = resolver.resolve_prompt("a.x", prompts_data=data, what="{{who}}", who="Ann")
part = resolver.resolve_prompt("a.x", data, who="Ann")
everything = load_prompts(file, who="Ann")
two = load_single_prompt(file, "b.y,a.x", what="it", who="Ann")
injected = resolver.inject_context("Read {{context}}", "A" * 10000, "{{context}}", out_ctx=500)
""", file=file)  # fmt: skip
    assert found["whole"].resolved == "Do this, Ann, to {{who}}."  # a value is never expanded again
    assert found["whole"].placeholders_found == ["b.y", "what"]
    assert found["whole"].tokens > 0
    assert found["part"].resolved == "Do this, Ann, to {{what}}."
    assert found["part"].placeholders_unresolved == ["what"]
    assert set(found["everything"]) == {"a.x", "b.y", "c.z"}
    assert found["everything"]["c.z"].resolved == "{{c.z}}"
    assert found["two"].resolved == "this, Ann,\n\nDo this, Ann, to it."
    assert 1000 < len(found["injected"]) < 3000


def test_a_prompt_that_doubles_with_each_step_ends() -> None:
    data = {f"p{n}": f"{{{{p{n + 1}}}}}" * 8 for n in range(20)} | {"p20": "text"}
    with pytest.raises(lmstrix.PromptError, match="grows beyond"):
        run("from lmstrix.core.prompts import PromptResolver\nPromptResolver().resolve_prompt('p0', data)", data=data)


def test_failures_of_streams() -> None:
    found = run("""
from lmstrix import LMStrix
from lmstrix.api.exceptions import InferenceError, ModelNotFoundError
from lmstrix.core.inference_manager import InferenceManager

told = []
with LMStrix() as lms:
    lms.scan()
    for stream in (lms.stream, lambda prompt, model_id: InferenceManager().stream_infer(model_id, prompt)):
        try:
            list(stream("2+3=", model_id="nowhere"))
        except ModelNotFoundError as missing:
            told.append((missing.model_id, missing.available_models, missing.message == str(missing)))
        try:
            list(stream("word " * 9000, model_id="scripted"))
        except InferenceError as too_long:
            told.append((too_long.input_tokens > 9000, too_long.context_limit, too_long.model_id))
""")
    assert found["told"] == 2 * [("nowhere", ["scripted"], True), (True, 8192, "scripted")]


def test_paragraphs_of_a_file() -> None:
    found = run("""
from lmstrix.core.inference_manager import InferenceManager
from lmstrix.loaders.model_loader import load_model_registry, scan_and_update_registry
from lmstrix.utils.logging import logger

scan_and_update_registry()
registry = load_model_registry(verbose=False)
model = registry.find_model("scripted") or [m for m in registry.list_models() if "script" in m.get_short_id()][0]
manager = InferenceManager(verbose=False)
results = [manager.infer(model_id=model.id, prompt=p, temperature=0.1, out_ctx=64) for p in ("2+3=",)]
too_long = manager.infer(model_id=model.id, prompt="word " * 9000, in_ctx=1024)
tokens = []
streamed = "".join(manager.stream_infer(model.id, "2+3=", out_ctx=10, on_token=tokens.append, stream_timeout=30))
logger.success("done")
size = (len(registry), len(registry._models), "scripted" in registry)
""")
    (answer,) = found["results"]
    assert (answer["succeeded"], answer["response"], answer["error"]) == (True, "5", None)
    assert answer["prompt_tokens"] + answer["response_tokens"] == answer["tokens_used"]
    assert found["too_long"]["succeeded"] is False
    assert "context" in found["too_long"]["error"]
    assert found["streamed"] == "".join(found["tokens"]) == "5"
    assert found["size"] == (1, 1, True)


def test_a_template_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "sums.toml"
    file.write_text('[sum]\nprompt = "{{left}}+3="\n', encoding="utf-8")
    found = run("""
from lmstrix.core.inference_manager import InferenceManager
from lmstrix.loaders.model_loader import scan_and_update_registry

scan_and_update_registry()
result = InferenceManager().infer_with_template("sum", "scripted", file, {"left": "2"}, max_tokens=5)
""", file=str(file))  # fmt: skip
    assert found["result"]["response"] == "5"


@pytest.mark.slow
def test_what_the_documentation_of_the_classes_promises(tmp_path: Path) -> None:
    found = run("""
import logging

from lmstrix.core.context_tester import ContextTester
from lmstrix.core.inference_manager import InferenceManager
from lmstrix.core.scanner import ModelScanner
from lmstrix.utils.logging import setup_logging

setup_logging(level=logging.INFO, file_path=file, include_performance_metrics=True)
registry = ModelScanner().update_registry()
manager = InferenceManager(verbose=False, base_url=None, timeout=300, max_retries=3)
answer = manager.infer(model_id="scripted", prompt="2+3=", out_ctx="auto", temperature=0.7, top_p=1.0, top_k=-1)
tester = ContextTester(timeout=300, max_iterations=20, safety_threshold=65536)
(told,) = tester.test_multiple_models(["scripted"], threshold=1024, parallel=False, max_workers=2)
""", file=str(tmp_path / "app.log"))  # fmt: skip
    assert found["answer"]["response"] == "5"
    assert found["answer"]["model_info"]["id"] == "scripted"
    keys = "succeeded response tokens_used prompt_tokens response_tokens inference_time time_to_first_token"
    assert found["answer"].keys() >= {*keys.split(), "tokens_per_second", "stop_reason", "error", "model_info"}
    assert found["told"]["test_points"] == [{"context": 1024, "success": True}]
    assert (found["told"]["iterations"], found["told"]["failure_point"]) == (1, None)
    with pytest.raises(lmstrix.UsageError, match="variables="):
        found["manager"].infer("scripted", "2+3=", context_data={"text": "x"})


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("from lmstrix.api.client import LmsClient", "lmstrix.LMStrix is the client"),
        ("from lmstrix.core.context_tester import TestPattern", "test_model"),
        ("import lmstrix.core.inference as i\ni.InferenceManager().load_model('m')", "LMStrix().load"),
        ("import lmstrix.core.models as m\nm.ModelRegistry().add_model({})", "registry add"),
    ],
)
def test_scripts_of_the_oldest_versions_are_told_what_to_use(line: str, instead: str) -> None:
    with pytest.raises((ImportError, AttributeError), match=re.escape(instead)):
        run(line)


def test_the_readme_of_the_last_version() -> None:
    found = run("""
from lmstrix.api import LMStudioClient
from lmstrix.core.context_tester import ContextTester
from lmstrix.core.scanner import ModelScanner

client = LMStudioClient()
registry = ModelScanner().scan()
tester = ContextTester(client=client, verbose=False, fast_mode=True)
model = tester.test_model(registry.get_model("scripted"), max_context=2048, registry=registry)
lines = [f"Max working context: {model.tested_max_context}", f"TTFT: {model.ttft_seconds:.2f}s"]
told = tester.test_model_context("scripted", threshold=1024)
""")
    assert found["lines"][0] == "Max working context: 2048"
    assert found["model"].ttft_seconds > 0
    assert found["model"].tested_max_context == 2048
    assert found["registry"].get_model("scripted").tested_max_context == 2048
    speed = found["model"].tps  # none where an answer came too fast for one
    assert speed is None or speed > 0
    assert (found["told"]["test_successful"], found["told"]["optimal_context"]) == (True, 1024)


def test_the_readme_of_the_asynchronous_version() -> None:
    found = run("""
from lmstrix import LMStrix

async def main():
    lms = LMStrix()
    lms.scan_models()
    models = lms.list_models()
    response = await lms.infer(prompt="2+3=", model_id=models[0].id, max_tokens=100)
    lms.close()
    return response.content
""")
    assert asyncio.run(found["main"]()) == "5"


def test_the_names_of_today_mean_what_they_meant(server: EmbeddedEngine) -> None:
    with lmstrix.LMStrix(server=server.address) as lms:
        report = lms.scan()
        assert isinstance(report, lmstrix.ScanReport)
        assert report.models == 1
        assert isinstance(lms.list_models()[0], lmstrix.ModelRecord)
        answer = lms.infer("2+3=", "scripted", max_tokens=0.25)
        assert isinstance(answer, lmstrix.InferenceResult)
        with pytest.raises(lmstrix.UsageError):
            lms.infer("2+3=", "scripted", max_tokens=-5)
        with pytest.raises(TypeError, match="colour"):
            lms.infer("2+3=", "scripted", colour=1)  # type: ignore[call-arg]  # the mistake is the test
        with pytest.raises(AttributeError, match="forget"):
            lms.forget  # type: ignore[attr-defined]  # noqa: B018 - the access is the test
