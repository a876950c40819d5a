"""What a person sees: whole texts, sizes and times, and nothing that commands the terminal."""

import json
import re
from datetime import datetime, timezone
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from strands.types.session import SessionAgent, SessionMessage

pytest.importorskip("typer", reason="the command line needs the extra cli")

from rich.console import Console

from command_line import run
from helpers import make_agent, text_message, tool_use
from strands_sqlite_session_manager import SQLiteSessionManager
from strands_sqlite_session_manager._cli.display import sessions_table
from strands_sqlite_session_manager._wording import size
from strands_sqlite_session_manager.catalog import SessionCatalog


class TestDisplay:
    def test_show_has_all_kinds_of_content_in_words(self, db_path: Path) -> None:
        content: list[list[dict[str, Any]]] = [
            [
                {"text": "What is this? [bold]not markup[/bold]"},
                {"image": {"format": "png", "source": {"bytes": b"x" * 2500}}},
            ],
            [
                {"reasoningContent": {"reasoningText": {"text": "Let me see."}}},
                tool_use("look", "t1", {"at": "it" * 99}),
            ],  # type: ignore[list-item]
            [
                {
                    "toolResult": {
                        "toolUseId": "t1",
                        "status": "error",
                        "content": [{"json": {"why": "dark"}}, {"text": "sorry"}],
                    }
                }
            ],
            [{"document": {"name": "a.pdf", "format": "pdf", "source": {"s3Location": {"uri": "s3://x"}}}}, {"new": 1}],
        ]
        with SQLiteSessionManager("s", db_path) as manager:
            manager.create_agent("s", SessionAgent("a", {}, {}))
            for number, blocks in enumerate(content):
                role = "assistant" if number % 2 else "user"
                manager.create_message("s", "a", SessionMessage({"role": role, "content": blocks}, number))  # type: ignore[typeddict-item]
            hidden = text_message(4, "[hidden]").message
            manager.create_message("s", "a", SessionMessage(hidden, 4, hidden))
        shown = run("show", "s").stdout
        for expected in (
            "agent a",
            "What is this? [bold]not markup[/bold]",
            "[image, png, 2.5 KB]",
            "(thinking: Let me see.)",
            '→ look({"at": "itit',
            "characters))",
            '← error: {"why": "dark"}; sorry',
            "[document a.pdf, pdf,",
            "[new: 1]",
            "redacted\n[hidden]",
        ):
            assert expected in shown, expected
        assert run("show", "s", "--agent", "a", "-n", "1").stdout.count("\n\n") == 1
        rows = [json.loads(line) for line in run("show", "s", "--raw").stdout.splitlines()]
        assert [row["message"]["content"] for row in rows[2:4]] == content[2:4]

    def test_text_cannot_command_the_terminal(self, db_path: Path) -> None:
        with SQLiteSessionManager("s\x1b]0;title\x07", db_path) as manager:
            make_agent(manager, "\x1b[2Jgone \ud800 \N{SNOWMAN}")("hi")
        shown = run("show", "s\x1b]0;title\x07").stdout + run("ls").stdout + run("stats").stdout
        assert "\x1b" not in shown
        assert "gone \N{REPLACEMENT CHARACTER} \N{SNOWMAN}" in shown
        assert (
            json.loads(run("show", "s\x1b]0;title\x07", "--raw").stdout.splitlines()[1])["message"]["role"]
            == "assistant"
        )

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "value",
        ["null", '"x"', "[1]", "{}", '{"source": "x"}', '{"reasoningText": "x"}', '{"content": 1}', '{"content": [1]}'],
    )
    @pytest.mark.parametrize(
        "kind", ["text", "citationsContent", "toolUse", "toolResult", "image", "reasoningContent", "other"]
    )
    def test_show_survives_whatever_is_stored(self, filled: Path, raw: Any, kind: str, value: str) -> None:
        message = f'{{"role":"user","content":[{{"{kind}":{value}}},"x",null,{{}}]}}'
        raw.execute("UPDATE messages SET message = ?, created_at = '[/x]\x1b[2J'", (message,))
        raw.execute("UPDATE sessions SET updated_at = '[/x]\x1b[2J'")
        assert "\x1b" not in run("show", "s").stdout + run("ls").stdout

    def test_show_has_the_text_of_an_answer_with_citations(self, db_path: Path) -> None:
        """The SDK stores these instead of texts."""
        cited = {"citations": [{"title": "a.pdf"}], "content": [{"text": "It is "}, {"text": "noon."}]}
        with SQLiteSessionManager("s", db_path) as manager:
            manager.create_agent("s", SessionAgent("a", {}, {}))
            message: Any = {"role": "assistant", "content": [{"citationsContent": cited}]}
            manager.create_message("s", "a", SessionMessage(message, 0))
        assert run("show", "s").stdout.endswith("\nIt is noon.\n[1 citation]\n")

    def test_show_goes_on_after_a_damaged_message(self, filled: Path, raw: Any) -> None:
        raw.execute("UPDATE messages SET message = '{' WHERE session_id = 's' AND message_id = 1")
        shown = run("show", "s", code=1).stdout
        assert "I am Ada." in shown
        assert "Goodbye." in shown
        assert re.search(r"^damaged  1  .*\nmessages \('s', 'default', 1\): damaged JSON", shown, re.MULTILINE)
        rows = [json.loads(line) for line in run("show", "s", "--raw", code=1).stdout.splitlines()]
        assert [bool(row["damage"]) for row in rows] == [False, True, False, False]

    def test_nothing_is_cut_or_wrapped_for_a_program(self, db_path: Path) -> None:
        long_id, long_text = "s" * 200, "word " * 100 + "end"
        with SQLiteSessionManager(long_id, db_path) as manager:
            make_agent(manager, long_text)("hi")
        assert run("ls").stdout.splitlines()[1].startswith(long_id)
        assert long_text in run("show", long_id).stdout.splitlines()
        assert long_id in run("stats").stdout
        assert max(map(len, run("usage").stdout.splitlines())) < 100

    def test_a_narrow_terminal_shows_whole_ids(self, filled: Path) -> None:
        with SessionCatalog(filled) as catalog:
            catalog.rename_session("s", "0123456789" * 5)
            page = catalog.list_sessions(prefix="0")
            agents = {"0123456789" * 5: catalog.list_agents("0123456789" * 5)}
        terminal = Console(width=40, file=StringIO())
        terminal.print(sessions_table(page.sessions, agents, datetime.now(timezone.utc)))
        assert isinstance(terminal.file, StringIO)
        first_column = (line.split(" ")[0] for line in terminal.file.getvalue().splitlines())
        assert "".join(part for part in first_column if part.isdigit()) == "0123456789" * 5

    def test_a_time_of_the_future_is_a_date(self, filled: Path, raw: Any) -> None:
        raw.execute("UPDATE sessions SET updated_at = '2999-01-31T12:00:00+00:00'")
        assert re.search(r"^s +2999-01-31 +default", run("ls").stdout, re.MULTILINE)

    def test_json_cannot_command_the_terminal(self, filled: Path) -> None:
        names = ["C1 \x9b2J", "bidi \u202e", "\u2028", "\U000e0001", "\x7f", "ü ☃ 😀"]
        SessionCatalog(filled).set_metadata("s", {"names": names})
        with SQLiteSessionManager("t", filled) as manager:
            manager.create_message("t", "default", text_message(4, "".join(names)))
        for arguments in (["tag", "s"], ["show", "t", "--raw", "-n", "1"]):
            shown = run(*arguments).stdout
            assert shown.replace("\n", "").isprintable()
            assert "ü ☃ 😀" in shown
            assert "\x9b2J" in json.dumps(json.loads(shown), ensure_ascii=False)

    def test_names_are_not_read_as_markup(self, filled: Path, raw: Any) -> None:
        raw.execute('CREATE TABLE "[/foo]" (x)')
        assert "[/foo]" in run("stats").stdout

    @pytest.mark.parametrize(
        ("number", "text"),
        [(999, "999 B"), (1000, "1.0 KB"), (999_949, "999.9 KB"), (999_960, "1.0 MB"), (10**16, "10,000.0 TB")],
    )
    def test_sizes_are_in_units_of_thousand(self, number: int, text: str) -> None:
        assert size(number) == text
