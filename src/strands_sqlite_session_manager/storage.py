"""The Strands `Storage` protocol on SQLite: bytes under keys."""

import asyncio
import builtins
import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from strands.types.exceptions import SessionException

from ._arguments import BEGINS_WITH, checked_moment, now
from ._engine.database import Statement, Synchronous
from ._engine.holder import DatabaseHolder
from ._engine.path import IN_MEMORY
from ._engine.schema import SESSION_OF_KEY
from ._errors import REBUILD, MissingParentError, SessionConflictError, naming_too_large, require_stored
from ._expiry import make_way_for_keys, sweep
from ._search import beside, index
from ._search.erasing import erase_former_content
from ._search.segments import Texts
from ._search.sources import STORAGE, storage_texts
from ._search.text import START, STOP_WORDS, after, match_expression, query_words, without_punctuation
from ._threads import to_its_end

try:
    from strands.storage import storage as _sdk
    from strands.types.exceptions import StorageError
except ImportError as error:
    raise ImportError(
        f"SQLiteStorage needs strands-agents 1.48 or newer ({error}): pip install --upgrade strands-agents"
    ) from error

if TYPE_CHECKING:
    from strands.storage.storage import StorageSearchResult
    from typing_extensions import Self

_Result = TypeVar("_Result")

_INSERT = "INSERT INTO storage (key, data, created_at, updated_at)"
# What has expired already is replaced by something that does not expire.
_OR_UPDATE = """
    ON CONFLICT (key) DO UPDATE SET
        data = excluded.data,
        updated_at = excluded.updated_at,
        expires_at = CASE WHEN storage.expires_at > excluded.updated_at THEN storage.expires_at END
    """

_WRITE = f"{_INSERT} VALUES (:key, :data, :now, :now) {_OR_UPDATE}"

# Only over what is known of the key: its time, or that it is not there.
_WRITE_OVER = f"""
    {_INSERT}
    SELECT :key, :data, :now, :now
    WHERE :known IS NULL OR EXISTS (SELECT 1 FROM storage WHERE key = :key AND updated_at = :known)
    {_OR_UPDATE}
    WHERE storage.updated_at = :known OR storage.expires_at <= :now
    """  # noqa: S608 (constants only, as below)

# Only while there is another key.
_WRITE_BESIDE = f"""
    {_INSERT} SELECT :key, :data, :now, :now WHERE EXISTS (SELECT 1 FROM storage WHERE key = :latest) {_OR_UPDATE}
    """  # noqa: S608

_READ = """
    SELECT data, updated_at FROM storage
    WHERE key = ? AND NOT EXISTS (SELECT 1 FROM expired_keys WHERE expired_key = key)
    """

# The end of the key of a snapshot of the past. That of the latest one of its agent ends otherwise.
_PAST = re.compile(r"immutable_history/snapshot_[^/]+\.json\Z")

_DELETE = "DELETE FROM storage WHERE key = ?"

_BEGINS_WITH = BEGINS_WITH.format(column="key")
_HAS_PREFIX = _BEGINS_WITH.replace("?", ":prefix")

# Of many keys: what has expired is looked up once, not for each, as the view would.
_LIST = f"""
    SELECT key FROM storage
    WHERE {_HAS_PREFIX} AND key NOT IN (SELECT key FROM storage WHERE expires_at <= :now)
        AND coalesce({SESSION_OF_KEY.format(key="key")}, '') NOT IN (
            SELECT session_id FROM sessions WHERE expires_at <= :now
        )
    ORDER BY key
    """  # noqa: S608


class StorageConflictError(StorageError, SessionConflictError):
    """Another writer stored something under a key since it was read, and theirs is kept."""


class SQLiteStorage(DatabaseHolder):
    """Bytes under keys, in the same SQLite file as the sessions: for snapshots, memory and stash.

    ```python
    agent = Agent(storage=SQLiteStorage(), session_manager=SnapshotSessionManager("user-42"))
    ```

    Safe to share between agents, threads and event loops; a forked child goes on with connections of its own. The event
    loop never waits for the disk or for a lock: what does, runs in a thread. A write is done completely or not at all,
    and done when its call returns: also one that is cancelled, so that no cancelled write lands on top of one that came
    after it.

    Keys are those of Strands' own storages: parts with slashes between them, without backslashes or `..`. What Strands
    keeps where:

    ```
    session/<session_id>/scopes/agent/<agent_id>/snapshots/...
    session/<session_id>/scopes/multiAgent/<multi_agent_id>/snapshots/...
    context/<session_id>/scopes/agent/<agent_id>/<reference>
    memory/<name>/<topic>.md
    ```

    All methods raise `StorageError` if the database cannot be used (locked for too long, full disk, damaged, …), with
    the file's path, and for a key or prefix that Strands' own storages refuse, has NUL, or cannot be held by UTF-8.
    """

    def __init__(
        self,
        db_path: str | os.PathLike[str] | None = None,
        *,
        synchronous: Synchronous = "NORMAL",
        busy_timeout: float | None = None,
        detect_conflicts: bool = False,
    ):
        """Open the database, creating file, directories and tables if they do not exist.

        Args:
            db_path: Path of the file. Defaults to the environment variable `STRANDS_SQLITE_DB_PATH`, else
                `sessions.db` in the working directory. ":memory:" is a private database that lives as long as this
                object and its views.
            synchronous: "NORMAL" survives the death of the process, and may lose the newest writes when the power
                fails; "FULL" survives that too, and waits for the disk at every write
                (https://sqlite.org/pragma.html#pragma_synchronous). A cluster's nodes always wait.
            busy_timeout: Seconds to wait for a lock, or for a cluster's leader, before raising. Defaults to 5 for a
                file, and to 30 for a cluster.
            detect_conflicts: Whether `write` refuses to replace what another writer stored since this object, or this
                view, has read the key. A key that it has not read is written in any case. Give each agent a storage or
                a view of its own: those that share one know the same.

        Raises:
            StorageError: If the database cannot be opened, or belongs to another program or a newer version.
            ValueError: If an argument is out of its range.
        """
        try:
            super().__init__(db_path, synchronous=synchronous, busy_timeout=busy_timeout)
        except SessionException as error:
            raise StorageError(str(error)) from error
        self._prefix = ""
        self._detect_conflicts = detect_conflicts
        self._know_nothing()
        if self._database.path == IN_MEMORY:
            # Tells Strands to put the stash itself into a snapshot, and not a reference to it.
            self._ephemeral = getattr(_sdk, "_EPHEMERAL", None)

    async def write(self, key: str, data: bytes) -> None:
        """Store bytes under a key, in place of those that are there.

        Args:
            key: Key to store them under.
            data: Bytes to store.

        Raises:
            StorageError: If the data is not bytes; with `detect_conflicts`, if another writer stored something since
                the key was read, which is then a `SessionConflictError` too.
        """
        statement = self._write_statement(key, _bytes(key, data))
        await self._write(f"write '{key}'", lambda: self._begin_anew([statement], lambda: self._write_one(*statement)))

    def _begin_anew(self, statements: Iterable[tuple[str, Mapping[str, Any]]], write: Callable[[], None]) -> None:
        """Write, and if a session has expired that the keys belong to, remove it, and write again."""
        try:
            write()
        except MissingParentError:
            make_way_for_keys(self._database, [parameters["key"] for _, parameters in statements])
            write()

    def _know_nothing(self) -> None:
        # When each key was written last that was read, None if it was not there. Empty without `detect_conflicts`.
        self._known: dict[str, str | None] = {}
        self._locks: dict[int, threading.Lock] = {}

    def _noting(self) -> contextlib.AbstractContextManager[Any]:
        """Return what keeps other threads from what is known, until it fits what was read or written."""
        if not self._detect_conflicts:
            return contextlib.nullcontext()
        # Of this process: another thread may have held it when this one was forked.
        return self._locks.setdefault(os.getpid(), threading.Lock())

    def _write_one(self, sql: str, parameters: Mapping[str, Any]) -> None:
        key = compared = parameters["key"]
        with self._noting():
            if key in self._known:
                # Two writes of one moment must differ.
                sql, parameters = _WRITE_OVER, {**parameters, "known": self._known[key], "now": now(self._known[key])}
            elif self._known:
                # Of an agent that was deleted meanwhile, a snapshot of the past, stored first, would bring all back.
                latest = _PAST.sub("snapshot_latest.json", key)
                if self._known.get(latest) is not None:
                    sql, parameters, compared = _WRITE_BESIDE, {**parameters, "latest": latest}, latest
            count = self._database.execute(sql, parameters)
            if not count and sql != _WRITE:
                raise StorageConflictError(
                    f"'{compared}' was written or deleted by another writer since it was read, and theirs is kept; to "
                    f"go on from it, {REBUILD}"
                )
            require_stored((count,), "The data")
            self._note_write(parameters)

    def _note_write(self, parameters: Mapping[str, Any]) -> None:
        if parameters["key"] in self._known:
            self._known[parameters["key"]] = parameters["now"]

    async def write_many(self, items: Mapping[str, bytes]) -> None:
        """Store bytes under several keys, all or none. It replaces what is there in any case.

        Args:
            items: Bytes to store, by key.

        Raises:
            StorageError: If the data of a key is not bytes.
        """
        copied = {key: _bytes(key, data) for key, data in items.items()}
        largest = max(copied, key=lambda key: len(copied[key]), default="")
        statements = [self._write_statement(key, data) for key, data in copied.items()]
        await self._write(
            f"write {len(copied)} keys",
            lambda: self._begin_anew(statements, lambda: self._write_many(statements, largest)),
        )

    def _write_many(self, statements: Iterable[tuple[str, Mapping[str, Any]]], largest: str) -> None:
        with self._noting():
            with naming_too_large(f"'{largest}'"):
                counts = self._database.transaction(statements)
            require_stored(counts, "The data")
            for _, parameters in statements:
                self._note_write(parameters)

    async def read(self, key: str) -> bytes | None:
        """Read the bytes under a key.

        Args:
            key: Key to read.

        Returns:
            The bytes, or None if there are none.
        """
        stored_key = self._key(key)
        return await self._read(f"read '{key}'", lambda: self._read_one(stored_key))

    def _read_one(self, stored_key: str) -> bytes | None:
        with self._noting():
            rows = self._database.query(_READ, (stored_key,))
            if self._detect_conflicts:
                self._known[stored_key] = rows[0][1] if rows else None
        return rows[0][0] if rows else None

    async def set_expiry(self, key: str, expires_at: datetime | timedelta | None) -> bool:
        """Let a key expire: from then on it is not read, listed or found, and later writes remove it.

        To write the key again does not put that off. Snapshots and stash expire with their session, see
        `SessionCatalog.set_expiry`.

        Args:
            key: Key that is to expire.
            expires_at: When: a time with a time zone, or a time span from now on. None means never.

        Returns:
            Whether it is there.
        """
        return bool(await self._set_expiry(f"let '{key}' expire", "key = :prefix", self._key(key), expires_at))

    async def set_prefix_expiry(self, prefix: str, expires_at: datetime | timedelta | None) -> int:
        """Let all keys that start with a prefix expire. Keys that are written later do not.

        Args:
            prefix: Prefix of the keys, as in `list`.
            expires_at: As for `set_expiry`.

        Returns:
            How many there are.
        """
        stored_prefix = self._stored_prefix(prefix)
        return await self._set_expiry(f"let keys with prefix '{prefix}' expire", _HAS_PREFIX, stored_prefix, expires_at)

    async def _set_expiry(self, what: str, condition: str, prefix: str, expires_at: datetime | timedelta | None) -> int:
        time = None if expires_at is None else checked_moment("expires_at", expires_at)
        parameters = {"prefix": prefix, "expires_at": time, "now": now()}
        update = f"""
            UPDATE storage SET expires_at = :expires_at
            WHERE {condition} AND (expires_at IS NULL OR expires_at > :now)
            """  # noqa: S608 (constants only)
        return await self._write(what, lambda: self._database.execute(update, parameters))

    async def delete(self, key: str) -> None:
        """Delete a key, if it is there.

        Args:
            key: Key to delete.
        """
        statement = (_DELETE, (self._key(key),))
        # Strands deletes key by key, many at once, which must not wait for each other.
        await self._write(f"delete '{key}'", lambda: self._delete([statement], wait=False))

    async def delete_many(self, keys: Iterable[str]) -> int:
        """Delete those of several keys that are there, all or none.

        Args:
            keys: Keys to delete.

        Returns:
            How many were there.
        """
        if isinstance(keys, (str, bytes)):
            raise StorageError(f"{keys!r}: several keys are needed, not one")
        copied = list(keys)
        return await self._write(
            f"delete {len(copied)} keys", lambda: self._delete([(_DELETE, (self._key(key),)) for key in copied])
        )

    async def delete_prefix(self, prefix: str) -> int:
        """Delete all keys that start with a prefix, all or none.

        Args:
            prefix: Prefix of the keys, as in `list`: "a" covers "ab" and "a/b", "a/" only the latter.

        Returns:
            How many there were.

        Raises:
            StorageError: If nothing is left of the prefix but the slashes: `clear` deletes everything.
        """
        stored_prefix = self._stored_prefix(prefix)
        if prefix and stored_prefix == self._prefix:
            raise StorageError(f"'{prefix}' is the prefix of all keys; to delete everything, call clear()")
        statement = (f"DELETE FROM storage WHERE {_BEGINS_WITH}", (stored_prefix, stored_prefix))  # noqa: S608
        return await self._write(f"delete keys with prefix '{prefix}'", lambda: self._delete([statement]))

    async def clear(self) -> None:
        """Delete everything in this storage; in a view, everything under its prefix. The sessions are not touched."""
        await self.delete_prefix("")

    async def list(self, query: str = "") -> builtins.list[str]:
        """List the keys that start with a prefix.

        Args:
            query: Prefix of the keys; the empty one is that of all.

        Returns:
            The keys in the order of their code points.
        """
        prefix = self._stored_prefix(query)
        return await self._read(f"list keys with prefix '{query}'", lambda: self._list(prefix))

    def _list(self, prefix: str) -> builtins.list[str]:
        rows = self._database.query(_LIST, {"prefix": prefix, "now": now()})
        return [key[len(self._prefix) :] for (key,) in rows]

    async def search(self, query: str) -> "builtins.list[StorageSearchResult]":
        """Search keys and data for words. Needs strands-agents 1.54 or newer.

        Words match in any English form and without accents; words that say nothing ("the", "what", …) are left
        out. Of data, the first 100,000 characters of UTF-8 are searched; of images and other data
        with a NUL, the key alone. What was written since the last search is indexed first; see
        `SessionCatalog.search`.

        Args:
            query: What to look for: any text. Its first 1,000 characters, and 100 words of them, count.

        Returns:
            All keys with one of the words or more, the best match (BM25) first, with their data.
        """
        return await self._read(f"search for '{query}'", lambda: self._search(query))

    def _search(self, query: str) -> "builtins.list[StorageSearchResult]":
        from strands.storage.search import StorageSearchResult

        # Each word for itself: "dark-mode" finds what has only one of the two, as in Strands' own storages.
        words = [word for word in query_words(without_punctuation(query)) if word.lower() not in STOP_WORDS]
        if not words:
            return []
        rows = index.find(
            self._database,
            STORAGE,
            f"""
            SELECT
                key, -rank, data,
                highlight(search_storage, 0, char(2), char(3)),
                search_storage.rowid IN (SELECT rowid FROM search_storage WHERE search_storage MATCH ?)
            FROM search_storage CROSS JOIN storage ON storage.rowid = search_storage.rowid
            WHERE search_storage MATCH ? AND {STORAGE.not_stale} AND {_BEGINS_WITH}
                AND NOT EXISTS (SELECT 1 FROM expired_keys WHERE expired_key = key)
            """,  # noqa: S608 (constants only)
            (
                f"content : ({match_expression(words, 'OR')})",
                match_expression(words, "OR"),
                self._prefix,
                self._prefix,
            ),
            lambda not_indexed: self._search_beside(words, not_indexed),
        )
        # What was indexed meanwhile was found twice.
        best = {
            key: (score, data)
            for key, score, data, name, is_in_content in rows
            # Not in the part of the key that a view leaves out.
            if is_in_content or START in after(name, self._prefix)
        }
        return [
            StorageSearchResult(key[len(self._prefix) :], score, data)
            for key, (score, data) in sorted(best.items(), key=lambda item: -item[1][0])
        ]

    def _search_beside(self, words: builtins.list[str], condition: str) -> builtins.list[tuple[Any, ...]]:
        """Search what is not in the index."""
        found: builtins.list[tuple[Any, ...]] = []
        last_id = -1
        while rows := self._database.query(
            f"""
            SELECT rowid, key, data FROM storage
            WHERE rowid > ? AND {_BEGINS_WITH} AND {condition}
                AND NOT EXISTS (SELECT 1 FROM expired_keys WHERE expired_key = key)
            ORDER BY rowid LIMIT {beside.ROWS}
            """,  # noqa: S608 (constants only)
            (last_id, self._prefix, self._prefix),
        ):
            last_id = rows[-1][0]
            by_id = {row_id: (key, data) for row_id, key, data in rows}
            texts: Texts = {row_id: storage_texts(key, data) for row_id, key, data in rows}
            for row_id, score, (name, content) in beside.search(self._database, STORAGE, texts, words, "OR"):
                key, data = by_id[row_id]
                found.append((key, score, data, name, START in content))
        return found

    async def reindex(self, *, progress: Callable[[int, int], object] | None = None) -> None:
        """Build the index again, where a search does not find what is there. Writers get their turn in between.

        Args:
            progress: Called now and then, in another thread, with how many keys were indexed, and about how many there
                are.

        Raises:
            StorageError: If it cannot be built, because SQLite lacks FTS5, say.
        """
        await self._read("reindex", lambda: index.rebuild(self._database, STORAGE, progress))

    def namespace(self, prefix: str) -> "Self":
        """Return a view of what is under a prefix, with keys that leave it out.

        Args:
            prefix: Prefix of the keys, with or without a slash at its end.

        Returns:
            A storage on the same connections. Closing either closes both.

        Raises:
            StorageError: If the prefix is refused.
        """
        prefix = _storable(_sdk._normalize_prefix(prefix)).rstrip("/")
        view = type(self).__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._know_nothing()
        view._prefix = f"{self._prefix}{prefix}/" if prefix else self._prefix
        # Tells Strands to use the view as it is, without a prefix of its own.
        view._namespaced = _sdk._NAMESPACED
        return view

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs to open the same storage."""
        return {
            **super().__getstate__(),
            "prefix": self._prefix,
            "detect_conflicts": self._detect_conflicts,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the storage again."""
        prefix = state.pop("prefix")
        self._detect_conflicts = state.pop("detect_conflicts")
        self._know_nothing()
        super().__setstate__(state)
        self._prefix = prefix
        if prefix:
            self._namespaced = _sdk._NAMESPACED

    def _write_statement(self, key: str, data: bytes) -> tuple[str, dict[str, Any]]:
        return _WRITE, {"key": self._key(key), "data": data, "now": now()}

    def _key(self, key: str) -> str:
        """Return the key in the table."""
        return self._prefix + _storable(_sdk._normalize_key(key))

    def _stored_prefix(self, prefix: str) -> str:
        """Return what the keys in the table begin with."""
        return self._prefix + _storable(_sdk._normalize_prefix(prefix))

    async def _write(self, what: str, operation: Callable[[], _Result]) -> _Result:
        """Run an operation that writes in a thread, to its end, even if the caller is cancelled."""
        with _storage_errors(what):
            return await to_its_end(lambda: self._swept(operation()))

    def _swept(self, result: _Result) -> _Result:
        sweep(self._database)
        return result

    async def _read(self, what: str, operation: Callable[[], _Result]) -> _Result:
        """Run an operation that reads in a thread."""
        with _storage_errors(what):
            return await asyncio.to_thread(operation)

    def _delete(self, statements: builtins.list[Statement], *, wait: bool = True) -> int:
        """Delete, and leave nothing of it in the search index and in the log; without `wait`, only if that is quick."""
        with self._noting():
            deleted = sum(self._database.transaction(statements))
            for sql, parameters in statements:
                if sql == _DELETE and parameters[0] in self._known:  # type: ignore[index]
                    self._known[parameters[0]] = None  # type: ignore[index]
                elif sql != _DELETE:
                    self._known.clear()
        if deleted:
            erase_former_content(self._database, STORAGE, wait=wait)
        return deleted


@contextlib.contextmanager
def _storage_errors(what: str) -> Iterator[None]:
    try:
        yield
    except StorageError:
        raise  # A conflict.
    except (SessionException, OverflowError) as error:
        raise StorageError(f"Failed to {what}: {error}") from error


def _storable(text: str) -> str:
    """Return a key or prefix if SQLite can hold it."""
    if "\0" not in text:
        try:
            text.encode()
        except UnicodeEncodeError:
            pass
        else:
            return text
    raise StorageError(f"Invalid storage key {text!r}: NUL and what UTF-8 cannot hold are not allowed")


def _bytes(key: str, data: bytes) -> bytes:
    """Return the data of a key, as it is now: its owner may change it while a thread waits to store it."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise StorageError(f"Failed to write '{key}': the data must be bytes, not {type(data).__name__}")
    return bytes(data)
