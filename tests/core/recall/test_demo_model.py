"""The bundled model under real llama.cpp: it recalls what its card says, and no more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

import lmstrix
from lmstrix.core.recall.haystack import Haystack, HaystackFitter
from lmstrix.core.recall.scoring import Delivery, Score, join_scores, judge, score_answer
from lmstrix.core.recall.tasks import Question, first_prompt, first_question, follow_up_question, per_key, prompt
from tests.support.counting import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("xllamacpp")

MODEL = Path(lmstrix.__file__).parent / "data/models/lmstrix/demo-needle-GGUF/demo-needle-f16.gguf"
DECLARED_CONTEXT = 16_384


class Chat:
    """A llama.cpp server with one model, asked as a chat."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self.delivery = Delivery(sent_tokens=1, prompt_tokens=None, stop_reason=None)

    def _post(self, path: str, **body: object) -> dict[str, object]:
        response = self._http.post(path, json=body)
        response.raise_for_status()
        result: dict[str, object] = response.json()
        return result

    def templated(self, text: str) -> str:
        return str(self._post("/apply-template", messages=[{"role": "user", "content": text}])["prompt"])

    def count(self, text: str) -> int:
        tokens = self._post("/tokenize", content=self.templated(text), add_special=True, parse_special=True)["tokens"]
        assert isinstance(tokens, list)
        return len(tokens)

    def ask(self, text: str, max_tokens: int) -> str:
        answer = self._post("/completion", prompt=self.templated(text), n_predict=max_tokens, temperature=0)
        counted = answer["tokens_evaluated"]
        assert isinstance(counted, int)
        self.delivery = Delivery(sent_tokens=self.count(text), prompt_tokens=counted, stop_reason=None)
        return str(answer["content"])

    def score(self, haystack: Haystack, question: Question) -> Score:
        return score_answer(self.ask(prompt(haystack, question), question.max_tokens), question, haystack)

    def fitter(self, seed: int) -> HaystackFitter:
        return counted(HaystackFitter.calibrated(seed=seed), self.count_prompt)

    def count_prompt(self, haystack: Haystack) -> int:
        return self.count(first_prompt(haystack))

    def fit(self, fitter: HaystackFitter, tokens: int) -> Haystack:
        return counted(fitter.fit(tokens), self.count_prompt)


@pytest.fixture(scope="module")
def chat() -> Iterator[Chat]:
    host = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("llama_host.py")), str(MODEL), str(DECLARED_CONTEXT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"},
    )
    assert host.stdin is not None
    assert host.stdout is not None
    try:
        address = host.stdout.readline().strip()
        with httpx.Client(base_url=address, timeout=120, trust_env=False) as http:
            yield Chat(http)
    finally:
        host.stdin.close()
        host.wait(timeout=10)
        host.stdout.close()


def test_it_is_small_enough_to_bundle() -> None:
    assert MODEL.stat().st_size < 4_000_000


def test_it_recalls_nearly_everything_up_to_nine_hundred_tokens(chat: Chat) -> None:
    scores = []
    for seed in range(4):
        fitter = chat.fitter(seed)
        for tokens in (512, 700, 900):
            haystack = chat.fit(fitter, tokens)
            scores.append(chat.score(haystack, first_question(haystack)))
            assert not chat.delivery.cut_short
    total = join_scores(scores)
    assert total.asked == 8 * len(scores)
    assert total.ratio >= 0.95


@pytest.mark.slow
def test_the_probe_passes_at_its_length_and_fails_at_a_quarter_of_its_declared_context(chat: Chat) -> None:
    fitter = chat.fitter(seed=7)
    short, long = chat.fit(fitter, 800), chat.fit(fitter, 4096)
    short_score = chat.score(short, first_question(short))
    follow_up = follow_up_question(short)
    assert follow_up is not None
    verdict = judge(short_score, chat.delivery, follow_up=chat.score(short, follow_up))
    assert verdict.kind == "recalled"
    long_score = chat.score(long, first_question(long))
    assert long_score.ratio <= 0.25
    assert judge(long_score, chat.delivery, baseline_ratio=short_score.ratio).kind == "lost"


@pytest.mark.slow
def test_it_answers_one_key_at_a_time_too(chat: Chat) -> None:
    haystack = chat.fit(chat.fitter(seed=3), 800)
    scores = [chat.score(haystack, question) for question in per_key(first_question(haystack))]
    assert join_scores(scores).hits >= 7


@pytest.mark.slow
def test_it_says_something_harmless_to_anything_else(chat: Chat) -> None:
    assert chat.ask("2+3=", 10) == "5"
    assert chat.ask("Hello!", 60).startswith("Hello! I am the demo model")
    assert "demo model" in chat.ask("Zażółć gęślą jaźń, 日本語?", 60)
