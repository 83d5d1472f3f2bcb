"""Which model a name means. Pure.

The first rule that finds any model decides, and one that finds several asks back: the path or key (also in other case,
without its variant or ending, or the file's name), an alias, a tag that one model has (`tag:NAME` is nothing else), the
beginning of a path, key or file's name, a part of path or key that begins a word. Models that are there go before
missing ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.registry.tags import have_tag
from lmstrix.ground.choices import TAG_PREFIX
from lmstrix.ground.errors import ModelNotFoundError
from lmstrix.ground.model_names import exact_names, file_stem, match_names, names_with_part
from lmstrix.ground.wording import call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lmstrix.core.registry.json_fields import Json
    from lmstrix.core.registry.records import ModelRecord

    Pairs = Sequence[tuple[str, str]]

CURRENT = "current"
"""What names the model that is loaded; only a server can say which that is."""
_SUGGESTIONS = 3
_LISTED_WHEN_AMBIGUOUS = 5


def found_one(query: str, records: Sequence[ModelRecord], aliases: Mapping[str, Json]) -> ModelRecord:
    """The one model a name means. Raises ModelNotFoundError."""
    named = _by_whole_name(query, records, aliases)
    if named is not None:
        return named
    tagged = have_tag(records, query.removeprefix(TAG_PREFIX))
    if len(tagged) == 1:
        return tagged[0]
    if query.startswith(TAG_PREFIX):
        raise _of_group(query, tagged) if tagged else _no_tag(query, records)
    for rule in (match_names, names_with_part):
        found = _by_rule(rule, query, records)
        if found is not None:
            return found
    if tagged:
        raise _of_group(query, tagged)
    raise _not_found(query, records)


def found_all(query: str, records: Sequence[ModelRecord], aliases: Mapping[str, Json]) -> list[ModelRecord]:
    """The model a name means, or all that have it as a tag. Raises ModelNotFoundError."""
    named = _by_whole_name(query, records, aliases)
    if named is not None:
        return [named]
    return have_tag(records, query.removeprefix(TAG_PREFIX)) or [found_one(query, records, aliases)]


def found_answering(query: str, records: Sequence[ModelRecord], aliases: Mapping[str, Json]) -> list[ModelRecord]:
    """The same for what embedding models cannot do: of a group the others. One that is named itself is returned."""
    found = found_all(query, records, aliases)
    return [record for record in found if record.kind == "llm"] or found


def found_group(tag: str, records: Sequence[ModelRecord]) -> list[ModelRecord]:
    """The models that have a tag. Raises ModelNotFoundError where none has it."""
    tagged = have_tag(records, tag)
    if not tagged:
        raise _no_tag(tag, records)
    return tagged


def _by_whole_name(query: str, records: Sequence[ModelRecord], aliases: Mapping[str, Json]) -> ModelRecord | None:
    exact = _by_rule(exact_names, query, records)
    meant = aliases.get(query)
    if exact is not None or not isinstance(meant, str):
        return exact
    # What an alias stands for is a model's name and no further alias: two that name each other would never end.
    try:
        return found_one(meant, records, {})
    except ModelNotFoundError as exc:
        message = f"the alias {query} stands for {meant!r}: {exc}"
        raise ModelNotFoundError(message, model_key=query, suggestions=exc.suggestions) from exc


def _by_rule(rule: Callable[[str, Pairs], list[str]], query: str, records: Sequence[ModelRecord]) -> ModelRecord | None:
    """The one record that a rule finds, None where it finds none. Raises ModelNotFoundError where it finds several."""
    # A model that is there must not become ambiguous through one that is gone.
    for group in ([r for r in records if not r.is_missing], [r for r in records if r.is_missing]):
        paths = rule(query, [(record.path, record.model_key) for record in group])
        if len(paths) == 1:
            return next(record for record in group if record.path == paths[0])
        if paths:
            raise _ambiguous(query, sorted(paths))
    return None


def _of_group(query: str, tagged: Iterable[ModelRecord]) -> ModelNotFoundError:
    group = f"{TAG_PREFIX}{query.removeprefix(TAG_PREFIX)}"
    remedy = f"give more of the name, or the path (commands that take several models take all of {group})"
    return _ambiguous(query, [record.path for record in tagged], remedy)


def _no_tag(query: str, records: Iterable[ModelRecord]) -> ModelNotFoundError:
    known = ", ".join(sorted({tag for record in records for tag in record.tags})) or "none"
    message = f"no model has the tag {query.removeprefix(TAG_PREFIX)!r} (the tags that you gave: {known})"
    return ModelNotFoundError(message, model_key=query)


def _ambiguous(query: str, paths: list[str], remedy: str = "give more of the name, or the path") -> ModelNotFoundError:
    shown = ", ".join(paths[:_LISTED_WHEN_AMBIGUOUS])
    more = f" and {len(paths) - _LISTED_WHEN_AMBIGUOUS} more" if len(paths) > _LISTED_WHEN_AMBIGUOUS else ""
    return ModelNotFoundError(
        f"{query!r} may mean {len(paths)} models: {shown}{more}; {remedy}",
        model_key=query,
        suggestions=paths,
    )


def _not_found(query: str, records: Sequence[ModelRecord]) -> ModelNotFoundError:
    if not records:
        return ModelNotFoundError(f"No model {query!r}: the registry is empty; run {call('scan')}", model_key=query)
    if query == CURRENT:
        return ModelNotFoundError(
            "current is the model that a server has loaded, and no server is asked here; name the model",
            model_key=query,
        )
    from difflib import get_close_matches  # costs 2 ms, and only a typing error needs it

    wanted = query.lower()
    names = {name.lower(): r.model_key for r in records for name in (file_stem(r.path), r.model_key)}
    close = get_close_matches(wanted, names, n=_SUGGESTIONS * 2, cutoff=0.5)
    close += [name for name in names if wanted and wanted in name]
    suggestions = list(dict.fromkeys(names[name] for name in close))[:_SUGGESTIONS]
    remedy = f"did you mean {' or '.join(suggestions)}?" if suggestions else f"{call('list_models')} shows all"
    return ModelNotFoundError(f"No model {query!r} in the registry; {remedy}", model_key=query, suggestions=suggestions)
