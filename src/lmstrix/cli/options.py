"""Options that several commands share, each group once, with the help of each field. A command takes the whole record.

Each group makes itself what the layers below take: a LoadConfig, variables by name, part of a request.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lmstrix.cli.kinds import ByteCount, Flag, LatencyLimits, Port, Rates, Seconds, SomeText, TokensOrAll, TokensOrRatio
from lmstrix.cli.signatures import Only
from lmstrix.ground.choices import CacheType, ReasoningEffort  # noqa: TC001 - describe() evaluates the annotations
from lmstrix.ground.errors import UsageError
from lmstrix.ground.ranges import RANGES
from lmstrix.ground.sampling import Sampling, sampling_of
from lmstrix.ground.text import decoded

if TYPE_CHECKING:
    from lmstrix.core.answers.request import InferRequest
    from lmstrix.ground.documents import Value
    from lmstrix.ground.loads import LoadConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonOptions:
    """Options of every command.

    Args:
        json: Print the result as JSON, with a schema name.
        verbose: Say more on stderr.
        quiet: Say nothing but results and errors.
        debug: Log on stderr what is done and decided, and show tracebacks.
        log_file: Write that log to a file.
        color: Colours (switch off with --no-color, or NO_COLOR in the environment).
        emoji: No effect, for scripts of the earlier LMStrix: nothing here prints emoji.
        server: auto, lmstudio, embedded, or an address such as 127.0.0.1:1234 or https://host.
        timeout: Limit of one whole answer, connecting and loading included, such as 90 or 10m.
        config: A config file instead of lmstrix/config.toml in the LMStrix home.
        profile: A [profiles.NAME] table of the config file, or profiles/NAME.toml beside it.
        home: Another LMStrix home for this command, as LMSTRIX_HOME names one.
        help: Show help.
    """

    json: bool = False
    verbose: bool = False
    quiet: bool = False
    debug: bool = False
    log_file: str | None = None
    color: bool = True
    emoji: bool = True
    server: str | None = None
    timeout: Seconds | None = None
    config: str | None = None
    profile: str | None = None
    home: str | None = None
    help: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How a model is loaded.

    Args:
        parallel_slots: Requests answered at the same time.
        k_cache_type: Type of the K cache.
        v_cache_type: Type of the V cache.
        flash_attention: Flash attention on, or off with --no-flash-attention.
        gpu: Share of layers on the GPU, 0 to 1.
        batch_size: Tokens of a prompt read at a time; fewer than 512 need less memory.
        threads: Threads of the processor that compute.
        mlock: Lock the weights in memory, so that none are swapped out; or do not (--no-mlock).
    """

    parallel_slots: int = 1
    k_cache_type: CacheType | None = None
    v_cache_type: CacheType | None = None
    flash_attention: bool | None = None
    gpu: Annotated[float | None, RANGES["gpu_ratio"]] = None
    batch_size: Annotated[int | None, RANGES["eval_batch_size"]] = None
    threads: int | None = None
    mlock: bool | None = None

    def config(self, context_length: int | None = None) -> LoadConfig:
        """The load these options ask for, of so long a context."""
        from lmstrix.ground.loads import LoadConfig  # which --help can do without

        return LoadConfig(
            context_length=context_length,
            gpu_ratio=self.gpu,
            k_cache_type=self.k_cache_type,
            v_cache_type=self.v_cache_type,
            flash_attention=self.flash_attention,
            parallel_slots=self.parallel_slots,
            eval_batch_size=self.batch_size,
            threads=self.threads,
            keep_in_memory=self.mlock,
        )


LOAD_FLAGS = Only("gpu", "k_cache_type", "v_cache_type", "flash_attention", "batch_size", "threads", "mlock")
"""How a model is loaded, where the command itself says for how many requests at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstLoadOptions:
    """How side B of a comparison is loaded, where otherwise than side A.

    Args:
        against_k_cache_type: Type of the K cache on side B.
        against_v_cache_type: Type of the V cache on side B.
        against_flash_attention: Flash attention on side B, or none with --no-against-flash-attention.
        against_gpu: Share of layers on the GPU on side B, 0 to 1.
        against_batch_size: Tokens of a prompt read at a time on side B.
        against_threads: Threads of the processor on side B.
        against_mlock: Lock the weights in memory on side B, or not with --no-against-mlock.
    """

    against_k_cache_type: CacheType | None = None
    against_v_cache_type: CacheType | None = None
    against_flash_attention: bool | None = None
    against_gpu: Annotated[float | None, RANGES["gpu_ratio"]] = None
    against_batch_size: Annotated[int | None, RANGES["eval_batch_size"]] = None
    against_threads: Annotated[int | None, RANGES["threads"]] = None
    against_mlock: bool | None = None

    def over(self, load: LoadConfig) -> LoadConfig | None:
        """`load` with these in place of its own; None where none is given."""
        given = {
            "k_cache_type": self.against_k_cache_type,
            "v_cache_type": self.against_v_cache_type,
            "flash_attention": self.against_flash_attention,
            "gpu_ratio": self.against_gpu,
            "eval_batch_size": self.against_batch_size,
            "threads": self.against_threads,
            "keep_in_memory": self.against_mlock,
        }
        given = {name: value for name, value in given.items() if value is not None}
        return replace(load, **given) if given else None  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextOptions:
    """How much context an answer gets, and how much of it the answer may take.

    Args:
        context_length: Context length to load, or % of the tested one; 0 is the server's default.
        out_ctx: Most tokens of an answer, or % of the context; auto or max, the default, is all that is left (also
            --out-ctx).
    """

    context_length: Annotated[TokensOrRatio | None, Flag("in-ctx")] = None
    out_ctx: Annotated[TokensOrAll, Flag("max-tokens")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions(Sampling):
    """How tokens are drawn, where the answer ends, and how the model reasons before it.

    Args:
        temperature: Sampling temperature.
        top_k: Sample among the K likeliest tokens.
        top_p: Sample among tokens of this cumulative probability.
        min_p: Drop tokens less likely than this share of the likeliest.
        repeat_penalty: Penalty for repetition; 1 is none.
        presence_penalty: Penalty for tokens that were used, taken off once; 0 is none.
        frequency_penalty: The same, taken off as often as they were used.
        mirostat: Sample by mirostat 1 or 2, which only the embedded engine has; 0 is off.
        mirostat_tau: With --mirostat: the surprise of a token it aims at (5).
        mirostat_eta: With --mirostat: how fast it adapts (0.1).
        seed: Seed of the sampler.
        stop: Stop at this text (may be repeated).
        think: Let the model reason before it answers, or not (--no-think); refused where it cannot be told so.
        reasoning_effort: How much the model reasons before it answers; refused where it does not take that.
    """

    stop: list[SomeText] | None = None
    think: bool | None = None
    reasoning_effort: ReasoningEffort | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutOptions:
    """How long to wait for an answer.

    Args:
        first_token_timeout: Give up when no token came in this time.
        stream_timeout: Give up when no token came for this long.
    """

    first_token_timeout: Seconds | None = None
    stream_timeout: Seconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableOptions:
    """What fills the placeholders of a prompt or a prompt file.

    Args:
        variables: Variables: a=1,b='x, y'.
        var: One variable, NAME=VALUE as a text, or NAME:=JSON as a number, a list or a table (may be repeated).
        vars_file: Variables from a .json or .toml file, which --dict and --var override.
    """

    variables: Annotated[str | None, Flag("dict")] = None
    var: list[str] | None = None
    vars_file: str | None = None

    def values(self) -> dict[str, Value]:
        """All variables by name."""
        if self.variables is None and not self.var and self.vars_file is None:
            return {}
        from lmstrix.loaders.prompts import load_variables, parse_dict, parse_variable

        values: dict[str, Value] = dict(parse_dict(self.variables)) if self.variables is not None else {}
        for word in self.var or ():
            name, value = parse_variable(word)
            # Two values for one name is a slip in a long command line; taking the last would hide it.
            if name in values:
                raise UsageError(f"--var: {name!r} is given twice")
            values[name] = value
        return {**(load_variables(self.vars_file) if self.vars_file is not None else {}), **values}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationOptions:
    """What goes before the question.

    Args:
        system_prompt: System prompt.
        go_on: Continue the conversation of the last infer or chat.
    """

    system_prompt: str | None = None
    go_on: Annotated[bool, Flag("continue")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficOptions:
    """Requests that arrive at a rate, whether or not earlier ones are answered.

    Args:
        rate: Requests per second, such as 0.5,1,2: they arrive at random, as users come.
        sweep: Raise the rate from one request at a time until the server no longer keeps up.
        span: How long each rate is kept up; without it for about 30 requests, 30 s at least.
        goodput: Targets of latency, such as ttft=1s,itl=50ms,e2e=20s: how many requests met all of them.
    """

    rate: Rates | None = None
    sweep: bool = False
    span: Seconds | None = None
    goodput: LatencyLimits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenOptions:
    """Where the embedded engine listens, for whom, and what it serves.

    Args:
        models_dir: Directory of models (publisher/repo/file.gguf).
        host: Address to listen on; anything but loopback needs an API token.
        port: Port to listen on; 0 takes a free one.
        memory_limit: Most memory that models may take, such as 8GiB.
        api_token_file: File with the token to ask clients for (sk-lm-XXXXXXXX:YYYYYYYYYYYYYYYYYYYY).
        cors: Let web pages of other origins connect.
    """

    models_dir: str | None = None
    host: str = "127.0.0.1"
    port: Port = 0
    memory_limit: ByteCount | None = None
    api_token_file: str | None = None
    cors: bool = False


def answer_request(context: ContextOptions, sampling: SamplingOptions, timeouts: TimeoutOptions) -> InferRequest:
    """What these three groups say of a request; the command adds the prompt and the rest."""
    from lmstrix.core.answers.request import InferRequest

    return InferRequest(
        prompt="",
        context_length=context.context_length,
        max_tokens=context.out_ctx,
        **sampling_of(sampling),
        stop=tuple(sampling.stop or ()),
        enable_thinking=sampling.think,
        reasoning_effort=sampling.reasoning_effort,
        first_token_s=timeouts.first_token_timeout,
        between_tokens_s=timeouts.stream_timeout,
    )


def prompt_text(prompt: str | None, file_prompt: str | None, template: str | None = None) -> str | None:
    """The prompt given as a word or in a file, or as one of a prompt file, if any."""
    if file_prompt is None:
        if template is not None:
            raise UsageError("--template names a prompt of a file: give --file-prompt FILE.toml too")
        return prompt
    if prompt is not None:
        raise UsageError("give --prompt or --file-prompt, not both")
    if template is not None:
        from lmstrix.service.prompting import fill_from_file

        return fill_from_file(file_prompt, [template], {}).text
    try:
        # UTF-8 always: by the locale the same file would be another prompt on another machine.
        return decoded(Path(file_prompt).read_bytes())
    except UnicodeDecodeError as exc:
        raise UsageError(
            f"{file_prompt} is not valid {exc.encoding.upper()} (byte {exc.start}); convert it first"
        ) from exc
