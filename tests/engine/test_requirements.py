"""What the engine needs of the system, and the remedy for what is missing: by stand-ins for other systems."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from lmstrix.engine import requirements
from lmstrix.engine.requirements import check_requirements, import_remedy, missing_libraries
from lmstrix.ground.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

WINGET = "winget install Microsoft.VCRedist.2015+.x64"


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, set[str]], None]:
    """Be on another system, which lacks these libraries."""

    def be(system: str, lacking: set[str]) -> None:
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr(requirements, "_loads", lambda library: library not in lacking)

    return be


def test_windows_lacks_the_runtime_of_cpp(without: Callable[[str, set[str]], None]) -> None:
    without("win32", set())
    check_requirements()
    without("win32", {"vcomp140", "msvcp140"})
    assert missing_libraries() == (("vcomp140.dll", "msvcp140.dll"), WINGET)
    with pytest.raises(EngineError) as caught:
        check_requirements()
    assert str(caught.value) == f"llama.cpp needs vcomp140.dll and msvcp140.dll of the system: {WINGET}"


def test_a_mac_lacks_nothing_of_the_system(without: Callable[[str, set[str]], None]) -> None:
    without("darwin", {"vcomp140", "libgomp.so.1"})
    assert missing_libraries() is None


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("ModuleNotFoundError: No module named 'xllamacpp'", 'pip install "lmstrix[engine]"'),
        ("ImportError: libgomp.so.1: cannot open shared object file", "apt install libgomp1 (or dnf install libgomp)"),
        ("ImportError: DLL load failed while importing xllamacpp: The specified module could not be found.", WINGET),
        ("ImportError: cannot import name 'Server'", 'pip install --force-reinstall "lmstrix[engine]"'),
    ],
)
def test_the_remedy_follows_from_how_the_import_failed(reason: str, remedy: str) -> None:
    assert import_remedy(reason) == remedy
