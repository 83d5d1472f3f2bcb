"""Which model a name means. Pure.

The first rule that finds any model decides, and one that finds several asks back: the path or key (also in other case,
without its variant or ending, or the file's name), an alias, a tag that one model has, the beginning of a path, key or
file's name, a part of path or key that begins a word. Models that are there go before missing ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstrix.core.registry.tags import all_tags
from lmstrix.ground.errors import ModelNotFoundError
from lmstrix.ground.model_names import exact_names, file_stem, match_names, names_with_part
from lmstrix.ground.wording import call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lmstrix.core.registry.records import ModelRecord

    Pairs = Sequence[tuple[str, str]]

CURRENT = "current"
"""What names the model that is loaded; only a server can say which that is."""
_SUGGESTIONS = 3
_LISTED_WHEN_AMBIGUOUS = 5


def found_one(query: str, records: Sequence[ModelRecord], aliases: Mapping[str, str]) -> ModelRecord:
    """The one model a name means. Raises ModelNotFoundError."""
    named = _by_whole_name(query, records, aliases)
    if named is not None:
        return named
    tagged = _tagged(query, records)
    if len(tagged) == 1:
        return tagged[0]
    for rule in (match_names, names_with_part):
        found = _by_rule(rule, query, records)
        if found is not None:
            return found
    if tagged:
        raise _ambiguous(query, [record.path for record in tagged])
    raise _not_found(query, records)


def found_all(query: str, records: Sequence[ModelRecord], aliases: Mapping[str, str]) -> list[ModelRecord]:
    """The model a name means, or all that have it as a tag. Raises ModelNotFoundError."""
    named = _by_whole_name(query, records, aliases)
    if named is not None:
        return [named]
    return _tagged(query, records) or [found_one(query, records, aliases)]


def _by_whole_name(query: str, records: Sequence[ModelRecord], aliases: Mapping[str, str]) -> ModelRecord | None:
    exact = _by_rule(exact_names, query, records)
    if exact is not None or query not in aliases:
        return exact
    # What an alias stands for is a model's name and no further alias: two that name each other would never end.
    try:
        return found_one(aliases[query], records, {})
    except ModelNotFoundError as exc:
        message = f"the alias {query} stands for {aliases[query]!r}: {exc}"
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


def _tagged(query: str, records: Iterable[ModelRecord]) -> list[ModelRecord]:
    wanted = query.lower()
    return [record for record in records if not record.is_missing and wanted in all_tags(record)]


def _ambiguous(query: str, paths: list[str]) -> ModelNotFoundError:
    shown = ", ".join(paths[:_LISTED_WHEN_AMBIGUOUS])
    more = f" and {len(paths) - _LISTED_WHEN_AMBIGUOUS} more" if len(paths) > _LISTED_WHEN_AMBIGUOUS else ""
    return ModelNotFoundError(
        f"{query!r} may mean {len(paths)} models: {shown}{more}; give more of the name, or the path",
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
