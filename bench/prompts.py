"""Prompt budgets: rendering 40 variables or references, a 10 MB text, and a file of 1,000 prompts.

    python -m bench.prompts [runs]

Prints one table of median times. Ours is the whole call: looking up names, references and sizes included. Beside it
stand the libraries it uses, alone: minijinja renders a template compiled before; toml-topl resolves the same file.
"""

from __future__ import annotations

import sys
import time
from statistics import median
from typing import TYPE_CHECKING

from minijinja import Environment
from topl import resolve_placeholders

from lmstrix.core.prompts.parsing import parse
from lmstrix.core.prompts.rendering import render

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = [f"name{number}" for number in range(40)]
BODY = " ".join(f"some words before {{{{{name}}}}}" for name in NAMES)
VARIABLES = {name: f"the value of {name}" for name in NAMES}
TEXT = "a line of text, as long as lines are\n" * (10_000_000 // 37)


def measure(name: str, act: Callable[[], object], runs: int, *, batch: int = 1) -> None:
    act()
    times_s = []
    for _ in range(runs):
        begin = time.perf_counter()
        for _ in range(batch):
            act()
        times_s.append((time.perf_counter() - begin) / batch)
    print(f"{name:<52}{median(times_s) * 1000:>12.4f}")


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    print(f"{'what':<52}{'median ms':>12}")

    plain = parse({"p": BODY})
    logic = parse({"p": "{% if name0 %}" + BODY + "{% endif %}"})
    own = parse({"p": BODY, **VARIABLES})
    measure("40 variables of the caller", lambda: render(plain, ["p"], VARIABLES), runs, batch=100)
    measure("40 references to the file's own keys", lambda: render(own, ["p"], {}), runs, batch=100)
    measure("40 variables, with logic", lambda: render(logic, ["p"], VARIABLES), runs, batch=100)
    peer = Environment(templates={"p": BODY})
    measure("40 variables, bare minijinja", lambda: peer.render_template("p", **VARIABLES), runs, batch=100)
    measure("40 references, bare toml-topl", lambda: resolve_placeholders({"p": BODY, **VARIABLES}), runs, batch=10)

    summary = parse({"p": "Sum this up:\n{{text}}\nBriefly.", "q": "{% if text %}{{ text }}{% endif %}"})
    measure("a text of 10 MB", lambda: render(summary, ["p"], {"text": TEXT}), runs)
    measure("a text of 10 MB, with logic", lambda: render(summary, ["q"], {"text": TEXT}), runs)

    beside = parse({"p": "{{opening}}\n{{text}}", "opening": "Sum this up:"})
    measure("a text of 10 MB beside a reference", lambda: render(beside, ["p"], {"text": TEXT}), runs)

    many = {f"prompt{number}": BODY for number in range(1000)}
    measure("parsing 1,000 prompts of 40 placeholders", lambda: parse(many), runs)


if __name__ == "__main__":
    main()
