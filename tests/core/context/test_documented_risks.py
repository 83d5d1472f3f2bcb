"""The risks that the user's guide names are those that the search takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from lmstrix.core.context.constants import SEARCH
from lmstrix.ground.choices import Precision

PAGE = Path(__file__).parents[3] / "src_docs" / "explanation" / "how-the-limit-is-found.md"


def test_the_page_names_the_risk_of_each_precision() -> None:
    named = dict(re.findall(r"^\| `(\w+)` \| (?:at most )?(any|\d+ %)", PAGE.read_text("utf-8"), re.MULTILINE))
    taken = {name: SEARCH.appetites[name].max_risk for name in get_args(Precision)}
    assert named == {name: "any" if risk == 1 else f"{risk * 100:.0f} %" for name, risk in taken.items()}
