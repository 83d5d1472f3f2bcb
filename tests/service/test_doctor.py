"""What doctor says of the Python it runs with, of libraries that are missing, and of where files lie, by stand-ins."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.health import Check
from lmstrix.core.memory import mac_memory
from lmstrix.engine import requirements
from lmstrix.ground.drives import Drive
from lmstrix.ground.paths import resolve_paths
from lmstrix.ground.settings import Settings
from lmstrix.service.doctor import installation, places, storage
from lmstrix.service.doctor.examination import examine
from lmstrix.service.workspace import Workspace
from tests.support.model_files import put_model
from tests.support.tiny_gguf import tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def workspace(home: Path, tmp_path: Path) -> Workspace:
    models = tmp_path / "models"
    models.mkdir()
    return Workspace(paths=resolve_paths({"LMSTRIX_HOME": str(home)}), settings=Settings(models_dir=str(models)))


@pytest.fixture
def models(workspace: Workspace) -> Path:
    return Path(str(workspace.settings.models_dir))


@pytest.fixture
def drives(monkeypatch: pytest.MonkeyPatch) -> dict[str, Drive]:
    """The drive of each folder by its name; this machine's own for the rest."""
    known: dict[str, Drive] = {}
    monkeypatch.setattr(places, "drive_of", lambda folder: known.get(folder.name, Drive(kind="local")))
    return known


def kept_in(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()


class TestPython:
    def test_one_that_rosetta_translates(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mac_memory, "is_translated", lambda: True)
        check = installation.python(workspace)
        assert check.state == "note"
        assert "translated by Rosetta" in check.found
        assert "arch -arm64 python3 -m venv .venv" in str(check.remedy)
        monkeypatch.setattr(installation, "_HOMEBREW", sys.executable)
        assert f"{sys.executable} -m venv .venv" in str(installation.python(workspace).remedy)

    def test_one_for_the_macs_own_processor(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mac_memory, "is_translated", lambda: False)
        assert installation.python(workspace).state == "ok"

    def test_one_for_windows_on_arm(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sysconfig, "get_platform", lambda: "win-arm64")
        check = installation.python(workspace)
        assert (check.state, check.remedy) == ("note", installation._ARM_REMEDY)
        assert "minijinja and xllamacpp are not published for Windows on ARM" in check.found


class TestPackages:
    DECLARED = (
        "httpx>=0.27",
        'tiktoken>=0.7; platform_machine != "ARM64"',
        "minijinja>=3",
        'aiohttp; extra == "engine"',
    )

    @pytest.mark.parametrize(
        ("installed", "state", "found"),
        [
            ({"httpx", "minijinja", "tiktoken"}, "ok", "all 2 that LMStrix needs"),
            ({"httpx", "minijinja"}, "ok", "all 2 that LMStrix needs; it does without tiktoken"),
            ({"httpx"}, "problem", "missing: minijinja"),
        ],
    )
    def test_what_can_be_done_without_is_no_problem(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, installed: set[str], state: str, found: str
    ) -> None:
        monkeypatch.setattr(installation, "requires", lambda _name: list(self.DECLARED))
        monkeypatch.setattr(installation, "_is_installed", installed.__contains__)
        check = installation.packages(workspace)
        assert (check.state, check.found) == (state, found)

    def test_windows_on_arm_needs_another_python(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sysconfig, "get_platform", lambda: "win-arm64")
        monkeypatch.setattr(installation, "_is_installed", lambda name: name != "minijinja")
        assert installation.packages(workspace).remedy == installation._ARM_REMEDY


class TestEngine:
    def test_a_library_of_the_system_that_is_missing(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "platform", "win32")
        monkeypatch.setattr(requirements, "_loads", lambda library: library != "vcomp140")
        check = installation.engine(workspace)
        assert check.state == "problem"
        assert check.found == "llama.cpp needs vcomp140.dll of the system"
        assert check.remedy == "winget install Microsoft.VCRedist.2015+.x64"

    def test_an_import_that_fails_all_the_same(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        said = "Traceback …\nImportError: DLL load failed while importing xllamacpp: The module could not be found."
        monkeypatch.setattr(
            subprocess,
            "run",
            lambda words, **_: subprocess.CompletedProcess(words, 1, stdout=b"", stderr=said.encode()),
        )
        check = installation.engine(workspace)
        assert check.found.startswith("ImportError: DLL load failed")
        assert check.remedy == "winget install Microsoft.VCRedist.2015+.x64"


class TestPlaces:
    def test_nothing_is_said_of_usual_ones(self, workspace: Workspace, drives: dict[str, Drive]) -> None:
        drives["models"] = Drive(kind="local", file_system="ext4")
        assert places.places(workspace) == []

    @pytest.mark.parametrize(
        ("folder", "drive", "found", "remedy"),
        [
            ("lmstrix-home", Drive(kind="network", file_system="nfs4"), "on a network drive (nfs4)", "LMSTRIX_HOME"),
            ("lmstrix-home", Drive(kind="local", file_system="exfat"), "who can reach it can read", "LMSTRIX_HOME"),
            ("models", Drive(kind="network"), "reads the model over the network", "models_dir"),
            ("models", Drive(kind="removable"), "can be unplugged: without it, its models are missing", "None"),
            ("models", Drive(kind="local", file_system="vfat"), "no file of 4 GiB or more", "models_dir"),
        ],
    )
    def test_a_drive_is_named_with_what_it_means(
        self, workspace: Workspace, drives: dict[str, Drive], folder: str, drive: Drive, found: str, remedy: str
    ) -> None:
        drives[folder] = drive
        (check,) = places.places(workspace)
        assert check.state == "note"
        assert found in check.found
        assert remedy in str(check.remedy)

    def test_a_models_folder_for_more_than_one_system(self, workspace: Workspace, drives: dict[str, Drive]) -> None:
        drives["models"] = Drive(kind="removable", file_system="exfat")
        (check,) = places.places(workspace)
        assert "can be unplugged (exfat)" in check.found

    @pytest.mark.parametrize("variable", ["OneDrive", "OneDriveCommercial"])
    def test_a_folder_that_onedrive_keeps_elsewhere_too(
        self,
        workspace: Workspace,
        drives: dict[str, Drive],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        variable: str,
    ) -> None:
        monkeypatch.setenv(variable, str(tmp_path))
        home, models = places.places(workspace)
        assert "is in OneDrive's folders: its service copies and moves files while they are written" in home.found
        assert "a load waits for a download" in models.found

    def test_whose_folders_a_mac_has(self, tmp_path: Path) -> None:
        def whose(folder: str) -> str | None:
            return places.cloud_of(tmp_path / folder, {"OneDrive": ""}, tmp_path)

        assert whose("Library/Mobile Documents/com~apple~CloudDocs/models") == "iCloud's"
        assert whose("Library/CloudStorage/OneDrive-Personal") == "a cloud service's"
        assert whose("Library/Application Support/lmstrix") is None

    def test_paths_too_long_for_windows(
        self, workspace: Workspace, drives: dict[str, Drive], models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = "m" * 200 + ".gguf"
        kept_in(models / "publisher" / ("r" * 100), name)
        assert places.places(workspace) == []
        monkeypatch.setattr(sys, "platform", "win32")
        (check,) = places.places(workspace)
        assert f"{name} has " in check.found
        assert "LongPathsEnabled" in str(check.remedy)


def test_mlx_models_are_counted_too(workspace: Workspace, models: Path) -> None:
    assert storage.models(workspace).found == f"{models} (no GGUF files)"
    kept_in(models / "a" / "mlx", "config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    kept_in(models / "a" / "weights alone", "model.safetensors")
    assert storage.models(workspace).found.startswith(f"{models} (1 MLX model)")
    kept_in(models / "a" / "gguf", "one.gguf", "two.GGUF", "config.json")
    assert storage.models(workspace).found.startswith(f"{models} (2 GGUF files, 1 MLX model)")


def test_what_cannot_be_used_is_counted_and_named(workspace: Workspace, models: Path) -> None:
    put_model(models, "good", tiny_model("llama"))
    assert storage.models(workspace) == Check(name="models", state="ok", found=f"{models} (1 GGUF file)")
    kept_in(models / "a" / "bad", "one.gguf", "two.gguf", "three.gguf", "zero.gguf")
    check = storage.models(workspace)
    assert check.state == "note"
    assert check.found == (
        f"{models} (5 GGUF files); 4 cannot be used: a/bad/one.gguf, a/bad/three.gguf, a/bad/two.gguf …"
    )
    assert check.remedy is not None
    assert "doctor('a/bad/one.gguf')" in check.remedy


async def test_a_check_that_cannot_be_made_is_a_line(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(message: str) -> Callable[[Workspace], list[Check]]:
        def check(_workspace: Workspace) -> list[Check]:
            raise PermissionError(13, message)

        return check

    monkeypatch.setattr(places, "places", refused("no way in"))
    report = await examine(workspace)
    (found,) = [check for check in report.checks if check.name == "folders"]
    assert found.state == "problem"
    assert "no way in" in found.found
