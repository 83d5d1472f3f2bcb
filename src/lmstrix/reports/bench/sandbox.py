"""What keeps the reader of a report safe from what models wrote: escapes, content policies, and a box for pages.

Templates escape text. Data is in a script element of type application/json, which no browser runs. A page is shown only
inside `<iframe sandbox srcdoc>`: its first bytes are a policy of its own, and it also inherits the report's policy,
under which only our script runs (by its hash) and nothing is fetched. Policies do not cover the connections that a
browser makes ahead for links and frames, nor that a page sends its own frame elsewhere, so the elements that do
(links, frames, `<meta http-equiv=refresh>`) are disarmed. A page printed shows its colours: white text on a background
that the printer leaves out would be nothing.
"""

from __future__ import annotations

import json
import re

PREVIEW_BYTES = 100 * 1024  # each page is in the report's own file, which must stay small enough to open

_POLICY = {
    "default-src": "'none'",
    "style-src": "'unsafe-inline'",
    "img-src": "data:",
    "font-src": "data:",
    "frame-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
}
_STILL = '<meta http-equiv="Content-Security-Policy" content="{}"><meta name="referrer" content="no-referrer">'
_INKED = (
    "<style>@media print{html{print-color-adjust:exact;-webkit-print-color-adjust:exact;contain:paint}"
    "html::before{content:'';position:fixed;inset:0;z-index:-1;background:inherit}"
    "body{contain:paint;min-height:100vh}}</style>"
)
"""Printed pages keep their backgrounds. Those of the root go to the canvas, which printers leave out whatever is asked,
so in print a box of its own has them."""
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_REACHING = re.compile(r"<(?=(?:link|meta|base|i?frame|fencedframe|portal)[\s/>])", re.IGNORECASE)
"""Elements for which a browser connects before it asks any policy, or leaves the page. Parsers need just these letters.

Of a page's `<meta>` elements none is missed in a box: its text is decoded already, and it has no window to size.
"""


def policy(**directives: str) -> str:
    """A content security policy that fetches nothing; `script_src` and the like are added."""
    parts = _POLICY | {name.replace("_", "-"): value for name, value in directives.items()}
    return "; ".join(f"{name} {value}" for name, value in parts.items())


def boxed(page: str, content_policy: str) -> str:
    """A model's page for `srcdoc`: with its policy as the first bytes, without what leaves the box, not too long."""
    # Cut twice: by characters first, so that an answer of many megabytes is not encoded only to be thrown away.
    data = page[:PREVIEW_BYTES].encode("utf-8", "replace")[:PREVIEW_BYTES]
    return (
        _STILL.format(content_policy)
        + _INKED
        + _REACHING.sub("<x-", data.decode("utf-8", "ignore").replace("\x00", ""))
    )


def data_element(value: object) -> str:
    """JSON for a script element: no character in it means anything to HTML."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def printable(page: str) -> str:
    """Text that UTF-8 can hold and that neither a terminal nor a reader is fooled by."""
    return _UNPRINTABLE.sub("\ufffd", page)
