"""Collections in the Python API: texts and files in, the nearest out, by both facades."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lmstrix import AsyncLMStrix, LMStrix, UsageError
from lmstrix.core.vectors.similarity import numbers_of

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix import EmbeddedEngine
    from lmstrix.core.vectors.records import AddProgress


def test_texts_and_files_are_added_found_and_deleted(python_engine: EmbeddedEngine, tmp_path: Path) -> None:
    (tmp_path / "fog.md").write_text("fog until noon", encoding="utf-8")
    seen: list[AddProgress] = []
    with LMStrix(server=python_engine.address) as lms:
        assert lms.collections.infos() == []
        added = lms.collections.add(
            "notes", {"tide": "the tide was early"}, files=tmp_path / "*.md", on_progress=seen.append
        )
        assert (added.added, added.failed, [each.done for each in seen]) == (2, (), [1, 2])
        first = lms.collections.search("notes", "fog until noon")[0]
        assert first.part_id.endswith("fog.md")
        assert first.cosine_similarity == pytest.approx(1.0, abs=1e-5)
        assert lms.collections.search("notes", like="tide", top=1)[0].part_id == "tide"
        assert [len(numbers_of(part.vector)) for part in lms.collections.parts("notes")] == [
            lms.collections.infos()[0].dimensions
        ] * 2
        assert lms.collections.add("notes", "the tide was early", keep_texts=False).added == 1
        assert lms.collections.delete("notes", ["tide", "nosuch"]) == ["tide"]
        assert lms.collections.delete("notes") == ["notes"]
        with pytest.raises(UsageError, match=r"`collections.add\(\)` makes one"):
            lms.collections.parts("notes")
        with pytest.raises(UsageError, match="`like`"):
            lms.collections.search("notes", "a", like="b")


async def test_two_add_to_one_collection_at_once(python_engine: EmbeddedEngine) -> None:
    async with (
        AsyncLMStrix(server=python_engine.address) as first,
        AsyncLMStrix(server=python_engine.address) as second,
    ):
        await first.scan()
        texts = [f"text {number}" for number in range(40)]
        await asyncio.gather(first.collections.add("notes", texts[:25]), second.collections.add("notes", texts[15:]))
        assert (await first.collections.infos())[0].entries == 40
        assert (await second.collections.search("notes", "text 7"))[0].text == "text 7"
