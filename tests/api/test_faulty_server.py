"""The fault server is faithful while nothing is wrong: LM Studio's own SDK, unmodified, takes it for the real thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lmstudio
import pytest

if TYPE_CHECKING:
    from tests.support.faulty_server import FaultyServer


def test_the_official_client_is_content(server: FaultyServer) -> None:
    with lmstudio.Client(server.address) as client:
        assert [model.model_key for model in client.list_downloaded_models()] == ["acme/tiny"]
        model = client.llm.load_new_instance("acme/tiny", "mine", config={"contextLength": 300}, ttl=None)
        assert model.get_context_length() == 300
        result = model.respond("What is 2+3?", config={"maxTokens": 3, "contextOverflowPolicy": "stopAtLimit"})
        assert (result.content, result.stats.stop_reason) == ("The sum of ", "maxPredictedTokensReached")
        assert model.count_tokens("one two") == 2
        with pytest.raises(lmstudio.LMStudioServerError, match="context length of only 300 tokens"):
            model.respond("word " * 300, config={"contextOverflowPolicy": "stopAtLimit"})
        assert model.respond("word " * 300).stats.prompt_tokens_count == 299
        model.unload()
        with pytest.raises(lmstudio.LMStudioModelNotFoundError):
            model.respond("Anyone?")
    assert not server.instances
