"""The Strands `MemoryStore` protocol on SQLite: what agents remember across sessions, found by words and meaning."""

import asyncio
import builtins
import json
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ._arguments import checked_cut_off, checked_id, checked_metadata, checked_moment, checked_number, checked_time, now
from ._codec import encode
from ._engine.database import Synchronous
from ._engine.holder import DatabaseHolder
from ._engine.path import chosen_path, is_cluster
from ._errors import missing
from ._expiry import sweep
from ._memory import records, words
from ._memory.embedding import Embedder, Embedding
from ._memory.records import Memory, MemoryPage, Place
from ._memory.search import note_use, search
from ._metadata import wanted_metadata
from ._search.erasing import erase_former_content
from ._search.sources import MEMORIES
from ._search.text import LONGEST_QUERY, LONGEST_TEXT, MOST_RESPELT, all_words, has_every_word, respelt
from ._threads import to_its_end

try:
    from strands import tool
    from strands.memory import MemoryEntry, MemoryStore
except ImportError as error:
    raise ImportError(
        f"SQLiteMemoryStore needs strands-agents 1.45 or newer ({error}): pip install --upgrade strands-agents"
    ) from error

if TYPE_CHECKING:
    from strands.memory import ExtractionConfig, MemoryToolConfig, SearchOptions
    from strands.types.tools import AgentTool

__all__ = ["Embedder", "Memory", "MemoryPage", "SQLiteMemoryStore"]

_DEFAULT_MAX_SEARCH_RESULTS = 10

_FORGET_TOOL = """
Delete from long-term memory what the user asks you to forget. Search memory first, and pass the memory_id of each
entry that is to go. Or pass words: all entries that have every one of these words, as it is, are deleted.
""".strip()


class SQLiteMemoryStore(DatabaseHolder, MemoryStore):
    """Memories in the same SQLite file as the sessions, for Strands' `MemoryManager`.

    ```python
    store = SQLiteMemoryStore("facts", scope="user-42")
    agent = Agent(memory_manager=MemoryManager(stores=[store]), session_manager=SQLiteSessionManager("user-42"))
    ```

    Searches find memories by words, and with an embedder by words and meaning. The same text in the same store and
    scope is one memory, however often it is added. A memory belongs to its store and scope, and no call looks beyond
    them.

    Safe to share between agents, threads and event loops. The loop never waits for the disk or for a lock: what does,
    runs in a thread, and what writes is done to its end, also when its caller is cancelled.

    All methods raise `SessionException` if the database cannot be used, with its path, and `ValueError` for arguments
    out of their range. Those that write raise `ValueError` if the store is not writable.

    Attributes:
        name: Name of the store.
        description: What the store is for, as the model is told.
        max_search_results: Number of results of a search that does not say.
        writable: Whether it may be changed.
        extraction: What the `MemoryManager` is to extract from conversations.
    """

    def __init__(
        self,
        name: str,
        db_path: str | os.PathLike[str] | None = None,
        *,
        scope: str = "default",
        description: str | None = None,
        max_search_results: int | None = None,
        writable: bool = True,
        extraction: "ExtractionConfig | bool | None" = None,
        embedder: Embedder | None = None,
        embedding_model: str = "default",
        forget_tool_config: "MemoryToolConfig | bool" = False,
        synchronous: Synchronous = "NORMAL",
        busy_timeout: float | None = None,
    ):
        """Open the database, creating file, directories and tables if they do not exist.

        Args:
            name: Name of the store, by which the model and the tables know it.
            db_path: Path of the file. Defaults to the environment variable `STRANDS_SQLITE_DB_PATH`, else
                `sessions.db` in the working directory. ":memory:" is a private database that lives as long as this
                object.
            scope: Whose memories these are: a user's id, say.
            description: What the store is for; it becomes part of the descriptions of the manager's tools.
            max_search_results: Number of results of a search that does not say. Defaults to 10.
            writable: Whether it may be changed.
            extraction: What the `MemoryManager` is to extract from conversations: `True`, or a configuration. The
                facts are distilled by a model and added one by one.
            embedder: Takes a list of texts and returns a vector of numbers for each, all of one length; it may be
                asynchronous. Without one, memories are found by their words.
            embedding_model: Name of what the embedder uses. Give another one to have `reindex` embed all again.
            forget_tool_config: Whether to give agents a tool that deletes memories, `forget_memory`; or its name and
                description. Several stores of one agent need different names: of tools with one name, an agent has
                the last.
            synchronous: "NORMAL" or "FULL", see `SQLiteSessionRepository`.
            busy_timeout: Seconds to wait for a lock, or for a cluster's leader, before raising. Defaults to 5 for a
                file, and to 30 for a cluster.

        Raises:
            SessionException: If the database cannot be opened, or belongs to another program or a newer version.
            ValueError: If an argument is out of its range.
        """
        config = {
            "name": name,
            "scope": scope,
            "description": description,
            "max_search_results": max_search_results,
            "writable": writable,
            "extraction": extraction,
            "embedder": embedder,
            "embedding_model": embedding_model,
            "forget_tool_config": forget_tool_config,
        }
        self._check(config)
        path = chosen_path(db_path)
        # Unless there is nothing to read yet.
        read_only = not writable and (is_cluster(path) or Path(path).exists())
        super().__init__(db_path, synchronous=synchronous, busy_timeout=busy_timeout, read_only=read_only)
        self._configure(config)

    @staticmethod
    def _check(config: dict[str, Any]) -> None:
        for argument in ("name", "scope", "embedding_model"):
            checked_id(argument, config[argument])
        if config["max_search_results"] is not None:
            _checked_limit(config["max_search_results"])
        if config["embedder"] is not None and not callable(config["embedder"]):
            raise ValueError(f"embedder={config['embedder']!r}: must be a function that takes a list of texts")
        tool_config = config["forget_tool_config"]
        if not isinstance(tool_config, (bool, Mapping)):
            raise ValueError(f"forget_tool_config={tool_config!r}: must be a bool or a dictionary: name, description")
        if tool_config is not False and not config["writable"]:
            raise ValueError("forget_tool_config: a store that is not writable has nothing to forget with")

    def _configure(self, config: dict[str, Any]) -> None:
        self._config = config
        self.name: str = config["name"]
        self.description: str | None = config["description"]
        self.max_search_results: int | None = config["max_search_results"]
        self.writable: bool = config["writable"]
        self.extraction: ExtractionConfig | bool | None = config["extraction"]
        self._place = Place(config["name"], config["scope"])
        self._embedding: Embedding | None = None
        if config["embedder"] is not None:
            self._embedding = Embedding(self._database, self._place, config["embedder"], config["embedding_model"])

    @property
    def scope(self) -> str:
        """Whose memories these are. To look at those of somebody else, make another store."""
        return self._place.scope

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs to open the same store. The embedder must be one that can be pickled."""
        return {**super().__getstate__(), "config": self._config}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the store again."""
        config = state.pop("config")
        super().__setstate__(state)
        self._configure(config)

    async def search(
        self, query: str, options: "SearchOptions | Mapping[str, Any] | None" = None
    ) -> builtins.list[MemoryEntry]:
        """Find memories by their words, and with an embedder by their words and meaning.

        A question finds a statement: "What does Ada drink?" finds "Ada likes green tea". One of its words is enough,
        in any English form, with or without accents; words that say nothing ("the", "what", …) are left out; of
        scripts without spaces, each two characters are looked for, and of Chinese each alone too. The best match
        (BM25) comes first, of equal ones the newest.

        With an embedder, the memories whose vectors are nearest (cosine similarity, of all vectors) are a second
        ranking. The two are joined by reciprocal rank. If the embedder fails, that is logged, and words alone count.

        Args:
            query: What to look for: any text. Its first 1,000 characters, and 100 words of them, count.
            options: `max_search_results`, and `metadata`: names and values that the memories' metadata must have.

        Returns:
            The memories. Their `metadata` is what was added with them, and in addition `memory_id`, `score` and
            `updated_at`. Scores compare within one search alone.
        """
        given: Mapping[str, Any] = options or {}
        limit = given.get("max_search_results")
        limit = _checked_limit(limit if limit is not None else self.max_search_results or _DEFAULT_MAX_SEARCH_RESULTS)
        metadata = wanted_metadata(given.get("metadata"))
        if not isinstance(query, str):
            raise ValueError(f"query={query!r}: must be a text")
        if not query.strip():
            return []
        vector = None if self._embedding is None else await self._embedding.of_query(query)
        return await asyncio.to_thread(self._search, query, vector, limit, metadata)

    def _search(self, query: str, vector: bytes | None, limit: int, metadata: str | None) -> builtins.list[MemoryEntry]:
        time = datetime.now(timezone.utc)
        vectors = None if self._embedding is None else self._embedding.vectors
        found = search(self._database, self._place, query, vectors, vector, limit, metadata, checked_time("now", time))
        note_use(self._database, self._place, [memory for memory, _ in found], time)
        return [
            MemoryEntry(
                memory.content,
                self.name,
                {**memory.metadata, "memory_id": memory.memory_id, "score": score, "updated_at": memory.updated_at},
            )
            for memory, score in found
        ]

    async def add(
        self,
        content: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        expires_at: "datetime | timedelta | Literal['never'] | None" = None,
    ) -> int:
        """Remember something. If the store has this text already, its time and count move on.

        With an embedder, the text is embedded when it is stored. If that fails, the memory stays, is found by its
        words, and the failure is logged; `reindex` embeds it, and so does adding it again.

        Args:
            content: A text. Blanks around it are not stored.
            metadata: Names and values that JSON can hold. They replace those of the memory if it was there; None
                leaves them. What a model may make up instead is kept as one text under the name `metadata`: a text,
                or the JSON of what is no dictionary or holds a NUL character or an integer beyond 64 bits.
            expires_at: When to forget it: a time with a time zone, a time span from now on, or "never". None leaves
                what the memory has if it was there; a new one never expires.

        Returns:
            Id of the memory.
        """
        self._require_writable()
        text = records.checked_content(content)
        encoded = None if metadata is None else encode(_kept_metadata(metadata), "metadata")
        expiry = _checked_expiry(expires_at)
        memory_id = await to_its_end(lambda: self._add(text, encoded, expiry))
        if self._embedding is not None:
            await self._embedding.add(memory_id, text)
        return memory_id

    def _add(self, content: str, metadata: str | None, expires_at: str | None) -> int:
        memory_id = records.add(self._database, self._place, content, metadata, expires_at, now())
        sweep(self._database)
        return memory_id

    async def get(self, memory_id: int) -> Memory | None:
        """Return a memory.

        Args:
            memory_id: Its id.

        Returns:
            The memory, or None if it does not exist or has expired.
        """
        ids = _checked_ids([memory_id])
        return (await asyncio.to_thread(records.read, self._database, self._place, ids, None, now())).get(memory_id)

    async def list(
        self, *, limit: int = 50, after: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> MemoryPage:
        """List memories page by page, the newest first.

        One that is added again while you go from page to page moves to the front, so the next pages do not have it.

        Args:
            limit: Number of memories at the most.
            after: The `next` of the page before.
            metadata: Names and values that their metadata has, among others.

        Returns:
            The page.
        """
        arguments = (checked_number("limit", limit), after, wanted_metadata(metadata), now())
        return await asyncio.to_thread(records.page, self._database, self._place, *arguments)

    async def count(self, *, metadata: Mapping[str, Any] | None = None) -> int:
        """Count memories.

        Args:
            metadata: As for `list`.

        Returns:
            Their number.
        """
        return await asyncio.to_thread(records.count, self._database, self._place, wanted_metadata(metadata), now())

    async def update(
        self,
        memory_id: int,
        *,
        content: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expires_at: "datetime | timedelta | Literal['never'] | None" = None,
    ) -> None:
        """Change a memory. What it was is overwritten on disk.

        Args:
            memory_id: Its id, which stays.
            content: Its new text. Defaults to the one that it has, as all defaults to what there is.
            metadata: Its new metadata, in place of the old.
            expires_at: When to forget it, as for `add`, or "never".

        Raises:
            SessionConflictError: If another memory has this text.
            SessionException: If the memory does not exist.
        """
        self._require_writable()
        changes: dict[str, Any] = {}
        if content is not None:
            changes["content"] = records.checked_content(content)
        if metadata is not None:
            changes["metadata"] = encode(checked_metadata("metadata", metadata), "metadata")
        if expires_at is not None:
            changes["expires_at"] = None if expires_at == "never" else _checked_expiry(expires_at)
        if not changes:
            raise ValueError("give content, metadata or expires_at: there is nothing to change")
        _checked_ids([memory_id])
        await to_its_end(lambda: self._update(memory_id, changes))
        if self._embedding is not None and content is not None:
            await self._embedding.add(memory_id, changes["content"])

    def _update(self, memory_id: int, changes: dict[str, Any]) -> None:
        records.update(self._database, self._place, memory_id, changes, now())
        erase_former_content(self._database, MEMORIES)

    async def delete(self, memory_id: int) -> None:
        """Delete a memory, and overwrite it on disk.

        Args:
            memory_id: Its id.

        Raises:
            SessionException: If it does not exist.
        """
        self._require_writable()
        ids = _checked_ids([memory_id])
        if not await to_its_end(lambda: self._erasing(records.delete(self._database, self._place, ids))):
            raise missing("memories", *self._place, memory_id)

    async def forget(
        self, query: str | None = None, *, memory_ids: Iterable[int] | None = None
    ) -> builtins.list[Memory]:
        """Delete all memories that have certain words, or certain ids, and overwrite them on disk.

        Those that have expired and are still stored go too.

        Args:
            query: Words, each of which a memory must have to be deleted, as it is: "dog" does not delete "dogs". Only
                case, punctuation, accents and other spellings of a letter do not matter, as in searches.
            memory_ids: Ids of memories. Those that do not exist are passed over.

        Returns:
            The memories that were deleted.

        Raises:
            ValueError: If not exactly one of the two is given, or the query has no words or more than 1,000 characters.
        """
        self._require_writable()
        if (query is None) == (memory_ids is None):
            raise ValueError("give query or memory_ids, one of them")
        if query is not None and not isinstance(query, str):
            raise ValueError(f"query={query!r}: must be a text")
        if query is not None:
            respelt_query = respelt(query)
            if (length := max(len(query), len(respelt_query))) > LONGEST_QUERY:
                raise ValueError(f"query has {length:,} characters: must be {LONGEST_QUERY:,} at the most")
            if not all_words(respelt_query):
                raise ValueError(f"query={query!r}: must have a word")
        ids = None if memory_ids is None else _checked_ids(memory_ids)
        return await to_its_end(lambda: self._forget(query or "", ids))

    def _forget(self, query: str, ids: builtins.list[int] | None) -> builtins.list[Memory]:
        # What has expired, and is still there, goes too: nothing has expired before all times.
        time = ""
        if ids is None:
            ids = [
                *words.find(self._database, self._place, query, "AND", 2**31, None, time),
                *records.longer_than(self._database, self._place, LONGEST_TEXT // MOST_RESPELT),
            ]
        found = records.read(self._database, self._place, ids, None, time)
        if query:
            # The index knows stems, and leaves out words: what is deleted must have the words themselves.
            found = {key: memory for key, memory in found.items() if has_every_word(memory.content, query)}
        self._erasing(records.delete(self._database, self._place, found))
        return [*found.values()]

    async def clear(self) -> int:
        """Delete all memories of this store and scope, and overwrite them on disk.

        Returns:
            How many there were.
        """
        self._require_writable()
        return await to_its_end(lambda: self._erasing(records.clear(self._database, self._place)))

    async def prune(
        self,
        *,
        older_than: timedelta | datetime | None = None,
        unused_for: timedelta | datetime | None = None,
        keep_last: int | None = None,
        dry_run: bool = False,
    ) -> int:
        """Delete memories that have expired, and those that one of the arguments means, and overwrite them on disk.

        They go in batches, between which writers get their turn.

        Args:
            older_than: Those that were not added since: an age, or a time with a time zone.
            unused_for: Those that were neither added nor found by a search since.
            keep_last: Those beyond so many last added ones.
            dry_run: Only tell how many would go.

        Returns:
            How many went, or would.
        """
        self._require_writable()
        arguments = (
            None if older_than is None else checked_cut_off("older_than", older_than),
            None if unused_for is None else checked_cut_off("unused_for", unused_for),
            None if keep_last is None else checked_number("keep_last", keep_last),
            now(),
        )
        if dry_run:
            return await asyncio.to_thread(records.prune, self._database, self._place, *arguments, dry_run=True)
        return await to_its_end(lambda: self._erasing(records.prune(self._database, self._place, *arguments)))

    async def reindex(self, *, progress: Callable[[int], object] | None = None) -> int:
        """Embed the memories of this store and scope that have no vector of its embedder.

        `SessionCatalog.reindex` builds the index of words again.

        Args:
            progress: Called now and then with how many memories were embedded.

        Returns:
            How many memories were embedded.

        Raises:
            Exception: What the embedder raises.
        """
        self._require_writable()
        return 0 if self._embedding is None else await self._embedding.add_missing(progress)

    def get_tools(self) -> "builtins.list[AgentTool]":
        """Return the tool `forget_memory`, if `forget_tool_config` asks for it."""
        config = self._config["forget_tool_config"]
        if config is False:
            return []
        # As in the SDK's configurations of tools, an empty one stands for all defaults.
        names: Mapping[str, Any] = {} if config is True else config

        async def forget_memory(
            memory_ids: builtins.list[int] | None = None, query: str | None = None
        ) -> dict[str, Any]:
            """Delete memories.

            Args:
                memory_ids: The memory_id of each entry to delete.
                query: Words, all of which an entry must have to be deleted, if no memory_ids are given.

            Returns:
                What was deleted, and the ids that this store does not have.
            """
            forgotten = await (self.forget(memory_ids=memory_ids) if memory_ids else self.forget(query))
            gone = {memory.memory_id: memory.content for memory in forgotten}
            return {
                "forgotten": [{"memory_id": memory_id, "content": content} for memory_id, content in gone.items()],
                "not_found": [memory_id for memory_id in memory_ids or () if memory_id not in gone],
            }

        return [
            tool(
                name=names.get("name", "forget_memory"),
                description=names.get("description", f"{_FORGET_TOOL} Only for entries of the store {self.name!r}."),
            )(forget_memory)
        ]

    def _require_writable(self) -> None:
        if not self.writable:
            raise ValueError(f"The memory store {self.name} is not writable: create it with writable=True")

    def _erasing(self, deleted: int) -> int:
        """Leave nothing of what was deleted in the search index and in the log."""
        if deleted:
            erase_former_content(self._database, MEMORIES)
        return deleted


def _checked_limit(limit: int) -> int:
    if checked_number("max_search_results", limit) < 1:
        raise ValueError("max_search_results must be 1 at the least")
    return min(limit, 2**31)


def _checked_ids(memory_ids: Iterable[int]) -> list[int]:
    return [checked_number("memory_id", memory_id) for memory_id in memory_ids]


def _checked_expiry(value: "datetime | timedelta | Literal['never'] | None") -> str | None:
    return (
        value if value is None or (isinstance(value, str) and value == "never") else checked_moment("expires_at", value)
    )


def _kept_metadata(metadata: Any) -> dict[str, Any]:
    """Return metadata that can be stored: what a model may make up instead of some, as one text."""
    try:
        return checked_metadata("metadata", {"metadata": metadata} if isinstance(metadata, str) else metadata)
    except ValueError as error:
        # A refusal would make the SDK ask the model again, with every turn, for facts that it has stored already.
        try:
            return {"metadata": json.dumps(metadata)}
        except (TypeError, ValueError, RecursionError):
            raise error from None
