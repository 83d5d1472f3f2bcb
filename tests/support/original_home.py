"""A home as lmstrix 1.0.84 left it: its registry with results in LM Studio's home, its state, its settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SETTINGS = Path(__file__).parent.parent / "data" / "settings" / "earlier.json"
TESTED, FAILED, GONE = (
    "lmstrix/demo-needle-GGUF/demo-needle-f16.gguf",
    "tiny/tiny-qwen2-GGUF/tiny-qwen2-f16.gguf",
    "g/g/g.gguf",
)


def leave(user: Path, studio: Path) -> None:
    """Write the files below a user's folder and LM Studio's home, which is to hold the models."""
    llms = {
        TESTED: _record("demo-needle", TESTED, tested=1024, date="2026-06-29T00:54:57.123456", speed=42.5),
        FAILED: _record("tiny-qwen2", FAILED, failed=31744),
        GONE: _record("gone-7b", GONE, tested=31744),
    }
    studio.mkdir(parents=True, exist_ok=True)
    (studio / "lmstrix.json").write_text(json.dumps({"llms": llms, "path": str(studio)}), encoding="utf-8")
    (studio / ".lmstrix_state.json").write_text(json.dumps({"last_used_model": "demo-needle"}), encoding="utf-8")
    (user / ".lmstrix").mkdir(parents=True, exist_ok=True)
    (user / ".lmstrix" / "config.json").write_text(SETTINGS.read_text("utf-8"), encoding="utf-8")


def _record(
    key: str,
    path: str,
    *,
    tested: int | None = None,
    failed: int | None = None,
    date: str | None = None,
    speed: float | None = None,
) -> dict[str, Any]:
    status = "completed" if tested else "failed" if failed else "untested"
    return {
        "id": key,
        "path": path,
        "size_bytes": 2_400_000,
        "ctx_in": 16384,
        "ctx_out": 4096,
        "has_tools": False,
        "has_vision": False,
        "capabilities": {"vision": False, "trained_for_tool_use": False},
        "tested_max_context": tested,
        "context_test_status": status,
        "context_test_date": date,
        "ttft_seconds": None,
        "tps": speed,
        "description": None,
        "keywords": [],
        "last_known_good_context": tested,
        "last_known_bad_context": failed,
        "loadable_max_context": None,
        "context_test_log": None,
        "failed": False,
        "error_msg": "",
        "short_id": Path(path).stem,
    }
