"""`lmstrix registry`: tags and notes, models taken in and out, copies made, put back and merged."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, get_args

import pytest

from lmstrix.ground.choices import ListColumn
from tests.cli.conftest import SCRIPTED, TINY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran

TINY_PATH = "acme/tiny-GGUF/tiny-f16.gguf"


@pytest.fixture
def known(cli: Callable[..., Ran], home: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry of the three models in a copy of their folder."""
    folder = home / "models"
    shutil.copytree(models_dir, folder)
    cli("scan", "--quiet").ok()
    return folder


def record_in(home: Path, path: str = TINY_PATH) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((home / "lmstrix.json").read_text())["models"][path]
    return record


def test_tags_and_notes(cli: Callable[..., Ran], known: Path, home: Path) -> None:
    assert cli("registry", "tag", TINY, "Work", "fast", "--json").ok().json["models"][0]["tags"] == ["work", "fast"]
    cli("registry", "note", TINY, "for trying out").ok()
    told = {model["model_key"]: model for model in cli("registry", "tags", "--json").ok().json["models"]}
    assert (told[TINY]["note"], told[SCRIPTED]["tags"]) == ("for trying out", [])
    assert "small" in told[TINY]["derived"]
    assert cli("list", "tag:work", "--show", "id").ok().out.split() == [TINY]
    assert cli("estimate", "work", "--json").ok().json["model_key"] == TINY
    cli("registry", "untag", TINY, "small").failed(2, "'small'", "follows from what the model is")
    cli("registry", "untag", TINY, "work").ok()
    cli("registry", "note", TINY, "").ok()
    assert (record_in(home)["tags"], "note" in record_in(home)) == (["fast"], False)
    cli("registry", "untag", TINY).ok()
    assert "tags" not in record_in(home)
    cli("registry", "tag", TINY).failed(2, "TAG")
    cli("registry", "tag", TINY, "a b").failed(2, "'a b' is no tag")
    cli("registry", "tag", "tny", "x").failed(1, "did you mean tiny")


def test_a_scan_keeps_tags_and_notes(cli: Callable[..., Ran], known: Path, home: Path) -> None:
    cli("registry", "tag", TINY, "work").ok()
    cli("registry", "note", TINY, "mine").ok()
    cli("scan", "--refresh", "--quiet").ok()
    assert (record_in(home)["tags"], record_in(home)["note"]) == (["work"], "mine")


def test_chosen_columns_are_those_of_csv_too(cli: Callable[..., Ran], known: Path) -> None:
    cli("registry", "tag", TINY, "work", "fast", "--quiet").ok()
    head, row = cli("list", TINY, "--show", "csv", "--columns", "model,declared,tested,tags,can").ok().out.splitlines()
    assert head == "model_key,max_context_length,tested_context_length,tags,vision,trained_for_tool_use"
    assert row == f"{TINY},4096,,work fast,False,False"
    for column in get_args(ListColumn):
        assert cli("list", "--show", "csv", "--columns", column).ok().out.count("\n") == 4
    assert "quantization" in cli("list", "--show", "csv").ok().out.splitlines()[0]


def test_a_test_that_says_nothing_leaves_the_model_untested_everywhere(
    cli: Callable[..., Ran], known: Path, home: Path
) -> None:
    file = home / "lmstrix.json"
    registry = json.loads(file.read_text())
    registry["models"][TINY_PATH]["tests"] = {
        "embedded": {
            "configuration": {"engine": "embedded"},
            "outcome": "server lost",
            "conclusive": False,
            "tested_at": "2026-05-01T12:00:00+00:00",
        }
    }
    file.write_text(json.dumps(registry))
    rows = cli("list", TINY, "--columns", "model,status,tested-on", "--no-header").ok().out.split()
    assert rows == [TINY, "untested", "-"]
    [told] = cli("list", TINY, "--json").ok().json["models"]
    assert (told["status"], told["tested_at"], told["outcome"]) == ("untested", None, "server lost")
    assert "2026-05-01" not in cli("list", TINY, "--show", "csv", "--columns", "model,tested-on").ok().out
    for wanted in ("status:untested", "date:-"):
        assert TINY in cli("list", "--filter", wanted, "--show", "id").ok().out.split()
    for wanted in ("date:2026-05-01", "status:tested", "status:failed"):
        assert TINY not in cli("list", "--filter", wanted, "--show", "id").ok().out.split()


def test_a_model_outside_the_folder_is_added_and_removed(
    cli: Callable[..., Ran], known: Path, home: Path, tmp_path: Path
) -> None:
    cli("registry", "add", str(known / TINY_PATH)).failed(2, "lies in the models folder", "lmstrix scan")
    cli("registry", "add", str(tmp_path / "nothing")).failed(2, "does not exist")
    cli("registry", "remove", TINY).ok()
    outside = tmp_path / "downloads" / "my-model.gguf"
    outside.parent.mkdir()
    (known / TINY_PATH).rename(outside)
    shutil.copy(known / "acme" / "embed-GGUF" / "embed-f16.gguf", outside.parent / "beside.gguf")
    added = cli("registry", "add", str(outside), "--json").ok().json
    assert (added["added"], added["models_dir"]) == (["my-model.gguf"], str(outside.parent))
    assert record_in(home, "my-model.gguf")["models_dir"] == str(outside.parent)
    cli("scan", "--quiet").ok()
    assert "guess" not in cli("estimate", "my-model").ok().out
    assert cli("list", "status:missing", "--show", "id").ok().out == ""
    removed = cli("registry", "remove", "my-model", "--json").ok().json
    assert [model["path"] for model in removed["models"]] == ["my-model.gguf"]
    cli("estimate", "my-model").failed(1, "No model 'my-model'")
    cli("registry", "add", str(outside.parent), "--quiet").ok()
    assert len(cli("list", "--show", "id").ok().out.split()) == 4


def test_missing_models_are_pruned(cli: Callable[..., Ran], known: Path, home: Path) -> None:
    assert "nothing to take out" in cli("registry", "prune", "--yes").ok().err
    shutil.rmtree(known / "acme" / "tiny-GGUF")
    cli("scan", "--quiet").ok()
    assert cli("registry", "prune", "--json", "--older-than", "30d").ok().json["models"] == []
    ran = cli("registry", "prune").ok()
    assert (TINY in ran.out, "add --yes" in ran.err) == (True, True)
    assert record_in(home)["missing_since"]
    pruned = cli("registry", "prune", "--yes", "--json").ok().json
    assert ([model["model_key"] for model in pruned["models"]], pruned["written"]) == ([TINY], True)
    assert TINY_PATH not in json.loads((home / "lmstrix.json").read_text())["models"]


def test_backups_are_made_listed_and_restored(cli: Callable[..., Ran], known: Path, home: Path, tmp_path: Path) -> None:
    made = cli("registry", "backup", "--json").ok().json
    assert (made["models"], made["tested"]) == (3, 0)
    cli("registry", "backup", str(tmp_path / "mine.json"), "--quiet").ok()
    cli("registry", "remove", TINY, "--quiet").ok()
    listed = cli("registry", "restore", "--json").ok().json["backups"]
    assert {copy["name"]: copy["models"] for copy in listed} == {"backup-1": 3, made["name"]: 3}
    cli("registry", "restore", "backup-1").failed(2, "--yes")
    cli("registry", "restore", "backup-9", "--yes").failed(2, "no backup 'backup-9'", "backup-1")
    cli("registry", "restore", "backup-1", "--yes").ok()
    assert record_in(home)
    cli("registry", "remove", TINY, "--quiet").ok()
    assert "3 models" in cli("registry", "restore", str(tmp_path / "mine.json"), "--yes").ok().out
    (tmp_path / "broken.json").write_text("{")
    cli("registry", "restore", str(tmp_path / "broken.json"), "--yes").failed(1, "is no usable backup")


def test_what_a_backup_replaced_can_be_put_back(cli: Callable[..., Ran], known: Path, home: Path) -> None:
    cli("registry", "remove", TINY, "--quiet").ok()
    (home / "lmstrix.json").write_text("{broken")
    remedy = "lmstrix registry restore backup-1"
    cli("list").failed(1, remedy)
    told = cli(*remedy.split()[1:], "--yes").ok().err
    assert len(cli("list", "--json").ok().json["models"]) == 3
    cli("registry", "remove", TINY, "--quiet").ok()
    kept = cli("registry", "restore", "backup-1", "--yes", "--json").ok().json["replaced"]
    assert kept.startswith("replaced-")
    listed = cli("registry", "restore", "--json").ok().json["backups"]
    assert {copy["name"]: copy["models"] for copy in listed if copy["name"].startswith("replaced-")}[kept] == 2
    cli("registry", "restore", kept, "--yes").ok()
    assert len(cli("list", "--json").ok().json["models"]) == 2
    # Even what was damaged is kept; it can be looked at, and is not put back.
    damaged = told.split("lmstrix registry restore ")[1].split()[0]
    cli("registry", "restore", damaged, "--yes").failed(1, "is no usable backup")
    assert "not readable" not in cli("doctor").out.split("backups", 1)[1].splitlines()[0]


def test_what_is_exported_is_taken_in_elsewhere(
    cli: Callable[..., Ran], known: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("registry", "tag", TINY, "work", "--quiet").ok()
    file = tmp_path / "out.json"
    assert cli("registry", "export", str(file), "tag:work", "--json").ok().json["models"] == [TINY_PATH]
    cli("registry", "export", str(file), "tag:nothing").failed(2, "none of 3 models")
    other = tmp_path / "other-home"
    monkeypatch.setenv("LMSTRIX_HOME", str(other))
    taken = cli("registry", "import", str(file), "--json").ok().json
    assert (taken["added"], taken["written"]) == ([TINY_PATH], True)
    assert record_in(other)["tags"] == ["work"]
    assert record_in(other)["missing_since"]
    whole = cli("registry", "merge", str(home), "--dry-run", "--json").ok().json
    assert (len(whole["added"]), whole["unchanged"], whole["written"]) == (2, 1, False)
    assert cli("registry", "merge", str(home)).ok().out == "2 new, no results taken over, 1 unchanged, no conflicts\n"
    (tmp_path / "text.json").write_text("[]")
    cli("registry", "import", str(tmp_path / "text.json")).failed(1, "text.json is no registry")
    cli("registry", "merge", str(tmp_path / "none.json")).failed(1, "none.json cannot be read")


def test_the_earlier_lmstrix_registry_is_taken_in(
    cli: Callable[..., Ran], known: Path, home: Path, tmp_path: Path
) -> None:
    old = {
        "llms": {
            TINY_PATH: {"id": "tiny", "ctx_in": 4096, "tested_max_context": 2048, "context_test_status": "completed"}
        }
    }
    file = tmp_path / "lmstrix.json"
    file.write_text(json.dumps(old))
    merged = cli("registry", "merge", str(file), "--dry-run").ok()
    assert "results that name no machine (LMStrix 1 wrote none): 1; they count as measured on this one" in merged.err
    taken = cli("registry", "import", str(file), "--json").ok().json
    assert (taken["results"], taken["unplaced"]) == (1, 1)
    assert cli("list", TINY, "--json", "--server", "lmstudio").ok().json["models"][0]["tested_context_length"] == 2048
    assert json.loads(file.read_text()) == old


def test_stats_count_what_is_there(cli: Callable[..., Ran], known: Path, home: Path) -> None:
    cli("infer", "2+3=", "-m", SCRIPTED, "--in-ctx", "512", "--quiet").ok()
    shutil.rmtree(known / "acme" / "embed-GGUF")
    cli("scan", "--quiet").ok()
    stats = cli("registry", "stats", "--json").ok().json
    assert (stats["models"], stats["missing"], stats["status"]) == (2, 1, {"untested": 2})
    assert stats["quantizations"] == {"F16": 2}
    assert sum(stats["quantization_bytes"].values()) == stats["size_bytes"] > 0
    (usage,) = stats["usage"]
    assert (usage["model_key"], usage["calls"], usage["failures"], usage["calls_before"]) == (SCRIPTED, 1, 0, 0)
    assert usage["ttft_p95_s"] == usage["ttft_p50_s"] > 0
    assert usage["decode_trend"] | {"calls": 1} == {
        "direction": "too few",
        "calls": 1,
        "calls_before": 0,
        "change_ratio": None,
    }
    table = cli("registry", "stats", "--span", "7d").ok().out
    assert "TREND" in table
    assert "too few (" in table
    assert ("2, " in table, "in the last 7 days" in table) == (True, True)


def test_a_registry_is_checked_and_mended(cli: Callable[..., Ran], known: Path, home: Path) -> None:
    assert cli("registry", "validate").ok().out == "no problems, 0 fixed, no notes\n"
    document = json.loads((home / "lmstrix.json").read_text())
    document["models"][TINY_PATH] |= {"tests": {"lmstudio": "lost"}, "from_the_future": 1}
    (home / "lmstrix.json").write_text(json.dumps(document))
    shutil.rmtree(known / "acme" / "embed-GGUF")
    ran = cli("registry", "validate", "--json")
    assert ran.code == 1
    assert [finding["kind"] for finding in ran.json["findings"]] == ["file gone", "unknown field", "result"]
    assert "(2 problems in all); lmstrix registry validate --fix" in ran.err
    assert "2 problems, 2 fixed, 1 note" in cli("registry", "validate", "--fix").ok().out
    assert (record_in(home)["unreadable_tests"], record_in(home)["from_the_future"]) == ({"lmstudio": "lost"}, 1)
    assert "no problems" in cli("registry", "validate").ok().out


def test_doctor_tells_of_the_backups(cli: Callable[..., Ran], known: Path) -> None:
    cli("registry", "backup", "--quiet").ok()
    found = {check["name"]: check for check in cli("doctor", "--json").json["checks"]}["backups"]
    assert (found["state"], found["found"].startswith("1 backup of the registry, the newest of 20")) == ("ok", True)


def test_another_home_for_one_command(cli: Callable[..., Ran], known: Path, home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    cli("scan", "--home", str(other), "--models-dir", str(known), "--quiet").ok()
    assert record_in(other)["models_dir"] == str(known)
    cli("registry", "tag", TINY, "there", "--home", str(other), "--quiet").ok()
    assert ("tags" in record_in(home), record_in(other)["tags"]) == (False, ["there"])
    assert cli("--home", str(other), "list", "tag:there", "--show", "id").ok().out.split() == [TINY]
    found = {check["name"]: check["found"] for check in cli("doctor", "--json", "--home", str(other)).json["checks"]}
    assert found["home"].startswith(str(other))
    assert "another home is named" in found["lm studio"]
