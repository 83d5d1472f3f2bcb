"""A home as earlier versions left it, and what LM Studio keeps in one of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = 'timeout_s = 300\n\n[profiles.quick]\nserver = "embedded"\n'
REPORT = "lmstrix-bench-20261122-013551"
ANSWER = f"{'7f53' * 16}.json"
LOG = "2026-11-22 01:35:33.721Z info  listening on 127.0.0.1:33859, models in /models\n"
STATE = {"host": "127.0.0.1", "port": 33859, "pid": 2**22 + 1, "process_started": 1.0, "models_dir": "/models"}


def conversation(question: str) -> str:
    """A conversation as it was kept."""
    messages = [{"role": "user", "text": question}, {"role": "assistant", "text": "Hello."}]
    written = {"schema": "lmstrix.conversation/1", "name": "n", "model_key": "m", "messages": messages}
    return json.dumps(written, indent=1) + "\n"


def texts() -> dict[str, str]:
    """What an earlier version left that has a place in our own folder, by its path."""
    return {
        "config.toml": CONFIG,
        "state.json": '{"servers": {}, "last_used_model": "m"}\n',
        "trusted_folders.json": '{"schema": "lmstrix.trusted-folders/1", "folders": {}}\n',
        "questions.jsonl": '"one"\n"two"\n',
        "conversations/infer.json": conversation("hi"),
        "conversations/my sums.json": conversation("2+3="),
        f"reports/{REPORT}/report.json": "{}",
        f"reports/{REPORT}/pages/m.txt": "page",
        f"cache/answers/{ANSWER}": '{"text": "5", "stats": {}}',
        "logs/engine.log": LOG,
    }


def leave(home: Path) -> None:
    """Make a home as an earlier version left it, with an engine that was killed."""
    traces = {"engine.json": json.dumps(STATE), "engine.lock": "", f"locks/load-{'0' * 16}.lock": ""}
    for place, text in (texts() | traces).items():
        write(home / place, text)


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def lm_studio_chat(question: str) -> str:
    """A chat as LM Studio keeps it."""
    content = [{"type": "text", "text": question}]
    chat = {
        "name": "Unnamed Chat",
        "pinned": False,
        "createdAt": 1719853210123,
        "preset": "",
        "tokenCount": 41,
        "systemPrompt": "",
        "messages": [
            {"versions": [{"type": "singleStep", "role": "user", "content": content}], "currentlySelected": 0}
        ],
        "usePerChatPredictionConfig": True,
        "clientInput": "",
        "lastUsedModel": {"identifier": "qwen3-4b", "instanceLoadTimeConfig": {"fields": []}},
    }
    return json.dumps(chat, indent=2)


def lm_studio_home(home: Path) -> dict[str, str]:
    """Make LM Studio's home, with names in it that were ours as well; what is in it, by path."""
    found = {
        "conversations/1719853210123.conversation.json": lm_studio_chat("What is a cliff?"),
        "conversations/Work/1719853210999.conversation.json": lm_studio_chat("And a ledge?"),
        "conversations/infer.conversation.json": lm_studio_chat("Continue?"),
        "conversations/.hidden.conversation.json": "{",
        "conversations/notes.json": '{"messages": []}',
        "conversations/broken.json": "{",
        "settings.json": "{}",
        "config.json": '{"server": {"port": 1234}}',
        "state.json": '{"windows": []}',
        "engine.json": '{"engines": []}',
        "engine.lock": "held by another program",
        "questions.jsonl": '{"question": "mine"}\n',
        "trusted_folders.json": '["/home"]',
        "logs/engine.log": "engine of another program\n",
        "logs/main.log": LOG,
        "reports/summary.json": "{}",
        "cache/answers/index.json": '{"text": "5"}',
        ".internal/http-server.json": "{}",
    }
    for place, text in found.items():
        write(home / place, text)
    (home / "locks").mkdir()
    return found
