"""LM Studio's settings.json is another program's file: read where it can be, never a reason to fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.loaders.lmstudio_settings import guardrail_mode

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"modelLoadingGuardrails": {"mode": "high", "customThresholdBytes": 5}}', "high"),
        ('{"modelLoadingGuardrails": {"mode": "custom", "customThresholdBytes": 12000000000}}', "custom 12000000000"),
        ('\ufeff{"modelLoadingGuardrails": {"mode": "off"}}', "off"),
        ('{"modelLoadingGuardrails": {"mode": 7}}', None),
        ('{"modelLoadingGuardrails": []}', None),
        ("[]", None),
        ("{", None),
        (None, None),
    ],
)
def test_the_mode_of_the_guardrail(tmp_path: Path, text: str | None, expected: str | None) -> None:
    if text is not None:
        (tmp_path / "settings.json").write_text(text, encoding="utf-8")
    assert guardrail_mode(tmp_path) == expected
