"""The command `strands-sqlite`, also as `python -m strands_sqlite_session_manager`."""

import sys


def main() -> None:
    """Run the command line, or say how to install what it needs."""
    try:
        from ._cli.commands import app
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(
            f"strands-sqlite: the package {error.name} is missing; "
            "run: pip install 'strands-sqlite-session-manager[cli]'"
        )
    app(prog_name="strands-sqlite")


if __name__ == "__main__":
    main()
