"""Stored templates: the prompt files in the user's own folder, whose prompts are used by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmstrix.ground.errors import PromptError, UsageError
from lmstrix.loaders.prompts import PromptReference, parse_names
from lmstrix.service.prompting import open_library

if TYPE_CHECKING:
    from pathlib import Path

    from lmstrix.core.prompts.library import PromptLibrary
    from lmstrix.service.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateFile:
    """A prompt file of the folder; `library` is None where `problem` says why it cannot be read."""

    file: Path
    library: PromptLibrary | None
    problem: str | None = None

    def name_of(self, prompt: str) -> str:
        """How a prompt of it is named with -t."""
        assert self.library is not None
        stem = self.file.stem
        return stem if prompt == stem or len(self.library.templates) == 1 else f"{stem}:{prompt}"


def templates_folder(workspace: Workspace) -> Path:
    """Where the user puts templates."""
    return workspace.paths.own / "prompts"


def template_files(workspace: Workspace) -> list[TemplateFile]:
    """All files of the folder, by name. One that is damaged keeps no other from being used."""
    return [_read(file) for file in sorted(templates_folder(workspace).glob("*.toml"))]


def find_template(workspace: Workspace, name: str) -> PromptReference:
    """The prompts that `file`, `file:prompt` or a prompt's own name means. Raises UsageError, PromptError."""
    files = template_files(workspace)
    stem, _, prompts = name.partition(":")
    for each in files:
        if each.file.stem == stem:
            if each.library is None:
                raise PromptError(each.problem or f"{each.file} cannot be read")
            own = (stem,) if stem in each.library.templates else ()
            return PromptReference(path=each.file, names=parse_names(prompts) if prompts else own)
    holders = [each for each in files if each.library is not None and name in each.library.templates]
    if len(holders) == 1:
        return PromptReference(path=holders[0].file, names=(name,))
    if holders:
        several = " or ".join(f"{each.file.stem}:{name}" for each in holders)
        raise UsageError(f"-t {name} may be {several}; write which")
    known = [each.name_of(prompt) for each in files if each.library is not None for prompt in each.library.templates]
    there = f"there are: {', '.join(known[:8])}" if known else "there are none yet"
    raise UsageError(f"there is no template {name!r} ({there}; they are .toml files in {templates_folder(workspace)})")


def _read(file: Path) -> TemplateFile:
    try:
        return TemplateFile(file=file, library=open_library(file))
    except (PromptError, UsageError) as exc:
        return TemplateFile(file=file, library=None, problem=str(exc))
