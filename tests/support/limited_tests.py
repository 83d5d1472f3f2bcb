"""A context test of a model on a limited engine, as `lmstrix test --fast` makes it, with a budget to believe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.context.report import ContextTestOptions, Subject
from lmstrix.core.context.tester import ContextTester
from lmstrix.core.history import History
from lmstrix.core.registry.results import Configuration
from lmstrix.ground.loads import Provenance
from tests.support.limited_models import DECLARED, LOAD

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.core.context.report import ContextOutcome
    from lmstrix.ground.backend import ModelBackend
    from tests.support.limited_models import LimitedModel


async def find_limit(
    backend: ModelBackend, model: LimitedModel, *, budget_bytes: int, reading: bool, history_file: Path
) -> ContextOutcome:
    """Test `model` without recall, by a tester that takes `budget_bytes` for what models may take.

    With `reading` the backend's server tells that budget and what each load takes; without, the tester learns only what
    held and what failed.
    """
    server = backend.server
    with History(history_file) as history:
        tester = ContextTester(
            backend,
            history.journal,
            run_id=history.journal.begin_run("test"),
            provenance=Provenance(
                engine=server.engine,
                engine_version=server.version,
                address=server.address,
                host="limited",
                load=LOAD,
            ),
        )
        subject = Subject(
            model_key=model.model_key,
            path=model.path,
            declared=DECLARED,
            ceiling=DECLARED,
            cost=model.predicted_bytes,
            budget_bytes=budget_bytes,
            budget_told=reading,
            touched_later=model.touched_later_bytes,
            weights_bytes=model.file_bytes,
            configuration=Configuration(engine=server.engine, load=LOAD),
            architecture=model.architecture,
        )
        return await tester.test(subject, ContextTestOptions(recall=False, load=LOAD))
