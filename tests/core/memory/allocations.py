"""What llama.cpp says it allocates for a model: loads it in a process of its own and reads the buffer lines."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_LINE = re.compile(r"\S+ +(?P<kind>KV|RS|compute|model|output) buffer size = +(?P<mib>[\d.]+) MiB")
_PROGRAM = """
import json, os, sys, time, urllib.request
import xllamacpp
options = json.loads(sys.argv[1])
prefill_tokens = options.pop("prefill_tokens")
linger_s = options.pop("linger_s")
params = xllamacpp.CommonParams()
params.model.path = options.pop("path")
for name, value in options.pop("enums", {}).items():
    enum, member = value
    setattr(params, name, getattr(getattr(xllamacpp, enum), member))
for name, value in options.items():
    setattr(params, name, value)
for cpu in (params.cpuparams, params.cpuparams_batch):
    cpu.n_threads = 1
server = xllamacpp.Server(params)
if prefill_tokens:
    body = json.dumps({"prompt": [300 + i % 700 for i in range(prefill_tokens)], "n_predict": 4}).encode()
    request = urllib.request.Request(server.listening_address + "/completion", body)
    urllib.request.urlopen(request, timeout=60).read()
rss = {}
if sys.platform == "linux":
    with open("/proc/self/status") as file:
        rss = {line.split(":")[0]: line.split()[1] for line in file if line.startswith(("VmRSS", "VmHWM"))}
time.sleep(linger_s)
print(json.dumps(rss), flush=True)
os._exit(0)
"""


class Allocations(NamedTuple):
    """MiB, as printed (two decimals), summed over the buffers of a kind; and resident KiB of the process."""

    kv: float
    recurrent: float
    compute: float
    model: float
    output: float
    resident: dict[str, int]
    log: str


def _run(given: dict[str, object]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", _PROGRAM, json.dumps(given)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"},
    )
    if done.returncode:
        raise AssertionError(f"llama.cpp ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done


def allocations(path: Path, n_ctx: int, **options: object) -> Allocations:
    """Load `path` with `n_ctx` and llama.cpp's parameters `options`; `enums` maps a name to (enum, member).

    With `prefill_tokens` a prompt that long is processed before resident memory is read (on Linux only).
    """
    given: dict[str, object] = {
        "path": str(path),
        "n_ctx": n_ctx,
        "n_parallel": 1,
        "n_batch": 512,
        "n_ubatch": 512,
        "fit_params": False,
        "cache_ram_mib": 0,
        "n_ctx_checkpoints": 0,
        "warmup": False,
        "verbosity": 4,
        "port": 0,
        "prefill_tokens": 0,
        **options,
    }
    for linger_s in (0.0, 0.5, 2.0):  # llama.cpp logs from a thread of its own, which may be behind when all is done
        done = _run({**given, "linger_s": linger_s})
        log = done.stderr + done.stdout
        sums: dict[str, float] = {}
        for match in _LINE.finditer(log):
            sums[match["kind"]] = sums.get(match["kind"], 0.0) + float(match["mib"])
        if "compute" in sums:  # the last kind it prints
            break
    resident: Mapping[str, str] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return Allocations(
        kv=sums.get("KV", 0.0),
        recurrent=sums.get("RS", 0.0),
        compute=sums.get("compute", 0.0),
        model=sums.get("model", 0.0),
        output=sums.get("output", 0.0),
        resident={name: int(value) for name, value in resident.items()},
        log=log,
    )
