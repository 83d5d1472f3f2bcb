"""The commands: one method each, which calls the service and shows the result. Signatures are syntax, docstrings help.

`command_line` reads the words against these signatures; Fire dispatches. Methods return None: what they show goes
through `reports.console`, results to stdout and everything else to stderr.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from lmstrix.cli.words import (
    ByteCount,
    Flag,
    Invocation,
    Kind,
    Parameter,
    Port,
    Seconds,
    Tokens,
    TokensOrRatio,
    describe,
    parse,
)
from lmstrix.ground.errors import LMStrixError, UsageError
from lmstrix.ground.types import CacheType, LoadConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmstrix.api.portal import Portal
    from lmstrix.engine.daemon import EngineStatus
    from lmstrix.engine.options import EngineOptions
    from lmstrix.ground.paths import Paths
    from lmstrix.ground.settings import Settings
    from lmstrix.reports.console import Console
    from lmstrix.service import LMStrixService

SortKey = Literal["id", "name", "ctx", "tested", "size", "status", "date"]
ListShape = Literal["table", "id", "path", "json", "csv"]
Precision = Literal["safe", "balanced", "tight", "exhaustive"]
GROUPS = ("engine", "prompts", "bench")
BenchTask = Literal["story", "html", "code", "summary", "qa"]
ReportFormat = Literal["html", "md", "csv", "json", "junit"]
AllModels = Annotated[bool, Flag("all")]
InContext = Annotated[int | float | None, Kind("N|N%", lambda word, what: _tokens_or_ratio(word, what))]
TokenCounts = Annotated[str, Kind("N,N,…", lambda word, what: _each(word, what, _token_count))]
Counts = Annotated[str, Kind("N,N,…", lambda word, what: _each(word, what, _count))]
Percent = Annotated[float, Kind("N%", lambda word, what: _percent(word, what))]
OutContext = Annotated[int | float | None, Kind("N|N%|auto|max", lambda word, what: _all_or_tokens(word, what))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """Options of every command."""

    json: bool = False
    verbose: bool = False
    quiet: bool = False
    debug: bool = False
    color: bool = True
    emoji: bool = True
    server: str | None = None
    timeout: float | None = None
    config: str | None = None
    profile: str | None = None


def _common(
    *,
    json: bool = False,
    verbose: bool = False,
    quiet: bool = False,
    debug: bool = False,
    color: bool = True,
    emoji: bool = True,
    server: str | None = None,
    timeout: Seconds | None = None,
    config: str | None = None,
    profile: str | None = None,
    help: bool = False,  # noqa: A002 - the option is --help
) -> None:
    """Options of every command.

    Args:
        json: Print the result as JSON, with a schema name.
        verbose: Say more on stderr.
        quiet: Say nothing but results and errors.
        debug: Show tracebacks and debug messages.
        color: Colours (switch off with --no-color, or NO_COLOR in the environment).
        emoji: No effect, for scripts of the earlier LMStrix: nothing here prints emoji.
        server: auto, lmstudio, embedded, or an address such as 127.0.0.1:1234.
        timeout: Limit of one whole answer, such as 90 or 10m.
        config: A config file instead of config.toml in the LMStrix home.
        profile: A [profiles.NAME] table of the config file.
        help: Show help.
    """


class LMStrixCommands:
    """`lmstrix COMMAND`: public methods are commands; `engine_start` is `engine start`, `list_` spares a builtin."""

    def __init__(self, common: Common) -> None:
        self._common = common

    @functools.cached_property
    def _console(self) -> Console:
        from lmstrix.reports.console import Console

        common = self._common
        return Console(json=common.json, verbose=common.verbose, quiet=common.quiet, color=common.color)

    @functools.cached_property
    def _paths(self) -> Paths:
        from lmstrix.ground.paths import resolve_paths

        return resolve_paths()

    @functools.cached_property
    def _settings(self) -> Settings:
        from lmstrix.ground.settings import load_settings

        common = self._common
        return load_settings(
            self._paths.home,
            flags={"server": common.server, "timeout_s": common.timeout},
            config_file=Path(common.config) if common.config else None,
            profile=common.profile,
        )

    @functools.cached_property
    def _service(self) -> LMStrixService:
        from lmstrix.service import LMStrixService

        return LMStrixService(paths=self._paths, settings=self._settings, notify=self._console.note)

    @functools.cached_property
    def _portal(self) -> Portal:
        from lmstrix.api.portal import Portal

        return Portal()

    def _close(self) -> None:
        if "_portal" in vars(self):
            self._portal.close(last=self._service.close())

    def _know_models(self) -> None:
        """A scan first, where nothing is known yet."""
        if not len(self._service.registry()):
            self._portal.run(self._service.known_models())

    def scan(
        self,
        *,
        failed: bool = False,
        reset: bool = False,
        refresh: bool = False,
        update: bool = True,
        models_dir: str | None = None,
    ) -> None:
        """Find models on disk and on the server; merge them into the registry.

        Test results are kept: a model that is gone is marked missing, one that moved is recognised.

        Args:
            failed: Forget the results of models whose test failed.
            reset: Forget all test results.
            refresh: Read every file header again, also of files that did not change.
            update: Write the registry (--no-update only shows what would change).
            models_dir: Look here instead of in LM Studio's models directory.
        """
        directory = Path(models_dir) if models_dir else None
        forget: Any = "all" if reset else "failed" if failed else None
        report = self._portal.run(
            self._service.scan(models_dir=directory, refresh=refresh, write=update, forget=forget)
        )
        self._console.scan(report)

    def list_(
        self,
        filter: str | None = None,  # noqa: A002 - the word is FILTER
        *,
        show: ListShape = "table",
        sort: SortKey = "id",
        reverse: bool = False,
        header: bool = True,
        max_width: int | None = None,
    ) -> None:
        """List the models of the registry. Reads only; never touches a server.

        Args:
            filter: Show only models whose key or path contains this text.
            show: What to print: table, id, path, json or csv.
            sort: id, name, ctx (declared), tested, size, status or date.
            reverse: Sort the other way round.
            header: The head line of the table (--no-header leaves it out).
            max_width: Width of the table instead of the terminal's.
        """
        listing = self._service.list_models(containing=filter, sort=sort, reverse=reverse)
        self._console.listing(listing, show=show, header=header, max_width=max_width)

    def test(
        self,
        model: str | None = None,
        *,
        all_models: AllModels = False,
        threshold: Tokens | None = None,
        ctx: Tokens | None = None,
        precision: Precision = "balanced",
        fast: bool = False,
        force: bool = False,
        reset: bool = False,
        resume: bool = False,
        dry_run: bool = False,
        prompt: str | None = None,
        file_prompt: str | None = None,
        sort: Literal["risk", "id", "size", "ctx"] = "risk",
        load_timeout: Seconds | None = None,
        budget: Seconds | None = None,
        parallel_slots: int = 1,
        k_cache_type: CacheType | None = None,
        v_cache_type: CacheType | None = None,
        flash_attention: bool | None = None,
        gpu: float | None = None,
        unload_others: bool = False,
    ) -> None:
        """Find the real context limit of a model: load, fill for real, and ask what it remembers.

        Args:
            model: The model to test (its key, path, or an unambiguous beginning).
            all_models: Test every model that has no result yet, smallest risk first.
            threshold: Never try more than this many tokens.
            ctx: Test exactly this context length instead of searching.
            precision: How near to the edge: safe, balanced, tight or exhaustive (more failing loads for a smaller gap).
            fast: Skip the recall questions; a filled context that answers anything passes.
            force: Try sizes at or above one that failed before; with --all, test again what has a result.
            reset: Start afresh; the old result is replaced only when the new one exists.
            resume: Go on from the journal of an interrupted run (done automatically; kept for scripts).
            dry_run: Show what would be tried, with predicted memory and risk; touch nothing.
            prompt: Ask this instead of the recall questions; any answer passes.
            file_prompt: The same, read from a file.
            sort: Order of --all.
            load_timeout: Limit of one load.
            budget: Limit of one model's test in all.
            parallel_slots: Slots to load with (the result is stored for this number).
            k_cache_type: Type of the K cache.
            v_cache_type: Type of the V cache.
            flash_attention: Flash attention on, or off with --no-flash-attention.
            gpu: Share of layers on the GPU, 0 to 1.
            unload_others: First unload the models that others have loaded.
        """
        del resume  # an interrupted run is always continued; the word is accepted for scripts that say it
        from lmstrix.service.testing import ContextTestRequest

        if (model is None) == (not all_models):
            raise UsageError("test needs a MODEL or --all (lmstrix list shows the models)")
        if prompt is not None and file_prompt is not None:
            raise UsageError("give --prompt or --file-prompt, not both")
        if file_prompt is not None:
            prompt = _read_text(file_prompt)
        options = ContextTestRequest(
            threshold=threshold,
            context_length=ctx,
            precision=precision,
            fast=fast,
            force=force,
            reset=reset,
            prompt=prompt,
            load_timeout_s=load_timeout,
            budget_s=budget,
            load=LoadConfig(
                context_length=None,
                gpu_ratio=gpu,
                k_cache_type=k_cache_type,
                v_cache_type=v_cache_type,
                flash_attention=flash_attention,
                parallel_slots=parallel_slots,
            ),
            unload_others=unload_others,
        )
        if dry_run:
            self._know_models()
            self._console.test_plan(self._service.plan_tests(model, options, order=sort))
            return
        with self._console.test_progress() as progress:
            report = self._portal.run(
                self._service.test(model, options, order=sort, on_step=progress.step, on_model=progress.model)
            )
        self._console.test_report(report)
        if report.failed:
            raise LMStrixError(report.failure_line)

    def infer(
        self,
        prompt: str | None = None,
        *,
        model: str | None = None,
        auto_model: bool = False,
        stream: bool = False,
        file_prompt: str | None = None,
        variables: Annotated[str | None, Flag("dict")] = None,
        var: list[str] | None = None,
        text: str | None = None,
        text_file: str | None = None,
        context_file: list[str] | None = None,
        stdin: bool = False,
        system_prompt: str | None = None,
        go_on: Annotated[bool, Flag("continue")] = False,
        image: list[str] | None = None,
        in_ctx: InContext = None,
        out_ctx: OutContext = None,
        dry_run: bool = False,
        format: Literal["text", "json"] = "text",  # noqa: A002 - the option is --format
        save_response: str | None = None,
        schema: str | None = None,
        tools: list[str] | None = None,
        max_rounds: int = 10,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repeat_penalty: float | None = None,
        seed: int | None = None,
        stop: list[str] | None = None,
        cache: bool = False,
        reload: bool = False,
        raw: bool = False,
        ttl: Seconds = 300.0,
        first_token_timeout: Seconds | None = None,
        stream_timeout: Seconds | None = None,
    ) -> None:
        """Ask a model. The prompt is counted against the real context before anything is sent.

        Args:
            prompt: The prompt; - reads it from stdin, @FILE.toml:NAME takes it from a prompt file. Text that begins
                with - goes after --.
            model: The model (default: the one used last).
            auto_model: Let lmstrix recommend choose the model.
            stream: Print the answer as it comes.
            file_prompt: A TOML file of prompts; PROMPT then names one, or several joined with commas.
            variables: Variables of the prompt file: a=1,b='x, y'.
            var: One variable, NAME=VALUE (may be repeated).
            text: Fills {{text}} of the prompt file, or follows the prompt.
            text_file: The same, read from a file.
            context_file: A text file that goes before the prompt (may be repeated).
            stdin: Read the prompt from stdin, or with a prompt file its {{text}}.
            system_prompt: System prompt.
            go_on: Continue the conversation of the last infer or chat.
            image: Show the model this image (may be repeated).
            in_ctx: Context length to load, or % of the tested one; 0 is the server's default.
            out_ctx: Most tokens to generate, or % of the context; auto or max, the default, is all that is left.
            dry_run: Show the prompt and its size; send nothing.
            format: text, or json as --json does.
            save_response: Also write the answer to this file.
            schema: Shape of the answer: a JSON schema file, or pydantic:MODULE:CLASS. It is checked.
            tools: Python functions the model may call, MODULE:FUNCTION joined with commas (may be repeated).
            max_rounds: With --tools: give up when the model calls tools for more rounds than this.
            temperature: Sampling temperature.
            top_k: Sample among the K likeliest tokens.
            top_p: Sample among tokens of this cumulative probability.
            min_p: Drop tokens less likely than this share of the likeliest.
            repeat_penalty: Penalty for repetition.
            seed: Seed of the sampler.
            stop: Stop at this text (may be repeated).
            cache: Take the answer from an earlier call that was exactly the same, and keep this one.
            reload: Load a fresh instance even if a loaded one would do.
            raw: Plain completion without the chat template.
            ttl: Keep an instance loaded here this long after its last use; 0 unloads it at once.
            first_token_timeout: Give up when no token came in this time.
            stream_timeout: Give up when no token came for this long.
        """
        from lmstrix.core.answers.request import InferRequest
        from lmstrix.service.inferring import Inferring, InferWords, tools_of_words
        from lmstrix.service.prompting import PromptWords, load_schema

        console = self._console
        console.json = console.json or format == "json"
        named = file_prompt is not None or _is_reference(prompt)
        piped = None
        if stdin:
            if prompt is not None and not named:
                raise UsageError("give the prompt as a word or on stdin (-), not both")
            piped = _read_stdin()
        if named and piped is not None and (text is not None or text_file is not None):
            raise UsageError("the text comes from stdin or from --text or --text-file, not from two of them")
        words = PromptWords(
            prompt=prompt if piped is None or named else piped,
            file=file_prompt,
            variables=_variables(variables, var),
            text=piped if named and piped is not None else text,
            text_file=text_file,
            context_files=tuple(context_file or ()),
            literal=piped is not None and not named,
        )
        request = InferRequest(
            prompt="",
            model=model,
            system_prompt=system_prompt,
            in_ctx=in_ctx,
            out_ctx=out_ctx,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repeat_penalty=repeat_penalty,
            seed=seed,
            stop=tuple(stop or ()),
            images=tuple(image or ()),
            tools=tools_of_words(tools or ()),
            max_rounds=max_rounds,
            cache=cache,
            reload=reload,
            raw=raw,
            ttl_s=ttl,
            first_token_s=first_token_timeout,
            between_tokens_s=stream_timeout,
        )
        inferring = Inferring(
            self._service,
            InferWords(
                prompt=words,
                request=request,
                auto_model=auto_model,
                go_on=go_on,
                schema=load_schema(schema) if schema is not None else None,
                save_response=Path(save_response).expanduser() if save_response is not None else None,
            ),
        )
        if dry_run:
            console.rehearsal(self._portal.run(inferring.dry_run()))
            return
        live = stream and not console.json
        result = console.answer(self._portal.iterate(inferring.events(on_prepared=console.fits)), live=live)
        inferring.keep(result)
        console.answered(result, streamed=live)

    def chat(
        self,
        *,
        model: str | None = None,
        system_prompt: str | None = None,
        go_on: Annotated[bool, Flag("continue")] = False,
        conversation: str | None = None,
        in_ctx: InContext = None,
        out_ctx: OutContext = None,
        temperature: float | None = None,
        seed: int | None = None,
        stream_timeout: Seconds | None = None,
    ) -> None:
        """Talk with a model. /help inside shows what else a line can do; over a pipe each line is a question.

        Args:
            model: The model (default: the one used last, or that of the conversation).
            system_prompt: System prompt.
            go_on: Continue the conversation of the last chat or infer.
            conversation: Continue the conversation kept under this name.
            in_ctx: Context length to load, or % of the tested one; 0 is the server's default.
            out_ctx: Most tokens of an answer, or % of the context; auto or max, the default, is all that is left.
            temperature: Sampling temperature.
            seed: Seed of the sampler.
            stream_timeout: Give up when no token came for this long.
        """
        from lmstrix.core.answers.request import InferRequest
        from lmstrix.reports.chat import run_chat

        request = InferRequest(
            prompt="",
            in_ctx=in_ctx,
            out_ctx=out_ctx,
            temperature=temperature,
            seed=seed,
            between_tokens_s=stream_timeout,
        )
        if go_on and conversation is not None:
            raise UsageError("give --continue or --conversation NAME, not both")
        session = self._portal.run(
            self._service.chat(request, model=model, system_prompt=system_prompt, name=conversation, latest=go_on)
        )
        run_chat(session, self._console, say=lambda text: self._portal.iterate(session.say(text)))

    def batch(
        self,
        *,
        prompts: list[str],
        models: list[str],
        out: str,
        inputs: list[str] | None = None,
        variables: Annotated[str | None, Flag("dict")] = None,
        var: list[str] | None = None,
        skip_existing: bool = True,
        parallel: int = 1,
        system_prompt: str | None = None,
        in_ctx: InContext = None,
        out_ctx: OutContext = None,
        temperature: float | None = None,
        seed: int | None = None,
        first_token_timeout: Seconds | None = None,
        stream_timeout: Seconds | None = None,
    ) -> None:
        """Ask every prompt of every model about every input; one file an answer. Run again, it goes on where it was.

        Args:
            prompts: A prompt file, F.toml or F.toml:NAME,NAME, or a text file (may be repeated).
            models: Models joined with commas (may be repeated), or all.
            out: Folder for the answers and index.jsonl.
            inputs: A text file, a folder or a pattern such as 'notes/*.md' (may be repeated); fills {{text}}.
            variables: Variables of the prompt files: a=1,b='x, y'.
            var: One variable, NAME=VALUE (may be repeated).
            skip_existing: Skip what is answered already (--no-skip-existing asks again).
            parallel: Requests in flight at a time; the model is loaded with as many slots, which share its context.
            system_prompt: System prompt, where the prompt file has none.
            in_ctx: Context length to load, or % of the tested one; 0 is the server's default.
            out_ctx: Most tokens of an answer, or % of the context; auto or max, the default, is all that is left.
            temperature: Sampling temperature.
            seed: Seed of the sampler.
            first_token_timeout: Give up on an answer when no token came in this time.
            stream_timeout: Give up on an answer when no token came for this long.
        """
        from lmstrix.core.answers.request import InferRequest
        from lmstrix.service.batching import BatchRequest

        request = BatchRequest(
            prompts=prompts,
            models=models,
            out=Path(out).expanduser(),
            inputs=inputs or [],
            variables=_variables(variables, var),
            parallel=parallel,
            skip_existing=skip_existing,
            request=InferRequest(
                prompt="",
                system_prompt=system_prompt,
                in_ctx=in_ctx,
                out_ctx=out_ctx,
                temperature=temperature,
                seed=seed,
                first_token_s=first_token_timeout,
                between_tokens_s=stream_timeout,
            ),
        )
        with self._console.batch_progress() as progress:
            report = self._portal.run(self._service.batch(request, on_progress=progress))
        self._console.batch(report)
        if report.failed:
            first = report.failed[0]
            raise LMStrixError(
                f"{len(report.failed)} of {len(report.outcomes)} failed; the first, {first.item.file}: {first.error}"
            )

    def embed(self, *texts: str, stdin: bool = False, model: str | None = None, ttl: Seconds = 300.0) -> None:
        """Turn texts into vectors, one JSON array a line.

        Args:
            texts: The texts.
            stdin: Read the texts from stdin, one a line.
            model: The embedding model (default: the only one there is).
            ttl: Keep a model loaded here this long after its last use; 0 unloads it at once.
        """
        if bool(texts) == stdin:
            raise UsageError("embed needs TEXTS, or --stdin to read one a line")
        wanted = [line for line in _read_stdin().splitlines() if line.strip()] if stdin else list(texts)
        self._console.embedded(self._portal.run(self._service.embed(wanted, model=model, ttl_s=ttl)))

    def recommend(
        self,
        *,
        task: Literal["chat", "code", "vision", "tools", "embedding"] = "chat",
        min_ctx: Tokens | None = None,
        max_memory: ByteCount | None = None,
        prefer: Literal["speed", "balanced", "quality"] = "balanced",
        top: int = 5,
    ) -> None:
        """Rank the models for some work, by tested limits, predicted memory and logged speeds.

        Args:
            task: chat, code, vision, tools (calling functions) or embedding.
            min_ctx: Context it needs; a tested one counts, else the declared one.
            max_memory: Most memory it may take, such as 8GiB (default: what this machine has).
            prefer: What to rank by: speed, quality (size, that is) or balanced.
            top: Show this many.
        """
        from lmstrix.core.answers.recommend import Wish

        wish = Wish(task=task, min_context_length=min_ctx, max_memory_bytes=max_memory, prefer=prefer)
        self._know_models()
        advice = self._service.recommend(wish)
        self._console.advice(advice, top=max(1, top))
        if not advice.ranked:
            raise LMStrixError(f"no model serves: {advice.obstacles}")

    def prompts_list(self, file: str) -> None:
        """Show the prompts of a file, with what each needs.

        Args:
            file: The prompt file.
        """
        from lmstrix.service.prompting import open_library

        self._console.prompt_list(open_library(file))

    def prompts_render(
        self,
        file: str,
        names: str | None = None,
        *,
        variables: Annotated[str | None, Flag("dict")] = None,
        var: list[str] | None = None,
    ) -> None:
        """Fill prompts of a file and show what would be sent.

        Args:
            file: The prompt file.
            names: The prompts, joined with commas (default: the only one there is).
            variables: Variables: a=1,b='x, y'.
            var: One variable, NAME=VALUE (may be repeated).
        """
        from lmstrix.loaders.prompts import parse_names
        from lmstrix.service.prompting import render

        wanted = parse_names(names) if names else ()
        self._console.rendered(render(file, wanted, _variables(variables, var)))

    def prompts_lint(self, file: str) -> None:
        """Find what is wrong, or looks wrong, in a prompt file. Fails when a prompt cannot be rendered.

        Args:
            file: The prompt file.
        """
        from lmstrix.service.prompting import lint

        findings = lint(file)
        self._console.lint(findings)
        errors = sum(finding.severity == "error" for finding in findings)
        if errors:
            raise LMStrixError(f"{file}: {errors} error{'s' if errors > 1 else ''}; each line above names one")

    def logs(self, *, search: str | None = None, model: str | None = None, last: int = 20, stats: bool = False) -> None:
        """Show the calls made so far, newest first, or what they say of each model.

        Args:
            search: Only calls whose prompt or answer holds all these words, best match first.
            model: Only calls to this model.
            last: How many calls to show.
            stats: Show calls, tokens and mean speed of each model instead.
        """
        if last < 1:
            raise UsageError("--last: show at least 1 call")
        if stats:
            self._console.call_statistics(self._service.call_statistics(model=model))
        else:
            self._console.logged_calls(self._service.logged_calls(search=search, model=model, last=last))

    def bench(
        self,
        *models: str,
        all_models: AllModels = False,
        runs: int = 6,
        context_tiers: TokenCounts | None = None,
        max_tokens: Tokens = 256,
        task: BenchTask = "story",
        prompt: str | None = None,
        file_prompt: str | None = None,
        concurrency: Counts | None = None,
        power: bool = True,
        cold: bool = False,
        budget: Seconds | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        resume: bool = False,
        out: str | None = None,
        k_cache_type: CacheType | None = None,
        v_cache_type: CacheType | None = None,
        flash_attention: bool | None = None,
        gpu: float | None = None,
    ) -> None:
        """Measure models: load time, first token, speeds, memory, energy; writes a report with a page.

        Also: bench compare A B, bench report NAME, bench history. A server that speaks OpenAI's interface is measured
        with --server openai:http://127.0.0.1:8080/v1.

        Args:
            models: The models to measure.
            all_models: Measure every model that generates text.
            runs: Most runs of a cell (a model at one context and concurrency); an interval needs six.
            context_tiers: Context lengths to fill, such as 0,4k,16k; 0 is the prompt alone.
            max_tokens: Most tokens of an answer.
            task: What to ask for; html makes a gallery of pages.
            prompt: Ask this instead.
            file_prompt: The same, read from a file.
            concurrency: Requests at a time, such as 1,4.
            power: Measure energy, where a source can be read (--no-power: do not look for one).
            cold: Drop a model's files from the file cache before loading it, where the system can.
            budget: Limit of the whole benchmark; what is not reached is told.
            temperature: Sampling temperature.
            seed: Seed of the prompts' texts.
            resume: Go on with the last benchmark that asked the same and was interrupted.
            out: Folder of the report; without it a new one in the LMStrix home.
            k_cache_type: Type of the K cache.
            v_cache_type: Type of the V cache.
            flash_attention: Flash attention on, or off with --no-flash-attention.
            gpu: Share of layers on the GPU, 0 to 1.
        """
        from lmstrix.core.benchmark.records import BenchRequest
        from lmstrix.service.benching import BenchOptions

        if bool(models) == all_models:
            raise UsageError("bench needs MODELS or --all (lmstrix list shows the models)")
        if prompt is not None and file_prompt is not None:
            raise UsageError("give --prompt or --file-prompt, not both")
        if file_prompt is not None:
            prompt = _read_text(file_prompt)
        request = BenchRequest(
            runs=runs,
            tiers=cast("tuple[int, ...]", context_tiers or (0,)),
            concurrency=cast("tuple[int, ...]", concurrency or (1,)),
            task=task if prompt is None else "custom",
            prompt=prompt,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            budget_s=budget,
            cold=cold,
            load=LoadConfig(
                context_length=None,
                k_cache_type=k_cache_type,
                v_cache_type=v_cache_type,
                flash_attention=flash_attention,
                gpu_ratio=gpu,
            ),
        )
        folder = Path(out).expanduser() if out is not None else None
        options = BenchOptions(models=models, request=request, out=folder, power=power, resume=resume)
        with self._console.bench_progress() as progress:
            outcome = self._service.bench(options, on_event=progress.show).measure(self._portal.run)
        self._console.bench_report(outcome.report, outcome.index)
        if outcome.report.interrupted:
            raise KeyboardInterrupt
        if outcome.failed:
            raise LMStrixError(f"{len(outcome.failed)} of {len(outcome.report.cells)} failed; {outcome.failed[0]}")

    def bench_compare(self, first: str, second: str, *, fail_on: Percent | None = None) -> None:
        """Compare two benchmarks: differences with intervals, and whether the U test finds them real.

        Args:
            first: A report's folder, its report.json, its session (or the beginning of it), or last.
            second: The one to hold against it.
            fail_on: Exit with 1 if a figure is really worse by more than this, such as 5%.
        """
        comparison = self._service.compare_benches(first, second)
        self._console.bench_comparison(comparison)
        if fail_on is not None and (worse := comparison.regressions(fail_on)):
            worst = max(worse, key=lambda one: one.worsening_ratio)
            raise LMStrixError(
                f"{len(worse)} figure(s) worse by more than {fail_on * 100:g}%: {worst.figure} of {worst.cell} by "
                f"{worst.worsening_ratio:.1%}"
            )

    def bench_report(self, name: str, *, format: ReportFormat = "html", out: str | None = None) -> None:  # noqa: A002 - the option is --format
        """Write a benchmark's page again, or print it in another format.

        Args:
            name: A report's folder, its report.json, its session (or the beginning of it), or last.
            format: html writes the whole folder; the others go to stdout.
            out: Folder to write the page to, or file for the other formats.
        """
        place = Path(out).expanduser() if out is not None else None
        if format == "html" and not self._common.json:
            self._console.note(f"report: {self._service.rewrite_bench(name, place)}")
            return
        self._console.bench_format(self._service.find_bench(name), format=format, out=place)

    def bench_history(self, model: str | None = None, *, last: int = 20) -> None:
        """List the benchmarks made here, newest first.

        Args:
            model: Only those of this model.
            last: How many lines.
        """
        self._console.bench_history(self._service.bench_history(model=model, last=last))

    def power(self, *, watch: Seconds = 2.0) -> None:
        """Show what this machine tells of its power, for so long, and what would make it tell more.

        Args:
            watch: How long to measure.
        """
        report = self._portal.run(self._service.power(watch))
        self._console.power(report.states, report.channels, report.span_s)

    def load(
        self,
        model: str,
        *,
        ctx: Tokens | None = None,
        ttl: Seconds | None = None,
        identifier: str | None = None,
        gpu: float | None = None,
        k_cache_type: CacheType | None = None,
        v_cache_type: CacheType | None = None,
        flash_attention: bool | None = None,
        parallel_slots: int = 1,
    ) -> None:
        """Load a model at its tested context (or --ctx) and keep it loaded.

        Args:
            model: The model to load.
            ctx: Context length; without it the tested one.
            ttl: Unload after this long without use.
            identifier: Name of the instance; without it one is made.
            gpu: Share of layers on the GPU, 0 to 1.
            k_cache_type: Type of the K cache.
            v_cache_type: Type of the V cache.
            flash_attention: Flash attention on, or off with --no-flash-attention.
            parallel_slots: Requests answered at the same time.
        """
        with self._console.load_progress(model) as progress:
            loaded = self._portal.run(
                self._service.load(
                    model,
                    LoadConfig(
                        context_length=ctx,
                        gpu_ratio=gpu,
                        k_cache_type=k_cache_type,
                        v_cache_type=v_cache_type,
                        flash_attention=flash_attention,
                        parallel_slots=parallel_slots,
                    ),
                    ttl_s=ttl,
                    instance_id=identifier,
                    on_progress=progress,
                )
            )
        self._console.loaded([loaded], command="load")

    def unload(self, instance: str | None = None, *, all_models: AllModels = False) -> None:
        """Unload a loaded model.

        Args:
            instance: The identifier that lmstrix ps shows, or the key of a model loaded once.
            all_models: Unload everything that is loaded.
        """
        if (instance is None) == (not all_models):
            raise UsageError("unload needs an INSTANCE or --all (lmstrix ps shows them)")
        self._console.unloaded(self._portal.run(self._service.unload(instance)))

    def ps(self) -> None:
        """Show the loaded models with their effective context lengths."""
        self._console.loaded(self._portal.run(self._service.ps()), command="ps")

    def estimate(
        self,
        model: str,
        *,
        ctx: Tokens | None = None,
        k_cache_type: CacheType | None = None,
        v_cache_type: CacheType | None = None,
        flash_attention: bool | None = None,
        parallel_slots: int = 1,
    ) -> None:
        """Predict what a load takes and which context fits, by arithmetic. Loads nothing.

        Args:
            model: The model.
            ctx: Context length; without it the declared one.
            k_cache_type: Type of the K cache.
            v_cache_type: Type of the V cache.
            flash_attention: Flash attention on, or off with --no-flash-attention.
            parallel_slots: Requests answered at the same time.
        """
        load = LoadConfig(
            context_length=ctx,
            k_cache_type=k_cache_type,
            v_cache_type=v_cache_type,
            flash_attention=flash_attention,
            parallel_slots=parallel_slots,
        )
        self._console.estimate(self._portal.run(self._service.estimate(model, load)))

    def save(
        self,
        model: str | None = None,
        *,
        limit: TokensOrRatio | None = None,
        flash: bool | None = None,
        dry_run: bool = False,
        restore: bool = False,
    ) -> None:
        """Write tested contexts into LM Studio's own per-model defaults, so that the app loads what works.

        Args:
            model: Only this model; without it all tested ones.
            limit: Write no more than this many tokens, or this percentage of the tested context.
            flash: Also switch flash attention on (--no-flash: off).
            dry_run: Show what would change; write nothing.
            restore: Put back what was there before the first save.
        """
        saved = self._service.save(model, limit=limit, flash_attention=flash, dry_run=dry_run, restore=restore)
        self._console.saved(saved, dry_run=dry_run, restore=restore)
        problems = [item.problem for item in saved if item.problem]
        if problems:
            others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise LMStrixError(f"{problems[0]}{others}")

    def reset(self, model: str | None = None, *, all_models: AllModels = False, yes: bool = False) -> None:
        """Forget test results. What a model is stays known; only what was measured goes.

        Args:
            model: The model.
            all_models: Forget the results of all models; needs --yes.
            yes: Do it without asking.
        """
        if (model is None) == (not all_models):
            raise UsageError("reset needs a MODEL or --all")
        if all_models and not yes:
            raise UsageError("reset --all forgets every test result; add --yes to do it")
        self._console.reset(self._service.reset(model))

    def doctor(self) -> None:
        """Check what works on this machine, with remedies. Needs nothing installed."""
        report = self._portal.run(self._service.doctor())
        self._console.doctor(report)
        if not report.ok:
            raise LMStrixError(f"{report.problems} problem(s) found; each line above names its remedy")

    def engine_run(
        self,
        *,
        models_dir: str | None = None,
        host: str = "127.0.0.1",
        port: Port = 0,
        memory_limit: ByteCount | None = None,
        api_token: str | None = None,
        cors: bool = False,
    ) -> None:
        """Run the embedded engine in the foreground.

        Args:
            models_dir: Directory of models (publisher/repo/file.gguf).
            host: Address to listen on; anything but loopback needs --api-token.
            port: Port to listen on; 0 takes a free one.
            memory_limit: Most memory that models may take, such as 8GiB.
            api_token: Ask clients for this token (sk-lm-XXXXXXXX:YYYYYYYYYYYYYYYYYYYY).
            cors: Let web pages of other origins connect.
        """
        from lmstrix.engine.daemon import run_engine

        options = self._engine_options(models_dir, host, port, memory_limit, api_token, cors)
        run_engine(self._paths.home, options, on_ready=self._show_engine)

    def engine_start(
        self,
        *,
        models_dir: str | None = None,
        host: str = "127.0.0.1",
        port: Port = 0,
        memory_limit: ByteCount | None = None,
        api_token: str | None = None,
        cors: bool = False,
    ) -> None:
        """Start the embedded engine in the background.

        Args:
            models_dir: Directory of models (publisher/repo/file.gguf).
            host: Address to listen on; anything but loopback needs --api-token.
            port: Port to listen on; 0 takes a free one.
            memory_limit: Most memory that models may take, such as 8GiB.
            api_token: Ask clients for this token (sk-lm-XXXXXXXX:YYYYYYYYYYYYYYYYYYYY).
            cors: Let web pages of other origins connect.
        """
        from lmstrix.engine.daemon import start_engine

        options = self._engine_options(models_dir, host, port, memory_limit, api_token, cors)
        self._show_engine(start_engine(self._paths.home, options))

    def engine_stop(self) -> None:
        """Stop the background engine and unload its models."""
        from lmstrix.engine.daemon import engine_status, stop_engine

        before = engine_status(self._paths.home)
        after = stop_engine(self._paths.home)
        if before.running and not after.running:
            self._console.note(f"stopped the engine at {before.address}")
        self._show_engine(after)

    def engine_status(self) -> None:
        """Show whether the embedded engine runs, where, and what it holds."""
        from lmstrix.engine.daemon import engine_status

        self._show_engine(engine_status(self._paths.home))

    def engine_logs(self, *, follow: bool = False, lines: int = 50) -> None:
        """Show the background engine's log.

        Args:
            follow: Go on showing new lines until interrupted.
            lines: How many of the last lines to show.
        """
        from lmstrix.engine.daemon import engine_log_lines

        for line in engine_log_lines(self._paths.home, lines=lines, follow=follow):
            self._console.text(line)

    def _engine_options(
        self,
        models_dir: str | None,
        host: str,
        port: int,
        memory_limit: int | None,
        api_token: str | None,
        cors: bool,
    ) -> EngineOptions:
        from lmstrix.engine.options import EngineOptions

        folder = models_dir or self._settings.models_dir
        return EngineOptions(
            models_dir=Path(folder).expanduser().absolute() if folder else self._paths.models_dir,
            host=host,
            port=port,
            api_token=api_token,
            cors=cors,
            memory_limit_bytes=memory_limit,
        )

    def _show_engine(self, status: EngineStatus) -> None:
        self._console.engine(
            running=status.running, address=status.address, pid=status.pid, models_dir=status.models_dir
        )

    def demo(self) -> None:
        """The whole story in a minute, on the embedded engine and a small bundled model."""
        from lmstrix.cli.demo import run_demo

        run_demo(self._console.note)

    def version(self) -> None:
        """Print the version (also --version)."""
        from lmstrix.ground.version import __version__

        self._console.version(__version__)


def command_functions(
    commands: type[LMStrixCommands] | LMStrixCommands,
) -> dict[tuple[str, ...], Callable[..., object]]:
    """Every public method under the words that call it."""
    found: dict[tuple[str, ...], Callable[..., object]] = {}
    for name in vars(LMStrixCommands):
        if not name.startswith("_"):
            group, _, rest = name.rstrip("_").partition("_")
            path = (group, rest) if group in GROUPS and rest else (group,)
            found[path] = getattr(commands, name)
    return found


def common_parameters() -> tuple[Parameter, ...]:
    """The options of every command."""
    return describe(("lmstrix",), _common).parameters


def run(words: list[str]) -> int:
    """Parse the words, then let Fire dispatch to a command that needs no more of them."""
    functions = command_functions(LMStrixCommands)
    invocation = parse(words, functions, common_parameters())
    if invocation.command is None:
        sys.stdout.write(invocation.help_text)
        return 0
    common = Common(**invocation.common)
    if common.verbose or common.debug:
        from lmstrix.ground import log

        log.configure("DEBUG" if common.debug else "INFO")
    else:
        _silence_libraries()
    commands = LMStrixCommands(common)
    try:
        _dispatch(invocation, commands)
    finally:
        commands._close()
    return 0


def _silence_libraries() -> None:
    """Our own messages go through the console; loguru, if a part uses it, then has nothing to add."""
    loguru = sys.modules.get("loguru")
    if loguru is not None:
        loguru.logger.remove()


def _import_fire() -> ModuleType:
    """Fire, without the quarter of a command's start that importing asyncio takes.

    Fire asks asyncio one thing: whether a command is a coroutine function. A stand-in answers it as long as Fire is
    imported and Fire keeps it; everybody else gets the real asyncio.
    """
    if "asyncio" not in sys.modules:
        stand_in = ModuleType("asyncio")
        stand_in.__dict__["iscoroutinefunction"] = inspect.iscoroutinefunction
        sys.modules["asyncio"] = stand_in
        try:
            importlib.import_module("fire")
        finally:
            del sys.modules["asyncio"]
    return importlib.import_module("fire")


def _dispatch(invocation: Invocation, commands: LMStrixCommands) -> None:
    fire = _import_fire()
    command = invocation.command
    assert command is not None
    bound = command_functions(commands)[command.path]
    component: Any = functools.partial(bound, *invocation.positionals, **invocation.options)
    for word in reversed(command.path):
        component = {word: component}
    fire.Fire(component, command=list(command.path), name="lmstrix")


def _each(word: str, what: str, convert: Callable[[str, str], int]) -> tuple[int, ...]:
    """Several numbers joined with commas."""
    return tuple(dict.fromkeys(convert(part.strip(), what) for part in word.split(",")))


def _token_count(word: str, what: str) -> int:
    from lmstrix.ground.units import parse_tokens

    return parse_tokens(word, what=what)


def _count(word: str, what: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise UsageError(f"{what}: {word!r} is not a whole number from 1")
    return int(word)


def _percent(word: str, what: str) -> float:
    try:
        ratio = float(word.removesuffix("%")) / 100.0
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio < float("inf"):
        raise UsageError(f"{what}: {word!r} is not a percentage such as 5%")
    return ratio


def _all_or_tokens(word: str, what: str) -> int | float | None:
    return None if word in ("auto", "max") else _tokens_or_ratio(word, what)


def _tokens_or_ratio(word: str, what: str) -> int | float:
    from lmstrix.ground.units import parse_tokens_or_ratio

    return parse_tokens_or_ratio(word, what=what)


def _is_reference(prompt: str | None) -> bool:
    """Whether a prompt may name a prompt file; spares the others an import."""
    if prompt is None or not prompt.lstrip().startswith("@"):
        return False
    from lmstrix.loaders.prompts import parse_reference

    return parse_reference(prompt) is not None


def _variables(joined: str | None, single: list[str] | None) -> dict[str, str]:
    """The variables of --dict and --var."""
    if joined is None and not single:
        return {}
    from lmstrix.loaders.prompts import parse_dict, parse_variable

    values = parse_dict(joined) if joined is not None else {}
    for word in single or ():
        name, value = parse_variable(word)
        if name in values:
            raise UsageError(f"--var: {name!r} is given twice")
        values[name] = value
    return values


def _read_stdin() -> str:
    data = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise UsageError(f"stdin is not valid UTF-8 (byte {exc.start}); convert it first") from exc


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise UsageError(f"{path} is not valid UTF-8 (byte {exc.start}); convert it first") from exc
