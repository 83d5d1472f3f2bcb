"""The state file of a running engine, `engine.json`: where it listens, and how others find it and know it again.

Its process id counts only together with the time that process started: an id that was given to another program since is
not our engine. The key of the run tells it apart from others, and lets whoever may read the file stop it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from lmstrix.engine.options import host_and_port
from lmstrix.ground.files import PRIVATE, write_whole
from lmstrix.ground.held_files import read_whole
from lmstrix.ground.paths import engine_files
from lmstrix.ground.version import __version__

_LOG_FILE: Final = "engine.log"
_CLOCK_SLACK_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """Whether a background or foreground engine runs, and where; what is not known of a stopped one is None."""

    running: bool
    log_file: Path
    host: str | None = None
    port: int | None = None
    pid: int | None = None
    started_at: datetime | None = None
    models_dir: Path | None = None
    version: str | None = None

    @property
    def address(self) -> str | None:
        """host:port, as clients want it."""
        if self.host is None or self.port is None:
            return None
        return host_and_port(self.host, self.port)


class FoundEngine(NamedTuple):
    """A state file, and what it says of an engine that runs."""

    file: Path
    state: dict[str, Any]

    @property
    def status(self) -> EngineStatus:
        """Where it listens, since when, and what it serves."""
        return EngineStatus(
            running=True,
            log_file=_log_beside(self.file),
            host=self.state["host"],
            port=self.state["port"],
            pid=self.state["pid"],
            started_at=datetime.fromtimestamp(self.state["process_started"], UTC),
            models_dir=Path(self.state["models_dir"]),
            version=self.state.get("version"),
        )


def engine_log_path(home: Path) -> Path:
    """Where a background engine writes its log."""
    return _log_beside(engine_files(home)[0])


def engine_status(home: Path) -> EngineStatus:
    """The engine of this home, also one that an earlier version started there."""
    found = found_engine(home)
    return EngineStatus(running=False, log_file=engine_log_path(home)) if found is None else found.status


def write_state(home: Path, host: str, port: int, models_dir: Path, run_key: str) -> None:
    """Say that this process is the engine of the home, and where it listens."""
    import psutil

    state = {
        "host": host,
        "port": port,
        "pid": os.getpid(),
        # The process's own start, not the time of writing: it is what others compare to see whether we still run.
        "process_started": psutil.Process().create_time(),
        "models_dir": str(models_dir.absolute()),
        "version": __version__,
        "run_key": run_key,
    }
    # A reader must see the old file or the new one, never half of it.
    write_whole(engine_files(home)[0], json.dumps(state, indent=2) + "\n", mode=PRIVATE, durable=False)


def read_state(file: Path) -> dict[str, Any] | None:
    """The state file, or None where there is none that makes sense."""
    try:
        state = json.loads(read_whole(file))
        wanted: dict[str, type | tuple[type, ...]] = {
            "host": str,
            "port": int,
            "pid": int,
            "process_started": (int, float),
            "models_dir": str,
        }
        return state if all(isinstance(state[name], kind) for name, kind in wanted.items()) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def found_engine(home: Path) -> FoundEngine | None:
    """The engine of this home that runs. A file alone proves nothing: an engine that was killed leaves it behind."""
    for file in engine_files(home):
        state = read_state(file)
        if state is not None and _is_alive(state):
            return FoundEngine(file, state)
    return None


def _log_beside(state_file: Path) -> Path:
    return state_file.parent / "logs" / _LOG_FILE


def _is_alive(state: dict[str, Any]) -> bool:
    import psutil

    try:
        process = psutil.Process(state["pid"])
        started = process.create_time()
        return abs(started - state["process_started"]) < _CLOCK_SLACK_S and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError):
        return False
