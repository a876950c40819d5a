"""Tokens that messages took."""

import sqlite3
from datetime import timedelta

import pytest
from catalog_helpers import NOW, add_session, at, message

from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager.catalog import SessionCatalog


class TestUsage:
    """Of the session `s`, and of `t` a day later, where two messages have damaged counts."""

    @pytest.fixture(autouse=True)
    def _messages(self, empty: SQLiteSessionRepository, raw: sqlite3.Connection) -> None:
        for session_id, day in (("s", 0), ("t", 1)):
            add_session(empty, session_id)
            for number in range(2):
                usage = {"inputTokens": 10, "outputTokens": 1, "totalTokens": 11, "cacheWriteInputTokens": 2}
                empty.create_message(
                    session_id, "a", message(number, day * 24 * 60, **({"usage": usage} if number else {}))
                )
        empty.create_message("t", "a", message(2, 24 * 60, usage="lots"))
        raw.execute(
            """INSERT INTO messages VALUES ('t', 'a', 9, '{"usage": damaged', NULL, NULL, ?, ?)""", (at(0), at(0))
        )

    def test_is_added_up_for_all_sessions_or_one(self, catalog: SessionCatalog) -> None:
        total = catalog.usage()
        assert (total.input_tokens, total.output_tokens, total.total_tokens) == (20, 2, 22)
        assert (total.cache_read_input_tokens, total.cache_write_input_tokens, total.message_count) == (0, 4, 6)
        assert catalog.usage("s").total_tokens == 11
        assert catalog.usage("nobody").message_count == 0

    def test_is_told_apart_by_session_agent_or_day(self, catalog: SessionCatalog) -> None:
        counts = {
            by: [(key, usage.total_tokens, usage.message_count) for key, usage in catalog.usage(by=by).items()]
            for by in ("session", "agent", "day")
        }
        assert counts["session"] == [("s", 11, 2), ("t", 11, 4)]
        assert counts["agent"] == [(("s", "a"), 11, 2), (("t", "a"), 11, 4)]
        assert counts["day"] == [("2026-06-01", 11, 3), ("2026-06-02", 11, 3)]

    @pytest.mark.parametrize(
        ("count", "total"), [("9223372036854775807", 2**63 - 1), ("1.5", 12), ('"many"', 11), ("null", 11), ("[]", 11)]
    )
    def test_counts_that_are_no_numbers_count_nothing_and_none_fails(
        self, catalog: SessionCatalog, raw: sqlite3.Connection, count: str, total: int
    ) -> None:
        raw.execute(
            "UPDATE messages SET message = ? WHERE message_id = 0 AND session_id = 's'",
            (f'{{"role": "user", "content": [], "metadata": {{"usage": {{"totalTokens": {count}}}}}}}',),
        )
        summary = catalog.describe("s")
        assert summary is not None
        assert summary.usage == catalog.usage("s") == catalog.usage(by="session")["s"]
        assert (summary.usage.total_tokens, type(summary.usage.total_tokens)) == (total, int)

    def test_is_that_of_a_time(self, catalog: SessionCatalog) -> None:
        assert catalog.usage(since=NOW + timedelta(days=1)).message_count == 3
        assert catalog.usage(until=NOW + timedelta(days=1)).message_count == 3
        assert catalog.usage(since=NOW + timedelta(days=2), by="day") == {}
        with pytest.raises(ValueError, match="by='week'"):
            catalog.usage(by="week")  # type: ignore[arg-type]
