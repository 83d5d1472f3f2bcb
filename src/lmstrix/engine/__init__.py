"""The embedded engine: an LM Studio-compatible server over llama.cpp.

with EmbeddedEngine(models_dir="models") as engine:
    client = lmstudio.Client(engine.address)

Its modules form layers; each imports only what stands above it or to its left, and nothing imports this package itself:

    faults records values identity      failures, records, readers of values: known to all and knowing none
    access token_source stopping options uploads requirements  who may ask or end it, how it is run, what must be there
    llama/                              one model: its process, its client, its slots, generations and predictions
    catalog run_folder estimate instance pool  models on disk, their sockets, what they take, which are loaded
    state                               what all endpoints share
    protocol/   rest/                   LM Studio's websocket protocol and its HTTP interfaces; neither knows the other
    server                              one application out of both
    embedded daemon log_reading __main__  the server in a thread, in a process of its own, its log, the command line

`server` and what it serves with load aiohttp, so the last row imports it only when an engine really starts.
"""

from __future__ import annotations

from lmstrix.engine.embedded import EmbeddedEngine

__all__ = ["EmbeddedEngine"]
