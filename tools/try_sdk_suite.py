"""The official Python SDK's own tests, run against the embedded engine instead of LM Studio.

    python tools/try_sdk_suite.py [words for pytest]

Fetches the SDK's source distribution and what its tests need from the package index, makes tiny models under the names
that the tests ask for, which say what the tests expect, and runs them in a folder of their own. The copy of the SDK
looks for a server at the engine's port and at no other.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.tiny_gguf import tiny_model
from tests.support.tiny_gguf_scripted import Reply, scripted_model
from tests.support.tiny_gguf_vision import put_seeing

from lmstrix.engine import EmbeddedEngine

LONG = " ".join(f"and {number}" for number in range(300))
TEXT = (
    Reply("I am a robot. I am a robot.", when="I am a robot"),
    Reply("Hello, world!", when="exactly what you just said"),
    Reply("Hello! How are you?", when="Hello"),
    Reply("How can it be?", when="What"),
    # A raw prompt leads to the last reply: the shape that tests of structured answers want, long enough to be
    # broken off.
    Reply(f'{{"response": "Hi {LONG} there", "first_word_in_response": "Hi", "lastWordInResponse": "there"}}'),
)
CALL = '<tool_call>\n{{"name": "{}", "arguments": {}}}\n</tool_call>'
TOOLS = (
    Reply(CALL.format("add", '{"a": 123, "b": 3210}'), when="sum of 123"),
    Reply("Hi\n" + CALL.format("add", '{"a": 1, "b": 3}'), when="First say"),
    Reply(CALL.format("divide", '{"denominator": 0, "numerator": 1}'), when="Attempt to divide"),
    Reply("Nobody can divide by zero.", when="ivision by zero", role="tool"),
    Reply("That makes 3333.", role="tool"),
    Reply("Yes."),
)
# Written for an older pytest; and the examples of plugins are not in the distribution.
_LEFT_OUT = ("-W", "ignore::pytest.PytestRemovedIn10Warning", "--ignore", "tests/test_plugin_examples.py")


def put_models(models: Path) -> None:
    """The models that the tests name."""
    files = {
        "hugging-quants/Llama-3.2-1B-Instruct-Q8_0-GGUF/llama-3.2-1b-instruct-q8_0.gguf": scripted_model(TEXT),
        "Qwen/Qwen2.5-7B-Instruct-1M-GGUF/qwen2.5-7b-instruct-1m-q4_k_m.gguf": scripted_model(TOOLS),
        "HuggingFaceTB/SmolLM2-135M-Instruct-GGUF/smollm2-135m-instruct-q8_0.gguf": scripted_model(),
        "nomic-ai/nomic-embed-text-v1.5-GGUF/nomic-embed-text-v1.5.Q4_K_M.gguf": tiny_model(
            "bert", width=768, n_heads=12, head_dim=64, context_length=2048
        ),
    }
    for name, file in files.items():
        place = models / name
        place.parent.mkdir(parents=True)
        shutil.copy(file, place)
    seeing = put_seeing(models)
    vision = models / "ZiangWu" / "MobileVLM_V2-1.7B-GGUF"
    vision.parent.mkdir()
    seeing.rename(vision)
    (vision / "seeing-f16.gguf").rename(vision / "MobileVLM_V2-1.7B.Q4_K.gguf")


def fetched_sdk(folder: Path, port: int) -> tuple[Path, Path]:
    """The SDK's sources, looking for a server at `port`, and a folder of what its tests need besides."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wanted = f"lmstudio=={version('lmstudio')}"
    subprocess.run([*pip, "download", "--no-deps", "--no-binary", ":all:", "-d", folder, wanted], check=True)
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "needed", "pytest-subtests"], check=True)
    with tarfile.open(next(folder.glob("lmstudio-*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    sources = next(path for path in folder.glob("lmstudio-*") if path.is_dir())
    (sources / "src/lmstudio/_api_server_ports.py").write_text(f"default_api_ports = ({port},)\n")
    return sources, folder / "needed"


def main(words: list[str]) -> int:
    """Run the tests; pytest's exit code."""
    with tempfile.TemporaryDirectory(prefix="lmstrix-sdk-") as name:
        folder = Path(name)
        put_models(folder / "models")
        with EmbeddedEngine(folder / "models") as engine:
            sources, needed = fetched_sdk(folder, engine.port)
            environment = {**os.environ, "PYTHONPATH": f"{sources / 'src'}{os.pathsep}{needed}"}
            load = [sys.executable, "-m", "tests.load_models"]
            subprocess.run(load, cwd=sources, env=environment, check=True)
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *_LEFT_OUT]
            return subprocess.run([*command, *words], cwd=sources, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
