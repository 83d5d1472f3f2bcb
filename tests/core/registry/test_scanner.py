"""Models directories of every kind, and what servers list, as facts."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.registry.records import ModelFacts
from lmstrix.core.registry.registry import ModelRegistry
from lmstrix.core.registry.scanner import DiskScan, merge_listing, scan_models_dir
from lmstrix.ground.errors import GgufError
from lmstrix.ground.types import ModelInfo
from lmstrix.loaders.gguf import read_header
from lmstrix.loaders.mlx import read_model
from tests.support.safetensors import header_bytes
from tests.support.tiny_gguf_bytes import HeaderBytes

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.loaders.gguf_header import GgufHeader
    from lmstrix.loaders.mlx import MlxModel


def gguf(path: Path, *, architecture: str = "llama", padding: bytes = b"", **metadata: str | int) -> Path:
    """Write a header with these entries (and a context length), then `padding`, to `path`."""
    entries: dict[str, str | int] = {"general.architecture": architecture}
    if architecture != "clip":
        entries[f"{architecture}.context_length"] = 4096
    entries |= {name.replace("__", "."): value for name, value in metadata.items()}
    header = HeaderBytes().start(metadata=len(entries))
    for key, value in entries.items():
        header.scalar(key, "uint32", value)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(header.data) + padding)
    return path


def scan(directory: Path, known: dict[str, ModelFacts] | None = None) -> DiskScan:
    return scan_models_dir(directory, known=known or {}, read_header=read_header, read_folder=read_model)


def by_path(found: DiskScan) -> dict[str, ModelFacts]:
    return {facts.path: facts for facts in found.models}


def problems(found: DiskScan) -> dict[str, str]:
    return {problem.path: problem.kind for problem in found.problems}


def test_a_model_is_described_by_its_header_and_name(tmp_path: Path) -> None:
    file = gguf(
        tmp_path / "acme" / "Tiny-GGUF" / "Tiny-1B-Q4_K_M.gguf",
        general__name="Tiny",
        general__size_label="1B",
        tokenizer__chat_template="{% if tools %}",
    )
    found = scan(tmp_path)
    (facts,) = found.models
    assert facts.content_hash is not None
    assert facts == ModelFacts(
        path="acme/Tiny-GGUF/Tiny-1B-Q4_K_M.gguf",
        model_key="tiny-1b",
        kind="llm",
        size_bytes=file.stat().st_size,
        max_context_length=4096,
        architecture="llama",
        quantization="Q4_K_M",
        bits=4,
        params="1B",
        display_name="Tiny",
        publisher="acme",
        trained_for_tool_use=True,
        mtime_ns=file.stat().st_mtime_ns,
        content_hash=facts.content_hash,
    )
    assert (found.problems, found.headers_read) == ((), 1)


def test_known_models_are_not_opened_again(tmp_path: Path) -> None:
    gguf(tmp_path / "a" / "b" / "one-Q4_0.gguf")
    file = gguf(tmp_path / "a" / "b" / "two-Q4_0.gguf")
    registry = ModelRegistry()
    registry.merge_scan(scan(tmp_path).models)

    def refuse(path: Path) -> GgufHeader:
        raise AssertionError(f"{path} was opened")

    again = scan_models_dir(tmp_path, known=registry.known_facts(), read_header=refuse, read_folder=read_model)
    assert registry.merge_scan(again.models).unchanged == 2
    os.utime(file, ns=(1, 1))
    changed = scan(tmp_path, registry.known_facts())
    assert changed.headers_read == 1
    assert registry.merge_scan(changed.models).changed == ("a/b/two-Q4_0.gguf",)


def test_embeddings_are_listed_as_such(tmp_path: Path) -> None:
    gguf(tmp_path / "n" / "r" / "nomic-Q8_0.gguf", architecture="nomic-bert")
    gguf(tmp_path / "n" / "r" / "embedded-coder-7b-Q8_0.gguf")
    assert {facts.model_key: facts.kind for facts in scan(tmp_path).models} == {
        "text-embedding-nomic": "embedding",
        "embedded-coder-7b": "llm",
    }


def test_parts_are_one_model(tmp_path: Path) -> None:
    parts = [gguf(tmp_path / "a" / "b" / f"big-Q4_0-0000{n}-of-00003.gguf", padding=b"x" * n) for n in (1, 2, 3)]
    (facts,) = scan(tmp_path).models
    assert (facts.path, facts.model_key) == ("a/b/big-Q4_0-00001-of-00003.gguf", "big")
    assert facts.size_bytes == sum(part.stat().st_size for part in parts)
    assert scan(tmp_path, {facts.path: facts}).headers_read == 0
    os.utime(parts[2], ns=(2**62, 2**62))
    assert scan(tmp_path, {facts.path: facts}).headers_read == 1


@pytest.mark.parametrize("absent", [1, 2])
def test_a_missing_part_is_a_problem(tmp_path: Path, absent: int) -> None:
    for number in {1, 2} - {absent}:
        gguf(tmp_path / "a" / "b" / f"big-0000{number}-of-00002.gguf")
    found = scan(tmp_path)
    assert found.models == ()
    assert list(problems(found).values()) == ["incomplete"]
    assert "1 of 2 parts" in found.problems[0].detail


@pytest.mark.parametrize("projector", ["mmproj-vision-f16.gguf", "other-name.gguf"])
def test_a_projector_gives_vision_and_is_no_model(tmp_path: Path, projector: str) -> None:
    gguf(tmp_path / "a" / "eyes" / "model-x-Q4_0.gguf")
    gguf(tmp_path / "a" / "blind" / "model-y-Q4_0.gguf")
    file = gguf(tmp_path / "a" / "eyes" / projector, architecture="clip")
    models = by_path(scan(tmp_path))
    assert {path: facts.vision for path, facts in models.items()} == {
        "a/eyes/model-x-Q4_0.gguf": True,
        "a/blind/model-y-Q4_0.gguf": False,
    }
    seeing = models["a/eyes/model-x-Q4_0.gguf"]
    assert seeing.projector_bytes == file.stat().st_size
    file.unlink()
    again = scan(tmp_path, models)
    assert again.headers_read == 0
    assert not any(facts.vision or facts.projector_bytes for facts in again.models)
    registry = ModelRegistry({})
    for found in (tuple(models.values()), again.models):
        registry.merge_scan(found)
    assert registry.find("model-x").projector_bytes == 0


def test_equal_keys_are_told_apart(tmp_path: Path) -> None:
    gguf(tmp_path / "a" / "x-GGUF" / "x-Q4_0.gguf")
    first = by_path(scan(tmp_path))
    assert first["a/x-GGUF/x-Q4_0.gguf"].model_key == "x"
    gguf(tmp_path / "a" / "x-GGUF" / "x-Q8_0.gguf")
    assert {facts.model_key for facts in scan(tmp_path, first).models} == {"x@q4_0", "x@q8_0"}


def test_quantization_falls_back_to_the_header(tmp_path: Path) -> None:
    gguf(tmp_path / "a" / "b" / "plain.gguf", general__file_type=7)
    (facts,) = scan(tmp_path).models
    assert (facts.quantization, facts.bits) == ("Q8_0", 8)


def mlx(folder: Path, config: object) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    head = header_bytes({"t": {"dtype": "U8", "shape": [299_000], "data_offsets": [0, 299_000]}})
    (folder / "model-00001-of-00002.safetensors").write_bytes(head.ljust(300_000, b"a"))
    (folder / "model-00002-of-00002.safetensors").write_bytes(header_bytes({}))


def test_mlx_folders_are_models(tmp_path: Path) -> None:
    settings = {"model_type": "qwen2_vl", "vision_config": {}, "quantization": {"bits": 4}}
    mlx(tmp_path / "mlx-community" / "Qwen2-VL-4bit", settings | {"text_config": {"max_position_embeddings": 32768}})
    (facts,) = scan(tmp_path).models
    assert (facts.path, facts.model_key) == ("mlx-community/Qwen2-VL-4bit", "qwen2-vl-4bit")
    assert (facts.size_bytes, facts.max_context_length, facts.vision) == (300_010, 32768, True)
    assert (facts.format, facts.architecture, facts.quantization) == ("safetensors", "qwen2_vl", "4bit")
    assert scan(tmp_path, {facts.path: facts}).models == (facts,)


def refuse_folder(folder: Path) -> MlxModel:
    pytest.fail(f"{folder} was read again")


def test_known_mlx_models_are_not_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "mlx-community" / "Qwen3-4bit"
    mlx(folder, {"model_type": "qwen3"})
    registry = ModelRegistry({})
    registry.merge_scan(scan(tmp_path).models)
    known = registry.known_facts()
    again = scan_models_dir(tmp_path, known=known, read_header=read_header, read_folder=refuse_folder)
    assert again.models == scan(tmp_path).models
    assert again.headers_read == 0
    # A template that was changed may speak of tools now.
    (folder / "chat_template.jinja").write_text("{% if tools %}")
    (facts,) = scan(tmp_path, known).models
    assert facts.trained_for_tool_use


def test_mlx_models_found_before_headers_were_read_are_read_once_more(tmp_path: Path) -> None:
    mlx(tmp_path / "a" / "modernbert", {"model_type": "modernbert"})
    (facts,) = scan(tmp_path).models
    before = replace(facts, kind="llm", bits_per_weight=None)
    assert [found.kind for found in scan(tmp_path, {facts.path: before}).models] == ["embedding"]


def test_an_mlx_model_that_declares_no_length_is_still_a_model(tmp_path: Path) -> None:
    mlx(tmp_path / "a" / "mamba", {"model_type": "mamba"})
    (facts,) = scan(tmp_path).models
    assert facts.max_context_length is None
    assert facts.architecture == "mamba"


def test_an_mlx_model_without_all_its_parts_is_incomplete(tmp_path: Path) -> None:
    mlx(tmp_path / "a" / "b", {"model_type": "qwen3"})
    (tmp_path / "a" / "b" / "model-00002-of-00002.safetensors").unlink()
    (problem,) = scan(tmp_path).problems
    assert (problem.path, problem.kind) == ("a/b", "incomplete")
    assert problem.detail == "1 of 2 parts are there: download the others"


@pytest.mark.parametrize(("config", "kind"), [("{", "corrupt"), ("[]", "corrupt"), ({}, "not a model")])
def test_a_bad_mlx_config_is_a_problem(tmp_path: Path, config: object, kind: str) -> None:
    mlx(tmp_path / "a" / "b", config)
    assert problems(scan(tmp_path)) == {"a/b": kind}


@pytest.mark.needs_posix("pipes in the file system")
def test_bad_files_are_listed_and_break_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    good = gguf(folder / "good-Q4_0.gguf")
    (folder / "empty.gguf").touch()
    (folder / "text.gguf").write_text("<html>404</html>")
    (folder / "cut.gguf").write_bytes(good.read_bytes()[:-3])
    (folder / "download.gguf.part").write_bytes(b"GGUF")
    (folder / "README.md").write_text("hello")
    (folder / "dangling.gguf").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.gguf")
    weights = HeaderBytes().start(tensors=1, metadata=2).scalar("general.architecture", "string", "llama")
    weights.scalar("llama.context_length", "uint32", 64).tensor("t", (1000,))
    (folder / "short.gguf").write_bytes(bytes(weights.data) + b"x" * 100)
    adapter = HeaderBytes().start(metadata=1).scalar("general.architecture", "string", "llama")
    (folder / "adapter.gguf").write_bytes(bytes(adapter.data))
    found = scan(tmp_path)
    assert [facts.path for facts in found.models] == ["a/b/good-Q4_0.gguf"]
    assert problems(found) == {
        "a/b/adapter.gguf": "not a model",
        "a/b/cut.gguf": "corrupt",
        "a/b/dangling.gguf": "unreadable",
        "a/b/download.gguf.part": "incomplete",
        "a/b/empty.gguf": "empty",
        "a/b/pipe.gguf": "not a model",
        "a/b/short.gguf": "corrupt",
        "a/b/text.gguf": "corrupt",
    }
    assert all(problem.detail and str(tmp_path) not in problem.detail for problem in found.problems)


def test_a_file_that_may_not_be_read_is_a_problem(tmp_path: Path) -> None:
    gguf(tmp_path / "a" / "b" / "c.gguf")

    def forbidden(path: Path) -> GgufHeader:
        raise GgufError(f"{path}: cannot be read (Permission denied)") from PermissionError(13, "Permission denied")

    found = scan_models_dir(tmp_path, known={}, read_header=forbidden, read_folder=read_model)
    assert problems(found) == {"a/b/c.gguf": "unreadable"}


@pytest.mark.needs_posix("symbolic links, which Windows lets few users make")
def test_circles_of_links_end(tmp_path: Path) -> None:
    gguf(tmp_path / "models" / "a" / "b" / "c-Q4_0.gguf")
    (tmp_path / "models" / "a" / "b" / "up").symlink_to(tmp_path / "models")
    gguf(tmp_path / "elsewhere" / "d-Q4_0.gguf")
    (tmp_path / "models" / "a" / "linked").symlink_to(tmp_path / "elsewhere")
    found = scan(tmp_path / "models")
    assert [facts.path for facts in found.models] == ["a/b/c-Q4_0.gguf", "a/linked/d-Q4_0.gguf"]


def test_no_directory_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    found = scan(tmp_path / "absent")
    assert (found.models, problems(found)) == ((), {".": "unreadable"})


def test_fine_tunes_of_one_header_differ_in_their_hash(tmp_path: Path) -> None:
    for name, end in (("one", b"1"), ("two", b"2"), ("twin", b"2")):
        gguf(tmp_path / "a" / name / "x.gguf", padding=b"x" * 200_000 + end)
    one, twin, two = (facts.content_hash for facts in scan(tmp_path).models)
    assert one != two
    assert two == twin


# Listings


def info(path: str, **values: object) -> ModelInfo:
    fields: dict[str, object] = {"model_key": "server-key", "kind": "llm", "size_bytes": 10, "max_context_length": 99}
    return ModelInfo(path=path, **(fields | values))  # type: ignore[arg-type] # fields by name


DISK = ModelFacts(
    path="a/b/c-Q4_0.gguf",
    model_key="c",
    size_bytes=1234,
    max_context_length=4096,
    architecture="llama",
    params="1B",
    mtime_ns=5,
    content_hash="h",
)


def test_the_server_names_and_the_disk_knows_the_file() -> None:
    (facts,) = merge_listing([DISK], [info(DISK.path, vision=True)])
    assert (facts.model_key, facts.max_context_length, facts.vision) == ("server-key", 99, True)
    assert (facts.size_bytes, facts.params, facts.mtime_ns, facts.content_hash) == (1234, "1B", 5, "h")
    assert facts.file is None


def test_models_of_one_side_only_are_kept() -> None:
    merged = merge_listing([DISK], [info("remote/only.gguf")])
    assert [(facts.path, facts.mtime_ns) for facts in merged] == [("remote/only.gguf", None), (DISK.path, 5)]


def test_a_virtual_model_takes_over_its_file_and_keeps_it_over_scans() -> None:
    virtual = info("qwen/qwen3-4b", size_bytes=1234, architecture="llama")
    (facts,) = merge_listing([DISK], [virtual])
    assert (facts.path, facts.file, facts.content_hash) == ("qwen/qwen3-4b", DISK.path, "h")
    registry = ModelRegistry()
    registry.merge_scan([facts])
    assert list(registry.known_facts()) == [DISK.path]
    assert registry.merge_scan(merge_listing([DISK], [virtual])).unchanged == 1


def test_a_virtual_model_does_not_guess_between_equals() -> None:
    other = ModelFacts(path="x/y/z.gguf", model_key="z", size_bytes=1234, architecture="llama")
    assert len(merge_listing([DISK, other], [info("v/v", size_bytes=1234, architecture="llama")])) == 3


def test_a_virtual_models_file_is_not_opened_again(tmp_path: Path) -> None:
    file = gguf(tmp_path / "a" / "b" / "c-Q4_0.gguf")
    virtual = info("v/v", size_bytes=file.stat().st_size, architecture="llama")
    registry = ModelRegistry()
    for headers_read in (1, 0):
        found = scan(tmp_path, registry.known_facts())
        assert found.headers_read == headers_read
        changes = registry.merge_scan(merge_listing(found.models, [virtual]))
    assert (changes.unchanged, changes.missing) == (1, ())
