"""What is never found again."""

import sqlite3
from pathlib import Path

import pytest
from search_helpers import add, add_session, bytes_on_disk, epoch, ids, redacted

from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager._catalog import message_search
from strands_sqlite_session_manager._engine.holder import database_of
from strands_sqlite_session_manager._search import erasing, sources
from strands_sqlite_session_manager.catalog import SessionCatalog


class TestWhatIsNeverFoundAgain:
    """Deleted or replaced text, although it had been indexed."""

    @pytest.fixture(autouse=True)
    def _indexed(self, catalog: SessionCatalog, repository: SQLiteSessionRepository) -> None:
        add(repository, "secret zero", "answer", "secret two", "answer")
        add_session(repository, "other", "secret other")
        assert len(catalog.search("secret")) == 3

    def found(self, catalog: SessionCatalog) -> list[tuple[str, int]]:
        return sorted((result.session_id, result.message_id) for result in catalog.search("secret"))

    def test_after_a_redaction(self, catalog: SessionCatalog, repository: SQLiteSessionRepository) -> None:
        repository.update_message("s", "a", redacted(2, "a blank"))
        assert self.found(catalog) == [("other", 0), ("s", 0)]
        assert ids(catalog.search("blank")) == [2]

    @pytest.mark.file_only
    def test_on_disk_when_a_search_took_it_out_of_the_index(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection, db_path: Path
    ) -> None:
        """As another process's may, between a redaction and its erasure. The next erasure has nothing to take out."""
        add(repository, "xylophone", first=4)
        catalog.search("xylophone")
        raw.execute("""UPDATE messages SET message = '{"role":"user","content":[]}' WHERE message_id = 4""")
        assert catalog.search("xylophone") == []
        assert b"xylophon" in bytes_on_disk(db_path)
        add(repository, "not indexed yet", first=5)
        repository.update_message("s", "a", redacted(5))
        assert b"xylophon" not in bytes_on_disk(db_path)

    @pytest.mark.file_only
    def test_even_by_one_who_cannot_bring_the_index_up_to_date(self, raw: sqlite3.Connection, db_path: Path) -> None:
        raw.execute("""UPDATE messages SET message = '{"role":"user","content":[]}' WHERE message_id = 2""")
        raw.execute("BEGIN IMMEDIATE")
        with SessionCatalog(db_path, busy_timeout=0.05) as hurried:
            assert self.found(hurried) == [("other", 0), ("s", 0)]
        indexed = "SELECT count(*) FROM search_messages WHERE search_messages MATCH 'secret'"
        assert raw.execute(indexed).fetchone() == (3,)
        assert raw.execute(f"{indexed} AND {sources.MESSAGES.not_stale}").fetchone() == (2,)

    def test_after_a_deletion(self, catalog: SessionCatalog) -> None:
        catalog.delete_session("other")
        assert self.found(catalog) == [("s", 0), ("s", 2)]
        catalog.delete_agent("s", "a")
        assert self.found(catalog) == []

    def test_after_an_undo_even_under_the_same_message_id(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        """The new message gets the rowid of the old one too, if that was the last in the table."""
        before = epoch(raw)
        catalog.delete_session("other")
        catalog.undo_turns("s", "a")
        add(repository, "something new", first=2)
        assert self.found(catalog) == [("s", 0)]
        assert ids(catalog.search("something new")) == [2]
        assert epoch(raw) == before

    def test_when_it_is_redacted_while_it_is_indexed(
        self,
        catalog: SessionCatalog,
        repository: SQLiteSessionRepository,
        raw: sqlite3.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def redact_meanwhile(message: bytes) -> tuple[str, ...]:
            raw.execute("UPDATE messages SET redact_message = '{}' WHERE message_id = 4")
            raw.execute("DELETE FROM messages WHERE message_id = 5")
            return sources.MESSAGES.texts(message)

        add(repository, "secret four", "secret five", first=4)
        monkeypatch.setattr(message_search, "MESSAGES", sources.MESSAGES._replace(texts=redact_meanwhile))
        assert self.found(catalog) == [("other", 0), ("s", 0), ("s", 2)]
        found = "SELECT rowid FROM search_messages WHERE search_messages MATCH 'four OR five'"
        assert raw.execute(found).fetchall() == []
        assert raw.execute("SELECT count(*) FROM search_messages_text WHERE text LIKE '%f%'").fetchone() == (0,)
        assert raw.execute("SELECT count(*) FROM search_stale").fetchone() == (2,)
        monkeypatch.undo()
        add(repository, "secret six", first=6)
        assert self.found(catalog) == [("other", 0), ("s", 0), ("s", 2), ("s", 6)]
        assert raw.execute("SELECT count(*) FROM search_stale").fetchone() == (0,)

    def test_after_deletions_by_hand(self, catalog: SessionCatalog, raw: sqlite3.Connection) -> None:
        raw.execute("DELETE FROM sessions WHERE session_id = 'other'")
        raw.execute("UPDATE messages SET message = '{}' WHERE message_id = 0")
        assert self.found(catalog) == [("s", 2)]
        assert raw.execute("SELECT count(*) FROM search_stale").fetchone() == (0,)

    def test_under_the_old_name_of_a_session(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository
    ) -> None:
        catalog.rename_session("other", "renamed")
        assert self.found(catalog) == [("renamed", 0), ("s", 0), ("s", 2)]
        catalog.fork_session("renamed", "copy")
        repository.update_message("renamed", "a", redacted(0))
        assert self.found(catalog) == [("copy", 0), ("s", 0), ("s", 2)]

    @pytest.mark.parametrize("last", [True, False])
    def test_a_rowid_that_is_used_again_is_indexed_again(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection, last: bool
    ) -> None:
        raw.execute("DELETE FROM messages WHERE session_id = ?", ("other" if last else "s",))
        if last:
            assert len(self.found(catalog)) == 2  # and the index has forgotten the rowid
        add(repository, "newest", session_id="other" if last else "s")
        assert ids(catalog.search("newest")) == [0]
        raw.execute("DELETE FROM messages")
        add(repository, "very newest")
        assert ids(catalog.search("newest")) == [0]
        assert self.found(catalog) == []

    @pytest.mark.file_only
    def test_on_disk_once_it_is_erased(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, db_path: Path
    ) -> None:
        add(repository, "xylophone is the password", first=4)
        assert ids(catalog.search("xylophone")) == [4]
        assert b"xylophon" in bytes_on_disk(db_path)
        repository.update_message("s", "a", redacted(4))
        erasing.erase_from_index(database_of(repository), sources.MESSAGES)
        assert database_of(repository).truncate_log()
        assert b"xylophon" not in bytes_on_disk(db_path)
        assert self.found(catalog) == [("other", 0), ("s", 0), ("s", 2)]

    @pytest.mark.file_only
    def test_on_disk_if_it_was_written_under_a_rowid_that_an_erasure_was_about_to_take_out(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection, db_path: Path
    ) -> None:
        raw.execute("DELETE FROM messages WHERE session_id = 'other'")
        add(repository, "xylophone is the password", session_id="other")
        erasing.erase_from_index(database_of(repository), sources.MESSAGES)
        assert raw.execute("SELECT * FROM search_messages_text WHERE text LIKE 'xylo%'").fetchall() == []
        assert [result.session_id for result in catalog.search("xylophone")] == ["other"]
        repository.update_message("other", "a", redacted(0))
        assert database_of(repository).truncate_log()
        assert b"xylophon" not in bytes_on_disk(db_path)

    def test_although_much_is_still_to_be_indexed_which_an_erasure_leaves_to_searches(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        """A search that was killed leaves rows that are watched, and not in the index."""

        def die(message: bytes) -> tuple[str, ...]:
            raise KeyboardInterrupt

        add(repository, *(f"later {number}" for number in range(300)), first=4)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(message_search, "MESSAGES", sources.MESSAGES._replace(texts=die))
            with pytest.raises(KeyboardInterrupt):
                catalog.search("later")
        repository.update_message("s", "a", redacted(0))
        repository.update_message("s", "a", redacted(4))
        catalog.delete_session("other")
        assert raw.execute("SELECT count(*) FROM search_stale").fetchone() == (1,)
        assert raw.execute("SELECT count(*) FROM search_messages_text").fetchone() == (4,)
        assert raw.execute("SELECT * FROM search_messages_text WHERE text = 'secret zero'").fetchall() == []
        assert len(catalog.search("later", limit=500)) == 299
        assert self.found(catalog) == [("s", 2)]

    @pytest.mark.file_only
    def test_after_the_file_was_vacuumed(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        raw.execute("DELETE FROM messages WHERE message_id = 1")
        raw.execute("VACUUM")
        repository.update_message("s", "a", redacted(2))
        add(repository, "secret four", first=4)
        assert self.found(catalog) == [("other", 0), ("s", 0), ("s", 4)]

    def test_when_rows_were_renumbered(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        """A dump and restore closes the gaps that deleted rows left."""
        raw.execute("DELETE FROM messages WHERE message_id = 1")
        raw.execute("UPDATE messages SET rowid = rowid - 1 WHERE rowid > 1")
        repository.update_message("s", "a", redacted(2))
        add(repository, "secret four", first=4)
        assert self.found(catalog) == [("other", 0), ("s", 0), ("s", 4)]
