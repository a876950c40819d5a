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


class TestHelp:
    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_command_has_help_with_an_example(self, name: str) -> None:
        shown = run(name, "--help").output
        assert f"Example: strands-sqlite {name}" in shown
        assert len(shown.split("Example:")[0].split("\n\n")[1]) > 20

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_option_is_explained(self, name: str) -> None:
        group: Any = typer.main.get_command(app)
        command = group.commands[name]
        assert [parameter.name for parameter in command.params if not getattr(parameter, "help", None)] == []

    def test_examples_can_be_parsed(self) -> None:

        group: Any = typer.main.get_command(app)
        for name, command in COMMANDS.items():
            assert command.callback is not None
            example = re.search(r"Example: strands-sqlite (.*)", command.callback.__doc__ or "")
            assert example is not None
            arguments = shlex.split(example[1])
            group.commands[name].make_context(name, arguments[1:])

    def test_the_version_is_that_of_the_package(self) -> None:
        assert run("--version").stdout == f"{metadata.version('strands-sqlite-session-manager')}\n"
