"""Draws the pictures of the command line that the README shows: `python .github/pictures/make.py`."""

import re
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType
from typer.testing import CliRunner

from strands_sqlite_session_manager import SessionCatalog, SQLiteSessionRepository
from strands_sqlite_session_manager._cli import commands, reading

HERE = Path(__file__).parent
NOW = datetime.now(timezone.utc)

TALK: list[tuple[str, list[dict[str, Any]]]] = [
    (
        "user",
        [
            {"text": "Where is my parcel? Here is the label."},
            {"image": {"format": "png", "source": {"bytes": bytes(48_200)}}},
        ],
    ),
    (
        "assistant",
        [
            {"text": "Let me look it up."},
            {"toolUse": {"toolUseId": "t1", "name": "track_parcel", "input": {"number": "JD0146", "country": "DE"}}},
        ],
    ),
    (
        "user",
        [{"toolResult": {"toolUseId": "t1", "status": "success", "content": [{"json": {"status": "in transit"}}]}}],
    ),
    ("assistant", [{"text": "It left Leipzig this morning and should arrive tomorrow."}]),
    ("user", [{"text": "[personal data removed]"}]),
]


def fill(db_path: Path) -> None:
    """Make a database with a few sessions."""
    with SQLiteSessionRepository(db_path) as repository, SessionCatalog(db_path) as catalog:
        for number, (name, turns) in enumerate([("user-42", 5), ("user-7", 18), ("billing-bot", 60), ("user-105", 9)]):
            start = NOW - timedelta(days=number * 2, minutes=7)
            time = start.isoformat()
            repository.create_session(Session(name, SessionType.AGENT, time, time))
            repository.create_agent(name, SessionAgent("default", {}, {}, {}, time, time))
            for message_id in range(turns):
                role, content = TALK[message_id % 5]
                time = (start - timedelta(days=message_id // 10, minutes=turns - message_id)).isoformat()
                message: Any = {"role": role, "content": content}
                if role == "assistant":
                    tokens = 900 + 70 * (message_id % 10)
                    message["metadata"] = {
                        "usage": {"inputTokens": tokens, "outputTokens": 80, "totalTokens": tokens + 80}
                    }
                redacted = message if message_id % 5 == 4 else None
                repository.create_message(name, "default", SessionMessage(message, message_id, redacted, time, time))
        catalog.set_metadata("user-42", {"title": "Lost parcel"})
        catalog.set_metadata("billing-bot", {"team": "finance"})


def draw(name: str, *arguments: str, db_path: Path) -> None:
    """Run a command and draw what it prints."""
    reading.console = Console(record=True, width=92, force_terminal=True)
    CliRunner().invoke(commands.app, [*arguments, "--db", str(db_path)], catch_exceptions=False)
    picture = reading.console.export_svg(title=f"$ strands-sqlite {' '.join(arguments)}")
    # Fonts from elsewhere are not loaded in a picture of a web page anyway.
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
    (HERE / f"{name}.svg").write_text(picture, "utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "sessions.db"
        fill(path)
        draw("ls", "ls", db_path=path)
        draw("show", "show", "user-42", db_path=path)
        draw("usage", "usage", db_path=path)
