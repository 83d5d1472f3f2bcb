"""Performance counters of Windows, played back."""

from __future__ import annotations

import sys

import pytest

from lmstrix.core.windows_counters import Counters, open_counters
from tests.support.windows_counters import RecordedPdh

DEDICATED, SHARED = r"\GPU Adapter Memory(*)\Dedicated Usage", r"\GPU Adapter Memory(*)\Shared Usage"


def test_every_instance_is_read_and_read_anew() -> None:
    pdh = RecordedPdh({DEDICATED: {"luid_0x0_0x1_phys_0": 5 * 2**30, "luid_0x0_0x2_phys_0": 7}, SHARED: {"luid": 3}})
    counters = Counters([DEDICATED, SHARED], pdh)
    first = {"luid_0x0_0x1_phys_0": 5 * 2**30, "luid_0x0_0x2_phys_0": 7}
    assert counters.read() == [first, {"luid": 3}]
    pdh.counters[DEDICATED] = {"luid_0x0_0x2_phys_0": 8}
    assert counters.read() == [{"luid_0x0_0x2_phys_0": 8}, {"luid": 3}]
    counters.close()
    assert pdh.open_queries == 0


def test_a_counter_that_this_machine_lacks_has_no_instances() -> None:
    pdh = RecordedPdh({SHARED: {"luid": 3, "broken": None}})
    counters = Counters([DEDICATED, SHARED], pdh)
    assert counters.read() == [{}, {"luid": 3}]
    pdh.failing = True
    assert counters.read() == [{}, {}]
    assert Counters([DEDICATED], RecordedPdh({})).read() == [{}]
    assert Counters([SHARED], RecordedPdh({SHARED: {}})).read() == [{}]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has counters")
def test_other_systems_have_none() -> None:
    assert open_counters(SHARED) is None


@pytest.mark.skipif(sys.platform != "win32", reason="asks the real pdh.dll")
def test_this_machine_is_read() -> None:
    counters = open_counters(r"\Processor(*)\% Processor Time")
    assert counters is not None
    (processors,) = counters.read()
    counters.close()
    assert processors["_Total"] > 0
