"""All of doctor's checks in turn. Every check is independent; none raises."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lmstrix.core.health import Check, DoctorReport
from lmstrix.ground.errors import LMStrixError
from lmstrix.service.doctor import installation, memory, places, storage
from lmstrix.service.doctor.budgets import budget_checks
from lmstrix.service.doctor.failures import failed
from lmstrix.service.doctor.mlx_runtime import mlx_runtime_checks
from lmstrix.service.doctor.server import server

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.ground.errors import SettingsError
    from lmstrix.service.workspace import Workspace


async def examine(workspace: Workspace, invalid: SettingsError | None = None) -> DoctorReport:
    """All checks, in the order a person would make them. `invalid` says why the settings are the default ones."""
    return DoctorReport(
        checks=(
            *([failed("settings", invalid)] if invalid else []),
            _checked("python", installation.python, workspace),
            _checked("packages", installation.packages, workspace),
            _checked("home", storage.home, workspace),
            _checked("registry", storage.registry, workspace),
            _checked("backups", storage.backups, workspace),
            _checked("history", storage.history, workspace),
            _checked("lm studio", storage.lmstudio, workspace),
            _checked("models", storage.models, workspace),
            *_listed("folders", places.places, workspace),
            await server(workspace),
            *await mlx_runtime_checks(workspace),
            await asyncio.to_thread(_checked, "embedded engine", installation.engine, workspace),
            _checked("memory", memory.memory, workspace),
            *_listed("limits", memory.limits, workspace),
            *_listed("cards", memory.cards, workspace),
            *await budget_checks(workspace),
        )
    )


def _checked(name: str, check: Callable[[Workspace], Check], workspace: Workspace) -> Check:
    """A check, or what kept it from being made."""
    try:
        return check(workspace)
    except (LMStrixError, OSError, ImportError) as exc:
        return failed(name, exc)


def _listed(name: str, checks: Callable[[Workspace], list[Check]], workspace: Workspace) -> list[Check]:
    """Checks of which there may be none, and none where a package that they need is missing: others tell of it."""
    try:
        return checks(workspace)
    except ImportError:
        return []
    except (LMStrixError, OSError) as exc:
        return [failed(name, exc)]
