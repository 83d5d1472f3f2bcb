"""What a model wants to stand before a text that is kept, and before a question, so that the two are compared rightly.

Such a model was trained with these words and finds less without them; no file of it names them, only its page does.
They are added to what is embedded, and never to the text that is kept. Pure.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Prefixes(NamedTuple):
    """What is put before a document, and before a question. Empty for most models."""

    document: str = ""
    query: str = ""


_FAMILIES: tuple[tuple[re.Pattern[str], Prefixes], ...] = (
    # "the text prompt must include a task instruction prefix": huggingface.co/nomic-ai/nomic-embed-text-v1.5
    (re.compile(r"nomic-embed-text"), Prefixes("search_document: ", "search_query: ")),
    # "Each input text should start with 'query: ' or 'passage: '": huggingface.co/intfloat/e5-base-v2; those of
    # "instruct" in their names want a sentence that says the task instead, and nothing before documents.
    (re.compile(r"\be5-(?:small|base|large)(?!.*instruct)"), Prefixes("passage: ", "query: ")),
    # ai.google.dev/gemma/docs/embeddinggemma/model_card, the prompts of retrieval without titles
    (re.compile(r"embeddinggemma|embedding-gemma"), Prefixes("title: none | text: ", "task: search result | query: ")),
)


def prefixes_of(*names: str) -> Prefixes:
    """Those of the family that a model's names say."""
    lowered = [name.lower() for name in names]
    return next((found for name, found in _FAMILIES if any(map(name.search, lowered))), Prefixes())
