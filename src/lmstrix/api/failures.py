"""Every failure of the SDK, of a connection or of a deadline -> one exception of `ground.errors`."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lmstrix.api.fault_rules import classify, refused_token
from lmstrix.api.faults import ServerFault, ServerRequest, read_fault
from lmstrix.ground.errors import (
    BackendTimeoutError,
    BackendUnavailableError,
    LMStrixError,
    LoadTimeoutError,
)
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from collections.abc import Iterator


def timed_out(asked: ServerRequest) -> LMStrixError:
    """What it means that a request passed its deadline."""
    waited = f"{asked.limit_s:g} s" if asked.limit_s is not None else "its deadline"
    if asked.operation == "load":
        return LoadTimeoutError(
            f"{asked.model} did not load{asked.at_context} within {waited}; the load was cancelled; raise the timeout "
            "or try a shorter context",
            model_key=asked.model_key,
            context_length=asked.context_length,
        )
    return BackendTimeoutError(
        f"{asked.address} did not {asked.what} within {waited}; is it busy loading, or is another program on that "
        "port?",
        address=asked.address,
        waited_s=asked.limit_s,
    )


def translate(exc: Exception, asked: ServerRequest) -> LMStrixError:
    """Any exception out of the SDK, or of reading what came over it, as ours."""
    from lmstudio import LMStudioServerError, LMStudioWebsocketError

    if isinstance(exc, LMStrixError):
        return exc
    if isinstance(exc, LMStudioServerError):
        fault = read_fault(exc._raw_error) if exc._raw_error else ServerFault(title=str(exc))
        if asked.operation == "connect":
            return refused_token(fault, asked)
        return classify(fault, asked)
    # Before OSError, of which TimeoutError is one.
    if isinstance(exc, TimeoutError):
        return timed_out(asked)
    if isinstance(exc, LMStudioWebsocketError | OSError):
        return _connection_lost(exc, asked)
    if asked.operation == "connect" and isinstance(exc, ValueError):
        # The SDK trips over a refusal whose reason is a plain text, which is the form the protocol asks for.
        return refused_token(ServerFault(title="authentication failed"), asked)
    return BackendUnavailableError(
        f"{asked.address} sent an answer that cannot be read while asked to {asked.what} "
        f"({type(exc).__name__}: {_first_line(exc)}); is it LM Studio, and up to date?",
        address=asked.address,
    )


def _connection_lost(exc: Exception, asked: ServerRequest) -> BackendUnavailableError:
    if asked.operation == "connect":
        message = (
            f"no LM Studio answers at {asked.address} ({_first_line(exc)}); start it, or name another with "
            f"{parameter('server')}"
        )
    else:
        message = (
            f"the connection to {asked.address} was lost while it was asked to {asked.what}; is the server running?"
        )
    return BackendUnavailableError(message, address=asked.address)


_BROKEN = re.compile(
    r"httpx\.(?:ReadError|WriteError|CloseError|RemoteProtocolError)|unexpectedly disconnected|"
    r"Failure while waiting for websocket message|Failed to send websocket message|"
    r"not reachable at \S+\. Is LM Studio running"  # no cause is named: it broke between upgrade and greeting
)


def is_broken_connection(exc: BaseException) -> bool:
    """Whether a connection stood and then broke. The SDK tells that in the text of its one exception alone."""
    from lmstudio import LMStudioWebsocketError

    if isinstance(exc, LMStudioWebsocketError):
        return _BROKEN.search(str(exc)) is not None
    return isinstance(exc, ConnectionError) and not isinstance(exc, ConnectionRefusedError)


def _first_line(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[0] if lines else type(exc).__name__


@contextmanager
def translated(asked: ServerRequest) -> Iterator[None]:
    """Let nothing but `lmstrix.ground.errors` out of the block."""
    from lmstudio import LMStudioError

    try:
        yield
    except LMStrixError:
        raise
    # The last three are what reading an answer of an unexpected shape raises.
    except (LMStudioError, OSError, ValueError, TypeError, LookupError) as exc:
        raise translate(exc, asked) from exc
