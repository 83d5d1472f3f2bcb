"""LM Studio's own JavaScript SDK, unmodified, against the engine (tests/js holds the checks).

The SDK comes from npm once and is kept in the temporary folder; without node 20, npm or the registry the tests skip.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from lmstrix.engine import EmbeddedEngine
from lmstrix.engine.access import new_token
from tests.support.pictures import BLUE, RED, gif, png, webp
from tests.support.tiny_gguf_vision import COLOUR_QUESTION, SEEING, SIGHTS, put_seeing

pytestmark = pytest.mark.slow

SOURCES = Path(__file__).parent.parent / "js"
CHECKS = set(re.findall(r'^await check\("(.+?)"', (SOURCES / "conformance.mjs").read_text(), re.MULTILINE))


@pytest.fixture(scope="session")
def sdk_dir() -> Path:
    """A folder with the SDK in node_modules."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip().lstrip("v").split(".")[0]) < 20:
        pytest.skip(f"node {version.strip()} is older than 20")
    digest = hashlib.sha256((SOURCES / "package-lock.json").read_bytes()).hexdigest()[:12]
    directory = Path(tempfile.gettempdir()) / f"lmstrix-js-sdk-{getpass.getuser()}-{digest}"
    if not directory.is_dir():
        _install(npm, directory)
    return directory


def _install(npm: str, directory: Path) -> None:
    """Install beside the final place and move there, so that a second run never sees half of it."""
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix="lmstrix-js-") as name:
        staging = Path(name) / "sdk"
        staging.mkdir()
        for file in ("package.json", "package-lock.json"):
            shutil.copy(SOURCES / file, staging)
        command = [
            npm,
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--fetch-retries=1",
            "--fetch-timeout=20000",
        ]
        environment = {
            **os.environ,
            "npm_config_cache": str(Path(name) / "cache"),
            "npm_config_update_notifier": "false",
        }
        try:
            subprocess.run(command, cwd=staging, env=environment, capture_output=True, timeout=120, check=True)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as exc:
            pytest.skip(f"npm could not install the SDK: {(exc.stderr or b'').decode().strip()[-200:] or exc}")
        if not directory.is_dir():
            staging.rename(directory)


def run(sdk_dir: Path, *arguments: str, program: str = "conformance.mjs") -> dict[str, Any]:
    """What the script found. It must end by itself: an open socket would keep node alive."""
    with tempfile.TemporaryDirectory(dir=sdk_dir) as name:
        script = shutil.copy(SOURCES / program, name)
        finished = subprocess.run(
            ["node", script, *arguments], capture_output=True, text=True, timeout=120, check=False
        )
    assert finished.returncode == 0, finished.stderr
    results: dict[str, Any] = json.loads(finished.stdout)
    return results


def test_every_check_passes(sdk_dir: Path, models_dir: Path) -> None:
    complaints: list[str] = []
    with EmbeddedEngine(models_dir, on_log=lambda event: complaints.append(event.text)) as engine:
        results = run(sdk_dir, engine.address)
    assert {name: outcome for name, outcome in results.items() if outcome != "ok"} == {}
    assert set(results) >= CHECKS
    assert [text for text in complaints if "did not understand" in text] == []


def test_an_api_token_is_asked_for(sdk_dir: Path, models_dir: Path) -> None:
    token = new_token()
    with EmbeddedEngine(models_dir, api_token=token) as engine:
        assert run(sdk_dir, engine.address, token)["list downloaded"] == "ok"
        refused = run(sdk_dir, engine.address, new_token())["list downloaded"]
    assert "authenticate" in refused


def test_images(sdk_dir: Path, tmp_path: Path) -> None:
    put_seeing(tmp_path / "models")
    files = {"red.png": png(RED), "blue.gif": gif(BLUE), "modern.webp": webp()}
    paths = {name: tmp_path / name for name in files}
    for name, data in files.items():
        paths[name].write_bytes(data)
    with EmbeddedEngine(tmp_path / "models") as engine:
        answers = run(sdk_dir, engine.address, SEEING, COLOUR_QUESTION, *map(str, paths.values()), program="images.mjs")
    refusal = answers.pop(str(paths["modern.webp"]))
    assert "The image is a WebP file" in refusal
    assert answers == {
        str(paths["red.png"]): SIGHTS["red"],
        str(paths["blue.gif"]): SIGHTS["blue"],
        "all": SIGHTS["red"],  # two to one
    }
