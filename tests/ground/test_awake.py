"""The machine stays awake while it measures, and may sleep again afterwards, however that ended."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lmstrix.ground import awake
from lmstrix.ground.awake import keep_awake

MAC = ["/usr/bin/caffeinate", "-i", "-w", str(os.getpid())]


class Caffeinate:
    """Records what is started and what becomes of it."""

    def __init__(self, done: list[object], *, failing: str = "") -> None:
        self._done = done
        self._failing = failing

    def __call__(self, words: tuple[str, ...], **_options: object) -> Caffeinate:
        self._step("start", list(words))
        return self

    def terminate(self) -> None:
        self._step("terminate", "terminate")

    def wait(self, limit_s: float | None = None) -> None:
        self._step("wait" if limit_s else "reap", "wait")

    def kill(self) -> None:
        self._step("kill", "kill")

    def _step(self, name: str, entry: object) -> None:
        self._done.append(entry)
        if self._failing == name:
            raise FileNotFoundError if name == "start" else subprocess.TimeoutExpired("caffeinate", 2.0)


def measure(done: list[object], *, failing: bool) -> None:
    with keep_awake():
        done.append("measure")
        if failing:
            raise KeyboardInterrupt


@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize(
    ("platform", "steps"),
    [
        ("darwin", [MAC, "measure", "terminate", "wait"]),
        ("win32", [0x80000001, "measure", 0x80000000]),
        ("linux", ["measure"]),
    ],
)
def test_it_is_asked_before_and_let_go_afterwards(
    platform: str, steps: list[object], failing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(subprocess, "Popen", Caffeinate(done))
    monkeypatch.setattr(awake, "_set_execution_state", done.append)
    if failing:
        with pytest.raises(KeyboardInterrupt):
            measure(done, failing=True)
    else:
        measure(done, failing=False)
    assert done == steps


@pytest.mark.parametrize(
    ("failing", "steps"),
    [("start", [MAC, "measure"]), ("wait", [MAC, "measure", "terminate", "wait", "kill", "wait"])],
)
def test_a_machine_that_cannot_measures_all_the_same(
    failing: str, steps: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "Popen", Caffeinate(done, failing=failing))
    measure(done, failing=False)
    assert done == steps
