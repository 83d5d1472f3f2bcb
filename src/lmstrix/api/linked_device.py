"""LM Link: LM Studio may hand a load to another machine, whose memory and speed say nothing about the server's own.

Listings leave out what lies on such a device (`convert.is_on_this_machine`), so nothing of it is tested or measured by
name. A load of a model that both machines have may still end up there; it is given back and refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.ground.errors import ModelLoadError

if TYPE_CHECKING:
    from lmstrix.ground.types import LoadedModel


def loaded_elsewhere(loaded: LoadedModel) -> ModelLoadError:
    """Why an instance on a linked device is of no use."""
    return ModelLoadError(
        f"LM Studio loaded {loaded.model_key} on the linked device {loaded.device!r} (LM Link), and results of that "
        "machine would stand as this one's; choose this device with lms link set-preferred-device, or name that "
        "machine's own address as the server",
        model_key=loaded.model_key,
        context_length=loaded.context_length,
    )
