"""Every test is hermetic: a temporary home, no environment of the user's, no default ports."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.support.platforms import reason_to_skip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

for _name in [name for name in os.environ if name.startswith(("LMSTRIX_", "LMSTUDIO_", "LM_API", "LMS_"))]:
    del os.environ[_name]

# By default Hypothesis fails an example that takes 200 ms, which says how busy the machine is, not what the code does.
settings.register_profile("unhurried", settings(deadline=None))
settings.load_profile("unhurried")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Spare the garbage collector the walk through thousands of tests and modules that stay to the end."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what does not run on this system, before its fixtures are made."""
    reason = reason_to_skip(item.iter_markers(), sys.platform)
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """LMSTRIX_HOME and HOME in the test's own folder; `auto` never looks for LM Studio."""
    lmstrix_home = tmp_path / "lmstrix-home"
    user_home = tmp_path / "user-home"
    user_home.mkdir()
    monkeypatch.setenv("LMSTRIX_HOME", str(lmstrix_home))
    monkeypatch.setenv("LMSTRIX_SERVER", "embedded")
    monkeypatch.setenv("HOME", str(user_home))
    monkeypatch.setenv("USERPROFILE", str(user_home))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    yield lmstrix_home
    assert not any(user_home.iterdir()), f"a test wrote into the user's home: {list(user_home.iterdir())}"
