"""The file of targets: what it says, and what is wrong with it in one line that never repeats a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmstrix.ground.errors import PromptError, UsageError
from lmstrix.loaders.bench_targets import TargetServer, load_targets

if TYPE_CHECKING:
    from pathlib import Path


def test_every_field_is_read(tmp_path: Path) -> None:
    file = tmp_path / "targets.toml"
    file.write_text(
        '[[target]]\nname = "box"\naddress = "192.0.2.1:1234"\n[[target]]\nname = "hosted"\n'
        'address = "openai:https://api.example.com/v1"\nkey_variable = "EXAMPLE_KEY"\n'
        'models = ["one", "one", "two"]\nleave_out = ["seed"]\n',
        encoding="utf-8",
    )
    assert load_targets(file) == (
        TargetServer(name="box", address="192.0.2.1:1234"),
        TargetServer(
            name="hosted",
            address="openai:https://api.example.com/v1",
            key_variable="EXAMPLE_KEY",
            models=("one", "two"),
            leave_out=("seed",),
        ),
    )


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", r"no \[\[target\]\]"),
        ("target = 1", r"no \[\[target\]\]"),
        ('targets = "x"', "'targets' is unknown"),
        ("target = [1]", "is no table"),
        ('[[target]]\nname = "a"', "needs address"),
        ('[[target]]\naddress = "a"', "needs name"),
        ('[[target]]\nname = 1\naddress = "a"', "name is to be a text"),
        ('[[target]]\nname = "a"\naddress = "b"\nport = 1', "'port' is unknown"),
        ('[[target]]\nname = "a"\naddress = "b"\nmodels = "c"', "models is to be a list"),
        ('[[target]]\nname = "a"\naddress = "b"\n' * 2, "two targets are called 'a'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, part: str) -> None:
    file = tmp_path / "targets.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=part):
        load_targets(file)


def test_a_token_in_place_of_a_variable_is_refused_and_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "targets.toml"
    file.write_text('[[target]]\nname = "a"\naddress = "b"\nkey_variable = "sk-secret-1"\n', encoding="utf-8")
    with pytest.raises(UsageError, match="name of an environment variable") as caught:
        load_targets(file)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_toml_is_said(tmp_path: Path) -> None:
    file = tmp_path / "targets.toml"
    file.write_text("[[target", encoding="utf-8")
    with pytest.raises(PromptError, match="not valid TOML"):
        load_targets(file)
