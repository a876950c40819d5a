"""Random changes beside searchers: the index agrees with the rows, and nothing of what is gone is left on disk."""

import random
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from search_helpers import add_session, bytes_on_disk
from strands.types.session import SessionMessage

from helpers import text_message
from strands_sqlite_session_manager import SQLiteSessionRepository, maintenance
from strands_sqlite_session_manager._search import index
from strands_sqlite_session_manager.catalog import SessionCatalog

WORDS = ("alpha", "beta", "gamma", "delta")


class Life:
    """Sessions that are changed at random, and the text of each message that there is."""

    def __init__(self, repository: SQLiteSessionRepository, seed: int):
        self.repository, self.catalog = repository, SessionCatalog.on(repository)
        self.random = random.Random(seed)
        self.texts: dict[str, list[str]] = {}
        self.number = 0

    def step(self) -> None:
        """Change something."""
        names = list(self.texts)
        actions: list[Any] = [self.append] * 5 + [self.replace, self.undo, self.delete, self.rename, self.fork]
        if not names or self.random.random() < 0.1:
            add_session(self.repository, name := self.unique())
            self.texts[name] = []
        else:
            self.random.choice(actions)(self.random.choice(names))

    def unique(self) -> str:
        """A word that nothing else has."""
        self.number += 1
        return f"xq{self.number}qx"

    def text(self) -> str:
        return " ".join((*self.random.choices(WORDS, k=self.random.randint(0, 5)), self.unique()))

    def message(self, number: int) -> SessionMessage:
        """A message whose text is noted down by the caller."""
        return text_message(number, self.text(), self.random.choice(["user", "assistant"]))

    def append(self, name: str) -> None:
        message = self.message(len(self.texts[name]))
        self.repository.create_message(name, "a", message)
        self.texts[name].append(message.message["content"][0]["text"])

    def replace(self, name: str) -> None:
        if self.texts[name]:
            message = self.message(self.random.randrange(len(self.texts[name])))
            message.redact_message = message.message if self.random.random() < 0.5 else None
            self.repository.update_message(name, "a", message)
            self.texts[name][message.message_id] = message.message["content"][0]["text"]

    def undo(self, name: str) -> None:
        self.catalog.undo_turns(name, "a")
        del self.texts[name][len(self.repository.list_messages(name, "a")) :]

    def delete(self, name: str) -> None:
        self.repository.delete_session(name)
        del self.texts[name]

    def rename(self, name: str) -> None:
        self.catalog.rename_session(name, new := self.unique())
        self.texts[new] = self.texts.pop(name)

    def fork(self, name: str) -> None:
        self.catalog.fork_session(name, new := self.unique())
        self.texts[new] = list(self.texts[name])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.file_only
def test_index_agrees_with_the_rows(
    db_path: Path,
    raw: sqlite3.Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    seed: int,
) -> None:
    monkeypatch.setattr(index, "FULL_ROWS", (3, 10, 1000, 1000)[seed])
    stop, failures = threading.Event(), []

    def search(word: str) -> None:
        try:
            with SessionCatalog(db_path, busy_timeout=60) as catalog:
                while not stop.is_set():
                    catalog.search(word, limit=1000)
        except BaseException as error:
            failures.append(error)

    with SQLiteSessionRepository(db_path, busy_timeout=60) as repository:
        life = Life(repository, seed)
        searchers = [threading.Thread(target=search, args=(word,)) for word in WORDS[:2]]
        for searcher in searchers:
            searcher.start()
        try:
            for _ in range(400):
                life.step()
        finally:
            stop.set()
            for searcher in searchers:
                searcher.join()
        assert failures == []
        assert "index=" not in caplog.text  # Neither broken nor given up.
        # Whatever a searcher was about to write is written by now, and the log is owed no longer.
        add_session(repository, "last", "the last")
        repository.delete_session("last")
        for word in WORDS:
            found = sorted((hit.session_id, hit.message_id) for hit in life.catalog.search(word, limit=100_000))
            assert found == sorted(
                (name, number)
                for name, texts in life.texts.items()
                for number, text in enumerate(texts)
                if word in text.split()
            )
        assert raw.execute("SELECT count(*) FROM search_stale").fetchone() == (0,)
        raw.execute("INSERT INTO search_messages (search_messages, rank) VALUES ('integrity-check', 1)")
        # SQLite may have left copies of rows in unused parts of pages when it moved them.
        maintenance.vacuum(db_path)
        left = {word for texts in life.texts.values() for text in texts for word in text.split()} | set(life.texts)
        on_disk = bytes_on_disk(db_path)
        gone = [word for n in range(1, life.number + 1) if (word := f"xq{n}qx") not in left]
        assert len(gone) > 50
        assert [word for word in gone if word.encode() in on_disk] == []
