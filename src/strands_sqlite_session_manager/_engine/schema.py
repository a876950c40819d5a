"""The tables, triggers and views of a session database, and the migrations that lead to them."""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from strands.types.exceptions import SessionException

# Marks the file as ours in bytes 68-71 of its header (https://sqlite.org/fileformat2.html#application_id).
APPLICATION_ID = int.from_bytes(b"SASM", "big")

# A default for rows written by hand. SQLite's clock counts milliseconds; the zeros keep the width of Python's
# `datetime.isoformat()`, so that text comparison is time comparison.
_NOW = "(strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now'))"


def _updated_at_trigger(table: str, key: str, columns: str) -> str:
    """Return a trigger that sets `updated_at` where an UPDATE of these columns leaves it as it was.

    Not of the key's columns: renaming a session is no update of each message in it.
    """
    # Constants only, hence the `noqa`.
    return f"""
    CREATE TRIGGER {table}_updated_at AFTER UPDATE OF {columns} ON {table} WHEN NEW.updated_at = OLD.updated_at
    BEGIN
        UPDATE {table} SET updated_at = {_NOW} WHERE {key} = NEW.{key};
    END
    """  # noqa: S608


def _session_trigger(name: str, event: str, activity: str) -> str:
    """Return a trigger that makes `sessions.updated_at` the time of the session's last activity.

    It never moves back, so that a session copied in with its old messages keeps its place in time.
    """
    # Constants only here too.
    return f"""
    CREATE TRIGGER {name} AFTER {event}
    BEGIN
        UPDATE sessions SET updated_at = NEW.{activity}
        WHERE session_id = NEW.session_id AND updated_at < NEW.{activity};
    END
    """  # noqa: S608


def _stash_triggers(table: str, key: str, prefix: str) -> tuple[str, str]:
    """Return triggers that delete and rename keys of `storage` with the row that they belong to."""
    old, new = prefix.format(row="OLD"), prefix.format(row="NEW")
    # "0" comes after "/". A session's id may look like a longer part of another's prefix, hence the second condition.
    keys = f"""key >= {old} AND key < substr({old}, 1, length({old}) - 1) || '0'
            AND NOT instr(substr(key, length({old})), '/scopes/agent/')"""
    # Constants only here too.
    return (
        f"""
    CREATE TRIGGER {table}_stash_delete AFTER DELETE ON {table}
    BEGIN
        DELETE FROM storage WHERE {keys};
    END
    """,  # noqa: S608
        f"""
    CREATE TRIGGER {table}_stash_rename AFTER UPDATE OF {key} ON {table} WHEN NEW.{key} <> OLD.{key}
    BEGIN
        UPDATE storage SET key = {new} || substr(key, length({old}) + 1) WHERE {keys};
    END
    """,  # noqa: S608
    )


# Where the SDK's `SnapshotSessionManager` keeps what belongs to a session, whether a key lies there, and whose it is.
# Only what comes behind "session/" is looked through, because a session may have the id "scopes".
_SNAPSHOTS = "'session/' || {row}.session_id || '/scopes/'"
IS_OF_SNAPSHOTS = "{key} >= 'session/' AND {key} < 'session0' AND instr(substr({key}, 9), '/scopes/') > 1"
SNAPSHOT_SESSION = "substr({key}, 9, instr(substr({key}, 9), '/scopes/') - 1)"


# Conditions on `storage` within a query of `sessions`. "0" comes after "/". A session's id may look like a longer part
# of another's prefix, hence the last one.
SNAPSHOTS_OF_SESSION = "key >= 'session/' || session_id || '/scopes/' AND key < 'session/' || session_id || '/scopes0'"
STASH_OF_SESSION = """
    key >= 'context/' || session_id || '/scopes/agent/' AND key < 'context/' || session_id || '/scopes/agent0'
    AND NOT instr(substr(key, length('context/' || session_id || '/scopes/agent/')), '/scopes/agent/')
    """
# The session of a key, of a snapshot or of a stash; NULL if there is none.
SESSION_OF_KEY = f"""
    CASE
        WHEN {IS_OF_SNAPSHOTS}
            OR {{key}} >= 'context/' AND {{key}} < 'context0' AND instr(substr({{key}}, 9), '/scopes/agent/') > 1
            AND NOT instr(substr({{key}}, 16 + instr(substr({{key}}, 9), '/scopes/')), '/scopes/agent/')
        THEN {SNAPSHOT_SESSION}
    END
    """


def _snapshot_triggers() -> Iterator[str]:
    """Yield triggers that keep a row of `sessions` for each session whose snapshots lie in `storage`.

    So a list of sessions shows both kinds without looking at a snapshot. A write of any other key costs a comparison.
    """
    old, new = _SNAPSHOTS.format(row="OLD"), _SNAPSHOTS.format(row="NEW")
    # "0" comes after "/".
    keys = f"key >= {old} AND key < substr({old}, 1, length({old}) - 1) || '0'"
    for event in ("INSERT", "UPDATE OF updated_at"):
        # A session of both kinds keeps the type of the tables. Constants only here too, as below.
        yield f"""
    CREATE TRIGGER storage_touch_session_{event.split()[0].lower()} AFTER {event} ON storage
    WHEN {IS_OF_SNAPSHOTS.format(key="NEW.key")}
    BEGIN
        INSERT INTO sessions (session_id, session_type, created_at, updated_at)
        VALUES ({SNAPSHOT_SESSION.format(key="NEW.key")}, 'SNAPSHOT', NEW.created_at, NEW.updated_at)
        ON CONFLICT (session_id) DO UPDATE SET updated_at = excluded.updated_at
        WHERE updated_at < excluded.updated_at;
    END
    """  # noqa: S608
    yield f"""
    CREATE TRIGGER storage_last_snapshot_delete AFTER DELETE ON storage WHEN {IS_OF_SNAPSHOTS.format(key="OLD.key")}
    BEGIN
        DELETE FROM sessions
        WHERE session_id = {SNAPSHOT_SESSION.format(key="OLD.key")} AND session_type = 'SNAPSHOT' AND NOT EXISTS (
            SELECT 1 FROM storage
            WHERE key >= substr(OLD.key, 1, instr(substr(OLD.key, 9), '/scopes/') + 15)
                AND key < substr(OLD.key, 1, instr(substr(OLD.key, 9), '/scopes/') + 14) || '0'
        );
    END
    """  # noqa: S608
    yield f"""
    CREATE TRIGGER sessions_snapshots_delete AFTER DELETE ON sessions
    BEGIN
        DELETE FROM storage WHERE {keys};
    END
    """  # noqa: S608
    yield f"""
    CREATE TRIGGER sessions_snapshots_rename AFTER UPDATE OF session_id ON sessions
    WHEN NEW.session_id <> OLD.session_id
    BEGIN
        UPDATE storage SET key = {new} || substr(key, length({old}) + 1) WHERE {keys};
    END
    """  # noqa: S608


def _search_triggers(table: str, columns: str, identity: str) -> tuple[str, str]:
    """Return triggers that note down which rows the search index no longer agrees with; see `_search`.

    They cost one look at a small table, and nothing is noted down until the first search.
    """
    # A row that was the last one makes way for the one before it. Rows that are added have higher rowids than that.
    event = f"""
        WHEN OLD.rowid <= (SELECT last_id FROM search_state WHERE source = '{table}')
    BEGIN
        UPDATE search_state SET ticket = ticket + 1 WHERE source = '{table}';
        INSERT INTO search_stale (source, id, ticket)
        SELECT source, OLD.rowid, ticket FROM search_state WHERE source = '{table}'
        ON CONFLICT (source, id) DO UPDATE SET ticket = excluded.ticket;"""  # noqa: S608 (constants only, as below)
    return (
        f"""
    CREATE TRIGGER {table}_search_update AFTER UPDATE OF {columns} ON {table} {event}
    END
    """,
        f"""
    CREATE TRIGGER {table}_search_delete AFTER DELETE ON {table} {event}
        UPDATE search_state
        SET
            last_id = coalesce((SELECT max(rowid) FROM {table} WHERE rowid < OLD.rowid), 0),
            last_row = coalesce(
                (SELECT {identity} FROM {table} WHERE rowid < OLD.rowid ORDER BY rowid DESC LIMIT 1), ''
            )
        WHERE source = '{table}' AND last_id = OLD.rowid;
        UPDATE search_state SET indexed_id = last_id WHERE source = '{table}' AND indexed_id > last_id;
    END
    """,  # noqa: S608
    )


def _expiry_trigger(name: str, event: str, time: str) -> str:
    """Return a trigger that lets nobody write into a session that has expired: no one would find it there.

    As where there is no such session, an INSERT fails and an UPDATE finds no row.
    """
    refusal = "RAISE(ABORT, 'session expired')" if event.startswith("INSERT") else "RAISE(IGNORE)"
    return f"""
    CREATE TRIGGER {name} BEFORE {event}
    WHEN EXISTS (SELECT 1 FROM sessions WHERE session_id = NEW.session_id AND expires_at <= NEW.{time})
    BEGIN
        SELECT {refusal};
    END
    """  # noqa: S608 (constants only)


# What has expired is hidden from all that read, by these views, and removed by those who write later. Only what reads
# may ask the views: they ask the clock. Their columns have names that no table has, so that whoever asks for one row
# can say so: to look for `expired_id` or `expired_key` costs one search, however much has expired.
_EXPIRY = (
    # Of each, there are few.
    "CREATE INDEX sessions_by_expiry ON sessions (expires_at) WHERE expires_at IS NOT NULL",
    "CREATE INDEX storage_by_expiry ON storage (expires_at) WHERE expires_at IS NOT NULL",
    f"""
    CREATE VIEW expired_sessions AS SELECT session_id AS expired_id FROM sessions WHERE expires_at <= {_NOW}
    """,  # noqa: S608
    f"""
    CREATE VIEW expired_keys AS
    SELECT key AS expired_key FROM storage
    WHERE expires_at <= {_NOW} OR EXISTS (
        SELECT 1 FROM expired_sessions WHERE expired_id = {SESSION_OF_KEY.format(key="key")}
    )
    """,  # noqa: S608
    *(
        _expiry_trigger(f"{table}_expiry_{event.split()[0].lower()}", f"{event} ON {table}", time)
        for table, insert_time in (("messages", "created_at"), ("agents", "updated_at"), ("multi_agents", "updated_at"))
        for event, time in (("INSERT", insert_time), ("UPDATE OF updated_at", "updated_at"))
    ),
    # A snapshot and a stash are written without asking whether there is a session. Who writes one begins a new session.
    f"""
    CREATE TRIGGER storage_expiry BEFORE INSERT ON storage WHEN EXISTS (
        SELECT 1 FROM sessions
        WHERE session_id = {SESSION_OF_KEY.format(key="NEW.key")} AND expires_at <= NEW.updated_at
    )
    BEGIN
        SELECT RAISE(ABORT, 'session expired');
    END
    """,  # noqa: S608
)

_VERSION_1 = (
    # Without a rowid, because each message touches its session: that is one search instead of two.
    f"""
    CREATE TABLE sessions (
        session_id TEXT NOT NULL PRIMARY KEY,
        session_type TEXT NOT NULL DEFAULT 'AGENT',
        metadata TEXT NOT NULL DEFAULT '{{}}',
        expires_at TEXT,
        created_at TEXT NOT NULL DEFAULT {_NOW},
        updated_at TEXT NOT NULL DEFAULT {_NOW}
    ) STRICT, WITHOUT ROWID
    """,
    f"""
    CREATE TABLE agents (
        session_id TEXT NOT NULL REFERENCES sessions (session_id) ON DELETE CASCADE ON UPDATE CASCADE,
        agent_id TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT '{{}}',
        conversation_manager_state TEXT NOT NULL DEFAULT '{{}}',
        internal_state TEXT NOT NULL DEFAULT '{{}}',
        live_view TEXT,
        created_at TEXT NOT NULL DEFAULT {_NOW},
        updated_at TEXT NOT NULL DEFAULT {_NOW},
        PRIMARY KEY (session_id, agent_id)
    ) STRICT
    """,
    f"""
    CREATE TABLE messages (
        session_id TEXT NOT NULL,
        agent_id TEXT NOT NULL,
        message_id INTEGER NOT NULL CHECK (message_id >= 0),
        message TEXT NOT NULL,
        redact_message TEXT,
        attachments BLOB,
        created_at TEXT NOT NULL DEFAULT {_NOW},
        updated_at TEXT NOT NULL DEFAULT {_NOW},
        PRIMARY KEY (session_id, agent_id, message_id),
        FOREIGN KEY (session_id, agent_id) REFERENCES agents (session_id, agent_id)
            ON DELETE CASCADE ON UPDATE CASCADE
    ) STRICT
    """,
    f"""
    CREATE TABLE multi_agents (
        session_id TEXT NOT NULL REFERENCES sessions (session_id) ON DELETE CASCADE ON UPDATE CASCADE,
        multi_agent_id TEXT NOT NULL,
        state TEXT NOT NULL,
        created_at TEXT NOT NULL DEFAULT {_NOW},
        updated_at TEXT NOT NULL DEFAULT {_NOW},
        PRIMARY KEY (session_id, multi_agent_id)
    ) STRICT
    """,
    # For lists of sessions by their last activity.
    "CREATE INDEX sessions_by_activity ON sessions (updated_at, session_id)",
    # And by their age.
    "CREATE INDEX sessions_by_creation ON sessions (created_at, session_id)",
    # Not for metadata: to tag a session is no activity in it, which would keep it from being pruned.
    _updated_at_trigger("sessions", "session_id", "session_type"),
    _updated_at_trigger("agents", "rowid", "state, conversation_manager_state, internal_state, live_view"),
    _updated_at_trigger("messages", "rowid", "message, redact_message, attachments"),
    _updated_at_trigger("multi_agents", "rowid", "state"),
    # An agent's update needs no trigger: it comes with a message.
    _session_trigger("messages_touch_session", "INSERT ON messages", "created_at"),
    _session_trigger("multi_agents_touch_session", "INSERT ON multi_agents", "updated_at"),
    _session_trigger("multi_agents_touch_session_again", "UPDATE OF updated_at ON multi_agents", "updated_at"),
    # The stash of an agent's context manager lies in `storage`, and lives and dies with its session and agent.
    *_stash_triggers("sessions", "session_id", "'context/' || {row}.session_id || '/scopes/agent/'"),
    *_stash_triggers(
        "agents", "agent_id", "'context/' || {row}.session_id || '/scopes/agent/' || {row}.agent_id || '/'"
    ),
    # For people who query by hand. A row whose JSON was damaged shows NULLs instead of failing the whole query.
    """
    CREATE VIEW conversation AS
    SELECT
        session_id,
        agent_id,
        message_id,
        json_extract(shown, '$.role') AS role,
        (
            SELECT group_concat(
                coalesce(
                    json_extract(block.value, '$.text'),
                    (
                        SELECT group_concat(json_extract(part.value, '$.text'), char(10))
                        FROM json_each(block.value, '$.citationsContent.content') AS part
                        WHERE part.type = 'object'
                    )
                ),
                char(10)
            )
            FROM json_each(shown, '$.content') AS block
            WHERE block.type = 'object'
        ) AS text,
        redacted,
        created_at
    FROM (
        SELECT
            session_id,
            agent_id,
            message_id,
            CASE
                WHEN json_valid(coalesce(redact_message, message)) THEN coalesce(redact_message, message)
            END AS shown,
            redact_message IS NOT NULL AS redacted,
            created_at
        FROM messages
    )
    """,
    """
    CREATE VIEW token_usage AS
    SELECT
        session_id,
        agent_id,
        message_id,
        coalesce(json_extract(usage, '$.inputTokens'), 0) AS input_tokens,
        coalesce(json_extract(usage, '$.outputTokens'), 0) AS output_tokens,
        coalesce(json_extract(usage, '$.totalTokens'), 0) AS total_tokens,
        coalesce(json_extract(usage, '$.cacheReadInputTokens'), 0) AS cache_read_input_tokens,
        coalesce(json_extract(usage, '$.cacheWriteInputTokens'), 0) AS cache_write_input_tokens,
        created_at
    FROM (
        SELECT
            session_id,
            agent_id,
            message_id,
            CASE WHEN json_valid(message) THEN json_extract(message, '$.metadata.usage') END AS usage,
            created_at
        FROM messages
    )
    WHERE usage IS NOT NULL
    """,
    # The data comes last, because SQLite reads through it to reach what comes after.
    f"""
    CREATE TABLE storage (
        key TEXT NOT NULL PRIMARY KEY,
        expires_at TEXT,
        created_at TEXT NOT NULL DEFAULT {_NOW},
        updated_at TEXT NOT NULL DEFAULT {_NOW},
        data BLOB NOT NULL
    ) STRICT
    """,
    _updated_at_trigger("storage", "rowid", "data"),
    *_snapshot_triggers(),
    *_EXPIRY,
    """
    CREATE TABLE search_state (
        source TEXT NOT NULL PRIMARY KEY,
        last_id INTEGER NOT NULL DEFAULT 0,
        last_row TEXT NOT NULL DEFAULT '',
        indexed_id INTEGER NOT NULL DEFAULT 0,
        ticket INTEGER NOT NULL,
        version INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE search_segments (
        source TEXT NOT NULL,
        number INTEGER NOT NULL,
        first_page INTEGER NOT NULL,
        last_page INTEGER NOT NULL,
        totals BLOB NOT NULL,
        PRIMARY KEY (source, number)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE search_stale (
        source TEXT NOT NULL,
        id INTEGER NOT NULL,
        ticket INTEGER NOT NULL,
        PRIMARY KEY (source, id)
    ) STRICT, WITHOUT ROWID
    """,
    *_search_triggers("messages", "message, redact_message", "message_id || created_at"),
    *_search_triggers("storage", "key, data", "key"),
    # Ids are never given twice, so that no one who has noted one down deletes another memory.
    f"""
    CREATE TABLE memories (
        memory_id INTEGER PRIMARY KEY AUTOINCREMENT,
        store TEXT NOT NULL,
        scope TEXT NOT NULL,
        content TEXT NOT NULL,
        metadata TEXT NOT NULL DEFAULT '{{}}',
        times_added INTEGER NOT NULL DEFAULT 1,
        created_at TEXT NOT NULL DEFAULT {_NOW},
        updated_at TEXT NOT NULL DEFAULT {_NOW},
        used_at TEXT,
        expires_at TEXT,
        UNIQUE (store, scope, content)
    ) STRICT
    """,
    # For lists, the newest first.
    "CREATE INDEX memories_by_time ON memories (store, scope, updated_at, memory_id)",
    "CREATE INDEX memories_by_expiry ON memories (expires_at) WHERE expires_at IS NOT NULL",
    _updated_at_trigger("memories", "memory_id", "content"),
    *_search_triggers("memories", "store, scope, content", "memory_id || created_at"),
    # In a table of their own: lists and searches for words need not read through them. A vector that is replaced gets
    # another id, by which stores that keep vectors in memory see that there is a new one.
    """
    CREATE TABLE memory_vectors (
        vector_id INTEGER PRIMARY KEY AUTOINCREMENT,
        memory_id INTEGER NOT NULL UNIQUE,
        store TEXT NOT NULL,
        scope TEXT NOT NULL,
        model TEXT NOT NULL,
        dimensions INTEGER NOT NULL,
        vector BLOB NOT NULL
    ) STRICT
    """,
    "CREATE INDEX memory_vectors_by_store ON memory_vectors (store, scope, model, dimensions)",
    """
    CREATE TRIGGER memories_vector_update AFTER UPDATE OF content ON memories WHEN NEW.content <> OLD.content
    BEGIN
        DELETE FROM memory_vectors WHERE memory_id = OLD.memory_id;
    END
    """,
    """
    CREATE TRIGGER memories_vector_delete AFTER DELETE ON memories
    BEGIN
        DELETE FROM memory_vectors WHERE memory_id = OLD.memory_id;
    END
    """,
)

# Each entry leads from the version before it; the newest version is the length of the list. Entries that were
# released are never edited.
MIGRATIONS = (_VERSION_1,)


# What tells whose database this is. One statement sees one state of it, even while another process is creating the
# tables. Litestream makes tables of its own in a file that it finds empty, and SQLite's counter of ids stays when all
# tables are dropped.
IDENTITY = """
    SELECT
        application_id, user_version,
        EXISTS (
            SELECT 1 FROM sqlite_master
            WHERE tbl_name NOT LIKE '#_litestream#_%' ESCAPE '#' AND tbl_name <> 'sqlite_sequence'
        ),
        (
            SELECT count(*) FROM sqlite_master
            WHERE type = 'table' AND name IN (
                'sessions', 'agents', 'messages', 'multi_agents', 'storage', 'memories', 'memory_vectors'
            )
        )
    FROM pragma_application_id, pragma_user_version
    """


def checked_version(identity: tuple[Any, ...], path: str) -> int:
    """Make sure that a database is ours to use, without changing it.

    Args:
        identity: What `IDENTITY` returns.
        path: Path of the database, for the error.

    Returns:
        Its schema version; 0 is an empty database.

    Raises:
        SessionException: If the database belongs to another program or to a newer version of this library.
    """
    application_id, version, has_tables, tables = identity
    if application_id != APPLICATION_ID and (application_id or version or has_tables):
        raise SessionException(f"{path}: a database of another program; choose a different path for the sessions")
    if version > len(MIGRATIONS):
        raise SessionException(
            f"{path}: written by a newer version of strands-sqlite-session-manager (schema {version}, this one "
            f"knows up to {len(MIGRATIONS)}); upgrade the package"
        )
    if version and tables != 7:
        # A view in the place of one could compute for ever.
        raise SessionException(
            f"{path}: tables of sessions are missing, or are none; move the file away, and restore a backup"
        )
    return int(version)


def check(connection: sqlite3.Connection, path: str) -> int:
    """Make sure that a file is ours to use, as `checked_version` does, and return its schema version."""
    return checked_version(connection.execute(IDENTITY).fetchone(), path)


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring a database to the newest schema, each version in a transaction of its own.

    Args:
        connection: Connection to the database, in autocommit mode.
        path: Path of the file, for the error.

    Raises:
        SessionException: If the database is not ours to use.
        sqlite3.Error: If a step fails. The transaction is then open, for the caller to roll back or close.
    """
    while check(connection, path) < len(MIGRATIONS):
        connection.execute("BEGIN IMMEDIATE")
        # Asked again inside the transaction: another process may have migrated while this one waited for the lock.
        version = check(connection, path)
        if version < len(MIGRATIONS):
            # One by one, because `executescript` commits before it starts.
            for statement in (*MIGRATIONS[version], *marks(version + 1)):
                connection.execute(statement)
        connection.execute("COMMIT")


def marks(version: int) -> tuple[str, str]:
    """Return the statements that mark a database as ours, of a version."""
    return f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {version}"


def without_clock(statements: Iterable[str]) -> list[str]:
    """Return the statements of a migration for a database that has replicas, whose clocks differ.

    Rows written by hand must name their times there.
    """
    timeless = (statement.replace(f" DEFAULT {_NOW}", "") for statement in statements)
    # What is left of the clock is triggers for changes by hand, and views, which only what reads may ask.
    return [statement for statement in timeless if _NOW not in statement or "CREATE VIEW" in statement]
