"""From earlier layouts of the registry to this one: lmstrix 1 (an `llms` map without a version), and version 2. Pure.

Results of version 2 do not say in their configuration which machine they are of; their provenance mostly does.

What lmstrix 1 calls tested was only loaded and asked a dozen words, and it noted a server that was down as a failure of
the model. Its figures are therefore taken over as loadable lengths of LM Studio's default configuration, marked as
imported, never above the declared length, and a bad length is believed only above every good one. Fields without a
place here keep their names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstrix.core.registry.json_fields import EPOCH, read_count, read_moment, read_number, read_text
from lmstrix.core.registry.registry import ModelRegistry
from lmstrix.core.registry.results import Configuration, ContextResult, is_result, server_of, settings_of
from lmstrix.ground.addresses import host_of, is_local, short_host_name
from lmstrix.ground.loads import Provenance

if TYPE_CHECKING:
    from collections.abc import Mapping

IMPORTED = "lmstrix 1"
_RENAMED = {
    "id": "model_key",
    "ctx_in": "max_context_length",
    "has_tools": "trained_for_tool_use",
    "has_vision": "vision",
}
_TEST_FIELDS = (
    "tested_max_context",
    "loadable_max_context",
    "last_known_good_context",
    "last_known_bad_context",
    "context_test_status",
    "context_test_date",
    "ttft_seconds",
    "tps",
    "failed",
    "error_msg",
)
_STATUSES = ("untested", "testing", "completed", "failed")


def migrate_models(llms: Mapping[str, Any]) -> dict[str, Any]:
    """The `models` map of an earlier `llms` map; values that are not objects stay as they are."""
    registry = ModelRegistry()
    for path, old in llms.items():
        if not isinstance(old, dict):
            registry.models[path] = old
            continue
        registry.models[path] = _facts(old)
        result = _result(old)
        if result is not None:
            registry.record_outcome(path, result)
    return registry.models


def name_hosts(models: Mapping[str, Any]) -> None:
    """Give the results of version 2 the machine they were measured on, where they tell; in place."""
    for raw in models.values():
        tests = raw.get("tests") if isinstance(raw, dict) else None
        if isinstance(tests, dict):
            raw["tests"] = dict(_with_host(key, result, tests) for key, result in tests.items())


def _with_host(key: str, result: Any, tests: Mapping[str, Any]) -> tuple[str, Any]:
    """A result under the key it has from now on."""
    provenance = result.get("provenance") if is_result(result) else None
    if not isinstance(provenance, dict) or result["configuration"].get("host") is not None:
        return key, result
    tester, address = read_text(provenance.get("host")), read_text(provenance.get("address"))
    # Version 2 noted the machine that tested as the host; only the address told of a server elsewhere.
    host = host_of(address) if address and not is_local(address) else tester and short_host_name(tester)
    settings = settings_of(key, result)
    if host is None or settings is None:
        return key, result
    engine, _ = server_of(result)
    new_key = f"{engine}@{host} {settings}".rstrip()
    if new_key in tests:
        return key, result
    return new_key, result | {"configuration": {"engine": engine, "host": host} | result["configuration"]}


def _facts(old: dict[str, Any]) -> dict[str, Any]:
    new = {_RENAMED.get(name, name): value for name, value in old.items() if name not in (*_TEST_FIELDS, "path")}
    # A status that is none of lmstrix 1's own is kept as it stands.
    if old.get("context_test_status") not in (None, *_STATUSES):
        new["context_test_status"] = old["context_test_status"]
    if str(old.get("id", "")).startswith("text-embedding-"):
        new["kind"] = "embedding"
    return new


def _result(old: dict[str, Any]) -> ContextResult | None:
    good = max((_tokens(old.get(name)) or 0 for name in _TEST_FIELDS[:3]), default=0)
    # lmstrix 1 noted what it asked for, and a server loads no more than the model declares.
    good = min(good, _tokens(old.get("ctx_in")) or good)
    bad = _tokens(old.get("last_known_bad_context"))
    status = old.get("context_test_status")
    if not good and bad is None and status not in ("completed", "failed"):
        return None
    bad = bad if bad is not None and bad > good else None  # below a good one it was the server, not the model
    return ContextResult(
        configuration=Configuration(engine="lmstudio"),
        outcome="ok" if good else "failed",
        conclusive=bool(good) or bad is not None,
        # A local time without a zone. What cannot be read becomes the epoch, older than any test.
        tested_at=read_moment(old.get("context_test_date")) or EPOCH,
        loadable_context_length=good or None,
        last_known_bad=bad,
        ttft_s=_positive(old.get("ttft_seconds")),
        decode_tokens_per_second=_positive(old.get("tps")),
        error=read_text(old.get("error_msg")),
        provenance=Provenance(engine="lmstudio", details={"imported_from": IMPORTED, "prefilled": False}),
    )


def _tokens(value: object) -> int | None:
    return read_count(value) or None


def _positive(value: object) -> float | None:
    number = read_number(value)
    return number if number is not None and number > 0 else None
