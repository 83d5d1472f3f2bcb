"""Renders the chat template of one request: standard library and minijinja only, run by `limited_child.py`."""

from __future__ import annotations

import json

import minijinja


def answer(request: bytes) -> bytes:
    """{"text": …}, or {"failed": …} with minijinja's complaint."""
    asked = json.loads(request)
    environment = minijinja.Environment(trim_blocks=True, lstrip_blocks=True, fuel=asked["fuel"])
    try:
        return json.dumps({"text": environment.render_str(asked["template"], **asked["variables"])}).encode()
    except minijinja.TemplateError as exc:
        return json.dumps({"failed": str(exc)}).encode()
