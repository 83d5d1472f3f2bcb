"""Images and texts that a command line names by a web address, or takes from stdin with -."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lmstrix.cli.piped import read_stdin, read_stdin_bytes
from lmstrix.ground.errors import UsageError
from lmstrix.ground.text import is_web_address

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lmstrix.cli.command_line import CommandLine

STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachments:
    """`images` are files by now; `texts` has the texts that stand in no file, under what they were called.

    `took_stdin` says that one of them was read from there, so that nothing is left to read.
    """

    images: tuple[str, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    took_stdin: bool = False


def attached(
    cli: CommandLine,
    *,
    images: Sequence[str],
    text_file: str | None,
    context_files: Sequence[str],
    stdin: bool | None,
) -> Attachments:
    """What goes with a prompt, fetched and read where it is no file yet. `stdin` is what was said of it besides."""
    wanted = {
        "--image -": images.count(STDIN),
        "--context-file -": context_files.count(STDIN),
        "--text-file -": int(text_file == STDIN),
    }
    took_stdin = _takes_stdin([option for option, times in wanted.items() for _ in range(times)], stdin)
    found: dict[str, str] = {}
    for name in dict.fromkeys([*context_files, *([text_file] if text_file is not None else [])]):
        if name == STDIN:
            found[name] = read_stdin()
        elif is_web_address(name):
            from lmstrix.service.attachments import fetch_text

            found[name] = cli.run(fetch_text(cli.service, name))
    return Attachments(images=tuple(_file_of(cli, each) for each in images), texts=found, took_stdin=took_stdin)


def _takes_stdin(asking: list[str], stdin: bool | None) -> bool:
    """Whether something is to be read from stdin. Raises UsageError when it is wanted for two things, or refused."""
    if not asking:
        return False
    if stdin is False:
        raise UsageError(f"give {asking[0]} or --no-stdin, not both")
    if stdin:
        asking = [*asking, "--stdin"]
    if len(asking) > 1:
        raise UsageError(f"stdin can be read once, and {' and '.join(asking)} want it")
    return True


def _file_of(cli: CommandLine, image: str) -> str:
    if image != STDIN and not is_web_address(image):
        return str(Path(image).expanduser())  # a shell leaves the ~ of --image=~/x.png as it is
    from lmstrix.loaders.images import MAX_IMAGE_BYTES
    from lmstrix.service.attachments import fetch_image, keep_image

    # Where no conversation may be kept, nothing of it may stay behind.
    folder = None if cli.service.keeps_texts else cli.temporary_folder
    if image == STDIN:
        data = read_stdin_bytes(MAX_IMAGE_BYTES, instead="scale it down")
        return keep_image(cli.service, data, source="stdin", folder=folder)
    return cli.run(fetch_image(cli.service, image, folder))
