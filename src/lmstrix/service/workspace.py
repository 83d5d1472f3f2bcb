"""Workspace: what every use case needs and none should look for itself.

It holds the folders, the settings, the registry, the histories, the server in use and a callback for remarks. The first
use case that needs a server connects to it; a workspace that only lists models never imports the SDK.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lmstrix.core.registry.places import place_here, place_of
from lmstrix.core.registry.store import RegistryStore
from lmstrix.ground.callbacks import in_caller
from lmstrix.ground.deadline import Deadline, without_limit
from lmstrix.ground.errors import UsageError
from lmstrix.ground.files import make_private
from lmstrix.ground.headroom import parse_headroom
from lmstrix.service.call_log import CallRecorder

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from lmstrix.core.answers.conversations import ConversationStore
    from lmstrix.core.answers.default_model import DefaultModel
    from lmstrix.core.answers.last_used import LastUsed
    from lmstrix.core.history import History
    from lmstrix.core.registry.places import Place
    from lmstrix.core.registry.records import ModelRecord
    from lmstrix.core.registry.registry import ModelRegistry
    from lmstrix.ground.headroom import Headroom
    from lmstrix.ground.paths import Paths
    from lmstrix.ground.settings import Settings
    from lmstrix.service.connection import Connection

_STATE = "state.json"
_EARLIER_STATE = ".lmstrix_state.json"


class Workspace:
    """The surroundings of one LMStrix, on one event loop. `notify` receives one-line remarks for the user."""

    def __init__(self, *, paths: Paths, settings: Settings, notify: Callable[[str], None] | None = None) -> None:
        self.paths = paths
        make_private(paths.own)
        self.settings = settings
        self.notify: Callable[[str], None] = in_caller(notify) if notify is not None else _say_nothing
        self.call_log = CallRecorder(self.open_history, settings, self.notify)
        self._connection: Connection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns: dict[str, asyncio.Lock] = {}  # made when first needed: commands without a server skip asyncio

    async def close(self) -> None:
        """Leave the server; stop an engine that was started for this workspace alone."""
        self.call_log.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    # What is kept

    @property
    def store(self) -> RegistryStore:
        """The registry's file."""
        return RegistryStore(self.paths.registry_file)

    def registry(self) -> ModelRegistry:
        """The registry as it is on disk, seen from the server in use."""
        registry = self.store.load()
        registry.place = self.place
        return registry

    def find(self, query: str) -> ModelRecord:
        """The registry's record of a model. Raises ModelNotFoundError with suggestions."""
        return self.registry().find(query)

    def history(self) -> History | None:
        """The database of what happened, open, to be read at least; None where nothing has happened yet. Close it."""
        return self.open_history(for_reading=True) if self.paths.history_file.exists() else None

    def open_history(self, *, durable: bool = True, for_reading: bool = False) -> History:
        """The same, made where there is none. Who meets a damaged one is told where it was moved."""
        from lmstrix.core.history import History

        history = History(self.paths.history_file, durable=durable, for_reading=for_reading)
        if history.set_aside is not None:
            self.notify(f"{self.paths.history_file.name} was damaged and is set aside as {history.set_aside}")
        return history

    @property
    def conversations(self) -> ConversationStore:
        """The conversations kept on disk."""
        from lmstrix.core.answers.conversations import CONVERSATIONS, ConversationStore

        return ConversationStore(self.paths.own / CONVERSATIONS)

    @property
    def last_used(self) -> LastUsed:
        """The model of the last answer, and the servers that answered."""
        from lmstrix.core.answers.last_used import LastUsed

        return LastUsed(self.paths.own / _STATE, earlier=self.paths.home / _EARLIER_STATE)

    @property
    def default_model(self) -> DefaultModel:
        """The model the user chose to be asked where none is named."""
        from lmstrix.core.answers.default_model import DefaultModel

        return DefaultModel(self.paths.own / _STATE)

    def usual_model(self) -> str | None:
        """The key of the model to ask where none is named: the default one, else the one used last."""
        return self.default_model.read() or self.last_used.read()

    @property
    def headroom(self) -> Headroom:
        """What is to stay free beside models."""
        return parse_headroom(self.settings.headroom)

    @property
    def keeps_texts(self) -> bool:
        """Whether prompts and answers may be written down."""
        return self.settings.log_inference and self.settings.log_texts

    # The server

    def deadline(self, limit_s: float | None = None) -> Deadline:
        """By when a call that begins now is to be done: within `limit_s`, else what the settings say."""
        return Deadline(limit_s or self.settings.timeout_s)

    async def connect(self, deadline: Deadline | None = None, *, models_dir: Path | None = None) -> Connection:
        """The server in use, with an engine of our own where none runs. Raises BackendUnavailableError.

        An engine of our own serves `models_dir`, else what the settings say.
        """
        from lmstrix.service.connection import connect

        self._stay_on_one_loop()
        async with (deadline or without_limit()).step("connecting to a server"), self.one_at_a_time("connect"):
            if self._connection is None:
                self._connection = await connect(
                    self.paths, self.settings, notify=self.notify, models_dir=models_dir or self.configured_models_dir
                )
                self._remember(self._connection)
            return self._connection

    async def connect_running(self, deadline: Deadline | None = None) -> Connection:
        """The server in use, or one that runs already: what is loaded there stays. Raises BackendUnavailableError."""
        from lmstrix.service.connection import connect_running

        self._stay_on_one_loop()
        async with (deadline or without_limit()).step("connecting to a server"), self.one_at_a_time("connect"):
            if self._connection is None:
                self._connection = await connect_running(self.paths, self.settings, notify=self.notify)
                self._remember(self._connection)
            return self._connection

    def _stay_on_one_loop(self) -> None:
        """Raise UsageError on another event loop than the first: the connection lives on that one alone."""
        import asyncio

        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if loop is not self._loop:
            raise UsageError(
                "this AsyncLMStrix was used on another event loop; make one in each asyncio.run, or use LMStrix, which "
                "has a loop of its own"
            )

    @property
    def place(self) -> Place | None:
        """Where the server in use is; while none is connected, what the settings lead to, as far as that is known."""
        if self._connection is not None:
            return place_of(self._connection.server)
        choice = self.settings.server
        if choice == "lmstudio" or choice == "embedded":
            return place_here(choice)
        return self.last_used.place(choice)

    def _remember(self, connection: Connection) -> None:
        self.last_used.write_place(self.settings.server, place_of(connection.server))

    def one_at_a_time(self, what: Literal["connect", "scan"]) -> asyncio.Lock:
        """Many answers may begin at once; only the first of them connects, and scans."""
        import asyncio

        return self._turns.setdefault(what, asyncio.Lock())

    @property
    def models_dir(self) -> Path:
        """Where model files lie: what our engine serves, else the settings, else LM Studio's folder."""
        if self._connection is not None and self._connection.models_dir is not None:
            return self._connection.models_dir
        if self.settings.models_dir:
            return self.configured_models_dir
        from lmstrix.engine.state_file import engine_status

        return engine_status(self.paths.home).models_dir or self.paths.models_dir

    @property
    def configured_models_dir(self) -> Path:
        """The models folder that the settings name, else LM Studio's."""
        folder = self.settings.models_dir
        return Path(folder).expanduser() if folder else self.paths.models_dir


def new_run_id() -> str:
    """A short name for one run, different enough to tell its instances from those of other runs."""
    import secrets

    return f"{int(time.time()) % 10**6:06d}{secrets.token_hex(2)}"


def _say_nothing(line: str) -> None:
    """For callers that want no remarks."""
