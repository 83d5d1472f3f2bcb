"""Find the real context limit of every model that has no result yet, and print what to use.

Run it with a server of models running (LM Studio, or `lmstrix engine start`): python examples/python/find_limits.py
"""

from __future__ import annotations

from lmstrix import LMStrix


def main() -> None:
    """Scan, test, print."""
    with LMStrix(notify=print) as lms:
        lms.scan()
        for tested in lms.test_all(threshold=32_768).models:
            length = tested.record.tested_context_length
            print(f"{tested.record.model_key}: {f'{length:,} tokens' if length else tested.skipped or 'failed'}")


if __name__ == "__main__":
    main()
