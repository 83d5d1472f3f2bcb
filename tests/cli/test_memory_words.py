"""What `doctor` and `estimate` say of memory: what limits it, cards that do not tell, checkpoints of hybrids."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from lmstrix.core.memory import cards, host
from lmstrix.core.memory.cards import Cards, GpuMemory
from lmstrix.core.memory.host import GroupLimit, HostMemory, Swap
from tests.cli.conftest import SCRIPTED
from tests.core.memory.hollow_gguf import write_hollow_gguf
from tests.core.memory.hollow_models import HollowModel, Widths, dense, linear_hybrid
from tests.support.faulty_server import FaultyModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lmstrix.engine import EmbeddedEngine
    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer

MIB, GIB = 2**20, 2**30


def lines(ran: Ran) -> list[str]:
    """The lines of `doctor`, as a pipe would have them: not broken to the width of a terminal."""
    return re.sub(r"\n {16,}(?! *->)", " ", ran.out).splitlines()


def line(ran: Ran, beginning: str) -> str:
    """The line of `doctor` about this."""
    return next(line for line in lines(ran) if line[8:].startswith(beginning))


def test_doctor_says_what_limits_memory_here(cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = cli("doctor").ok()
    assert "address space" not in plain.out
    monkeypatch.setattr(host, "address_space_limit", lambda: 3 * GIB)
    monkeypatch.setattr(host, "cgroup_limit", lambda _root: GroupLimit(512 * MIB, 112 * MIB))
    limited = cli("doctor").ok()
    assert line(limited, "memory").startswith("note")
    assert "400 MiB free of 512 MiB: the limit of this control group" in line(limited, "memory")
    assert "limited to 3.00 GiB for each process" in line(limited, "address space")


def test_doctor_names_every_card_and_what_it_means_that_one_does_not_tell(
    cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    amd = GpuMemory(
        name="AMD card0",
        total_bytes=24 * GIB,
        free_bytes=20 * GIB,
        source="amdgpu (sysfs)",
        shared_used_bytes=300 * MIB,
    )
    monkeypatch.setattr(cards, "read_cards", lambda: Cards((amd,), ("Intel card1",), ("DXGI",)))
    found = [line for line in lines(cli("doctor").ok()) if line[8:].startswith("card ")]
    assert "AMD card0: 20.0 GiB free of 24.0 GiB; read by amdgpu (sysfs); 300 MiB of main memory" in found[0]
    assert found[1].startswith("note")
    assert "Intel card1: its memory cannot be read: predictions count main memory only" in found[1]
    assert "DXGI did not answer, so cards that only it knows of are not seen" in found[2]


def test_doctor_says_who_told_of_main_memory_and_what_is_not_counted(
    cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    mac = HostMemory(
        total_bytes=64 * GIB,
        available_bytes=40 * GIB,
        source="vm_stat",
        working_set_bytes=50 * GIB,
        working_set_source="Metal",
        swap=Swap(4 * GIB, GIB),
    )
    monkeypatch.setattr(host, "read_host_memory", lambda **_: mac)
    assert line(cli("doctor").ok(), "memory")[8:].split(maxsplit=1)[1] == (
        "40.0 GiB free of 64.0 GiB, of which graphics may use 50.0 GiB (Metal); read by vm_stat; "
        "1.00 GiB in use in swap, which is not counted"
    )
    promised = HostMemory(
        total_bytes=64 * GIB, available_bytes=3 * GIB, source="GlobalMemoryStatusEx", commit_left_bytes=3 * GIB
    )
    monkeypatch.setattr(host, "read_host_memory", lambda **_: promised)
    assert line(cli("doctor").ok(), "memory")[8:].split(maxsplit=1)[1] == (
        "3.00 GiB free of 64.0 GiB, all that Windows still promises to programs (a larger page file makes it more); "
        "read by GlobalMemoryStatusEx"
    )
    silent = HostMemory(total_bytes=64 * GIB, available_bytes=3 * GIB, source="psutil", unseen=("vm_stat",))
    monkeypatch.setattr(host, "read_host_memory", lambda **_: silent)
    assert line(cli("doctor").ok(), "memory").endswith("read by psutil; vm_stat did not answer")


def test_doctor_says_what_the_server_has_room_for(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    assert "one more may take 1.00 GiB (its own --memory-limit)" in line(cli("doctor").ok(), "server")


def test_doctor_says_whose_word_the_budget_is(
    cli: Callable[..., Ran], engine: EmbeddedEngine, faulty: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = line(cli("doctor", "--server", engine.address).ok(), "budget")
    assert told.endswith("1.00 GiB: told by the engine: its own limit")
    monkeypatch.setattr(host, "read_cards", lambda: Cards((), ("AMD card0",)))
    silent = cli("doctor", "--server", faulty.address).ok()
    assert line(silent, "budget").startswith("note")
    assert line(silent, "budget").endswith("not known: nothing tells the memory of AMD card0")
    faulty.runtime = True
    faulty.faults.answers["surveyHardware"] = {
        "engines": [
            {
                "hardwareSurvey": {
                    "gpuSurveyResult": {
                        "result": {"code": "success"},
                        "gpuInfo": [
                            {
                                "name": "AMD Radeon RX 7900 XTX",
                                "totalMemoryCapacityBytes": 56 * GIB,
                                "dedicatedMemoryCapacityBytes": 24 * GIB,
                                "integrationType": "discrete",
                                "detectionPlatform": "Vulkan",
                            }
                        ],
                    }
                }
            }
        ]
    }
    told = line(cli("doctor", "--server", faulty.address).ok(), "budget")
    assert told.endswith("24.0 GiB: all the memory of 1 graphics card that LM Studio's runtime has found, free or not")


def test_estimates_go_by_the_servers_own_room(cli: Callable[..., Ran], engine: EmbeddedEngine) -> None:
    assert cli("estimate", SCRIPTED, "--json").ok().json["budget_bytes"] == GIB


@pytest.mark.parametrize(("build", "checkpoints"), [(linear_hybrid, True), (dense, False)])
def test_checkpoints_have_a_line_of_their_own_where_a_server_keeps_them(
    cli: Callable[..., Ran],
    faulty: FaultyServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    build: Callable[[Widths], HollowModel],
    checkpoints: bool,
) -> None:
    file = tmp_path / "models" / "acme" / "alpha-GGUF" / "alpha-q8_0.gguf"
    file.parent.mkdir(parents=True)
    model = build(Widths())
    write_hollow_gguf(file, model.metadata, model.tensors)
    monkeypatch.setenv("LMSTRIX_MODELS_DIR", str(tmp_path / "models"))
    faulty.models.clear()
    faulty.models["acme/alpha"] = FaultyModel(key="acme/alpha", declared=8192)
    told = cli("estimate", "acme/alpha", "--json").ok().json
    assert told["checkpoint_bytes"] == 32 * told["recurrent_state_bytes"]
    assert ("checkpoints" in cli("estimate", "acme/alpha").ok().out) == checkpoints
