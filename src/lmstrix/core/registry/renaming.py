"""Results follow the machine they were measured on when it gets another name. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.registry.results import Configuration, is_result, server_of, settings_of

if TYPE_CHECKING:
    from lmstrix.core.registry.json_fields import Json


def rename_host(models: dict[str, Json], old: str, new: str) -> None:
    """Let all results measured on host `old` be of `new`, in place."""
    for raw in models.values():
        tests = raw.get("tests") if isinstance(raw, dict) else None
        if isinstance(tests, dict):
            raw["tests"] = dict(_renamed(key, result, tests, old, new) for key, result in tests.items())


def _renamed(key: str, result: Json, tests: dict[str, Json], old: str, new: str) -> tuple[str, Json]:
    if not is_result(result):
        return key, result
    engine, host = server_of(result)
    settings = settings_of(key, result)
    if host != old or settings is None:
        return key, result
    new_key = f"{Configuration(engine=engine, host=new).server} {settings}".rstrip()
    # What was measured under the new name is newer; the other one is kept as it is.
    if new_key in tests:
        return key, result
    return new_key, result | {"configuration": result["configuration"] | {"host": new}}
