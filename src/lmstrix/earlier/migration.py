"""The table of everything that is called otherwise than in the earlier LMStrix: one row each, and no code.

`cli.earlier_words` reads the rows of the command line as rules, `earlier.modules` those of Python; the migration page
is written from all of them. In a command's row capitals stand for the user's words: N for a number, others for any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["command", "option", "words", "output", "python", "keyword", "method"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One row: what it was, what it is now (None: there is no equivalent), and why or what to do instead."""

    kind: Kind
    old: str
    new: str | None
    note: str = ""


def _command(old: str, new: str | None, note: str = "") -> Migration:
    return Migration(kind="command", old=old, new=new, note=note)


def _option(old: str, new: str | None, note: str = "") -> Migration:
    return Migration(kind="option", old=old, new=new, note=note)


def _sorted(name: str) -> Migration:
    return _option(f"list --sort {name}d", f"list --sort {name} --reverse", "a last d meant descending")


_NO_KEYWORDS = "no keywords are made up for models; lmstrix list FILTER knows tags, name, arch, quant and more"
_NO_DESCRIPTIONS = "LMStrix writes no descriptions of models; lmstrix recommend says what each is good for"
_NO_SPEED_SORT = "list sorts by no speed; list --columns model,prefill,decode shows it, recommend --prefer speed ranks"

WORDS = (
    Migration(
        kind="words",
        old="infer PROMPT MODEL",
        new="infer PROMPT -m MODEL",
        note="the model as second word",
    ),
    Migration(
        kind="words",
        old="infer PROMPT MODEL N",
        new="infer PROMPT -m MODEL --max-tokens N",
        note="the third word was --out_ctx; -1 is auto",
    ),
    Migration(
        kind="words",
        old="infer MODEL --prompt TEXT",
        new="infer --prompt TEXT -m MODEL",
        note="the model as the only word, beside a --prompt",
    ),
    Migration(
        kind="words",
        old="infer MODEL --prompt-file FILE --template NAME",
        new="infer --file-prompt FILE --template NAME -m MODEL",
        note="NAME is a prompt of FILE; without --file-prompt it is a stored one",
    ),
)
"""Rows about words without an option: which word is meant depends on how many there are."""

_COMMANDS = (
    _command("health", "doctor"),
    _command("about", "list --show summary"),
    _command("optimize", "test"),
    _command("models list", "list"),
    _command("models scan", "scan"),
    _command("desc", None, _NO_DESCRIPTIONS),
    _command("describe", None, _NO_DESCRIPTIONS),
)

_INFER = (
    _option("infer --model_id MODEL", "infer --model MODEL"),
    _option("infer --out_ctx -1", "infer --max-tokens auto", "no limit but the context itself"),
    _option("infer --max-tokens -1", "infer --max-tokens auto", "no limit but the context itself"),
    _option("infer --context N", "infer --in-ctx N"),
    _option("infer --param_temp X", "infer --temperature X"),
    _option("infer --param_top_k X", "infer --top-k X"),
    _option("infer --param_top_p X", "infer --top-p X"),
    _option("infer --param_min_p X", "infer --min-p X"),
    _option("infer --param_repeat X", "infer --repeat-penalty X"),
    _option("infer --force-reload", "infer --reload"),
    _option("infer --continue-conv", "infer --continue"),
    _option("infer --no-wrap", "infer", "answers are never wrapped"),
    _option("infer --prompt-file FILE", "infer --file-prompt FILE"),
    _option("infer --variable NAME=VALUE", "infer --var NAME=VALUE"),
)

_TEST = (
    _option("test --model_id MODEL", "test --model MODEL"),
    _option("test -a", "test --all"),
    _option("test -c N", "test --ctx N"),
    _option("test -c", "test --continue"),
    _option("test --failed", "test", "test --all takes up failed models where more memory is free; --force all"),
    _option("test --parallel N", "test", "models are tested one after the other, or each would see less memory"),
    _option("test --sort X", "test", "the order had no effect; --all takes the smallest risk first"),
    _option("test --key X", None, _NO_KEYWORDS),
)

_LIST = (
    _option("list -r", "list --reverse"),
    *(_sorted(name) for name in ("id", "name", "ctx", "dtx", "size", "status", "date", "eff", "smart")),
    _option("list --sort size_gb", "list --sort size --reverse", "it was descending"),
    *(_option(f"list --sort {name}", None, _NO_SPEED_SORT) for name in ("ttft", "ttftd", "tps", "tpsd")),
    _option("list --sort arch", None, "list arch:NAME shows the models of an architecture"),
    _option("list --sort archd", None, "list arch:NAME shows the models of an architecture"),
    *(_option(f"list --sort {name}", None, _NO_KEYWORDS) for name in ("inp", "inpd", "outp", "outpd", "proc", "procd")),
    _option("list --show md", None, "list writes no Markdown; --show csv, yaml or json are for programs"),
    _option("list --key X", None, _NO_KEYWORDS),
)

_OTHER = (
    _option("scan -r", "scan --refresh"),
    _option("scan --all", "scan --refresh"),
    _option("save --threshold 0", "save", "0 was the default, and had no effect"),
    _option("save --threshold N", None, "save MODEL --limit N% caps the models it is given for, one by one"),
)

_OUTPUT = (
    Migration(kind="output", old="list --show json", new="list --compat", note="a list, with id, name, status and all"),
    Migration(
        kind="output", old="infer --format json", new="infer --compat", note="with response, tokens_used and all"
    ),
)


def _names(module: str, new: str, names: str, note: str = "") -> tuple[Migration, ...]:
    """One row for each of the names of a module."""
    return tuple(Migration(kind="python", old=f"lmstrix.{module}.{name}", new=new, note=note) for name in names.split())


def _gone(old: str, note: str) -> Migration:
    return Migration(kind="python", old=f"lmstrix.{old}", new=None, note=note)


_LIST_MODELS = "LMStrix().list_models()"
_PYTHON = (
    *_names("loaders.model_loader", _LIST_MODELS, "load_model_registry"),
    *_names("loaders.model_loader", _LIST_MODELS, "save_model_registry", "scans and tests write what they find"),
    *_names("loaders.model_loader", "LMStrix().scan()", "scan_and_update_registry"),
    *_names("loaders.model_loader", "LMStrix().reset(model)", "reset_test_data"),
    *_names("loaders", _LIST_MODELS, "load_model_registry save_model_registry"),
    *_names("core.models", _LIST_MODELS, "ModelRegistry"),
    *_names("core.models", "lmstrix.ModelRecord", "Model"),
    *_names("core.models", "ModelRecord.test_status", "ContextTestStatus"),
    *_names("core.models", "lmstrix.RegistryError", "ModelRegistryError"),
    *_names("core", _LIST_MODELS, "ModelRegistry"),
    *_names("core", "lmstrix.ModelRecord", "Model"),
    *_names("core", "ModelRecord.test_status", "ContextTestStatus"),
    *_names("core.inference_manager", "LMStrix().infer(prompt, model)", "InferenceManager"),
    *_names("core", "LMStrix().infer(prompt, model)", "InferenceManager"),
    *_names("core.context_tester", "LMStrix().test_model(model)", "ContextTester"),
    *_names("core", "LMStrix().test_model(model)", "ContextTester"),
    *_names("core.scanner", "LMStrix().scan()", "ModelScanner"),
    *_names("core.prompts", "LMStrix().prompts", "PromptResolver ResolvedPrompt"),
    *_names("core", "LMStrix().prompts", "PromptResolver ResolvedPrompt"),
    *_names("loaders.prompt_loader", "LMStrix().prompts.render(file, names)", "load_prompts load_single_prompt"),
    *_names("loaders", "LMStrix().prompts.render(file, names)", "load_single_prompt"),
    *_names("api", "lmstrix.LMStrix", "LMStudioClient"),
    *_names(
        "api.exceptions",
        "lmstrix.BackendUnavailableError",
        "APIConnectionError LMStudioConnectionError LMStudioInstallationNotFoundError",
    ),
    *_names("api.exceptions", "lmstrix.GenerationError", "InferenceError"),
    *_names("api.exceptions", "lmstrix.StreamStalledError", "InferenceTimeoutError"),
    *_names("api.exceptions", "lmstrix.ContextOverflowError", "ContextLimitExceededError"),
    *_names("api.exceptions", "lmstrix.PromptError", "ConfigurationError"),
    *_names("api.exceptions", "lmstrix.RegistryError", "ModelRegistryError RegistryValidationError"),
    *_names("api.exceptions", "lmstrix.UsageError", "ValidationError"),
    *_names("api.exceptions", "lmstrix.LMStrixError", "LMStrixError"),
    *_names("api.exceptions", "lmstrix.ModelLoadError", "ModelLoadError"),
    *_names("api.exceptions", "lmstrix.ModelNotFoundError", "ModelNotFoundError"),
    *_names("utils.logging", "logging.getLogger('lmstrix')", "logger setup_logging"),
    _gone("loaders.prompt_loader.save_prompts", "write the TOML file with a TOML library; prompts lint checks it"),
    _gone("loaders.prompt_loader.PromptLoader", "LMStrix().prompts has templates, render and lint"),
    _gone("core.context_tester.ContextTestResult", "LMStrix().test_history(model) has each step of a test"),
    _gone("core.inference_manager.AsyncInferenceManager", "lmstrix.AsyncLMStrix asks without blocking"),
    _gone("core.batch_processor.BatchProcessor", "LMStrix().batch asks every prompt of every model"),
    _gone("core.scanner.Scanner", "LMStrix().scan() finds models, LMStrix().doctor() checks the server"),
    _gone("api.main.LMStrixService", "lmstrix.LMStrix has these as scan, list_models, test_model, infer and save"),
    _gone("utils.config.Config", "settings come from config.toml and LMSTRIX_ variables; LMStrix(…) takes the rest"),
    _gone("utils.comparison.ModelComparator", "LMStrix().bench([model, model]) compares models"),
)
_KEYWORDS = (
    *(
        Migration(kind="keyword", old=f"infer({old}=)", new=f"infer({new}=)", note=note)
        for old, new, note in (
            ("model_id", "model", ""),
            ("in_ctx", "context_length", "a percentage is a float: 0.25"),
            ("out_ctx", "max_tokens", "a percentage is a float: 0.25; -1 is None"),
            ("force_reload", "reload", ""),
        )
    ),
    Migration(kind="keyword", old="test_model(fast_mode=)", new="test_model(fast=)"),
    Migration(kind="keyword", old="test_model(ctx=)", new="test_model(context_length=)"),
    Migration(kind="keyword", old="test_model(model_id=)", new="test_model(model=)"),
)
_METHODS = tuple(
    Migration(kind="method", old=f"LMStrix().{old}()", new=f"LMStrix().{new}()")
    for old, new in (("list", "list_models"), ("scan_models", "scan"), ("test", "test_model"))
)

ROWS: tuple[Migration, ...] = (
    *WORDS,
    *_COMMANDS,
    *_INFER,
    *_TEST,
    *_LIST,
    *_OTHER,
    *_OUTPUT,
    *_PYTHON,
    *_KEYWORDS,
    *_METHODS,
)
"""Every row, in the order of the migration page."""
