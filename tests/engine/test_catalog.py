"""The models directory becomes a list, whatever lies in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmstrix.core.registry import models_folder
from lmstrix.engine import catalog as catalog_module
from lmstrix.engine.catalog import Catalog, CatalogProblem
from lmstrix.engine.faults import EngineFault
from lmstrix.ground.drives import Drive
from tests.engine.pools import put
from tests.support.tiny_gguf import TinyShape, tiny_model, write_tiny


@pytest.fixture
def models(tmp_path: Path) -> Path:
    directory = tmp_path / "models"
    put(directory, tiny_model(context_length=8192), "acme/Tiny-Llama-GGUF/Tiny-Llama-Q8_0.gguf")
    return directory


def touched(path: Path) -> Path:
    """`path`, whose folder certainly shows a newer time of change than before."""
    status = path.parent.stat()
    os.utime(path.parent, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    return path


def test_an_entry_says_what_the_header_and_the_name_say(models: Path) -> None:
    (entry,) = Catalog(models).entries
    assert (entry.model_key, entry.kind, entry.publisher) == ("tiny-llama", "llm", "acme")
    assert entry.path == "acme/Tiny-Llama-GGUF/Tiny-Llama-Q8_0.gguf"
    assert Path(entry.file) == models / entry.path
    assert entry.size_bytes == Path(entry.file).stat().st_size
    assert (entry.quantization, entry.bits) == ("Q8_0", 8)
    assert (entry.architecture, entry.max_context_length) == ("llama", 8192)
    assert entry.has_chat_template
    assert not entry.vision


@pytest.mark.needs_posix("pipes in the file system")
def test_what_is_no_model_is_a_problem_and_hides_nothing(models: Path) -> None:
    good = next(models.rglob("*.gguf")).read_bytes()
    bad = models / "acme" / "bad"
    bad.mkdir()
    (bad / "truncated.gguf").write_bytes(good[: len(good) // 2])
    (bad / "header-only.gguf").write_bytes(good[:300])
    (bad / "empty.gguf").touch()
    (bad / "page.gguf").write_text("<html>not found</html>")
    (bad / "dangling.gguf").symlink_to(bad / "nowhere")
    (bad / "notes.txt").write_text("not looked at")
    os.mkfifo(bad / "pipe.gguf")
    told: list[CatalogProblem] = []
    catalog = Catalog(models, on_problem=told.append)
    assert [entry.model_key for entry in catalog.entries] == ["tiny-llama"]
    names = {Path(problem.path).stem for problem in catalog.problems}
    assert names == {"truncated", "header-only", "empty", "page", "dangling", "pipe"}
    catalog.rescan()
    assert len(told) == len(names)


def test_models_that_come_and_go_are_noticed(models: Path) -> None:
    catalog = Catalog(models)
    assert len(catalog.entries) == 1
    new = touched(put(models, tiny_model("qwen2"), "other/Late-GGUF/late-f16.gguf"))
    assert [entry.model_key for entry in catalog.entries] == ["late", "tiny-llama"]
    new.unlink()
    touched(new)
    assert [entry.model_key for entry in catalog.entries] == ["tiny-llama"]


def test_an_mlx_model_is_not_listed_and_named_as_what_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "mlx-community" / "Qwen3-4B-4bit"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").touch()
    catalog = Catalog(tmp_path)
    assert catalog.entries == []
    assert catalog.problems == ()
    for query in ("mlx-community/Qwen3-4B-4bit", "qwen3-4b-4bit", "qwen3-4b"):
        with pytest.raises(EngineFault, match="MLX model and the embedded engine loads GGUF files only") as failure:
            catalog.find(query)
        assert failure.value.kind == "unsupported"


@pytest.mark.parametrize(("file_system", "noticed"), [("exfat", True), ("ntfs", False)])
def test_on_a_drive_without_folder_times_models_are_noticed_too(
    models: Path, file_system: str, noticed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Windows keeps exFAT: putting a file into a folder changes nothing of the folder itself."""
    monkeypatch.setattr(catalog_module, "drive_of", lambda _path: Drive(kind="local", file_system=file_system))
    for module in (catalog_module, models_folder):
        monkeypatch.setattr(module, "changed_ns", lambda _location: 7)
    catalog = Catalog(models)
    assert len(catalog.entries) == 1
    put(models, tiny_model(context_length=4096), "acme/Other-GGUF/Other-Q8_0.gguf")
    assert (len(catalog.entries) == 2) == noticed


def test_a_missing_directory_is_an_empty_one_until_it_appears(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "later")
    assert catalog.entries == []
    put(tmp_path / "later", tiny_model(), "a/b/c.gguf")
    assert [entry.model_key for entry in catalog.entries] == ["c"]


def test_a_file_that_did_not_change_is_read_once(models: Path) -> None:
    catalog = Catalog(models)
    (entry,) = catalog.entries
    status = Path(entry.file).stat()
    Path(entry.file).write_bytes(b"x" * status.st_size)
    os.utime(entry.file, ns=(status.st_atime_ns, status.st_mtime_ns))
    catalog.rescan()
    assert [entry.model_key for entry in catalog.entries] == ["tiny-llama"]


def test_a_file_that_is_still_being_written_becomes_a_model_when_it_is_whole(models: Path) -> None:
    whole = next(models.rglob("*.gguf")).read_bytes()
    growing = models / "acme" / "growing.gguf"
    growing.write_bytes(whole[: len(whole) // 2])
    catalog = Catalog(models)
    assert [entry.model_key for entry in catalog.entries] == ["tiny-llama"]
    with growing.open("ab") as file:
        file.write(whole[len(whole) // 2 :])
    assert [entry.model_key for entry in catalog.entries] == ["growing", "tiny-llama"]
    assert catalog.problems == ()


@pytest.mark.needs_posix("symbolic links, which Windows lets few users make")
def test_links_in_circles_list_a_model_once(models: Path) -> None:
    for folder in (models, models / "acme", models / "acme" / "Tiny-Llama-GGUF"):
        (folder / "up").symlink_to(models)
    (models / "self").symlink_to("self")
    (models / "twin.gguf").symlink_to(next(models.rglob("Tiny-Llama-Q8_0.gguf")))
    catalog = Catalog(models)
    assert [entry.path for entry in catalog.entries] == ["acme/Tiny-Llama-GGUF/Tiny-Llama-Q8_0.gguf"]
    assert [problem.path for problem in catalog.problems] == ["self"]


def test_parts_are_one_model_and_missing_parts_none(models: Path) -> None:
    folder = models / "acme" / "split"
    folder.mkdir()
    write_tiny(folder / "split.gguf", tensors_per_file=10)
    parts = sorted(folder.iterdir())
    catalog = Catalog(models)
    entry = catalog.find("split")
    assert [entry.file, *entry.shard_files] == [str(part) for part in parts]
    assert entry.size_bytes == sum(part.stat().st_size for part in parts)
    assert catalog.shape(entry).file_bytes == entry.size_bytes
    parts[-1].unlink()
    catalog.rescan()
    assert [entry.model_key for entry in catalog.entries] == ["tiny-llama"]
    (problem,) = catalog.problems
    assert "missing" in problem.reason


def test_a_projector_belongs_to_the_model_beside_it(models: Path) -> None:
    put(models, tiny_model("qwen2"), "acme/seer-GGUF/seer-Q4_K_M.gguf")
    projector = put(models, tiny_model("gemma3"), "acme/seer-GGUF/mmproj-seer-f16.gguf")
    catalog = Catalog(models)
    assert [entry.model_key for entry in catalog.entries] == ["seer", "tiny-llama"]
    seer = catalog.find("seer")
    assert seer.vision
    assert seer.mmproj_file == str(projector)
    assert catalog.shape(seer).mmproj_bytes == projector.stat().st_size
    assert not catalog.find("tiny-llama").vision


def test_of_two_projectors_each_model_takes_its_own(models: Path) -> None:
    for name in ("owl", "seer"):
        put(models, tiny_model("qwen2"), f"acme/eyes/{name}-Q4_K_M.gguf")
        put(models, tiny_model("gemma3"), f"acme/eyes/mmproj-{name}-f16.gguf")
    catalog = Catalog(models)
    found = [Path(catalog.find(name).mmproj_file or "").name for name in ("owl", "seer")]
    assert found == ["mmproj-owl-f16.gguf", "mmproj-seer-f16.gguf"]


def test_embedding_models_are_of_their_own_kind(models: Path) -> None:
    put(models, tiny_model("bert"), "acme/Tiny-Bert-GGUF/tiny-bert-f16.gguf")
    catalog = Catalog(models)
    assert catalog.find("text-embedding-tiny-bert").kind == "embedding"
    with pytest.raises(EngineFault) as caught:
        catalog.find("text-embedding-tiny-bert", kind="llm")
    assert caught.value.display_data is not None
    assert caught.value.display_data["code"] == "generic.domainMismatch"


@pytest.mark.parametrize("query", ["tiny-llama", "TINY-LLAMA", "acme/Tiny-Llama-GGUF", "acme/tiny-llama-gguf/tiny"])
def test_a_model_answers_to_key_and_path(models: Path, query: str) -> None:
    assert Catalog(models).find(query).model_key == "tiny-llama"


def test_an_unknown_model_is_told_with_what_there_is(models: Path) -> None:
    with pytest.raises(EngineFault, match="tiny-lama") as caught:
        Catalog(models).find("tiny-lama")
    assert caught.value.kind == "not_found"
    assert caught.value.display_data == {
        "code": "generic.pathNotFound",
        "path": "tiny-lama",
        "availablePathsSample": ["tiny-llama"],
        "totalModels": 1,
    }


def test_shared_names_are_told_apart(models: Path) -> None:
    write_tiny(models / "acme/Tiny-Llama-GGUF/Tiny-Llama-Q4_K_M.gguf", shape=TinyShape())
    keys = [entry.model_key for entry in Catalog(models).entries]
    assert keys == ["tiny-llama@q4_k_m", "tiny-llama@q8_0"]
