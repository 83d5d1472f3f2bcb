"""The buffers llama.cpp has allocated and the layers it has put on cards, read from what it logs while it loads."""

from __future__ import annotations

import re
from collections import defaultdict

_BUFFER_LINE = re.compile(r"(?P<device>\S+) +(?P<kind>model|KV|RS|compute|output) buffer size = +(?P<mib>[\d.]+) MiB")
_MAIN_MEMORY = re.compile(r"CPU|\w+_Host|AMX|BLAS")
"""Devices of this name, and buffers that a card's driver keeps on the host, are main memory."""
_LAYERS_LINE = re.compile(r"print_info: n_layer +=\s*(?P<layers>\d+)")
_OFFLOADED_LINE = re.compile(r"offloaded (?P<on_gpu>\d+)/(?P<all>\d+) layers to GPU")


class BufferLog:
    """Bytes of each kind of buffer, summed over what was announced. Figures are as printed, to 0.01 MiB.

    `gpu_layers` of `all_layers` are on cards, the output being one; None until it has told. A build without cards says
    nothing of them.
    """

    def __init__(self) -> None:
        self._bytes: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.gpu_layers: int | None = None
        self.all_layers: int | None = None

    def read(self, line: str) -> None:
        """Take note of a line of the log; all but a few say nothing of buffers."""
        if layers := _LAYERS_LINE.search(line):
            self.gpu_layers, self.all_layers = 0, int(layers["layers"]) + 1
        elif layers := _OFFLOADED_LINE.search(line):
            self.gpu_layers, self.all_layers = int(layers["on_gpu"]), int(layers["all"])
        match = _BUFFER_LINE.search(line)
        if match is None:
            return
        key, size = (match["device"], match["kind"]), round(float(match["mib"]) * 2**20)
        # Layers that slide have a cache beside the others', so sizes add up; but computing is planned anew, not more.
        self._bytes[key] = size if match["kind"] == "compute" else self._bytes[key] + size

    def of_kind(self, kind: str) -> int:
        """Bytes of one kind, on all devices."""
        return sum(size for (_, other), size in self._bytes.items() if other == kind)

    @property
    def on_cards_bytes(self) -> int:
        """Bytes of all kinds on devices with memory of their own."""
        return sum(size for (device, _), size in self._bytes.items() if not _MAIN_MEMORY.match(device))
