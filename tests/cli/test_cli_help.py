"""What the command line says about itself."""

import re
import shlex
from importlib import metadata
from typing import Any

import pytest

pytest.importorskip("typer", reason="the command line needs the extra cli")

import typer

from command_line import COMMANDS, run
from strands_sqlite_session_manager._cli.commands import app


def found(name: str) -> Any:
    """The command with a name, which may be one of a group."""
    command: Any = typer.main.get_command(app)
    for part in name.split():
        command = command.commands[part]
    return command


class TestHelp:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_command_has_help_with_an_example(self, name: str) -> None:
        shown = run(*name.split(), "--help").output
        assert f"Example: strands-sqlite {name}" in shown
        assert len(shown.split("Example:")[0].split("\n\n")[1]) > 20

    @pytest.mark.slow
    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_option_is_explained(self, name: str) -> None:
        command = found(name)
        assert [parameter.name for parameter in command.params if not getattr(parameter, "help", None)] == []

    @pytest.mark.slow
    def test_examples_can_be_parsed(self) -> None:
        for name, command in COMMANDS.items():
            assert command.callback is not None
            example = re.search(r"Example: strands-sqlite (.*)", command.callback.__doc__ or "")
            assert example is not None
            arguments = shlex.split(example[1])
            found(name).make_context(name, arguments[len(name.split()) :])

    def test_the_version_is_that_of_the_package(self) -> None:
        assert run("--version").stdout == f"{metadata.version('strands-sqlite-session-manager')}\n"
