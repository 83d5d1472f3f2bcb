"""Measure a model's recall by length with the project's own probe, under real llama.cpp. Needs xllamacpp.

    python tools/measure_recall.py model.gguf --lengths 256 512 1024 2048 --seeds 20

Every seed is one growing haystack with eight keys asked at each length, all in one question and, with --per-key, one by
one. Prints a Markdown table: share of codes recalled, prefill and decode speed of one thread.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import httpx
import xllamacpp

from lmstrix.core.recall.haystack import HaystackFitter
from lmstrix.core.recall.scoring import join_scores, score_answer
from lmstrix.core.recall.tasks import first_prompt, first_question, per_key, prompt

if TYPE_CHECKING:
    from collections.abc import Generator

    from lmstrix.core.recall.haystack import Haystack

T = TypeVar("T")


def serve(model: Path, context_length: int) -> xllamacpp.Server:
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.port, params.n_parallel = str(model), context_length, 0, 1
    params.fit_params = params.warmup = False
    params.cache_ram_mib = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    return xllamacpp.Server(params)


class Chat:
    def __init__(self, address: str) -> None:
        self._http = httpx.Client(base_url=address, timeout=600, trust_env=False)

    def _post(self, path: str, **body: object) -> dict[str, Any]:
        answer: dict[str, Any] = self._http.post(path, json=body).raise_for_status().json()
        return answer

    def _templated(self, text: str) -> str:
        return str(self._post("/apply-template", messages=[{"role": "user", "content": text}])["prompt"])

    def count(self, text: str) -> int:
        return len(self._post("/tokenize", content=self._templated(text), parse_special=True)["tokens"])

    def counted(self, fitting: Generator[Haystack, int, T]) -> T:
        """What `fitting` returns once every haystack it yields has been counted."""
        try:
            haystack = next(fitting)
            while True:
                haystack = fitting.send(self.count(first_prompt(haystack)))
        except StopIteration as done:
            result: T = done.value
            return result

    def ask(self, text: str, max_tokens: int) -> tuple[str, dict[str, Any]]:
        answer = self._post("/completion", prompt=self._templated(text), n_predict=max_tokens, temperature=0)
        return answer["content"], answer["timings"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 768, 1024, 2048, 4096, 8192, 16_128])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--context-length", type=int, default=16_384)
    parser.add_argument("--per-key", action="store_true")
    options = parser.parse_args()
    server = serve(options.model, options.context_length)
    chat = Chat(server.listening_address)
    scores: dict[int, list[Any]] = {length: [] for length in options.lengths}
    speeds: dict[int, list[dict[str, Any]]] = {length: [] for length in options.lengths}
    for seed in range(options.seeds):
        fitter = chat.counted(HaystackFitter.calibrated(seed=1000 + seed, shortest_tokens=min(options.lengths)))
        for length in options.lengths:
            haystack = chat.counted(fitter.fit(length))
            first = first_question(haystack)
            for question in per_key(first) if options.per_key else (first,):
                answer, timings = chat.ask(prompt(haystack, question), question.max_tokens)
                scores[length].append(score_answer(answer, question, haystack))
                speeds[length].append(timings)
    print("| tokens | recalled | prefill tokens/s | decode tokens/s |\n|---|---|---|---|")
    for length in options.lengths:
        total = join_scores(scores[length])
        prefill = max(timings["prompt_per_second"] for timings in speeds[length])
        decode = max(timings["predicted_per_second"] for timings in speeds[length])
        print(f"| {length} | {total.hits}/{total.asked} ({total.ratio:.0%}) | {prefill:,.0f} | {decode:,.0f} |")
    os._exit(0)  # llama.cpp's threads need no farewell


if __name__ == "__main__":
    main()
