"""Which models want words before texts and questions."""

from __future__ import annotations

import pytest

from lmstrix.core.vectors.prefixes import Prefixes, prefixes_of

NOMIC, E5 = Prefixes("search_document: ", "search_query: "), Prefixes("passage: ", "query: ")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("text-embedding-nomic-embed-text-v1.5", NOMIC),
        ("Nomic-Embed-Text-v2-MoE", NOMIC),
        ("text-embedding-e5-base-v2", E5),
        ("multilingual-e5-large", E5),
        ("multilingual-e5-large-instruct", Prefixes()),
        ("nomic-embed-vision-v1.5", Prefixes()),
        ("text-embedding-embeddinggemma-300m", Prefixes("title: none | text: ", "task: search result | query: ")),
        ("some5-base", Prefixes()),
        ("bge-m3", Prefixes()),
    ],
)
def test_the_family_is_read_from_the_name(name: str, expected: Prefixes) -> None:
    assert prefixes_of("other", name) == expected
