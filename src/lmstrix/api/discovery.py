"""Which server to talk to. httpx, which the SDK needs anyway, is imported only when a server is asked.

An address asked for is the only one looked at. "auto" looks at where LM Studio says it listens (`http-server.json`), at
the ports its SDKs try, and at where a running embedded engine says it listens (`engine.json`); "lmstudio" and
"embedded" look at their part of that. All candidates are probed at once, and looking ends as soon as no better answer
can come. A silent or foreign program on a port costs at most `timeout_s`, and nothing behind the server that is found;
an odd answer is only a reason why that candidate is not it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

from lmstrix.ground import log
from lmstrix.ground.access import ANY_SERVER, ServerAccess
from lmstrix.ground.addresses import is_local
from lmstrix.ground.errors import BackendUnavailableError, UsageError
from lmstrix.ground.held_files import read_whole
from lmstrix.ground.paths import engine_files, resolve_paths
from lmstrix.ground.types import ServerInfo
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import httpx

    from lmstrix.ground.paths import Paths

SDK_PORTS: Final = (41343, 52993, 16141, 39414, 22931)
REST_PORT: Final = 1234
EMBEDDED_PACKAGE: Final = "lmstrix"  # `package` of /lms-status, where LM Studio says "lmstudio" or "llmster"

_SERVER_FILE_VARIABLE = "LMS_API_SERVER_INFO_PATH"
_VARIABLES = ("LMSTRIX_SERVER", "LMSTUDIO_BASE_URL")
_MOST_BYTES = 64 * 1024  # any program may answer at these ports, and send without end
_REFUSED = "refused"
_SECURE = "https://"
_CONNECT_S: Final = 0.25
"""On one's own machine the system itself accepts a connection, in less than a millisecond, however busy the listener.
Windows tries a port where nobody listens for 2 s before it says so."""


async def find_server(
    choice: str | None = None,
    *,
    ports: Sequence[int] = SDK_PORTS,
    paths: Paths | None = None,
    environ: Mapping[str, str] | None = None,
    timeout_s: float = 1.0,
    access: ServerAccess = ANY_SERVER,
) -> ServerInfo:
    """The server `choice` means: "auto", "lmstudio", "embedded" or an address; None asks the environment, then "auto".

    Raises BackendUnavailableError naming what was tried, UsageError for a text that is not an address.
    """
    environ = os.environ if environ is None else environ
    choice = choice or next((environ[name] for name in _VARIABLES if environ.get(name)), "auto")
    candidates = _candidates(choice, ports, paths or resolve_paths(environ), environ)
    # "auto" prefers LM Studio, however the addresses were ordered.
    wanted = {"lmstudio": ("lmstudio",), "embedded": ("embedded",)}.get(choice, ("lmstudio", "embedded"))
    if len(candidates) == 1 and access.connect_s is not None:
        timeout_s = access.connect_s
    found = await _answers(candidates, wanted[0], timeout_s, access)
    servers = [answer for answer in found if isinstance(answer, ServerInfo)]
    for engine in wanted:
        for server in servers:
            if server.engine == engine:
                return server
    if not candidates:
        raise BackendUnavailableError(f"no embedded engine is running; {_remedy()}")
    tried = _tried([(address, _reason(answer)) for address, answer in zip(candidates, found, strict=True)])
    raise BackendUnavailableError(
        f"no server answers ({tried}); {_remedy()}", address=candidates[0] if len(candidates) == 1 else None
    )


async def _answers(
    candidates: Sequence[str], best: str, timeout_s: float, access: ServerAccess
) -> list[ServerInfo | str]:
    """What is at the candidates, in their order, up to the first server with the engine `best`."""
    # Of several, a port without a listener must not hold up the others. An address asked for has all the time.
    connect_s = _CONNECT_S if len(candidates) > 1 else timeout_s
    probes = [asyncio.create_task(_probe(address, timeout_s, connect_s, access)) for address in candidates]
    answers: list[ServerInfo | str] = []
    try:
        for address, probe in zip(candidates, probes, strict=True):
            answer = await probe
            told = answer if isinstance(answer, str) else f"{answer.engine} {answer.version}"
            log.debug("server {}: {}", address, told)
            answers.append(answer)
            if isinstance(answer, ServerInfo) and answer.engine == best:
                break
    finally:
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)
    return answers


def parse_address(text: str) -> str:
    """`host:port` out of an address or URL as people write them, with https:// before it where they wrote that.

    The port is 1234 when they leave it out, with https 443.
    """
    address = text.strip()
    if "://" not in address:
        address = f"http://{address}"
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.username is not None or not re.fullmatch(r"[A-Za-z0-9_.:%-]+", host):
        raise UsageError(f"{text!r} is no server; write auto, lmstudio, embedded, or an address such as 127.0.0.1:1234")
    if parts.scheme not in ("http", "ws", "https", "wss"):
        raise UsageError(f"{text!r}: a server is reached over http or https")
    secure = parts.scheme in ("https", "wss")
    port = port or (443 if secure else REST_PORT)
    return f"{_SECURE if secure else ''}{f'[{host}]' if ':' in host else host}:{port}"


def _candidates(choice: str, ports: Sequence[int], paths: Paths, environ: Mapping[str, str]) -> list[str]:
    """Addresses to look at, best first."""
    if choice not in ("auto", "lmstudio", "embedded"):
        return [parse_address(choice)]
    found: list[str | None] = []
    if choice != "embedded":
        found.append(_server_file_address(paths, environ))
        found += [f"127.0.0.1:{port}" for port in ports]
    if choice != "lmstudio":
        found += [_file_address(file) for file in engine_files(paths.home)]
    return list(dict.fromkeys(address for address in found if address))


def _server_file_address(paths: Paths, environ: Mapping[str, str]) -> str | None:
    """Where LM Studio says it listens."""
    from pathlib import Path

    named = environ.get(_SERVER_FILE_VARIABLE)
    if named:
        return _file_address(Path(named).expanduser())
    return _file_address(paths.lmstudio_home / ".internal" / "http-server.json") if paths.lmstudio_home else None


def _file_address(file: Path) -> str | None:
    """The `host` and `port` of a JSON file; None when it does not say."""
    try:
        content = json.loads(read_whole(file))
        port = int(content["port"])
        # A server that listens on every address writes one that cannot be connected to.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(content["host"], content["host"])  # noqa: S104 - read, not bound
        return parse_address(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except (OSError, ValueError, LookupError, TypeError, UsageError):
        return None


def _tried(reasons: list[tuple[str, str]]) -> str:
    """Every address and why it is not it; those of one host that all refused in a few words."""
    refused = [address.rpartition(":") for address, reason in reasons if reason == _REFUSED]
    ports = {host: [port for other, _, port in refused if other == host] for host, _, _ in refused}
    parts = [f"{host}:{', '.join(numbers)} {_REFUSED}" for host, numbers in ports.items()]
    parts += [f"{address} {reason}" for address, reason in reasons if reason != _REFUSED]
    return ", ".join(parts)


def _reason(answer: ServerInfo | str) -> str:
    return answer if isinstance(answer, str) else f"is {answer.package or answer.engine}"


async def _probe(candidate: str, timeout_s: float, connect_s: float, access: ServerAccess) -> ServerInfo | str:
    """The server at an address, or why there is none."""
    import httpx

    from lmstrix.api.http_client import certificate_fault, is_passing, is_refused, open_http
    from lmstrix.api.retry import with_retries

    address = candidate.removeprefix(_SECURE)
    secure = address != candidate

    async def greet() -> tuple[object, object]:
        greeting = await _json_at(client, "/lmstudio-greeting")
        ours = isinstance(greeting, dict) and greeting.get("lmstudio") is True
        return ours, await _json_at(client, "/lms-status") if ours else None

    def passes(failure: BaseException) -> bool:
        # A port nobody listens on is asked once: it must not hold up the others, which are probed beside it.
        return is_passing(failure) and not isinstance(failure, httpx.ConnectTimeout)

    try:
        # The token is for a server that has said what it is.
        asking = replace(access, api_token=None, connect_s=connect_s if is_local(address) else None)
        async with open_http(f"{'https' if secure else 'http'}://{address}", access=asking) as client:
            ours, status = await with_retries(greet, passes=passes, limit_s=timeout_s, retries=access.retries)
    except (TimeoutError, httpx.ConnectTimeout):
        return "did not answer"
    except httpx.ProtocolError:
        return "is another program"
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as exc:
        if fault := certificate_fault(exc):
            return f"has a certificate that is not trusted ({fault}; server.ca_file names one to trust)"
        return _REFUSED if is_refused(exc) else "cannot be reached"
    if not ours:
        return "is another program"
    status = status if isinstance(status, dict) else {}
    version, package, runtime = (
        told if isinstance(told := status.get(name), str) else None for name in ("version", "package", "runtime")
    )
    embedded = package == EMBEDDED_PACKAGE
    engine: Literal["embedded", "lmstudio"] = "embedded" if embedded else "lmstudio"
    return ServerInfo(address=address, engine=engine, version=version, package=package, runtime=runtime, secure=secure)


async def _json_at(client: httpx.AsyncClient, path: str) -> object:
    """The JSON that a GET answers with; None when the answer is not JSON."""
    import httpx

    content = b""
    try:
        async with client.stream("GET", path) as response:
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > _MOST_BYTES:
                    return None
            return json.loads(content) if response.status_code == 200 else None
    except (httpx.DecodingError, ValueError, RecursionError):
        return None


def _remedy() -> str:
    return f"start LM Studio's server, run `lmstrix engine start`, or name an address with {parameter('server')}"
