"""The table of everything that is called otherwise than in the earlier LMStrix: one row each, and no code.

`cli.earlier_words` reads the rows of the command line as rules, `earlier.modules` those of Python; the migration page
is written from all of them. In a command's row capitals stand for the user's words: N for a number, others for any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lmstrix.earlier.gone_names import MEMBERS, MODULE_NAMES

Kind = Literal["command", "option", "words", "output", "behaviour", "python", "keyword", "method", "member"]


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


def _words(old: str, new: str, note: str) -> Migration:
    return Migration(kind="words", old=old, new=new, note=note)


BY_COUNT = {
    2: _words("infer PROMPT MODEL", "infer PROMPT -m MODEL", "the model as second word"),
    3: _words(
        "infer PROMPT MODEL N", "infer PROMPT -m MODEL --max-tokens N", "the third word was --out_ctx; -1 is auto"
    ),
    4: _words(
        "infer PROMPT MODEL N N", "infer PROMPT -m MODEL --max-tokens N --in-ctx N", "the fourth word was --in_ctx"
    ),
}
"""Which word of `infer` is meant depends on how many there are."""
MODEL_ALONE = _words(
    "infer MODEL --prompt TEXT",
    "infer --prompt TEXT -m MODEL",
    "the model as the only word, beside a --prompt",
)
MODEL_BESIDE_FILE = _words(
    "infer MODEL --prompt-file FILE --template NAME",
    "infer --file-prompt FILE --template NAME -m MODEL",
    "NAME is a prompt of FILE; without --file-prompt it is a stored one",
)
SWITCH_WITH_WORD = _words(
    "infer PROMPT --stream True", "infer PROMPT --stream=True", "and so with every switch, and with False"
)
NO_WITHOUT_DASH = _words("infer PROMPT --nostream", "infer PROMPT --no-stream", "and so with every switch")
LETTER_WITH_EQUALS = _words(
    "infer PROMPT -m=qwen3-8b", "infer PROMPT -m qwen3-8b", "and so with every option of one letter"
)
ONE_DASH = _words("infer PROMPT -temperature X", "infer PROMPT --temperature X", "and so with every option")

_FORMS = (
    *BY_COUNT.values(),
    MODEL_ALONE,
    MODEL_BESIDE_FILE,
    SWITCH_WITH_WORD,
    NO_WITHOUT_DASH,
    LETTER_WITH_EQUALS,
    ONE_DASH,
)

_COMMANDS = (
    _command("health", "doctor"),
    _command("about", "list --show summary"),
    _command("optimize", "test"),
    _command("models list", "list"),
    _command("models scan", "scan"),
    _command("desc", None, _NO_DESCRIPTIONS),
    _command("describe", None, _NO_DESCRIPTIONS),
    _command("service", None, "it was there by accident; scan, list, test, infer and save do what it did"),
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
    _option("infer -o N", "infer --max-tokens N"),
    _option("infer -i N", "infer --in-ctx N"),
    _option("infer -r", "infer --reload"),
    _option("infer -d NAME=VALUE", "infer --dict NAME=VALUE"),
    _option("infer --no-wrap", "infer", "answers are never wrapped"),
    _option("infer --prompt-file FILE", "infer --file-prompt FILE"),
    _option("infer --variable NAME=VALUE", "infer --var NAME=VALUE"),
)

_TEST = (
    _option("test --model_id MODEL", "test --model MODEL"),
    _option("test -a", "test --all"),
    _option("test -c N", "test --ctx N"),
    _option("test -c", "test --continue"),
    _option("test -p TEXT", "test --prompt TEXT"),
    _option("test -r", "test --reset"),
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
    _option("list --columns ctx", "list --columns tested", "among other columns too"),
    _option("list --show md", None, "list writes no Markdown; --show csv, yaml or json are for programs"),
    _option("list --key X", None, _NO_KEYWORDS),
)

_OTHER = (
    _option("scan -r", "scan --refresh"),
    _option("scan --all", "scan --refresh"),
    _option("scan -f", "scan --failed"),
    _option("registry export --full-metadata FILE", "registry export FILE", "all that is known is always exported"),
    _option(
        "--models-file FILE", None, "the registry is lmstrix.json in the LMStrix home; --home FOLDER names another"
    ),
    _option("save -f", "save --flash"),
    _option("save -l X", "save --limit X"),
    _option("save --threshold 0", "save", "0 was the default, and had no effect"),
    _option("save --threshold N", None, "save MODEL --limit N% caps the models it is given for, one by one"),
)

_OUTPUT = (
    Migration(kind="output", old="list --show json", new="list --compat", note="a list, with id, name, status and all"),
    Migration(
        kind="output", old="infer --format json", new="infer --compat", note="with response, tokens_used and all"
    ),
)


def _behaviour(old: str, new: str | None, note: str) -> Migration:
    return Migration(kind="behaviour", old=old, new=new, note=note)


_BEHAVIOUR = (
    _behaviour(
        "test stopped at 31,744 tokens unless told otherwise",
        "test goes as far as the model declares and memory holds",
        "--threshold N, or safety.threshold of the settings, is a ceiling",
    ),
    _behaviour(
        "test asked two sums of a dozen tokens",
        "test fills the context and asks for codes hidden in it",
        "an empty context proves a load, and no use; --fast asks for an answer only, --prompt asks a question of yours",
    ),
    _behaviour(
        "test --all slept three seconds between models",
        None,
        "each model is unloaded before the next, and what memory is free is read each time",
    ),
    _behaviour(
        "infer loaded an untested model at all it declares",
        "infer loads an untested model at 4,096 tokens, or what the prompt needs",
        "what it declares often does not fit; lmstrix test finds what does, --in-ctx N asks for a length",
    ),
    _behaviour(
        "infer left its model loaded for good",
        "infer keeps its model for five minutes after its last use",
        "--ttl SECONDS, or lmstrix load MODEL, keeps it longer",
    ),
    _behaviour(
        "infer completed the prompt without the chat template",
        "infer asks through the model's chat template",
        "models that chat answer worse without it; --raw completes as before",
    ),
    _behaviour(
        "infer --out_ctx 0, -5 or 0% meant no limit",
        "infer --max-tokens auto",
        "only -1 and auto are no limit; other sizes that cannot be are refused",
    ),
    _behaviour(
        "infer tried again at 80 % of the tested context after a lack of memory",
        None,
        "a lack of memory is told, with what would fit; no answer comes from less context than was asked for",
    ),
    _behaviour(
        "unload_all_models=True unloaded every model of the server",
        "lmstrix unload --all",
        "what others have loaded is theirs; LMStrix ends what it loaded itself",
    ),
    _behaviour(
        "prompts were read as Python values",
        "prompts are text",
        '"123", "[x]" and "# Title" arrive as they were written; what begins with - goes after --',
    ),
    _behaviour(
        "values with placeholders were filled again",
        "values stay what they are",
        "a text may hold braces; prompts of a file may name each other",
    ),
    _behaviour(
        "a prompt file's own values beat those of --dict",
        "what the caller gives beats the file",
        "the file's values are defaults",
    ),
    _behaviour(
        ".lmstrix_state.json",
        None,
        "the last used model is learnt anew with the first answer; config set model NAME keeps one",
    ),
    _behaviour(
        ".lmstrix.json of a project's folder",
        ".lmstrix.toml",
        "with the sections of today; lmstrix config validate FILE checks it",
    ),
    _behaviour(
        "list --filter type:chat, type:code",
        "list type:llm",
        "what a model is good for is not told by its file; lmstrix registry tag MODEL code, and list tag:code",
    ),
    _behaviour(
        "desc --search, with POE_API_KEY",
        None,
        "LMStrix looks nothing up on the web",
    ),
    _behaviour(
        "context_cache.json",
        None,
        "results are in the registry, not in the folder a script happens to run in",
    ),
)


def _names(module: str, new: str, names: str, note: str = "") -> tuple[Migration, ...]:
    """One row for each of the names of a module."""
    return tuple(Migration(kind="python", old=f"lmstrix.{module}.{name}", new=new, note=note) for name in names.split())


def _gone(old: str, note: str) -> Migration:
    return Migration(kind="python", old=f"lmstrix.{old}", new=None, note=note)


_LIST_MODELS = "LMStrix().list_models()"
_EXCEPTIONS = {
    "BackendUnavailableError": "APIConnectionError LMStudioConnectionError LMStudioInstallationNotFoundError",
    "GenerationError": "InferenceError",
    "StreamStalledError": "InferenceTimeoutError",
    "ContextOverflowError": "ContextLimitExceededError",
    "PromptError": "ConfigurationError",
    "RegistryError": "ModelRegistryError RegistryValidationError InvalidModelError InvalidModelCountError",
    "UsageError": "ValidationError InvalidContextLimitError InvalidModelSizeError",
    "LMStrixError": "LMStrixError",
    "ModelLoadError": "ModelLoadError",
    "ModelNotFoundError": "ModelNotFoundError",
}
"""What is raised today, and what was raised in its place."""
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
    *_names("api.client", "lmstrix.LMStrix", "LMStudioClient"),
    *_names("core.inference", "LMStrix().infer(prompt, model)", "InferenceManager"),
    Migration(kind="python", old="lmstrix.Model", new="lmstrix.ModelRecord"),
    *_names("loaders", "LMStrix().prompts.render(file, names)", "load_prompts"),
    *_names("utils", "logging.getLogger('lmstrix')", "logger setup_logging"),
    *(
        row
        for module in ("api.exceptions", "api")
        for new, names in _EXCEPTIONS.items()
        for row in _names(module, f"lmstrix.{new}", names)
    ),
    *_names("utils.logging", "logging.getLogger('lmstrix')", "logger setup_logging"),
    *(_gone(name, instead) for instead, names in MODULE_NAMES.items() for name in names.split()),
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

_MEMBERS = tuple(
    Migration(kind="member", old=f"{kind}.{name}", new=None, note=instead)
    for kind, names in MEMBERS.items()
    for name, instead in names.items()
)

ROWS: tuple[Migration, ...] = (
    *_FORMS,
    *_COMMANDS,
    *_INFER,
    *_TEST,
    *_LIST,
    *_OTHER,
    *_OUTPUT,
    *_BEHAVIOUR,
    *_PYTHON,
    *_KEYWORDS,
    *_METHODS,
    *_MEMBERS,
)
"""Every row, in the order of the migration page."""
