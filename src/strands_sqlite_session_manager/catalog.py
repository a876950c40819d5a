"""Everything across sessions: lists, descriptions, histories, usage, copies, deletions."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, cast, overload

from strands.types.content import Message
from strands.types.exceptions import SessionException

from ._arguments import (
    checked_cut_off,
    checked_id,
    checked_ids,
    checked_metadata,
    checked_moment,
    checked_number,
    checked_time,
)
from ._arguments import now as present
from ._catalog import (
    agents,
    cutting,
    forgetting,
    listing,
    message_search,
    pruning,
    snapshot_changes,
    snapshot_search,
    snapshots,
)
from ._catalog import usage as token_usage
from ._catalog.filters import NOT_EXPIRED_AT, OF_SESSION_WITH_METADATA, session_conditions
from ._catalog.listing import decode_metadata
from ._catalog.records import (
    AgentDescription,
    AgentSummary,
    ForgetResult,
    HistoryMessage,
    MultiAgentSummary,
    NodeSummary,
    PruneResult,
    RecordCounts,
    SearchResult,
    SessionContents,
    SessionEntry,
    SessionPage,
    SessionSummary,
    SnapshotDiff,
    SnapshotSummary,
    Usage,
)
from ._codec import decode_checked, encode
from ._engine.database import Synchronous
from ._engine.holder import DatabaseHolder
from ._errors import MissingRecordError, SessionConflictError, missing, naming_too_large, record_name
from ._expiry import make_way
from ._metadata import wanted_metadata, where_clauses
from ._search.erasing import erase_former_content
from ._search.index import backlog, rebuild
from ._search.sources import MEMORIES, MESSAGES, STORAGE
from ._search.text import query_words
from .repository import SQLiteSessionRepository

__all__ = [
    "AgentDescription",
    "AgentSummary",
    "ForgetResult",
    "HistoryMessage",
    "MultiAgentSummary",
    "NodeSummary",
    "PruneResult",
    "RecordCounts",
    "SearchResult",
    "SessionCatalog",
    "SessionContents",
    "SessionEntry",
    "SessionPage",
    "SessionSummary",
    "SnapshotDiff",
    "SnapshotSummary",
    "Usage",
]

logger = logging.getLogger(__name__)


class SessionCatalog(DatabaseHolder):
    """Finds, describes, copies, changes and deletes the sessions of a database.

    ```python
    catalog = SessionCatalog("sessions.db")
    for session in catalog.list_sessions(limit=10).sessions:
        print(session.session_id, session.updated_at)
    ```

    Each call is atomic, except `prune`, which works in batches. All raise `SessionException` if the database cannot be
    used, with its path, and `ValueError` for arguments out of their range. What changes or deletes something that does
    not exist raises `SessionException`; what creates something that exists raises `SessionConflictError`.
    """

    def __init__(
        self,
        db_path: str | os.PathLike[str] | None = None,
        *,
        session_repository: SQLiteSessionRepository | None = None,
        synchronous: Synchronous = "NORMAL",
        busy_timeout: float | None = None,
        read_only: bool = False,
    ):
        """Open the database, creating it if it does not exist.

        Args:
            db_path: Path of the file. Defaults to the environment variable `STRANDS_SQLITE_DB_PATH`, else
                `sessions.db` in the working directory.
            session_repository: Repository to use instead of opening one with the other options; it stays open when
                this is closed.
            synchronous: "NORMAL" or "FULL", see `SQLiteSessionRepository`.
            busy_timeout: Seconds to wait for a lock, or for a cluster's leader, before raising. Defaults to 5 for a
                file, and to 30 for a cluster.
            read_only: Whether to leave the file exactly as it is, its schema version too. It must exist then, and what
                would write raises.

        Raises:
            SessionException: If the database cannot be opened, or belongs to another program or a newer version.
            ValueError: If an argument is out of its range.
        """
        super().__init__(
            db_path,
            shared=session_repository,
            synchronous=synchronous,
            busy_timeout=busy_timeout,
            read_only=read_only,
        )

    def list_sessions(
        self,
        *,
        limit: int = 50,
        after: str | None = None,
        order: Literal["updated", "created", "session_id"] = "updated",
        prefix: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        updated_before: datetime | None = None,
        updated_after: datetime | None = None,
    ) -> SessionPage:
        """List sessions page by page, without reading their messages.

        A page begins where the one before it ended, whatever was written in between: no session shows up twice, except
        one that became active again and was listed from its new place.

        Args:
            limit: Number of sessions at the most.
            after: The `next` of the page before, listed with the same order.
            order: "updated", the last active first; "created", the newest first; or "session_id".
            prefix: What the session ids begin with.
            metadata: Names and values that the sessions' metadata has, among others. Lists and dictionaries are
                compared as JSON text.
            updated_before: The last activity was before this time, which has a time zone.
            updated_after: The last activity was at this time or later.

        Returns:
            The page.

        Raises:
            ValueError: If the cursor is none, or belongs to another order.
        """
        conditions, parameters = session_conditions(prefix, metadata, updated_before, updated_after)
        return listing.list_sessions(self._database, conditions, parameters, limit, after, order)

    def count_sessions(
        self,
        *,
        prefix: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        updated_before: datetime | None = None,
        updated_after: datetime | None = None,
    ) -> int:
        """Count sessions.

        Args:
            prefix: As for `list_sessions`.
            metadata: As for `list_sessions`.
            updated_before: As for `list_sessions`.
            updated_after: As for `list_sessions`.

        Returns:
            Their number.
        """
        conditions, parameters = session_conditions(prefix, metadata, updated_before, updated_after)
        where = " AND ".join(["session_id NOT IN expired_sessions", *conditions])
        ((count,),) = self._database.query(f"SELECT count(*) FROM sessions WHERE {where}", parameters)  # noqa: S608
        return int(count)

    def describe(self, session_id: str) -> SessionSummary | None:
        """Describe a session.

        Args:
            session_id: Id of the session.

        Returns:
            What is in it, or None if it does not exist.
        """
        return listing.describe(self._database, checked_id("session_id", session_id))

    def contents(self, session_ids: Iterable[str]) -> dict[str, SessionContents]:
        """Tell what is in sessions, without reading their messages: as quick for long ones as for short ones.

        Args:
            session_ids: Ids of the sessions.

        Returns:
            What is in each of them that exists.
        """
        return listing.contents(self._database, checked_ids("session_ids", session_ids))

    def set_metadata(self, session_id: str, metadata: Mapping[str, Any]) -> None:
        """Replace the metadata of a session.

        Args:
            session_id: Id of the session.
            metadata: Names and values that JSON can hold.

        Raises:
            SessionException: If the session does not exist, or something has no JSON form.
        """
        text = encode(checked_metadata("metadata", metadata), "metadata")
        with naming_too_large(f"Metadata of session {session_id}"):
            changed = self._database.execute(
                f"UPDATE sessions SET metadata = ? WHERE session_id = ? AND {NOT_EXPIRED_AT}",  # noqa: S608
                (text, checked_id("session_id", session_id), present()),
            )
        if not changed:
            raise missing("sessions", session_id)

    def update_metadata(self, session_id: str, /, **changes: Any) -> None:
        """Change some of the metadata of a session.

        Args:
            session_id: Id of the session.
            **changes: Names and their new values; None removes a name.

        Raises:
            SessionException: If the session does not exist, its metadata is damaged, or something has no JSON form.
        """
        checked_metadata("metadata", changes)
        key = (checked_id("session_id", session_id),)
        changed = 0
        while not changed:
            rows = self._database.query(
                """
                SELECT metadata FROM sessions
                WHERE session_id = ? AND NOT EXISTS (SELECT 1 FROM expired_sessions WHERE expired_id = session_id)
                """,
                key,
            )
            if not rows:
                raise missing("sessions", session_id)
            metadata = {**decode_metadata(session_id, rows[0][0]), **changes}
            metadata = {name: value for name, value in metadata.items() if value is not None or name not in changes}
            # Tried again if another writer was in between, so that neither change is lost.
            with naming_too_large(f"Metadata of session {session_id}"):
                changed = self._database.execute(
                    "UPDATE sessions SET metadata = ? WHERE session_id = ? AND metadata = ?",
                    (encode(metadata, "metadata"), *key, *rows[0]),
                )

    def set_expiry(self, session_id: str, expires_at: datetime | timedelta | None) -> None:
        """Let a session expire.

        From then on it is not restored, listed or found, and a new one can have its id. Later writes delete it step by
        step, and `prune` all at once. It is no activity, and activity does not put it off.

        Args:
            session_id: Id of the session.
            expires_at: When: a time with a time zone, or a time span from now on. None means never.

        Raises:
            SessionException: If the session does not exist, or has expired.
        """
        time = None if expires_at is None else checked_moment("expires_at", expires_at)
        changed = self._database.execute(
            f"UPDATE sessions SET expires_at = ? WHERE session_id = ? AND {NOT_EXPIRED_AT}",  # noqa: S608
            (time, checked_id("session_id", session_id), present()),
        )
        if not changed:
            raise missing("sessions", session_id)

    def list_agents(self, session_id: str) -> list[AgentSummary]:
        """List the agents of a session, by their ids.

        Args:
            session_id: Id of the session.

        Returns:
            The agents. One that has snapshots of the past alone has no messages.

        Raises:
            SessionException: If the session does not exist.
        """
        rows = self._database.query(
            """
            SELECT
                agent_id,
                (
                    SELECT count(*) FROM messages
                    WHERE messages.session_id = agents.session_id AND messages.agent_id = agents.agent_id
                ),
                agents.created_at,
                agents.updated_at,
                (
                    SELECT messages.created_at FROM messages
                    WHERE messages.session_id = agents.session_id AND messages.agent_id = agents.agent_id
                    ORDER BY message_id DESC LIMIT 1
                )
            FROM sessions LEFT JOIN agents USING (session_id)
            WHERE session_id = ?
                AND NOT EXISTS (SELECT 1 FROM expired_sessions WHERE expired_id = sessions.session_id)
            ORDER BY agent_id
            """,
            (checked_id("session_id", session_id),),
        )
        if not rows:
            raise missing("sessions", session_id)
        found = {agent.agent_id: agent for agent in snapshots.agent_summaries(self._database, session_id)}
        found |= {row[0]: AgentSummary(*row) for row in rows if row[0] is not None}
        return [found[agent_id] for agent_id in sorted(found)]

    def describe_agent(
        self, session_id: str, agent_id: str, *, snapshot_id: str | None = None
    ) -> AgentDescription | None:
        """Describe an agent: its state, and which of the messages it has now.

        Args:
            session_id: Id of the session.
            agent_id: Id of the agent.
            snapshot_id: As for `history`.

        Returns:
            What is stored of it beside its messages, or None if it does not exist.
        """
        key = (checked_id("session_id", session_id), checked_id("agent_id", agent_id))
        found = agents.describe(self._database, *key) if snapshot_id is None else None
        return found or snapshots.describe(self._database, *key, snapshot_id)

    def revisions(self, conversations: Iterable[tuple[str, str | None]]) -> dict[tuple[str, str | None], str]:
        """Tell whether conversations have changed, at the cost of a few looks at an index.

        Args:
            conversations: Tuples of session id and agent id; None instead of an agent's for what a session has besides
                conversations.

        Returns:
            For each that exists, a text that is another one after something was stored: of the agent, or a message, a
            graph, a swarm or a new agent of its session.
        """
        keys = [
            (checked_id("session_id", session), None if agent is None else checked_id("agent_id", agent))
            for session, agent in conversations
        ]
        return {**snapshots.revisions(self._database, keys), **agents.revisions(self._database, keys)}

    def history(
        self,
        session_id: str,
        agent_id: str,
        *,
        limit: int = 50,
        before: int | None = None,
        snapshot_id: str | None = None,
        after: int | None = None,
        with_damaged: bool = False,
    ) -> list[HistoryMessage]:
        """Read a conversation from its end, as a window shows it that is scrolled back.

        Args:
            session_id: Id of the session.
            agent_id: Id of the agent.
            limit: Number of messages at the most.
            before: Message id that all of them are below: the last one's of the page before.
            snapshot_id: Id of a snapshot to read, see `list_snapshots`. Defaults to the conversation as it is now: of
                an agent that is not in the tables, the latest snapshot.
            after: Message id that all of them are above, -1 for the beginning. Those that follow it are read then, not
                the last ones.
            with_damaged: Whether to return damaged messages too, empty, with what is wrong in `damage`.

        Returns:
            The messages, the newest first.

        Raises:
            SessionException: If the agent does not exist, or a stored message is damaged and `with_damaged` is False.
        """
        key = (checked_id("session_id", session_id), checked_id("agent_id", agent_id))
        limit = checked_number("limit", limit)
        first = 0 if after in (None, -1) else checked_number("after", after) + 1
        last = 2**63 - 1 if before is None else checked_number("before", before) - 1
        if snapshot_id is not None:
            snapshot = self._snapshot(*key, checked_id("snapshot_id", snapshot_id))
            return snapshots.history(snapshot, limit, first, last, after is not None, with_damaged)
        rows = self._database.query(
            f"""
            SELECT message_id, message, redact_message, attachments, created_at, updated_at
            FROM messages
            WHERE session_id = ? AND agent_id = ? AND message_id BETWEEN ? AND ?
                AND NOT EXISTS (SELECT 1 FROM expired_sessions WHERE expired_id = session_id)
            ORDER BY message_id {"DESC" if after is None else "ASC"} LIMIT ?
            """,  # noqa: S608 (constants only)
            (*key, first, last, limit),
        )
        if not rows and not self._is_in_tables(key):
            return snapshots.history(self._snapshot(*key), limit, first, last, after is not None, with_damaged)
        if after is not None:
            rows.reverse()
        return [_history_message(row, session_id, agent_id, with_damaged) for row in rows]

    def search(
        self,
        query: str,
        *,
        session_id: str | None = None,
        agent_id: str | None = None,
        role: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 20,
        progress: Callable[[int, int], object] | None = None,
    ) -> list[SearchResult]:
        """Find messages by the words in their text, the best match (BM25) first.

        All words must be there, in any order and any English form: "refund orders" finds "refunded your order". Case
        and the accents of Latin letters do not matter; what is joined by punctuation ("dark-mode") is a phrase.
        Chinese, Japanese, Korean, Thai and the like are found as any part of a text. Searched is the text of the
        message, its first 100,000 characters, not what tools got and gave; of a redacted message, what replaces it. A
        snapshot of more than 100,000 characters is found by the words in these, unless it is one of the last 20 of its
        length that were stored, which are looked through to the end.

        The first search indexes all messages, and each one those that came after the search before, in steps that keep
        no writer waiting. Where the index cannot be written, it is searched as it is, and what is not in it is searched
        beside it. Where SQLite lacks FTS5, all messages are read instead, and words are found as they are, or as the
        start of longer words.

        Args:
            query: What to look for: any text, without operators. Its first 1,000 characters, and 100 words of them,
                count.
            session_id: Id of the session to search. Defaults to all.
            agent_id: Id of the agents whose messages to search.
            role: "user" or "assistant".
            metadata: Names and values that the sessions' metadata has, among others.
            since: Find messages of this time and later; it has a time zone.
            until: Find messages before this time.
            limit: Number of messages at the most.
            progress: Called now and then with how many messages were indexed, and about how many are to be.

        Returns:
            The messages; none if the query has no words.
        """
        conditions, parameters = where_clauses(
            ("messages.session_id = ?", None if session_id is None else checked_id("session_id", session_id)),
            ("messages.agent_id = ?", None if agent_id is None else checked_id("agent_id", agent_id)),
            (message_search.HAS_ROLE, role),
            (OF_SESSION_WITH_METADATA, wanted_metadata(metadata)),
            ("messages.created_at >= ?", None if since is None else checked_time("since", since)),
            ("messages.created_at < ?", None if until is None else checked_time("until", until)),
        )
        conditions.append("messages.session_id NOT IN expired_sessions")
        limit = checked_number("limit", limit)
        found = message_search.search(self._database, query, " AND ".join(conditions), parameters, limit, progress)
        in_sessions, of_sessions = session_conditions(None, metadata, None, None)
        found += snapshot_search.search(
            self._database,
            query_words(query),
            session_id,
            agent_id,
            role,
            (" AND ".join(["session_id NOT IN expired_sessions", *in_sessions]), of_sessions),
            (
                None if since is None else checked_time("since", since),
                None if until is None else checked_time("until", until),
            ),
            limit,
        )
        return sorted(found, key=lambda result: -result.score)[:limit]

    def search_backlog(self) -> int:
        """Tell about how many messages the next search has to index, or, with `read_only`, each search has to read.

        Returns:
            Their number, which may be too high where messages were deleted.
        """
        return backlog(self._database, MESSAGES)

    def reindex(self, *, progress: Callable[[int, int], object] | None = None) -> None:
        """Build the search indexes again, where a search does not find what is there: of messages, keys and memories.

        A search notices by itself when SQLite reports that its index is broken. Writers get their turn in between.

        Args:
            progress: Called now and then with how many rows of an index were indexed, and about how many there are.

        Raises:
            SessionException: If it cannot be built, because SQLite lacks FTS5, say.
        """
        for source in (MESSAGES, STORAGE, MEMORIES):
            rebuild(self._database, source, progress)

    @overload
    def usage(
        self, session_id: str | None = None, *, since: datetime | None = None, until: datetime | None = None
    ) -> Usage: ...

    @overload
    def usage(
        self,
        session_id: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        by: Literal["session", "day"],
    ) -> dict[str, Usage]: ...

    @overload
    def usage(
        self,
        session_id: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        by: Literal["agent"],
    ) -> dict[tuple[str, str], Usage]: ...

    def usage(
        self,
        session_id: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        by: Literal["session", "agent", "day"] | None = None,
    ) -> Any:
        """Add up the tokens that messages took.

        Args:
            session_id: Id of a session. Defaults to all.
            since: Count messages of this time and later; it has a time zone.
            until: Count messages before this time.
            by: What to tell apart: "session", "agent" or "day" (of UTC). Defaults to nothing.

        Returns:
            A `Usage`; with `by`, a dictionary of them, by session id, by the tuple of session id and agent id, or by
            day ("2026-01-31"), in this order.
        """
        return token_usage.add_up(
            self._database,
            None if session_id is None else checked_id("session_id", session_id),
            None if since is None else checked_time("since", since),
            None if until is None else checked_time("until", until),
            by,
        )

    def rename_session(self, old: str, new: str) -> None:
        """Give a session another id.

        Args:
            old: Its id.
            new: Its new id.

        Raises:
            SessionConflictError: If there is a session with the new id.
            SessionException: If the session does not exist.
            ValueError: If it has snapshots, and the SDK takes no such id for these, with a slash in it for example.
        """
        snapshots.require_usable_for(self._database, checked_id("old", old), checked_id("new", new))
        make_way(self._database, new)
        try:
            renamed = self._database.execute(
                f"UPDATE sessions SET session_id = ? WHERE session_id = ? AND {NOT_EXPIRED_AT}",  # noqa: S608
                (new, old, present()),
            )
        except SessionConflictError as error:
            raise SessionConflictError(f"{record_name('sessions', new)} already exists") from error
        if not renamed:
            raise missing("sessions", old)
        logger.debug("session_id=<%s>, new_session_id=<%s> | renamed session", old, new)

    def fork_session(self, source: str, new: str, *, through: int | Mapping[str, int] | None = None) -> RecordCounts:
        """Copy a session with its agents, messages and states under another id.

        An agent of which not all messages are copied is restored with those that are: where its conversation manager
        had removed more than that, with all of them. Its interrupts and the state of a server-side model are left
        out, because they belong to the end of the conversation.

        Args:
            source: Id of the session.
            new: Id of the copy.
            through: Id of the last message to copy: a number for all agents, or a dictionary by agent id. Defaults to
                all messages, also for agents that the dictionary lacks.

        Returns:
            What was copied.

        Raises:
            SessionConflictError: If there is a session with the new id.
            SessionException: If the session does not exist, or an agent that `through` names; or if `through` is given
                and no agent has a latest snapshot or messages in the tables, but the past of one is there.
            ValueError: As for `rename_session`.
        """
        contents = self.contents([checked_id("source", source)]).get(source)
        if contents is None:
            raise missing("sessions", source)
        if through is not None:
            # Where only the past is left, the copy would be empty.
            past = [] if contents.agents else snapshots.names(self._database, source, "agent")
            named = through if isinstance(through, Mapping) else past
            unknown = {checked_id("through", name) for name in named} - contents.agents.keys()
            if unknown:
                raise self._missing_agent(source, min(unknown))
        snapshots.require_usable_for(self._database, source, checked_id("new", new))
        make_way(self._database, new)
        try:
            sessions, agents, messages, multi_agents = cutting.fork(self._database, source, new, through)
        except SessionConflictError as error:
            raise SessionConflictError(f"{record_name('sessions', new)} already exists") from error
        if not sessions:  # Somebody has deleted it meanwhile.
            raise missing("sessions", source)
        logger.debug("session_id=<%s>, new_session_id=<%s> | forked session", source, new)
        return _with_snapshots(
            RecordCounts(sessions, agents, messages, multi_agents), snapshots.counts(self._database, [new])
        )

    def undo_turns(
        self,
        session_id: str,
        agent_id: str,
        turns: int = 1,
        *,
        message_count: int | None = None,
        only_unanswered: bool = False,
        dry_run: bool = False,
    ) -> int:
        """Remove the last turns of a conversation: the user's messages and all that followed.

        A turn begins with a message of the user that is not only tool results, or with a damaged message. A summary in
        a snapshot is none, and stays with what is before it. An agent that is built afterwards goes on from what is
        left, as after `fork_session`; one that was built before does not know of it.

        Args:
            session_id: Id of the session.
            agent_id: Id of the agent.
            turns: Number of turns; all, if there are fewer.
            message_count: Remove nothing if the agent has another number of messages, because the
                conversation has changed since. Defaults to removing in any case.
            only_unanswered: Remove nothing if the last message is an answer: of the assistant, without a tool call. A
                question that failed can so be asked again, and is not there twice.
            dry_run: Only tell how many messages would go.

        Returns:
            Number of messages that were removed, or would be.

        Raises:
            SessionException: If the agent does not exist.
        """
        key = (checked_id("session_id", session_id), checked_id("agent_id", agent_id))
        turns = checked_number("turns", turns)
        message_count = None if message_count is None else checked_number("message_count", message_count)
        options: Any = (turns, message_count, only_unanswered, dry_run)
        if self._is_in_tables(key):
            removed = cutting.undo(self._database, *key, *options)
        else:
            removed = snapshot_changes.undo(self._database, self._snapshot(*key), *options)
        if removed and not dry_run:
            erase_former_content(self._database, MESSAGES, STORAGE)
        logger.debug("session_id=<%s>, agent_id=<%s> | removed %d messages", session_id, agent_id, removed)
        return removed

    def delete_session(self, session_id: str) -> RecordCounts:
        """Delete a session with all that is in it, and overwrite it on disk.

        Args:
            session_id: Id of the session.

        Returns:
            What was deleted.

        Raises:
            SessionException: If it does not exist.
        """
        counts = self.delete_sessions([session_id])
        if not counts.sessions:
            raise missing("sessions", session_id)
        return counts

    def delete_sessions(self, session_ids: Iterable[str]) -> RecordCounts:
        """Delete sessions with all that is in them, all at once, and overwrite them on disk.

        Args:
            session_ids: Ids of the sessions, each counted once. Those that do not exist are passed over.

        Returns:
            What was deleted.
        """
        ids = checked_ids("session_ids", session_ids)
        of_snapshots = snapshots.counts(self._database, ids)
        messages, agents, multi_agents, sessions = pruning.delete_sessions(self._database, ids)
        if sessions:
            erase_former_content(self._database, MESSAGES, STORAGE)
        logger.debug("sessions=<%d>, messages=<%d> | deleted sessions", sessions, messages)
        return _with_snapshots(RecordCounts(sessions, agents, messages, multi_agents), of_snapshots)

    def forget_user(
        self,
        *,
        metadata: Mapping[str, Any] | None = None,
        session_ids: Iterable[str] = (),
        memory_scopes: Iterable[str] = (),
        storage_prefixes: Iterable[str] = (),
        dry_run: bool = False,
    ) -> ForgetResult:
        """Delete all that is stored of someone, in one transaction, and overwrite it on disk.

        Sessions go with all that is in them, their stash, and their snapshots in `SQLiteStorage`.

        Args:
            metadata: Delete the sessions whose metadata has these names and values, among others.
            session_ids: Delete these sessions too. Those that do not exist are passed over.
            memory_scopes: Delete the memories of these scopes, of all stores.
            storage_prefixes: Delete the keys of `SQLiteStorage` that start with one of these.
            dry_run: Only tell what would go.

        Returns:
            What went, or would.

        Raises:
            ValueError: If nothing is named. Empty metadata or an empty prefix, which would mean everything, is refused.
        """
        if metadata is not None and not metadata:
            raise ValueError("metadata={}: it would mean all sessions")
        ids, scopes, prefixes = (
            checked_ids(name, values)
            for name, values in (
                ("session_ids", session_ids),
                ("memory_scopes", memory_scopes),
                ("storage_prefixes", storage_prefixes),
            )
        )
        if metadata is None and not (ids or scopes or prefixes):
            raise ValueError("give metadata, session_ids, memory_scopes or storage_prefixes: whom to forget")
        result = forgetting.forget(self._database, metadata, ids, prefixes, scopes, dry_run)
        if not dry_run:
            erase_former_content(self._database, MESSAGES, STORAGE, MEMORIES)
        logger.debug("result=<%s>, dry_run=<%s> | forgot a user", result, dry_run)
        return result

    def delete_agent(self, session_id: str, agent_id: str) -> RecordCounts:
        """Delete an agent with its messages, and overwrite them on disk.

        Args:
            session_id: Id of the session.
            agent_id: Id of the agent.

        Returns:
            What was deleted.

        Raises:
            SessionException: If it does not exist.
        """
        key = (checked_id("session_id", session_id), checked_id("agent_id", agent_id))
        snapshot = snapshots.read(self._database, key[0], "agent", key[1])
        messages, agents, keys, _ = self._database.transaction(
            [
                ("DELETE FROM messages WHERE session_id = ? AND agent_id = ?", key),
                ("DELETE FROM agents WHERE session_id = ? AND agent_id = ?", key),
                *snapshots.delete_statements("agent", *key),
            ]
        )
        if not agents and not messages and not keys:
            raise missing("agents", *key)
        if not agents and keys:
            agents, messages = 1, 0 if snapshot is None else len(snapshots.readable_messages(snapshot))
        erase_former_content(self._database, MESSAGES, STORAGE)
        return RecordCounts(0, agents, messages, 0)

    def list_multi_agents(self, session_id: str) -> list[MultiAgentSummary]:
        """List the graphs and swarms of a session, by their ids.

        Args:
            session_id: Id of the session.

        Returns:
            The graphs and swarms, with what their last stored state says. One whose state is damaged says so.

        Raises:
            SessionException: If the session does not exist.
        """
        rows = self._database.query(
            """
            SELECT multi_agent_id, state, multi_agents.created_at, multi_agents.updated_at
            FROM sessions LEFT JOIN multi_agents USING (session_id)
            WHERE session_id = ? AND NOT EXISTS (SELECT 1 FROM expired_sessions WHERE expired_id = session_id)
            ORDER BY multi_agent_id
            """,
            (checked_id("session_id", session_id),),
        )
        if not rows:
            raise missing("sessions", session_id)
        states = {row[0]: row for row in rows if row[0] is not None}
        for row in snapshots.multi_agent_states(self._database, session_id):
            states.setdefault(row[0], row)
        return [listing.multi_agent_summary(session_id, *row) for _, row in sorted(states.items())]

    def delete_multi_agent(self, session_id: str, multi_agent_id: str) -> RecordCounts:
        """Delete the state of a graph or swarm, so that it begins again, and overwrite it on disk.

        Args:
            session_id: Id of the session.
            multi_agent_id: Id of the graph or swarm.

        Returns:
            What was deleted.

        Raises:
            SessionException: If it does not exist.
        """
        key = (checked_id("session_id", session_id), checked_id("multi_agent_id", multi_agent_id))
        deleted = self._database.transaction(
            [
                ("DELETE FROM multi_agents WHERE session_id = ? AND multi_agent_id = ?", key),
                *snapshots.delete_statements("multiAgent", *key),
            ]
        )
        if not any(deleted):
            raise missing("multi_agents", *key)
        erase_former_content(self._database, STORAGE)
        return RecordCounts(0, 0, 0, 1)

    def prune(
        self,
        *,
        older_than: timedelta | datetime | None = None,
        keep_last: int | None = None,
        keep_snapshots: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        session_ids: Iterable[str] | None = None,
        dry_run: bool = False,
        progress: Callable[[int, int], object] | None = None,
        now: datetime | None = None,
    ) -> PruneResult:
        """Delete sessions that have not been active for long, or are not among the last active, and what has expired.

        What has expired goes in any case: sessions, keys of storages, memories. What else is to go is settled at the
        start; a session that becomes active in between, or gets other metadata, stays. Sessions go in small batches,
        each session whole or not at all, so that writers get their turn in between; one with thousands of messages
        keeps them waiting for longer.

        Args:
            older_than: Delete sessions without any activity since: an age, or a time with a time zone. Without this and
                the limits that follow, only what has expired goes.
            keep_last: Delete sessions beyond so many last active ones. With `older_than`, either is enough.
            keep_snapshots: Delete immutable snapshots beyond so many newest ones of each agent, in sessions that stay.
                The newest of an agent that has no latest snapshot stays.
            metadata: Look only at sessions whose metadata has these names and values, beside those that have expired.
            session_ids: Delete only sessions with these ids: those that a dry run told of, say. `keep_last` counts the
                others too.
            dry_run: Only tell what would go.
            progress: Called now and then with how many sessions are deleted, and how many are to be (0 without
                `session_ids`).
            now: The time that an age is counted from, and before which what expires has expired. Defaults to the
                present.

        Returns:
            What went, or would.

        Raises:
            ValueError: If an age is negative, or a time has no time zone.
        """
        moment = present() if now is None else checked_time("now", now)
        cut_off = None if older_than is None else checked_cut_off("older_than", older_than, now)
        conditions, parameters = session_conditions(None, metadata, None, None)
        ids = None if session_ids is None else set(checked_ids("session_ids", session_ids))
        # Those that have expired go in any case.
        among, parameters = " AND ".join([NOT_EXPIRED_AT, *conditions]), [moment, *parameters]
        gone = pruning.prune(self._database, moment, cut_off, keep_last, among, parameters, ids, dry_run, progress)
        keys, size = pruning.prune_expired(self._database, "storage", moment, gone[0], dry_run)
        memories, more = pruning.prune_expired(self._database, "memories", moment, gone[0], dry_run)
        size, snapshots_gone = size + more, 0
        if keep_snapshots is not None:
            snapshots_gone, more = snapshot_changes.prune(
                self._database, keep_snapshots, among, parameters, moment, gone[0], dry_run
            )
            size += more
        result = PruneResult(*gone[:2], gone[2] + size, snapshots_gone, keys, memories)
        if (result.session_ids or snapshots_gone or keys or memories) and not dry_run:
            erase_former_content(self._database, MESSAGES, STORAGE, MEMORIES)
        return result

    def list_snapshots(
        self, session_id: str, agent_id: str, *, limit: int | None = None, before: str | None = None
    ) -> list[SnapshotSummary]:
        """List the snapshots of an agent of the SDK's `SnapshotSessionManager`, the latest first, then the newest.

        Args:
            session_id: Id of the session.
            agent_id: Id of the agent.
            limit: Number of snapshots at the most. Defaults to all, each of which is read.
            before: Id of a snapshot that all of them are older than: the last one's of the page before.

        Returns:
            The snapshots; none if the agent is in the tables alone.

        Raises:
            SessionException: If the agent does not exist.
        """
        key = (checked_id("session_id", session_id), checked_id("agent_id", agent_id))
        limit = None if limit is None else checked_number("limit", limit)
        found = snapshot_changes.list_snapshots(self._database, *key, limit, before)
        if found or self._is_in_tables(key) or snapshot_changes.list_snapshots(self._database, *key, 1):
            return found
        raise missing("agents", *key)

    def diff_snapshots(
        self, session_id: str, agent_id: str, first: str | None, second: str | None = None
    ) -> SnapshotDiff:
        """Compare two snapshots of an agent.

        A message is recognised by its tracking id, or by its content where the SDK gave it none.

        Args:
            session_id: Id of the session.
            agent_id: Id of the agent.
            first: Id of a snapshot; None means the latest.
            second: Id of the other.

        Returns:
            What differs.

        Raises:
            SessionException: If a snapshot does not exist or is damaged.
        """
        key = (checked_id("session_id", session_id), checked_id("agent_id", agent_id))
        return snapshot_changes.compare(self._snapshot(*key, first), self._snapshot(*key, second))

    def restore_snapshot(
        self, session_id: str, agent_id: str, snapshot_id: str, *, dry_run: bool = False
    ) -> str | None:
        """Make a snapshot the latest, with which an agent is built. The former latest is kept as an immutable one.

        An agent that was built before does not know of it, and would write over it with its next turn.

        Args:
            session_id: Id of the session.
            agent_id: Id of the agent.
            snapshot_id: Id of the snapshot.
            dry_run: Only make sure that it could be done.

        Returns:
            Id of the snapshot that was the latest; None if there was none, or nothing was done.

        Raises:
            SessionConflictError: If an agent stored a snapshot meanwhile. Nothing is changed then.
            SessionException: If the snapshot does not exist or is damaged, or the agent is in the tables too, whose log
                counts.
        """
        key = (checked_id("session_id", session_id), checked_id("agent_id", agent_id))
        snapshot = self._snapshot(*key, checked_id("snapshot_id", snapshot_id))
        snapshots.decode(snapshot)
        if self._is_in_tables(key):
            raise SessionException(
                f"{record_name('agents', *key)} has a log of messages, which counts, not its snapshots; nothing "
                "was changed; to go back, undo turns of the log"
            )
        if dry_run:
            return None
        former = snapshots.read(self._database, key[0], "agent", key[1])
        return snapshot_changes.make_latest(self._database, former, snapshot, snapshot.data)

    def _snapshot(self, session_id: str, agent_id: str, snapshot_id: str | None = None) -> snapshots.Snapshot:
        snapshot = snapshots.read(self._database, session_id, "agent", agent_id, snapshot_id)
        if snapshot is not None:
            return snapshot
        if snapshot_id is None:
            raise self._missing_agent(session_id, agent_id)
        raise missing("snapshots", session_id, agent_id, snapshot_id)

    def _missing_agent(self, session_id: str, agent_id: str) -> MissingRecordError:
        if agent_id not in snapshots.names(self._database, session_id, "agent"):
            return missing("agents", session_id, agent_id)
        name = record_name("agents", session_id, agent_id)
        return MissingRecordError(f"{name} has no latest snapshot; `restore-snapshot` makes one")

    def _is_in_tables(self, key: tuple[Any, ...]) -> bool:
        is_there = """
            SELECT 1 FROM agents WHERE session_id = ? AND agent_id = ?
                AND NOT EXISTS (SELECT 1 FROM expired_sessions WHERE expired_id = session_id)
            """
        return bool(self._database.query(is_there, key))


def _with_snapshots(counts: RecordCounts, of_snapshots: tuple[int, int, int]) -> RecordCounts:
    """Add agents, messages, and graphs and swarms of snapshots, if there was a session."""
    if not counts.sessions:
        return counts
    agents, messages, multi_agents = of_snapshots
    return RecordCounts(
        counts.sessions, counts.agents + agents, counts.messages + messages, counts.multi_agents + multi_agents
    )


def _history_message(row: tuple[Any, ...], session_id: str, agent_id: str, with_damaged: bool) -> HistoryMessage:
    try:
        stored = decode_checked(row, session_id, agent_id)
    except SessionException as error:
        if not with_damaged:
            raise
        return HistoryMessage(row[0], cast(Message, {}), row[2] is not None, row[4], str(error))
    return HistoryMessage(stored.message_id, stored.to_message(), stored.redact_message is not None, stored.created_at)
