"""A notebook in cells: open it in Jupyter (jupytext), VS Code or Spyder, or run it: python examples/python/notebook.py

A notebook runs on an event loop, and these blocking calls work there all the same: LMStrix has a loop of its own.
"""

from __future__ import annotations

# %% Connect once, and find the smallest model
from pathlib import Path

from lmstrix import InvalidAnswerError, LMStrix

lms = LMStrix()
lms.scan()
model = min((each for each in lms.list_models() if each.kind == "llm"), key=lambda each: each.size_bytes or 0).model_key
print("using", model)

# %% Ask, and read the answer and how fast it came
answer = lms.infer("2+3=", model, max_tokens=50)
print(answer.text, answer.stats.completion_tokens, "tokens")

# %% Ask for a shape; an answer of another one is an error that has it
person = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
try:
    print(lms.infer("Describe a person, as JSON.", model, json_schema=person, max_tokens=5).text)
except InvalidAnswerError as exc:
    print("not whole:", exc.text)

# %% Measure, and look at the figures
report = lms.bench(model, runs=2, max_tokens=16, idle_s=0.0, out=Path("bench-report"), power=False)
for cell in report.cells:
    speed = cell.summaries.get("decode_tokens_per_second")
    print(cell.cell.name, "not measured" if speed is None else f"{speed.median:.0f} tokens/s")

# %% What was asked so far
for call in lms.logs.calls(last=3):
    print(call.call.model_key, call.call.prompt)

# %% Leave the server; a notebook can do without, as its end does it too
lms.close()
