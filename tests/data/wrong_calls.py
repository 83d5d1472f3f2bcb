"""Calls of the Python API with a mistake in each marked line: a type checker must name these, and nothing else."""

from lmstrix import AsyncLMStrix, LMStrix


def blocking(lms: LMStrix) -> None:
    lms.infer("hi", "m", temperature=0.2, max_tokens="x")  # error: arg-type
    lms.infer("hi", "m", temprature=0.2)  # error: call-arg
    lms.infer("hi", "m", out_ctx=5)  # error: call-arg
    lms.infer("hi", "m", max_tokens=5, context_length=4096, timeout_s=60.0)
    lms.stream("hi", "m", top_k="many")  # error: arg-type
    lms.events("hi", "m", seed=1, stop=["a"], system_prompt="Be brief.")
    lms.infer("{{a}}", "m", variables={"a": [{"b": 1}]}, prompt_file="p.toml")
    lms.infer("{{a}}", "m", variables=["a"])  # error: arg-type
    lms.infer("{{a}}", "m", vars={"a": 1})  # error: call-arg
    lms.chat("m", system_promt="x")  # error: call-arg
    lms.test_model("m", treshold=8192)  # error: call-arg
    lms.test_model("m", threshold=8192, precision="safe", fast=True)
    lms.test_all(precision="bold")  # error: arg-type
    lms.load("m", 4096, k_cache_type="q3")  # error: arg-type
    lms.load("m", 4096, gpu=1.0)  # error: call-arg
    lms.estimate("m", 4096, slots=2)  # error: call-arg
    lms.recommend(task="dance")  # error: arg-type
    lms.bench("m", rounds=3)  # error: call-arg
    lms.bench("m", runs=3, tiers=[1024], out="report", on_event=print)
    lms.bench(None, max_tokens=64)
    lms.bench()  # error: call-arg
    lms.reset()  # error: call-arg
    lms.save("m", limit=0.8)
    lms.benches.text("last", "pdf")  # error: arg-type
    lms.prompts.render("p.toml", ["a", "b"], variables={"a": 1})
    lms.infer("hi", "m", json_schema=dict)
    lms.infer("hi", "m", json_schema="name, age int")
    lms.infer("hi", "m", json_schema=3)  # error: arg-type
    lms.list_models(sort="age")  # error: arg-type
    print(lms.infer("hi").texts)  # error: attr-defined


async def asynchronous(lms: AsyncLMStrix) -> None:
    await lms.infer("hi", "m", temprature=0.2)  # error: call-arg
    await lms.batch(["p.toml"], ["m"], "out", seeds=1)  # error: call-arg
    async for text in lms.stream("hi", "m", ttl_s="soon"):  # error: arg-type
        print(text)
