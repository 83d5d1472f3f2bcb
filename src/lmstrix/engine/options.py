"""How an engine is run: what can be chosen, the defaults, and what must not be. Pure, and cheap to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lmstrix.engine import access
from lmstrix.ground.addresses import is_loopback
from lmstrix.ground.context_lengths import SERVER_DEFAULT_CONTEXT_LENGTH
from lmstrix.ground.errors import EngineError, UsageError
from lmstrix.ground.headroom import NO_HEADROOM, Headroom
from lmstrix.ground.ranges import check_numbers

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_JIT_TTL_S: Final = 3600.0
"""LM Studio's idle time of models that load just in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How an engine is run.

    Attributes:
        models_dir: the models, laid out as `publisher/repository/file.gguf`.
        host: address to listen on; others than loopback need an `api_token`.
        port: port to listen on; 0 takes a free one.
        api_token: a token (sk-lm-…) every client must send; None lets everyone on this machine in.
        cors: whether scripts of web pages from elsewhere may use the engine.
        memory_limit_bytes: what all models together may take; None leaves it to what the machine has free.
        headroom: what stays free beside models, of that.
        default_context_length: context of a load that names none.
        jit_ttl_s: idle seconds after which a model that a REST request loaded is unloaded; None keeps it.
    """

    models_dir: Path
    host: str = "127.0.0.1"
    port: int = 0
    api_token: str | None = None
    cors: bool = False
    memory_limit_bytes: int | None = None
    headroom: Headroom = NO_HEADROOM
    default_context_length: int = SERVER_DEFAULT_CONTEXT_LENGTH
    jit_ttl_s: float | None = DEFAULT_JIT_TTL_S

    def check(self) -> None:
        """Raise EngineError for what must not be."""
        try:
            check_numbers(self)
        except UsageError as exc:
            raise EngineError(str(exc)) from exc
        # SDKs send a token in two halves, so one of another form could never match.
        if self.api_token is not None and not access.is_token(self.api_token):
            raise EngineError(
                "the API token must look like sk-lm- followed by 8 letters or digits, a colon and 20 more; "
                f"for example {access.new_token()}"
            )
        # Whoever reaches the port can load models and read what others are told.
        if self.api_token is None and not is_loopback(self.host):
            raise EngineError(
                f"listening on {self.host} lets others in: give an API token, for example {access.new_token()}"
            )
        if not 0 <= self.port <= 65535:
            raise EngineError(f"port {self.port} does not exist: choose one from 1 to 65535, or 0 for a free one")


def host_and_port(host: str, port: int) -> str:
    """An address as clients want it; IPv6 has colons of its own."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
