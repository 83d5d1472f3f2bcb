# ruff: noqa: TC001 - describe() evaluates the annotations, so their names must exist at run time
"""Commands that ask models, choose one to ask, or show what was asked before."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from lmstrix.cli.attachments import attached
from lmstrix.cli.command_line import CommandLine
from lmstrix.cli.kinds import ByteCount, Seconds, SomeText, Tokens
from lmstrix.cli.options import (
    LOAD_FLAGS,
    ContextOptions,
    ConversationOptions,
    LoadOptions,
    SamplingOptions,
    TimeoutOptions,
    VariableOptions,
    answer_request,
)
from lmstrix.cli.piped import read_stdin
from lmstrix.cli.prompt_input import PromptOptions, prompt_words
from lmstrix.cli.shown import ShownOptions
from lmstrix.cli.signatures import Only
from lmstrix.ground.choices import Preference, WorkKind
from lmstrix.ground.errors import ContextOverflowError, LMStrixError, ModelNotFoundError, UsageError
from lmstrix.ground.ranges import COUNT, IDLE, RANGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmstrix.core.answers.answer_schema import AnswerSchema
    from lmstrix.core.answers.inference import Prepared
    from lmstrix.ground.types import GenerationResult, StreamEvent
    from lmstrix.reports.console import Console
    from lmstrix.service.inferring import Inferring

AnswerLoadOptions = Annotated[LoadOptions, LOAD_FLAGS]


def infer(
    cli: CommandLine,
    /,
    prompt: str | None = None,
    *,
    model: SomeText | None = None,
    auto_model: bool = False,
    file_prompt: str | None = None,
    fill: VariableOptions,
    texts: PromptOptions,
    opening: ConversationOptions,
    image: list[str] | None = None,
    context: ContextOptions,
    dry_run: bool = False,
    format: Literal["text", "json", "yaml"] = "text",  # noqa: A002 - the option is --format
    compat: bool = False,
    shown: ShownOptions,
    save_response: str | None = None,
    schema: str | None = None,
    schema_multi: str | None = None,
    tools: list[str] | None = None,
    max_rounds: Annotated[int, RANGES["max_rounds"]] = 10,
    approve: bool = False,
    sampling: SamplingOptions,
    load: AnswerLoadOptions,
    cache: bool = False,
    reload: bool = False,
    raw: bool = False,
    no_log: bool = False,
    ttl: Annotated[Seconds, IDLE] = 300.0,
    timeouts: TimeoutOptions,
) -> None:
    """Ask a model. The prompt is counted against the real context before anything is sent.

    -o NAME VALUE sets any of these options, as -o temperature 0.2 does. With --gpu, --threads or another setting of a
    load the model is loaded anew; without any, what is loaded already is asked, however it was loaded.

    Args:
        prompt: The prompt, which may have a place for {{text}} or for {{NAME}} of a --var; @FILE.toml:NAME takes it
            from a prompt file, - reads it from stdin. Text that begins with - goes after --.
        model: The model (default: that of lmstrix models default, else the one used last).
        auto_model: Let lmstrix recommend choose the model.
        file_prompt: A TOML file of prompts; PROMPT then names one, or several joined with commas (or --template does).
        image: Show the model this image: a file, - for stdin or a web address (may be repeated).
        dry_run: Show the prompt and its size; send nothing.
        format: text, json as --json does, or yaml.
        compat: Print JSON as LMStrix 1 did, with response, tokens_used, inference_time (lmstrix infer … --compat |
            jq -r .response).
        save_response: Also write the answer to this file.
        schema: Shape of the answer, which is checked: fields such as 'name, age int, bio: one sentence' (str, int,
            float or bool; by commas, or one on a line), a JSON schema or a file of one, or pydantic:MODULE:CLASS.
        schema_multi: The same, for an answer with any number of such items, {"items": [...]}.
        tools: Python functions the model may call, MODULE:FUNCTION joined with commas (may be repeated).
        max_rounds: With --tools: give up when the model calls tools for more rounds than this.
        approve: With --tools: ask on the terminal before each call, which shows its arguments. What you take to reply
            does not count for --timeout.
        cache: Take the answer from an earlier call that was exactly the same, and keep this one.
        reload: Load a fresh instance even if a loaded one would do.
        raw: Plain completion without the chat template.
        no_log: Keep nothing of this, neither in the log of calls nor as a conversation.
        ttl: Keep an instance loaded here this long after its last use; 0 unloads it at once.
    """
    from lmstrix.reports.answers import show_dry_run
    from lmstrix.reports.tool_approval import refuse_without_terminal
    from lmstrix.service.inferring import InferWords, tools_of_words

    if approve and tools and not dry_run:
        refuse_without_terminal()
    shape = _shape(schema, schema_multi)
    console = cli.console
    console.yaml = format == "yaml"
    console.json = console.json or format != "text" or compat
    if no_log:
        cli.log_nothing()
    attachments = attached(
        cli,
        images=image or (),
        text_file=texts.text_file,
        context_files=texts.context_file or (),
        stdin=texts.stdin,
    )
    request = replace(
        answer_request(context, sampling, timeouts),
        model=model,
        system_prompt=opening.system_prompt,
        images=attachments.images,
        load=load.config(),
        tools=tools_of_words(tools or ()),
        max_rounds=max_rounds,
        cache=cache,
        reload=reload,
        raw=raw,
        ttl_s=ttl,
    )
    inferring = cli.service.infer(
        InferWords(
            prompt=prompt_words(cli, prompt, file_prompt, fill, texts, attachments),
            request=request,
            auto_model=auto_model,
            go_on=opening.go_on,
            schema=shape,
            save_response=Path(save_response).expanduser() if save_response is not None else None,
        ),
    )
    if dry_run:
        found = cli.run(inferring.dry_run())
        show_dry_run(console, found)
        if found.fits is False:
            raise ContextOverflowError("the prompt and its answer do not fit the context; shorten it, or see --in-ctx")
        return
    _answer(cli, inferring, shown, compat=compat, approve=approve)


def _answer(cli: CommandLine, inferring: Inferring, shown: ShownOptions, *, compat: bool, approve: bool) -> None:
    """Ask, and show the answer as it comes."""
    from lmstrix.reports.answer_progress import AnswerProgressLine
    from lmstrix.reports.answers import AnswerForm, show_answer, show_fit, show_stream
    from lmstrix.reports.tool_approval import ToolApproval

    console = cli.console
    live = shown.live(console)
    form = AnswerForm(markdown=shown.rendered(), reasoning=shown.thoughts(live=live))

    def ended(result: GenerationResult) -> None:
        # Shown first: what then goes wrong, a file that cannot be written or a schema not met, fails the command, and
        # must not cost the answer. Kept all the same where stdout is what fails.
        try:
            if compat:
                _show_as_earlier(console, result)
            else:
                show_answer(console, result, streamed=live, markdown=form.markdown, code_block=shown.code_block)
        finally:
            inferring.keep(result)

    with AnswerProgressLine(console) as line:
        approval = ToolApproval(line.end) if approve else None

        def prepared(found: Prepared) -> None:
            show_fit(console, found)
            line.read()

        events = inferring.events(on_prepared=prepared, on_progress=line.load, approve=approval)
        show_stream(console, cli.portal.iterate(events), live=live, ended=ended, line=line, form=form)


def _shape(schema: str | None, schema_multi: str | None) -> AnswerSchema | None:
    if schema is not None and schema_multi is not None:
        raise UsageError("give --schema or --schema-multi, not both")
    written = schema if schema is not None else schema_multi
    if written is None:
        return None
    from lmstrix.service.answer_shapes import load_schema

    return load_schema(written, many=schema is None)


def _show_as_earlier(console: Console, result: GenerationResult) -> None:
    from lmstrix.earlier.answers import answer_object
    from lmstrix.reports.answers import show_truncation

    console.bare_json(answer_object(text=result.text, model_key=result.model_key, stats=result.stats))
    show_truncation(console, result)


def chat(
    cli: CommandLine,
    /,
    *,
    model: SomeText | None = None,
    opening: ConversationOptions,
    conversation: str | None = None,
    shown: Annotated[ShownOptions, Only("markdown", "reasoning")],
    no_log: bool = False,
    context: ContextOptions,
    sampling: SamplingOptions,
    load: AnswerLoadOptions,
    timeouts: Annotated[TimeoutOptions, Only("stream_timeout")],
) -> None:
    """Talk with a model. /help inside shows what else a line can do; over a pipe each line is a question.

    With --gpu, --threads or another setting of a load the model is loaded anew with the first question, and then kept
    for those that follow.

    Args:
        model: The model (default: that of the conversation, of lmstrix models default, or the one used last).
        go_on: Continue the conversation of the last chat or infer.
        conversation: Continue the conversation kept under this name.
        no_log: Keep nothing of this chat: no log of calls, no conversation, no history of questions.
    """
    from lmstrix.reports.answers import AnswerForm
    from lmstrix.reports.chat import run_chat

    if opening.go_on and conversation is not None:
        raise UsageError("give --continue or --conversation NAME, not both")
    if no_log:
        cli.log_nothing()
    session = cli.run(
        cli.service.chat(
            replace(answer_request(context, sampling, timeouts), load=load.config()),
            model=model,
            system_prompt=opening.system_prompt,
            name=conversation,
            latest=opening.go_on,
        )
    )

    # Over a pipe the first question says so.
    if sys.stdin.isatty() and session.conversation.model_key is None and cli.service.usual_model() is None:
        cli.know_models()
        if not len(cli.service.registry()):
            raise ModelNotFoundError("there is no model to ask yet", model_key="")

    def say(text: str) -> Iterator[StreamEvent]:
        return cli.portal.iterate(session.say(text))

    form = AnswerForm(markdown=shown.rendered(), reasoning=shown.thoughts(live=not cli.console.json))
    run_chat(session, cli.console, say=say, form=form)


def batch(
    cli: CommandLine,
    /,
    *,
    prompts: list[str],
    models: list[str] | None = None,
    out: str,
    inputs: list[str] | None = None,
    fill: VariableOptions,
    skip_existing: bool = True,
    parallel: Annotated[int, RANGES["parallel"]] = 1,
    load: AnswerLoadOptions,
    system_prompt: str | None = None,
    context: ContextOptions,
    sampling: SamplingOptions,
    timeouts: TimeoutOptions,
) -> None:
    """Ask every prompt of every model about every input; one file per answer. Run again, it goes on where it was.

    Args:
        prompts: A prompt file, F.toml or F.toml:NAME,NAME, or a text file (may be repeated).
        models: Models joined with commas (may be repeated), tag:NAME for all that have this tag, or all (default: that
            of lmstrix models default).
        out: Folder for the answers, and for index.jsonl, the record of what was asked. One batch at a time.
        inputs: A text file, a folder or a pattern such as 'notes/*.md' (may be repeated); fills {{text}}. A file
            that cannot be asked about fails alone.
        variables: Variables of the prompt files: a=1,b='x, y'.
        skip_existing: Skip what is answered already; what has changed since, the prompt, the input or an option, is
            asked again (--no-skip-existing asks all again).
        parallel: Requests in flight at a time; the model is loaded with as many slots, which share its context.
        system_prompt: System prompt, where the prompt file has none.
        first_token_timeout: Give up on an answer when no token came in this time.
        stream_timeout: Give up on an answer when no token came for this long.
    """
    from lmstrix.reports.answers import BatchProgressLine, show_batch
    from lmstrix.service.batch_words import BatchRequest

    request = BatchRequest(
        prompts=prompts,
        models=models or [],
        out=Path(out).expanduser(),
        inputs=inputs or [],
        variables=fill.values(),
        parallel=parallel,
        skip_existing=skip_existing,
        request=replace(answer_request(context, sampling, timeouts), system_prompt=system_prompt, load=load.config()),
    )
    # The line ends before the counts are printed, or both would stand in one row of the terminal.
    with BatchProgressLine(cli.console) as progress:
        progress.begin("asking")
        report = cli.run(cli.service.batch(request, on_progress=progress.show))
    show_batch(cli.console, report)
    if report.failed:
        first = report.failed[0]
        raise LMStrixError(
            f"{len(report.failed)} of {len(report.outcomes)} failed; the first, {first.item.file}: {first.error}"
        )


def embed(
    cli: CommandLine,
    /,
    *texts: str,
    stdin: bool = False,
    model: SomeText | None = None,
    load: Annotated[LoadOptions, Only("gpu", "batch_size", "mlock")],
    ttl: Annotated[Seconds, IDLE] = 300.0,
) -> None:
    """Turn texts into vectors, one JSON array a line.

    Args:
        texts: The texts.
        stdin: Read the texts from stdin, one a line.
        model: The embedding model (default: the only one there is).
        batch_size: Tokens of a text read at a time; refused by the embedded engine, which always reads a whole context
            at once.
        ttl: Keep a model loaded here this long after its last use; 0 unloads it at once.
    """
    from lmstrix.reports.answers import show_embedded

    if bool(texts) == stdin:
        raise UsageError("embed needs TEXTS, or --stdin to read one a line")
    wanted = [line for line in read_stdin().splitlines() if line.strip()] if stdin else list(texts)
    if not wanted:
        raise UsageError("stdin is empty: there is no text to embed")
    embedded = cli.run(cli.service.embed(wanted, model=model, load=load.config(), ttl_s=ttl))
    show_embedded(cli.console, embedded)


def recommend(
    cli: CommandLine,
    /,
    *,
    task: WorkKind = "chat",
    min_ctx: Tokens | None = None,
    max_memory: ByteCount | None = None,
    prefer: Preference = "balanced",
    top: Annotated[int, COUNT] = 5,
) -> None:
    """Rank the models for some work, by tested limits, predicted memory and logged speeds.

    Args:
        task: chat, code, vision, tools (calling functions) or embedding.
        min_ctx: Context it needs; a tested one counts, else the declared one.
        max_memory: Most memory it may take, such as 8GiB (default: what the server may take, else this machine).
        prefer: What to rank by: speed, quality (size, that is) or balanced.
        top: Show this many.
    """
    from lmstrix.core.answers.recommend import Wish
    from lmstrix.reports.answers import show_advice

    wish = Wish(task=task, min_context_length=min_ctx, max_memory_bytes=max_memory, prefer=prefer)
    cli.know_models()
    advice = cli.run(cli.service.recommend(wish))
    show_advice(cli.console, advice, top=top)
    if not advice.ranked:
        raise LMStrixError(f"no model serves: {advice.obstacles}")


def logs(
    cli: CommandLine,
    /,
    *,
    search: str | None = None,
    model: str | None = None,
    last: Annotated[int, COUNT] = 20,
    full: Annotated[int | None, COUNT] = None,
    stats: bool = False,
) -> None:
    """Show the calls made so far, newest first, or what they say of each model.

    Args:
        search: Only calls whose prompt or answer holds all these words, or words that begin so, best match first.
        model: Only calls to this model.
        last: How many calls to show.
        full: Show the whole texts of this call, by the number that stands before it.
        stats: Show calls, failures, tokens, waiting times and speeds of each model instead.
    """
    from lmstrix.reports.logs import show_call_statistics, show_calls, show_whole_call

    if full is not None:
        logged = cli.service.logged_call(full)
        show_whole_call(cli.console, logged)
    elif stats:
        statistics = cli.service.call_statistics(model=model)
        show_call_statistics(cli.console, statistics)
    else:
        calls = cli.service.logged_calls(search=search, model=model, last=last)
        show_calls(cli.console, calls, of_all=search is None and model is None)
