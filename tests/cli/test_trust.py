"""`lmstrix trust`: a cloned folder cannot take prompts or tokens to its own server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.paths import own_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran
    from tests.support.faulty_server import FaultyServer


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faulty: FaultyServer) -> Path:
    """A folder that names its own server, in which the commands run."""
    monkeypatch.delenv("LMSTRIX_SERVER")
    folder = tmp_path / "cloned"
    folder.mkdir()
    (folder / ".lmstrix.toml").write_text(
        f'server = "{faulty.address}"\napi_token = "sk-lm-abcdefgh:abcdefghijklmnopqrst"\n'
    )
    monkeypatch.chdir(folder)
    return folder


def test_a_cloned_folder_gets_no_prompt_until_it_is_trusted(
    cli: Callable[..., Ran], faulty: FaultyServer, home: Path, project: Path
) -> None:
    own_folder(home).mkdir(parents=True)
    (own_folder(home) / "config.toml").write_text('server = "embedded"\n')
    ran = cli("ps")
    assert ran.code == 3
    assert f"{project}/.lmstrix.toml: server, api_token left out" in ran.lines[0]
    assert f"lmstrix trust {project}" in ran.lines[0]
    assert not faulty.paths
    trusted = cli("trust").ok()
    assert faulty.address in trusted.err
    assert "abcdefgh" not in trusted.err
    cli("ps").ok()
    assert faulty.paths


def test_the_list_and_its_end(cli: Callable[..., Ran], project: Path) -> None:
    assert "no folder is trusted" in cli("trust", "--list").ok().err
    cli("trust", str(project)).ok()
    assert cli("trust", "--list", "--json").ok().json["folders"] == [{"folder": str(project), "is_current": True}]
    with (project / ".lmstrix.toml").open("a") as file:
        file.write("timeout_s = 5\n")
    assert "changed" in cli("trust", "--list").ok().out
    cli("trust", "--remove").ok()
    cli("trust", "--remove").failed(2, "is not trusted")
    cli("trust", "--list", "--remove").failed(2, "--list shows all")
    cli("trust", str(project.parent)).failed(2, "there is no .lmstrix.toml")
