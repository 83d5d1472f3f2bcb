"""What LM Studio's own settings.json says. Damage to another program's file is no error of ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def guardrail_mode(lmstudio_home: Path) -> str | None:
    """How strict its guardrail is: "high", "off", "custom 12000000000"; None where the file does not say.

    LM Studio writes the file when it ends, so it may lag behind what the app shows.
    """
    try:
        settings = json.loads((lmstudio_home / "settings.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    guardrails = settings.get("modelLoadingGuardrails") if isinstance(settings, dict) else None
    if not isinstance(guardrails, dict) or not isinstance(mode := guardrails.get("mode"), str):
        return None
    return f"custom {guardrails.get('customThresholdBytes')}" if mode == "custom" else mode
