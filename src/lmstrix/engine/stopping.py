"""Asks a running engine to end, with the key of its run that its state file holds.

A signal would do on POSIX; Windows has nothing but the hard end, which leaves the state file and the models' folder.
`/system requestShutdown` asks for the API token, which the engine was told and no file of ours holds.
"""

from __future__ import annotations

import secrets
from typing import Final

STOP_PATH: Final = "/api/lmstrix/stop"
RUN_KEY_VARIABLE: Final = "LMSTRIX_ENGINE_RUN_KEY"
"""Whoever starts an engine in the background hands it its key, and so knows the state file of that very engine."""
_TIMEOUT_S: Final = 3.0


def new_run_key() -> str:
    """A key for one run."""
    return secrets.token_hex(16)


def ask_to_stop(host: str, port: int, run_key: str) -> bool:
    """Whether the engine has agreed to end."""
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", STOP_PATH, headers={"Authorization": f"Bearer {run_key}"})
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
