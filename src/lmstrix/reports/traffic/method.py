"""How traffic is sent and what its figures mean, in the words that every report has."""

from __future__ import annotations

METHOD = (
    ("Rate", "requests arrive at random, independently of each other and of the answers (a Poisson process)"),
    ("Sent/s", "requests sent, per second of the span in which they were sent"),
    ("Finished/s", "requests that finished within that span, per second of it"),
    (
        "After the span",
        "open requests get as long again to finish, a minute at most; then they are cut off and counted",
    ),
    ("Times", "p50, p90, p99 of all requests that did not fail; one that was cut off counts as slower than all others"),
    ("Not reached", "the percentile lies among requests that were cut off, so it is longer than was waited"),
    ("Between tokens", "the mean of each request that finished: (last token minus first token) / later tokens"),
    ("Waiting", "time to first token minus its median with one request at a time: what queueing and sharing add"),
    ("In flight", "requests sent and not ended: the mean over the span, and the most at once"),
    ("Good", "share of all requests sent that met every target; and those that did so within the span, per second"),
    (
        "Saturated",
        "more than a tenth of the requests were open at the end, and the last third took longer than the middle third "
        "(Mann-Whitney U, 5 %); or requests failed, never finished, or were too many at once",
    ),
)
