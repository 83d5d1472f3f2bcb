"""Examples for the help pages and the manual, by the words of their command. A test reads each as a command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

EXAMPLES: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("scan",): ("lmstrix scan", "lmstrix scan --models-dir ~/models"),
    ("list",): (
        "lmstrix list",
        'lmstrix list "status:untested,size:<8GB" --show id',
        "lmstrix list --sort ctx --reverse --show csv",
    ),
    ("test",): (
        "lmstrix test qwen3-8b",
        "lmstrix test qwen3-8b --dry-run",
        "lmstrix test --all --threshold 65536",
        "lmstrix test --all --continue",
        "lmstrix test tag:coding",
    ),
    ("history",): ("lmstrix history qwen3-8b",),
    ("infer",): (
        'lmstrix infer "Why is the sky blue?" -m qwen3-8b --stream',
        'lmstrix infer "Sum this up:" -m qwen3-8b --text-file notes.txt',
        "lmstrix infer review --file-prompt prompts.toml --var language=Python --text-file add.py",
        'lmstrix infer "And at sunset?" --continue',
    ),
    ("chat",): ("lmstrix chat -m qwen3-8b", "lmstrix chat --continue"),
    ("batch",): ('lmstrix batch --prompts notes.toml --inputs "notes/*.txt" --models qwen3-8b --out answers',),
    ("embed",): ('lmstrix embed "the tide" "the moon"',),
    ("collections", "add"): (
        'lmstrix collections add notes "The tide was early." --id monday',
        "lmstrix collections add docs --files 'docs/**/*.md' --chunk-tokens 400",
        "lmstrix collections add faq --rows questions.csv --id-column number --text-column question",
    ),
    ("collections", "search"): (
        'lmstrix collections search docs "How do I share results?"',
        "lmstrix collections search docs --like docs/index.md --top 3",
    ),
    ("recommend",): ("lmstrix recommend --task code --min-ctx 32k",),
    ("models", "alias"): ("lmstrix models alias fast qwen3-8b",),
    ("models", "unalias"): ("lmstrix models unalias fast",),
    ("prompts", "list"): ("lmstrix prompts list prompts.toml",),
    ("prompts", "render"): ("lmstrix prompts render prompts.toml review --var language=Python",),
    ("prompts", "lint"): ("lmstrix prompts lint prompts.toml",),
    ("logs",): ("lmstrix logs --last 5", 'lmstrix logs --search "herring gulls"', "lmstrix logs --stats"),
    ("bench",): (
        "lmstrix bench qwen3-8b gemma-3-4b --context-tiers 0,4k,16k",
        "lmstrix bench qwen3-8b --against gemma-3-4b --fail-on 5%",
        "lmstrix bench qwen3-8b --sweep --goodput ttft=1s,itl=50ms",
    ),
    ("bench", "compare"): ("lmstrix bench compare monday tuesday",),
    ("power",): ("lmstrix power", "lmstrix power --watch 10s"),
    ("get",): (
        "lmstrix get openai/gpt-oss-20b",
        "lmstrix get https://huggingface.co/lmstudio-community/gpt-oss-20b-GGUF --quant MXFP4",
    ),
    ("load",): ("lmstrix load qwen3-8b", "lmstrix load qwen3-8b --ctx 16k"),
    ("unload",): ("lmstrix unload qwen3-8b", "lmstrix unload --all"),
    ("estimate",): ("lmstrix estimate qwen3-8b", "lmstrix estimate qwen3-8b --ctx 32k"),
    ("save",): ("lmstrix save --dry-run", "lmstrix save", "lmstrix save --restore"),
    ("reset",): ("lmstrix reset qwen3-8b",),
    ("trust",): ("lmstrix trust .",),
    ("engine", "start"): ("lmstrix engine start --models-dir ~/models --memory-limit 8GiB",),
    ("engine", "logs"): ("lmstrix engine logs --follow",),
    ("completion",): ("lmstrix completion bash",),
}
