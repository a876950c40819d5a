"""Conversations read from their end."""

import sqlite3

import pytest
from catalog_helpers import add_session, at, message
from strands.types.exceptions import SessionException
from strands.types.session import SessionMessage

from helpers import query_plans, text_message, texts
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager.catalog import SessionCatalog


class TestHistory:
    def test_is_read_page_by_page_from_its_end(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s", messages=5)
        empty.update_message(
            "s", "a", SessionMessage(text_message(3, "secret").message, 3, text_message(3, "[x]").message)
        )
        page = catalog.history("s", "a", limit=2)
        assert [(m.message_id, m.is_redacted) for m in page] == [(4, False), (3, True)]
        assert texts(m.message for m in page) == ["text 4", "[x]"]
        assert [m.message_id for m in catalog.history("s", "a", before=page[-1].message_id)] == [2, 1, 0]
        assert catalog.history("s", "a", before=0) == []

    def test_reaches_the_highest_id_of_all(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s")
        empty.create_message("s", "a", message(2**63 - 1))
        assert [m.message_id for m in catalog.history("s", "a")] == [2**63 - 1]
        assert catalog.history("s", "a", before=2**63 - 1) == []

    def test_damaged_messages_raise_or_are_shown_as_damaged(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        add_session(empty, "s", messages=3)
        raw.execute("UPDATE messages SET message = '{' WHERE message_id = 1")
        with pytest.raises(SessionException, match=r"messages \('s', 'a', 1\): damaged JSON"):
            catalog.history("s", "a")
        newest, damaged, oldest = catalog.history("s", "a", with_damaged=True)
        assert (newest.damage, oldest.damage) == (None, None)
        assert (damaged.message_id, damaged.message, damaged.is_redacted, damaged.created_at) == (1, {}, False, at(0))
        assert damaged.damage is not None
        assert damaged.damage.startswith("messages ('s', 'a', 1): damaged JSON")

    def test_of_an_agent_without_messages_is_empty_and_of_a_missing_one_raises(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository
    ) -> None:
        add_session(empty, "s")
        assert catalog.history("s", "a") == []
        with pytest.raises(SessionException, match="Agent b in session s does not exist"):
            catalog.history("s", "b")

    def test_a_page_is_read_along_the_key_and_not_sorted(
        self,
        catalog: SessionCatalog,
        empty: SQLiteSessionRepository,
        raw: sqlite3.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        add_session(empty, "s", messages=2)
        plans = query_plans(catalog, raw, monkeypatch)
        catalog.history("s", "a", limit=1, before=1)
        catalog.history("s", "a", limit=1, after=0)
        key = (
            "SEARCH messages USING INDEX sqlite_autoindex_messages_1 "
            "(session_id=? AND agent_id=? AND message_id>? AND message_id<?)"
        )
        assert plans == [[key], [key]]

    def test_after_reads_what_follows_and_not_the_end(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository
    ) -> None:
        """The messages behind a number are those next to it, the newest first as always."""
        add_session(empty, "s", messages=10)
        assert [found.message_id for found in catalog.history("s", "a", limit=3, after=4)] == [7, 6, 5]
        assert [found.message_id for found in catalog.history("s", "a", after=4, before=6)] == [5]
        assert [found.message_id for found in catalog.history("s", "a", limit=2, after=-1)] == [1, 0]
        assert catalog.history("s", "a", after=9) == []
        with pytest.raises(ValueError, match="after=-2"):
            catalog.history("s", "a", after=-2)
