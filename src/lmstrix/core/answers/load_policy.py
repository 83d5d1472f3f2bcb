"""Which context to load a model at, and whether a loaded instance will do. Pure.

A loaded instance serves only if its *own* context holds what was asked. LM Studio hands out any loaded instance of the
model, whatever its context: that is how an answer runs at 4,096 tokens without anybody noticing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from lmstrix.ground.context_lengths import UNTESTED_CONTEXT_LENGTH, aligned_up
from lmstrix.ground.errors import ContextOverflowError
from lmstrix.ground.loads import DEFAULT_LOAD, LoadConfig
from lmstrix.ground.wording import parameter

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from lmstrix.ground.types import LoadedModel

OWN_PREFIX = "lmstrix-infer-"  # what answers loaded for themselves, and may unload for each other
ONCE_PREFIX = "lmstrix-once-"  # what answers loaded for themselves, and unload as soon as they are done
TESTED_PREFIX = "lmstrix-test-"
BENCH_PREFIX = "lmstrix-bench-"
MEASURED_PREFIXES = (TESTED_PREFIX, BENCH_PREFIX)
# An instance that is being measured must not answer others, and one that is unloaded soon would leave them half-way.
PRIVATE_PREFIXES = (ONCE_PREFIX, *MEASURED_PREFIXES)
NOTHING_KNOWN: Mapping[str, LoadConfig] = MappingProxyType({})
ContextSource = Literal["asked", "tested", "tested so far", "untested", "headroom", "server default"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextChoice:
    """The context length to load at (None: the server's default) and why."""

    context_length: int | None
    source: ContextSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Reuse:
    """An instance that is loaded already serves."""

    instance: LoadedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A new instance is needed; `replaces` are smaller instances of ours to unload first."""

    config: LoadConfig
    replaces: tuple[LoadedModel, ...] = ()


def choose_context(
    asked: float | None,
    *,
    declared: int,
    tested: int | None,
    tested_is_limit: bool = True,
    needed_tokens: int = 0,
) -> ContextChoice:
    """The context length for a call that needs `needed_tokens` (prompt and answer, as far as known).

    `asked` is a token count, a ratio in 0..1 of the tested (else declared) length when a float below or at 1, 0 for the
    server's default, or None. An untested model gets a modest context, never its declared one, which may not fit; so
    does a model that was tested up to a length only (not `tested_is_limit`) when the call needs more than that.
    """
    if asked is not None:
        if asked == 0:
            return ContextChoice(context_length=None, source="server default")
        wanted = int(asked * (tested or declared)) if isinstance(asked, float) else asked
        if wanted > declared:
            raise ContextOverflowError(
                f"the model declares {declared:,} tokens of context, {wanted:,} were asked for; ask for less",
                context_length=declared,
            )
        return ContextChoice(context_length=max(1, wanted), source="asked")
    if tested and (tested_is_limit or needed_tokens <= tested):
        return ContextChoice(context_length=tested, source="tested" if tested_is_limit else "tested so far")
    # The prompt decides only upwards: a short one still gets the modest default, which later calls can reuse.
    roomy = max(UNTESTED_CONTEXT_LENGTH, aligned_up(needed_tokens))
    return ContextChoice(context_length=min(declared, roomy), source="untested")


def leaving_free(choice: ContextChoice, room_tokens: int | None, *, needed_tokens: int) -> ContextChoice:
    """The choice, no longer than what leaves the user's headroom free, but as long as the call needs.

    A length that was asked for is loaded as it is.
    """
    length = choice.context_length
    if length is None or choice.source == "asked" or room_tokens is None or length <= room_tokens:
        return choice
    return ContextChoice(context_length=min(length, max(room_tokens, aligned_up(needed_tokens), 1)), source="headroom")


def decide(
    wanted: LoadConfig,
    loaded: Sequence[LoadedModel],
    *,
    model_key: str,
    own_prefix: str,
    reload: bool = False,
    needed_tokens: int = 0,
    in_use: Container[str] = (),
    loaded_as: Mapping[str, LoadConfig] = NOTHING_KNOWN,
) -> Reuse | Load:
    """Reuse an instance whose context serves, else load. Special cache types or slots get an own instance, unless one
    of `loaded_as`, those whose settings the caller knows, was loaded just so.

    `in_use` are instances that the caller's own answers use now: they are not replaced, and may be shared even where
    they are to be unloaded afterwards, because the last of those answers does that.
    """
    same = [
        instance
        for instance in loaded
        if instance.model_key == model_key
        and (instance.instance_id in in_use or not instance.instance_id.startswith(PRIVATE_PREFIXES))
    ]
    ours = tuple(
        instance
        for instance in same
        if instance.instance_id.startswith(own_prefix) and instance.instance_id not in in_use
    )
    if not reload:
        floor = wanted.context_length or needed_tokens
        fitting = [
            instance
            for instance in same
            if instance.context_length >= floor and is_loaded_as(wanted, loaded_as.get(instance.instance_id))
        ]
        if fitting:
            # The smallest that serves: larger ones stay free for calls that need them.
            return Reuse(instance=min(fitting, key=lambda instance: instance.context_length))
    return Load(config=wanted, replaces=ours)


def is_loaded_as(wanted: LoadConfig, known: LoadConfig | None) -> bool:
    """Whether an instance will do, its context aside, that was loaded so; None where nobody here knows how.

    A listing does not tell an instance's cache types or slots: one that others loaded does where nothing special is
    wanted.
    """
    how = replace(wanted, context_length=None)
    return how == DEFAULT_LOAD or (known is not None and how == replace(known, context_length=None))


def known_as(model: str, load: LoadConfig) -> str:
    """The name under which a model's answers are kept: with how it is loaded, where that changes what it answers."""
    # Room, slots, threads and locked weights change no answer; a quantized cache does.
    how = replace(load, context_length=None, parallel_slots=1, threads=None, keep_in_memory=None)
    return model if how == DEFAULT_LOAD else f"{model} {how}"


def embedding_instance(
    wanted: LoadConfig,
    loaded: Sequence[LoadedModel],
    model_key: str,
    *,
    in_use: Container[str] = (),
    loaded_as: Mapping[str, LoadConfig] = NOTHING_KNOWN,
) -> LoadedModel | None:
    """An instance to embed with; one that somebody else unloads soon is none."""
    for instance in loaded:
        private = instance.instance_id.startswith(PRIVATE_PREFIXES) and instance.instance_id not in in_use
        serves = is_loaded_as(wanted, loaded_as.get(instance.instance_id))
        if instance.model_key == model_key and instance.kind == "embedding" and serves and not private:
            return instance
    return None


def output_limit(asked: float | None, *, context_length: int, prompt_tokens: int) -> int:
    """How many tokens may be generated: `asked` as a count or a ratio of the context; None is all that is left.

    Raises ContextOverflowError when prompt and answer cannot both fit, naming the ways out.
    """
    left = context_length - prompt_tokens
    if asked is None:
        wanted = max(left, 1)
    else:
        wanted = max(1, int(asked * context_length)) if isinstance(asked, float) else int(asked)
    if left < 1 or (asked is not None and wanted > left):
        answer = f" and an answer of up to {wanted:,}" if left >= 1 else ""
        raise ContextOverflowError(
            f"the prompt has {prompt_tokens:,} tokens{answer}, but the context holds {context_length:,}: "
            f"load a larger context ({parameter('context_length')}), ask for a shorter answer "
            f"({parameter('max_tokens')}), or shorten the prompt",
            prompt_tokens=prompt_tokens,
            context_length=context_length,
        )
    return wanted
