"""Models in several folders: each is found again where it lies, and a scan of one folder loses nothing of another."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.memory.prediction import shape_of
from lmstrix.ground.errors import LMStrixError
from lmstrix.ground.paths import resolve_paths
from lmstrix.ground.settings import Settings
from lmstrix.loaders.model_header import read_model_header
from lmstrix.service import LMStrixService
from lmstrix.service.benching import find_server
from lmstrix.service.due_tests import ContextTestRequest, due_models
from lmstrix.service.model_folders import check_served, folder_to_serve, model_file, why_not_served
from tests.support.model_files import put_model
from tests.support.tiny_gguf import tiny_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def put(folder: Path, name: str, *, n_layers: int = 1, context_length: int = 4096) -> Path:
    """A model of its own content in a folder."""
    return put_model(folder, name, tiny_model("llama", context_length=context_length, n_layers=n_layers, head_dim=32))


@pytest.fixture
async def service(home: Path) -> AsyncIterator[LMStrixService]:
    service = LMStrixService(paths=resolve_paths(), settings=Settings(server="embedded"))
    yield service
    await service.close()


@pytest.fixture
def at_home(service: LMStrixService) -> Path:
    return put(service.paths.models_dir, "home", context_length=2048)


async def test_a_model_of_another_folder_keeps_its_header(
    service: LMStrixService, at_home: Path, tmp_path: Path
) -> None:
    file = put(tmp_path / "other", "far")
    await service.scan()
    report = await service.scan(models_dir=tmp_path / "other")
    assert (report.changes.added, report.changes.missing) == (("acme/far-GGUF/far-f16.gguf",), ())
    far, home = service.find("far"), service.find("home")
    assert (model_file(service, far), model_file(service, home)) == (file, at_home)
    assert (far.models_dir, home.models_dir) == (str(tmp_path / "other"), None)
    assert not shape_of(model_file(service, far), far, read_model_header).approximate
    assert folder_to_serve(service, [far]) == tmp_path / "other"
    assert folder_to_serve(service, [home]) is None
    assert folder_to_serve(service, [far, home]) is None


async def test_a_scan_of_one_folder_says_nothing_of_another(
    service: LMStrixService, at_home: Path, tmp_path: Path
) -> None:
    file = put(tmp_path / "other", "far")
    await service.scan(models_dir=tmp_path / "other")
    report = await service.scan()
    assert (report.changes.added, report.changes.missing) == (("acme/home-GGUF/home-f16.gguf",), ())
    # What is gone from the other folder is missing all the same, and back when it is there again.
    file.rename(tmp_path / "aside.gguf")
    assert (await service.scan()).changes.missing == ("acme/far-GGUF/far-f16.gguf",)
    (tmp_path / "aside.gguf").rename(file)
    assert (await service.scan()).changes.restored == ("acme/far-GGUF/far-f16.gguf",)


async def test_a_model_that_came_home_is_found_at_home(service: LMStrixService, tmp_path: Path) -> None:
    file = put(tmp_path / "other", "far")
    await service.scan(models_dir=tmp_path / "other")
    home = service.paths.models_dir / "acme" / "far-GGUF" / "far-f16.gguf"
    home.parent.mkdir(parents=True)
    file.rename(home)
    await service.scan()
    assert service.find("far").models_dir is None
    assert model_file(service, service.find("far")) == home


async def test_two_models_of_one_path(service: LMStrixService, at_home: Path, tmp_path: Path) -> None:
    await service.scan()
    put(tmp_path / "other", "home", n_layers=2)
    put(tmp_path / "copy", "home", context_length=2048)
    report = await service.scan(models_dir=tmp_path / "other")
    assert [(problem.path, problem.kind) for problem in report.problems] == [
        ("acme/home-GGUF/home-f16.gguf", "path taken")
    ]
    assert str(service.paths.models_dir) in report.problems[0].detail
    assert service.find("home").max_context_length == 2048
    assert not (await service.scan(models_dir=tmp_path / "copy")).problems
    assert model_file(service, service.find("home")) == at_home


async def test_an_engine_for_a_model_serves_the_folder_it_lies_in(
    service: LMStrixService, at_home: Path, tmp_path: Path
) -> None:
    put(tmp_path / "other", "far")
    await service.scan()
    await service.scan(models_dir=tmp_path / "other")
    far, home = service.find("far"), service.find("home")
    connection = await service.connect(models_dir=folder_to_serve(service, [far]))
    assert [model.model_key for model in await connection.backend.list_downloaded()] == ["far"]
    assert why_not_served(service, connection, far) is None
    assert not shape_of(model_file(service, home), home, read_model_header).approximate
    with pytest.raises(LMStrixError, match=r"home lies in .*models, and the embedded engine .* serves .*other"):
        check_served(service, connection, home)


async def test_a_test_of_all_models_passes_over_what_is_not_served(
    service: LMStrixService, at_home: Path, tmp_path: Path
) -> None:
    put(tmp_path / "other", "far")
    await service.scan()
    await service.scan(models_dir=tmp_path / "other")
    connection = await service.connect()
    due, skipped = due_models(service, service.registry(), ContextTestRequest(), "id", connection=connection)
    assert [record.model_key for record in due] == ["home"]
    assert [(test.record.model_key, "serves" in str(test.skipped)) for test in skipped] == [("far", True)]


async def test_a_benchmark_of_all_models_leaves_out_what_is_not_served(
    service: LMStrixService, at_home: Path, tmp_path: Path
) -> None:
    put(tmp_path / "other", "far")
    await service.scan()
    await service.scan(models_dir=tmp_path / "other")
    said: list[str] = []
    service.notify = said.append
    async with AsyncExitStack() as stack:
        found = await find_server(service, (), stack)
        assert [target.model_key for target in found.targets] == ["home"]
        assert [line for line in said if line.startswith("left out: far lies in")]
        with pytest.raises(LMStrixError, match="far lies in"):
            await find_server(service, ("far",), stack)


def test_a_models_folder_may_be_named_from_the_home_directory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell reads the ~ of a settings file."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    service = LMStrixService(paths=resolve_paths(), settings=Settings(models_dir="~/mine"))
    assert service.configured_models_dir == service.models_dir == home / "mine"
