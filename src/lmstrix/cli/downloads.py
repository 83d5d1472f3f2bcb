# ruff: noqa: TC001 - describe() evaluates the annotations, so their names must exist at run time
"""The command that has LM Studio download a model."""

from __future__ import annotations

from typing import Annotated

from lmstrix.cli.command_line import CommandLine
from lmstrix.cli.kinds import Flag


def get(
    cli: CommandLine,
    /,
    model: str | None = None,
    *,
    quantization: Annotated[str | None, Flag("quant")] = None,
    job_id: Annotated[str | None, Flag("job")] = None,
) -> None:
    """Have LM Studio download a model, and take it into the registry.

    LM Studio downloads by itself: Ctrl-C ends the watching, and the download goes on. Its Downloads window stops it.
    The embedded engine downloads nothing.

    Args:
        model: A name of LM Studio's catalogue, such as openai/gpt-oss-20b, or the address of a page of Hugging Face.
        quantization: Which quantization of a page of Hugging Face, such as Q4_K_M.
        job_id: Follow this download, which was begun before.
    """
    from lmstrix.reports.downloads import DownloadLine, show_got

    with DownloadLine(cli.console) as line:
        line.begin("asking LM Studio")
        try:
            got = cli.run(cli.service.get_model(model, quantization=quantization, job_id=job_id, on_progress=line.show))
        except KeyboardInterrupt:
            line.end()
            if line.job_id is not None:
                cli.console.note(
                    f"LM Studio goes on downloading; lmstrix get --job {line.job_id} follows it, and LM Studio's "
                    "Downloads window stops it"
                )
            raise
    show_got(cli.console, got.model, got.download, got.scan)
