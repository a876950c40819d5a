"""The command line, called in this process, for the tests of its commands."""

from pathlib import Path

from typer.testing import CliRunner, Result

from strands_sqlite_session_manager._cli.commands import app, memories
from strands_sqlite_session_manager.catalog import SessionCatalog

COMMANDS = {
    f"{prefix}{command.name}": command
    for prefix, group in (("", app), ("memories ", memories.group))
    for command in group.registered_commands
}


def run(*arguments: object, code: int = 0, answer: str | None = None) -> Result:
    """Run a command, which must end with an exit code, and return what it printed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=answer)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    return result


def left(db_path: Path) -> list[str]:
    """Return the ids of the sessions that a database has."""
    with SessionCatalog(db_path) as catalog:
        return sorted(session.session_id for session in catalog.list_sessions().sessions)
