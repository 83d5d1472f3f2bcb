"""Which model a name means: exact before approximate, one answer or a question back."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lmstrix.core.registry.filters import matches, parse_filter
from lmstrix.core.registry.records import ModelFacts
from lmstrix.core.registry.registry import ModelRegistry
from lmstrix.core.registry.tags import all_tags, check_tag, derived_tags
from lmstrix.ground.errors import ModelNotFoundError, UsageError


@pytest.fixture
def registry() -> ModelRegistry:
    registry = ModelRegistry(aliases={"big": "qwen3-30b", "coder": "nothing-like-it", "odd": 5})
    registry.merge_scan(
        [
            ModelFacts(path="ali/Qwen3-30B/Qwen3-30B-Q4_0.gguf", model_key="qwen3-30b", size_bytes=17 * 10**9, bits=4),
            ModelFacts(path="ali/Qwen3-4B/Qwen3-4B-Q8_0.gguf", model_key="qwen3-4b", size_bytes=4 * 10**9, bits=8),
            ModelFacts(
                path="meta/CodeLlama-34B/codellama-34b.gguf", model_key="codellama-34b", quantization="Q4_K_M", bits=4
            ),
            ModelFacts(path="me/eye/eye-tiny-instruct.gguf", model_key="eye-tiny-instruct", vision=True),
        ]
    )
    registry.models["ali/Qwen3-4B/Qwen3-4B-Q8_0.gguf"]["tags"] = ["work", "fast"]
    registry.models["meta/CodeLlama-34B/codellama-34b.gguf"]["tags"] = ["work"]
    return registry


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("qwen3-4b", "qwen3-4b"),
        ("big", "qwen3-30b"),
        ("fast", "qwen3-4b"),
        ("vision", "eye-tiny-instruct"),
        ("tag:fast", "qwen3-4b"),
        ("tag:Vision", "eye-tiny-instruct"),
        ("large", "qwen3-30b"),
        ("codel", "codellama-34b"),
        ("instruct", "eye-tiny-instruct"),
        ("34b", "codellama-34b"),
        ("tiny-inst", "eye-tiny-instruct"),
        ("Qwen3-4B/", "qwen3-4b"),
    ],
)
def test_a_name_finds_one_model(registry: ModelRegistry, query: str, key: str) -> None:
    assert registry.find(query).model_key == key
    assert [record.model_key for record in registry.find_all(query)] == [key]


def test_inside_a_word_a_name_finds_nothing(registry: ModelRegistry) -> None:
    with pytest.raises(ModelNotFoundError, match="did you mean codellama-34b"):
        registry.find("llama-3")


def test_several_ask_back_and_a_tag_names_a_group(registry: ModelRegistry) -> None:
    with pytest.raises(ModelNotFoundError, match=r"'work' may mean 2 models: .*Qwen3-4B.*, .*codellama"):
        registry.find("work")
    assert [record.model_key for record in registry.find_all("work")] == ["qwen3-4b", "codellama-34b"]
    with pytest.raises(ModelNotFoundError, match="may mean 2 models"):
        registry.find_all("qwen3")


def test_a_key_goes_before_an_alias_and_a_tag(registry: ModelRegistry) -> None:
    registry.models["ali/Qwen3-4B/Qwen3-4B-Q8_0.gguf"]["tags"] = ["codellama-34b"]
    registry.aliases = {"qwen3-4b": "qwen3-30b"}
    assert registry.find("qwen3-4b").model_key == "qwen3-4b"
    assert [record.model_key for record in registry.find_all("codellama-34b")] == ["codellama-34b"]


def test_an_alias_that_leads_nowhere_says_so(registry: ModelRegistry) -> None:
    with pytest.raises(ModelNotFoundError, match="the alias coder stands for 'nothing-like-it'"):
        registry.find("coder")
    registry.aliases = {"a": "b", "b": "a"}
    with pytest.raises(ModelNotFoundError, match="the alias a stands for 'b'"):
        registry.find("a")


def test_a_missing_model_is_no_member_of_a_group(registry: ModelRegistry) -> None:
    registry.models["ali/Qwen3-4B/Qwen3-4B-Q8_0.gguf"]["missing_since"] = datetime.now(UTC).isoformat()
    assert registry.find("work").model_key == "codellama-34b"


def test_current_needs_a_server(registry: ModelRegistry) -> None:
    with pytest.raises(ModelNotFoundError, match="no server is asked here"):
        registry.find("current")


def test_derived_tags_say_what_a_model_is(registry: ModelRegistry) -> None:
    assert derived_tags(registry.find("codellama-34b")) == ("q4_k_m", "4bit")
    assert all_tags(registry.find("qwen3-4b")) == ("work", "fast", "8bit", "medium")
    assert derived_tags(registry.find("eye-tiny-instruct")) == ("vision",)


def test_the_filter_knows_own_and_derived_tags(registry: ModelRegistry) -> None:
    def keys(text: str) -> list[str]:
        return [record.model_key for record in registry if matches(record, parse_filter(text))]

    assert keys("tag:work") == ["qwen3-4b", "codellama-34b"]
    assert keys("tag:4bit") == ["qwen3-30b", "codellama-34b"]
    assert keys("tag:-") == ["qwen3-30b", "eye-tiny-instruct"]


def test_a_tag_is_a_word() -> None:
    assert check_tag(" Work ") == "work"
    for word in ("", "a b", "a,b", "a|b", "!a", "-", "*"):
        with pytest.raises(UsageError, match="is no tag"):
            check_tag(word)
