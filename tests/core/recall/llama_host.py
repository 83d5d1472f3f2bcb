"""Hosts one model with llama.cpp for a test: prints the address, and ends when its standard input does."""

from __future__ import annotations

import os
import sys

import xllamacpp


def main() -> None:
    """Arguments: model file, context length."""
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.port = sys.argv[1], int(sys.argv[2]), 0
    params.n_parallel = 1
    params.fit_params = False
    params.warmup = False
    params.cache_ram_mib = 0
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = 1
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
