"""Sessions that go because they are old, or too many."""

import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from catalog_helpers import NOW, add_session, at, ids, message

from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager._catalog import pruning
from strands_sqlite_session_manager._engine.holder import database_of
from strands_sqlite_session_manager.catalog import SessionCatalog


def before_the_first_batch(
    catalog: SessionCatalog, monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]
) -> None:
    """Do something after the sessions were chosen and before the first of them are deleted."""
    database = database_of(catalog)
    transaction = database.transaction

    def interrupted(statements: Any) -> list[int]:
        monkeypatch.undo()
        work()
        return transaction(statements)

    monkeypatch.setattr(database, "transaction", interrupted)


class TestPrune:
    """Of the sessions `s0` to `s9`, each active a minute after the one before."""

    @pytest.fixture(autouse=True)
    def _ten_sessions(self, empty: SQLiteSessionRepository) -> None:
        for number in range(10):
            add_session(empty, f"s{number}", number, messages=2)

    def left(self, catalog: SessionCatalog) -> list[str]:
        return sorted(ids(catalog.list_sessions()))

    def test_those_older_than_an_age_or_a_time_go(self, catalog: SessionCatalog) -> None:
        result = catalog.prune(older_than=timedelta(minutes=6), now=NOW + timedelta(minutes=9))
        assert result.session_ids == ["s0", "s1", "s2"]
        assert (result.messages, result.bytes) == (6, 6 * len('{"role":"user","content":[{"text":"text 0"}]}') + 15)
        assert catalog.prune(older_than=NOW + timedelta(minutes=4)).session_ids == ["s3"]
        assert self.left(catalog) == ["s4", "s5", "s6", "s7", "s8", "s9"]

    def test_those_beyond_the_last_active_ones_go(self, catalog: SessionCatalog) -> None:
        assert catalog.prune(keep_last=7).session_ids == ["s0", "s1", "s2"]
        assert catalog.prune(keep_last=7).session_ids == []
        assert catalog.prune(keep_last=0).messages == 14

    def test_either_is_enough(self, catalog: SessionCatalog) -> None:
        assert catalog.prune(keep_last=9, older_than=NOW + timedelta(minutes=3)).session_ids == ["s0", "s1", "s2"]
        assert catalog.prune(keep_last=3, older_than=NOW).session_ids == ["s3", "s4", "s5", "s6"]

    def test_only_those_with_some_metadata_go(self, catalog: SessionCatalog) -> None:
        for number in (1, 3, 5):
            catalog.set_metadata(f"s{number}", {"user": "42"})
        result = catalog.prune(keep_last=1, metadata={"user": "42"})
        assert result.session_ids == ["s1", "s3"]
        assert catalog.count_sessions() == 8

    def test_only_what_was_planned_goes(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        planned = catalog.prune(keep_last=8, dry_run=True).session_ids
        assert planned == ["s0", "s1"]
        add_session(empty, "new", 100)
        empty.create_message("s1", "a", message(2, 100))
        assert catalog.prune(keep_last=8, session_ids=planned).session_ids == ["s0"]
        assert catalog.count_sessions() == 10
        assert catalog.prune(keep_last=0, session_ids=[]).session_ids == []

    def test_a_dry_run_tells_what_would_go(self, catalog: SessionCatalog) -> None:
        planned = catalog.prune(keep_last=4, dry_run=True)
        assert catalog.count_sessions() == 10
        assert catalog.prune(keep_last=4) == planned

    def test_goes_in_batches_of_few_sessions_and_few_messages(
        self, catalog: SessionCatalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Here of at most three sessions and five messages each, with two messages in each session."""
        monkeypatch.setattr(pruning, "BATCH_SESSIONS", 3)
        monkeypatch.setattr(pruning, "BATCH_MESSAGES", 5)
        transactions = []
        database = database_of(catalog)
        transaction = database.transaction

        def counting(statements: Any) -> list[int]:
            transactions.append(transaction(statements))
            return transactions[-1]

        monkeypatch.setattr(database, "transaction", counting)
        assert len(catalog.prune(keep_last=2).session_ids) == 8
        assert [counts[3] for counts in transactions] == [2, 1, 2, 1, 2]

    def test_a_session_that_becomes_active_meanwhile_stays(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before_the_first_batch(catalog, monkeypatch, lambda: empty.create_message("s1", "a", message(2, 100)))
        assert catalog.prune(keep_last=5).session_ids == ["s0", "s2", "s3", "s4"]
        assert self.left(catalog) == ["s1", "s5", "s6", "s7", "s8", "s9"]
        assert len(empty.list_messages("s1", "a")) == 3

    def test_a_session_that_gets_other_metadata_meanwhile_stays(
        self, catalog: SessionCatalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in (1, 2):
            catalog.set_metadata(f"s{number}", {"draft": True})
        before_the_first_batch(catalog, monkeypatch, lambda: catalog.set_metadata("s1", {}))
        assert catalog.prune(keep_last=0, metadata={"draft": True}).session_ids == ["s2"]
        assert catalog.describe("s1") is not None

    @pytest.mark.file_only
    def test_a_session_with_a_newer_message_or_state_stays(
        self, catalog: SessionCatalog, raw: sqlite3.Connection
    ) -> None:
        """As after an import from files, where nothing keeps the time of a session's last activity."""
        raw.execute("UPDATE messages SET created_at = ? WHERE session_id = 's1'", (at(100),))
        raw.execute("INSERT INTO multi_agents (session_id, multi_agent_id, state) VALUES ('s0', 'm', '{}')")
        raw.execute("UPDATE multi_agents SET updated_at = ?", (at(100),))
        raw.execute("UPDATE sessions SET updated_at = ? WHERE session_id = 's0'", (at(0),))
        assert catalog.prune(older_than=NOW + timedelta(minutes=3)).session_ids == ["s2"]

    def test_impossible_ages_are_refused(self, catalog: SessionCatalog) -> None:
        for age in (timedelta(minutes=-1), timedelta.max):
            with pytest.raises(ValueError, match="older_than="):
                catalog.prune(older_than=age)

    def test_the_argument_at_fault_is_named(self, catalog: SessionCatalog) -> None:
        with pytest.raises(ValueError, match="older_than=90: must be a timedelta, or a datetime"):
            catalog.prune(older_than=90)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"now=.*: must be a datetime with a time zone"):
            catalog.prune(older_than=timedelta(days=1), now=datetime(2026, 1, 1))

    def test_without_a_limit_only_what_has_expired_goes(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository
    ) -> None:
        add_session(empty, "expired", messages=2)
        add_session(empty, "later")
        catalog.set_expiry("expired", timedelta(0))
        catalog.set_expiry("later", timedelta(days=1))
        assert catalog.prune(dry_run=True).session_ids == ["expired"]
        pruned = catalog.prune()
        assert (pruned.session_ids, pruned.messages) == (["expired"], 2)
        assert catalog.prune(now=datetime.now(timezone.utc) + timedelta(days=2)).session_ids == ["later"]
