"""How much memory Apple's GPU may use, as Metal itself says: `recommendedMaxWorkingSetSize` of the default device.

It differs by the Mac, by the version of macOS and by the limit its user has set: 0.66 to 0.84 of the memory has been
seen. Both MLX and llama.cpp go by it, so it is asked and not computed.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import cast

_CORE_GRAPHICS = "/System/Library/Frameworks/CoreGraphics.framework/CoreGraphics"
_METAL = "/System/Library/Frameworks/Metal.framework/Metal"
_OBJC = "/usr/lib/libobjc.A.dylib"


@cache  # making a device takes tens of milliseconds, and what it recommends does not change
def metal_working_set_bytes() -> int | None:
    """What Metal recommends on this Mac; None on other systems, and where it hands out no device."""
    if sys.platform != "darwin":
        return None
    import ctypes

    try:
        # A command-line program gets a default device only with CoreGraphics beside Metal.
        ctypes.CDLL(_CORE_GRAPHICS)
        create_device = ctypes.CDLL(_METAL).MTLCreateSystemDefaultDevice
        objc = ctypes.CDLL(_OBJC)
    except (OSError, AttributeError):
        return None
    create_device.restype = objc.sel_registerName.restype = ctypes.c_void_p
    device = create_device()
    if not device:
        return None

    def send(selector: bytes, result: type[ctypes.c_uint64] | None) -> int | None:
        # Its type is that of the method, so one is declared for each message.
        message = ctypes.CFUNCTYPE(result, ctypes.c_void_p, ctypes.c_void_p)(("objc_msgSend", objc))
        return cast("int | None", message(device, objc.sel_registerName(selector)))

    recommended_bytes = send(b"recommendedMaxWorkingSetSize", ctypes.c_uint64)
    send(b"release", None)
    return recommended_bytes or None
