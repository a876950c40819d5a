-- A file of schema version 1, made by release 0.1.0.
PRAGMA application_id = 1396790093;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE agents (
        session_id TEXT NOT NULL REFERENCES sessions (session_id) ON DELETE CASCADE ON UPDATE CASCADE,
        agent_id TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT '{}',
        conversation_manager_state TEXT NOT NULL DEFAULT '{}',
        internal_state TEXT NOT NULL DEFAULT '{}',
        live_view TEXT,
        created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')),
        updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')),
        PRIMARY KEY (session_id, agent_id)
    ) STRICT
    ;
INSERT INTO "agents" VALUES('user-42','default','{"color":"red"}','{"__name__":"SlidingWindowConversationManager","removed_message_count":0}','{"interrupt_state":{"interrupts":{},"context":{},"activated":false}}','[[0]]','2026-01-31T12:00:00.000002+00:00','2026-01-31T12:00:00.000003+00:00');
CREATE TABLE memories (
        memory_id INTEGER PRIMARY KEY AUTOINCREMENT,
        store TEXT NOT NULL,
        scope TEXT NOT NULL,
        content TEXT NOT NULL,
        metadata TEXT NOT NULL DEFAULT '{}',
        times_added INTEGER NOT NULL DEFAULT 1,
        created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')),
        updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')),
        used_at TEXT,
        expires_at TEXT,
        UNIQUE (store, scope, content)
    ) STRICT
    ;
CREATE TABLE memory_vectors (
        vector_id INTEGER PRIMARY KEY AUTOINCREMENT,
        memory_id INTEGER NOT NULL UNIQUE,
        store TEXT NOT NULL,
        scope TEXT NOT NULL,
        model TEXT NOT NULL,
        dimensions INTEGER NOT NULL,
        vector BLOB NOT NULL
    ) STRICT
    ;
CREATE TABLE messages (
        session_id TEXT NOT NULL,
        agent_id TEXT NOT NULL,
        message_id INTEGER NOT NULL CHECK (message_id >= 0),
        message TEXT NOT NULL,
        redact_message TEXT,
        attachments BLOB,
        created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')),
        updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')),
        PRIMARY KEY (session_id, agent_id, message_id),
        FOREIGN KEY (session_id, agent_id) REFERENCES agents (session_id, agent_id)
            ON DELETE CASCADE ON UPDATE CASCADE
    ) STRICT
    ;
INSERT INTO "messages" VALUES('user-42','default',0,'{"role":"user","content":[{"text":"My name is Ada."}]}',NULL,NULL,'2026-01-31T12:00:00.000004+00:00','2026-01-31T12:00:00.000005+00:00');
INSERT INTO "messages" VALUES('user-42','default',1,'{"role":"assistant","content":[{"text":"Hello, Ada."}],"metadata":{"usage":{"inputTokens":10,"outputTokens":5,"totalTokens":15}}}',NULL,NULL,'2026-01-31T12:00:01.000004+00:00','2026-01-31T12:00:01.000005+00:00');
INSERT INTO "messages" VALUES('user-42','default',2,'{"role":"user","content":[{"text":"[redacted]"}]}','{"role":"user","content":[{"text":"[redacted]"}]}',NULL,'2026-01-31T12:00:02.000004+00:00','2026-01-31T12:00:02.000005+00:00');
INSERT INTO "messages" VALUES('user-42','default',3,'{"role":"user","content":[{"image":{"format":"png","source":{"bytes":{"__encoded__":["attachment",0,5]}}}}]}',NULL,X'89504E4700','2026-01-31T12:00:03.000004+00:00','2026-01-31T12:00:03.000005+00:00');
CREATE TABLE multi_agents (
        session_id TEXT NOT NULL REFERENCES sessions (session_id) ON DELETE CASCADE ON UPDATE CASCADE,
        multi_agent_id TEXT NOT NULL,
        state TEXT NOT NULL,
        created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')),
        updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')),
        PRIMARY KEY (session_id, multi_agent_id)
    ) STRICT
    ;
INSERT INTO "multi_agents" VALUES('user-42','graph','{"type":"graph"}','2026-01-31T12:00:00.000006+00:00','2026-01-31T12:00:00.000007+00:00');
CREATE TABLE search_segments (
        source TEXT NOT NULL,
        number INTEGER NOT NULL,
        first_page INTEGER NOT NULL,
        last_page INTEGER NOT NULL,
        totals BLOB NOT NULL,
        PRIMARY KEY (source, number)
    ) STRICT, WITHOUT ROWID
    ;
CREATE TABLE search_stale (
        source TEXT NOT NULL,
        id INTEGER NOT NULL,
        ticket INTEGER NOT NULL,
        PRIMARY KEY (source, id)
    ) STRICT, WITHOUT ROWID
    ;
CREATE TABLE search_state (
        source TEXT NOT NULL PRIMARY KEY,
        last_id INTEGER NOT NULL DEFAULT 0,
        last_row TEXT NOT NULL DEFAULT '',
        indexed_id INTEGER NOT NULL DEFAULT 0,
        ticket INTEGER NOT NULL,
        version INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    ;
CREATE TABLE sessions (
        session_id TEXT NOT NULL PRIMARY KEY,
        session_type TEXT NOT NULL DEFAULT 'AGENT',
        metadata TEXT NOT NULL DEFAULT '{}',
        expires_at TEXT,
        created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')),
        updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now'))
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "sessions" VALUES('user-42','AGENT','{}',NULL,'2026-01-31T12:00:00.000001+00:00','2026-01-31T12:00:03.000004+00:00');
CREATE TABLE storage (
        key TEXT NOT NULL PRIMARY KEY,
        expires_at TEXT,
        created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')),
        updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')),
        data BLOB NOT NULL
    ) STRICT
    ;
INSERT INTO "storage" VALUES('memory/facts/name.md',NULL,'2026-01-31T12:00:00.000010+00:00','2026-01-31T12:00:00.000011+00:00',X'23204E616D650A41646120E29C9300FF');
CREATE INDEX sessions_by_activity ON sessions (updated_at, session_id);
CREATE INDEX sessions_by_creation ON sessions (created_at, session_id);
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
    );
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
    WHERE usage IS NOT NULL;
CREATE INDEX sessions_by_expiry ON sessions (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX storage_by_expiry ON storage (expires_at) WHERE expires_at IS NOT NULL;
CREATE VIEW expired_sessions AS SELECT session_id AS expired_id FROM sessions WHERE expires_at <= (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now'));
CREATE VIEW expired_keys AS
    SELECT key AS expired_key FROM storage
    WHERE expires_at <= (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')) OR EXISTS (
        SELECT 1 FROM expired_sessions WHERE expired_id = 
    CASE
        WHEN key >= 'session/' AND key < 'session0' AND instr(substr(key, 9), '/scopes/') > 1
            OR key >= 'context/' AND key < 'context0' AND instr(substr(key, 9), '/scopes/agent/') > 1
            AND NOT instr(substr(key, 16 + instr(substr(key, 9), '/scopes/')), '/scopes/agent/')
        THEN substr(key, 9, instr(substr(key, 9), '/scopes/') - 1)
    END
    
    );
CREATE INDEX memories_by_time ON memories (store, scope, updated_at, memory_id);
CREATE INDEX memories_by_expiry ON memories (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX memory_vectors_by_store ON memory_vectors (store, scope, model, dimensions);
CREATE TRIGGER sessions_updated_at AFTER UPDATE OF session_type ON sessions WHEN NEW.updated_at = OLD.updated_at
    BEGIN
        UPDATE sessions SET updated_at = (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')) WHERE session_id = NEW.session_id;
    END;
CREATE TRIGGER agents_updated_at AFTER UPDATE OF state, conversation_manager_state, internal_state, live_view ON agents WHEN NEW.updated_at = OLD.updated_at
    BEGIN
        UPDATE agents SET updated_at = (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')) WHERE rowid = NEW.rowid;
    END;
CREATE TRIGGER messages_updated_at AFTER UPDATE OF message, redact_message, attachments ON messages WHEN NEW.updated_at = OLD.updated_at
    BEGIN
        UPDATE messages SET updated_at = (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')) WHERE rowid = NEW.rowid;
    END;
CREATE TRIGGER multi_agents_updated_at AFTER UPDATE OF state ON multi_agents WHEN NEW.updated_at = OLD.updated_at
    BEGIN
        UPDATE multi_agents SET updated_at = (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')) WHERE rowid = NEW.rowid;
    END;
CREATE TRIGGER messages_touch_session AFTER INSERT ON messages
    BEGIN
        UPDATE sessions SET updated_at = NEW.created_at
        WHERE session_id = NEW.session_id AND updated_at < NEW.created_at;
    END;
CREATE TRIGGER multi_agents_touch_session AFTER INSERT ON multi_agents
    BEGIN
        UPDATE sessions SET updated_at = NEW.updated_at
        WHERE session_id = NEW.session_id AND updated_at < NEW.updated_at;
    END;
CREATE TRIGGER multi_agents_touch_session_again AFTER UPDATE OF updated_at ON multi_agents
    BEGIN
        UPDATE sessions SET updated_at = NEW.updated_at
        WHERE session_id = NEW.session_id AND updated_at < NEW.updated_at;
    END;
CREATE TRIGGER sessions_stash_delete AFTER DELETE ON sessions
    BEGIN
        DELETE FROM storage WHERE key >= 'context/' || OLD.session_id || '/scopes/agent/' AND key < substr('context/' || OLD.session_id || '/scopes/agent/', 1, length('context/' || OLD.session_id || '/scopes/agent/') - 1) || '0'
            AND NOT instr(substr(key, length('context/' || OLD.session_id || '/scopes/agent/')), '/scopes/agent/');
    END;
CREATE TRIGGER sessions_stash_rename AFTER UPDATE OF session_id ON sessions WHEN NEW.session_id <> OLD.session_id
    BEGIN
        UPDATE storage SET key = 'context/' || NEW.session_id || '/scopes/agent/' || substr(key, length('context/' || OLD.session_id || '/scopes/agent/') + 1) WHERE key >= 'context/' || OLD.session_id || '/scopes/agent/' AND key < substr('context/' || OLD.session_id || '/scopes/agent/', 1, length('context/' || OLD.session_id || '/scopes/agent/') - 1) || '0'
            AND NOT instr(substr(key, length('context/' || OLD.session_id || '/scopes/agent/')), '/scopes/agent/');
    END;
CREATE TRIGGER agents_stash_delete AFTER DELETE ON agents
    BEGIN
        DELETE FROM storage WHERE key >= 'context/' || OLD.session_id || '/scopes/agent/' || OLD.agent_id || '/' AND key < substr('context/' || OLD.session_id || '/scopes/agent/' || OLD.agent_id || '/', 1, length('context/' || OLD.session_id || '/scopes/agent/' || OLD.agent_id || '/') - 1) || '0'
            AND NOT instr(substr(key, length('context/' || OLD.session_id || '/scopes/agent/' || OLD.agent_id || '/')), '/scopes/agent/');
    END;
CREATE TRIGGER agents_stash_rename AFTER UPDATE OF agent_id ON agents WHEN NEW.agent_id <> OLD.agent_id
    BEGIN
        UPDATE storage SET key = 'context/' || NEW.session_id || '/scopes/agent/' || NEW.agent_id || '/' || substr(key, length('context/' || OLD.session_id || '/scopes/agent/' || OLD.agent_id || '/') + 1) WHERE key >= 'context/' || OLD.session_id || '/scopes/agent/' || OLD.agent_id || '/' AND key < substr('context/' || OLD.session_id || '/scopes/agent/' || OLD.agent_id || '/', 1, length('context/' || OLD.session_id || '/scopes/agent/' || OLD.agent_id || '/') - 1) || '0'
            AND NOT instr(substr(key, length('context/' || OLD.session_id || '/scopes/agent/' || OLD.agent_id || '/')), '/scopes/agent/');
    END;
CREATE TRIGGER storage_updated_at AFTER UPDATE OF data ON storage WHEN NEW.updated_at = OLD.updated_at
    BEGIN
        UPDATE storage SET updated_at = (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')) WHERE rowid = NEW.rowid;
    END;
CREATE TRIGGER storage_touch_session_insert AFTER INSERT ON storage
    WHEN NEW.key >= 'session/' AND NEW.key < 'session0' AND instr(substr(NEW.key, 9), '/scopes/') > 1
    BEGIN
        INSERT INTO sessions (session_id, session_type, created_at, updated_at)
        VALUES (substr(NEW.key, 9, instr(substr(NEW.key, 9), '/scopes/') - 1), 'SNAPSHOT', NEW.created_at, NEW.updated_at)
        ON CONFLICT (session_id) DO UPDATE SET updated_at = excluded.updated_at
        WHERE updated_at < excluded.updated_at;
    END;
CREATE TRIGGER storage_touch_session_update AFTER UPDATE OF updated_at ON storage
    WHEN NEW.key >= 'session/' AND NEW.key < 'session0' AND instr(substr(NEW.key, 9), '/scopes/') > 1
    BEGIN
        INSERT INTO sessions (session_id, session_type, created_at, updated_at)
        VALUES (substr(NEW.key, 9, instr(substr(NEW.key, 9), '/scopes/') - 1), 'SNAPSHOT', NEW.created_at, NEW.updated_at)
        ON CONFLICT (session_id) DO UPDATE SET updated_at = excluded.updated_at
        WHERE updated_at < excluded.updated_at;
    END;
CREATE TRIGGER storage_last_snapshot_delete AFTER DELETE ON storage WHEN OLD.key >= 'session/' AND OLD.key < 'session0' AND instr(substr(OLD.key, 9), '/scopes/') > 1
    BEGIN
        DELETE FROM sessions
        WHERE session_id = substr(OLD.key, 9, instr(substr(OLD.key, 9), '/scopes/') - 1) AND session_type = 'SNAPSHOT' AND NOT EXISTS (
            SELECT 1 FROM storage
            WHERE key >= substr(OLD.key, 1, instr(substr(OLD.key, 9), '/scopes/') + 15)
                AND key < substr(OLD.key, 1, instr(substr(OLD.key, 9), '/scopes/') + 14) || '0'
        );
    END;
CREATE TRIGGER sessions_snapshots_delete AFTER DELETE ON sessions
    BEGIN
        DELETE FROM storage WHERE key >= 'session/' || OLD.session_id || '/scopes/' AND key < substr('session/' || OLD.session_id || '/scopes/', 1, length('session/' || OLD.session_id || '/scopes/') - 1) || '0';
    END;
CREATE TRIGGER sessions_snapshots_rename AFTER UPDATE OF session_id ON sessions
    WHEN NEW.session_id <> OLD.session_id
    BEGIN
        UPDATE storage SET key = 'session/' || NEW.session_id || '/scopes/' || substr(key, length('session/' || OLD.session_id || '/scopes/') + 1) WHERE key >= 'session/' || OLD.session_id || '/scopes/' AND key < substr('session/' || OLD.session_id || '/scopes/', 1, length('session/' || OLD.session_id || '/scopes/') - 1) || '0';
    END;
CREATE TRIGGER messages_expiry_insert BEFORE INSERT ON messages
    WHEN EXISTS (SELECT 1 FROM sessions WHERE session_id = NEW.session_id AND expires_at <= NEW.created_at)
    BEGIN
        SELECT RAISE(ABORT, 'session expired');
    END;
CREATE TRIGGER messages_expiry_update BEFORE UPDATE OF updated_at ON messages
    WHEN EXISTS (SELECT 1 FROM sessions WHERE session_id = NEW.session_id AND expires_at <= NEW.updated_at)
    BEGIN
        SELECT RAISE(IGNORE);
    END;
CREATE TRIGGER agents_expiry_insert BEFORE INSERT ON agents
    WHEN EXISTS (SELECT 1 FROM sessions WHERE session_id = NEW.session_id AND expires_at <= NEW.updated_at)
    BEGIN
        SELECT RAISE(ABORT, 'session expired');
    END;
CREATE TRIGGER agents_expiry_update BEFORE UPDATE OF updated_at ON agents
    WHEN EXISTS (SELECT 1 FROM sessions WHERE session_id = NEW.session_id AND expires_at <= NEW.updated_at)
    BEGIN
        SELECT RAISE(IGNORE);
    END;
CREATE TRIGGER multi_agents_expiry_insert BEFORE INSERT ON multi_agents
    WHEN EXISTS (SELECT 1 FROM sessions WHERE session_id = NEW.session_id AND expires_at <= NEW.updated_at)
    BEGIN
        SELECT RAISE(ABORT, 'session expired');
    END;
CREATE TRIGGER multi_agents_expiry_update BEFORE UPDATE OF updated_at ON multi_agents
    WHEN EXISTS (SELECT 1 FROM sessions WHERE session_id = NEW.session_id AND expires_at <= NEW.updated_at)
    BEGIN
        SELECT RAISE(IGNORE);
    END;
CREATE TRIGGER storage_expiry BEFORE INSERT ON storage WHEN EXISTS (
        SELECT 1 FROM sessions
        WHERE session_id = 
    CASE
        WHEN NEW.key >= 'session/' AND NEW.key < 'session0' AND instr(substr(NEW.key, 9), '/scopes/') > 1
            OR NEW.key >= 'context/' AND NEW.key < 'context0' AND instr(substr(NEW.key, 9), '/scopes/agent/') > 1
            AND NOT instr(substr(NEW.key, 16 + instr(substr(NEW.key, 9), '/scopes/')), '/scopes/agent/')
        THEN substr(NEW.key, 9, instr(substr(NEW.key, 9), '/scopes/') - 1)
    END
     AND expires_at <= NEW.updated_at
    )
    BEGIN
        SELECT RAISE(ABORT, 'session expired');
    END;
CREATE TRIGGER messages_search_update AFTER UPDATE OF message, redact_message ON messages 
        WHEN OLD.rowid <= (SELECT last_id FROM search_state WHERE source = 'messages')
    BEGIN
        UPDATE search_state SET ticket = ticket + 1 WHERE source = 'messages';
        INSERT INTO search_stale (source, id, ticket)
        SELECT source, OLD.rowid, ticket FROM search_state WHERE source = 'messages'
        ON CONFLICT (source, id) DO UPDATE SET ticket = excluded.ticket;
    END;
CREATE TRIGGER messages_search_delete AFTER DELETE ON messages 
        WHEN OLD.rowid <= (SELECT last_id FROM search_state WHERE source = 'messages')
    BEGIN
        UPDATE search_state SET ticket = ticket + 1 WHERE source = 'messages';
        INSERT INTO search_stale (source, id, ticket)
        SELECT source, OLD.rowid, ticket FROM search_state WHERE source = 'messages'
        ON CONFLICT (source, id) DO UPDATE SET ticket = excluded.ticket;
        UPDATE search_state
        SET
            last_id = coalesce((SELECT max(rowid) FROM messages WHERE rowid < OLD.rowid), 0),
            last_row = coalesce(
                (SELECT message_id || created_at FROM messages WHERE rowid < OLD.rowid ORDER BY rowid DESC LIMIT 1), ''
            )
        WHERE source = 'messages' AND last_id = OLD.rowid;
        UPDATE search_state SET indexed_id = last_id WHERE source = 'messages' AND indexed_id > last_id;
    END;
CREATE TRIGGER storage_search_update AFTER UPDATE OF key, data ON storage 
        WHEN OLD.rowid <= (SELECT last_id FROM search_state WHERE source = 'storage')
    BEGIN
        UPDATE search_state SET ticket = ticket + 1 WHERE source = 'storage';
        INSERT INTO search_stale (source, id, ticket)
        SELECT source, OLD.rowid, ticket FROM search_state WHERE source = 'storage'
        ON CONFLICT (source, id) DO UPDATE SET ticket = excluded.ticket;
    END;
CREATE TRIGGER storage_search_delete AFTER DELETE ON storage 
        WHEN OLD.rowid <= (SELECT last_id FROM search_state WHERE source = 'storage')
    BEGIN
        UPDATE search_state SET ticket = ticket + 1 WHERE source = 'storage';
        INSERT INTO search_stale (source, id, ticket)
        SELECT source, OLD.rowid, ticket FROM search_state WHERE source = 'storage'
        ON CONFLICT (source, id) DO UPDATE SET ticket = excluded.ticket;
        UPDATE search_state
        SET
            last_id = coalesce((SELECT max(rowid) FROM storage WHERE rowid < OLD.rowid), 0),
            last_row = coalesce(
                (SELECT key FROM storage WHERE rowid < OLD.rowid ORDER BY rowid DESC LIMIT 1), ''
            )
        WHERE source = 'storage' AND last_id = OLD.rowid;
        UPDATE search_state SET indexed_id = last_id WHERE source = 'storage' AND indexed_id > last_id;
    END;
CREATE TRIGGER memories_updated_at AFTER UPDATE OF content ON memories WHEN NEW.updated_at = OLD.updated_at
    BEGIN
        UPDATE memories SET updated_at = (strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')) WHERE memory_id = NEW.memory_id;
    END;
CREATE TRIGGER memories_search_update AFTER UPDATE OF store, scope, content ON memories 
        WHEN OLD.rowid <= (SELECT last_id FROM search_state WHERE source = 'memories')
    BEGIN
        UPDATE search_state SET ticket = ticket + 1 WHERE source = 'memories';
        INSERT INTO search_stale (source, id, ticket)
        SELECT source, OLD.rowid, ticket FROM search_state WHERE source = 'memories'
        ON CONFLICT (source, id) DO UPDATE SET ticket = excluded.ticket;
    END;
CREATE TRIGGER memories_search_delete AFTER DELETE ON memories 
        WHEN OLD.rowid <= (SELECT last_id FROM search_state WHERE source = 'memories')
    BEGIN
        UPDATE search_state SET ticket = ticket + 1 WHERE source = 'memories';
        INSERT INTO search_stale (source, id, ticket)
        SELECT source, OLD.rowid, ticket FROM search_state WHERE source = 'memories'
        ON CONFLICT (source, id) DO UPDATE SET ticket = excluded.ticket;
        UPDATE search_state
        SET
            last_id = coalesce((SELECT max(rowid) FROM memories WHERE rowid < OLD.rowid), 0),
            last_row = coalesce(
                (SELECT memory_id || created_at FROM memories WHERE rowid < OLD.rowid ORDER BY rowid DESC LIMIT 1), ''
            )
        WHERE source = 'memories' AND last_id = OLD.rowid;
        UPDATE search_state SET indexed_id = last_id WHERE source = 'memories' AND indexed_id > last_id;
    END;
CREATE TRIGGER memories_vector_update AFTER UPDATE OF content ON memories WHEN NEW.content <> OLD.content
    BEGIN
        DELETE FROM memory_vectors WHERE memory_id = OLD.memory_id;
    END;
CREATE TRIGGER memories_vector_delete AFTER DELETE ON memories
    BEGIN
        DELETE FROM memory_vectors WHERE memory_id = OLD.memory_id;
    END;
DELETE FROM "sqlite_sequence";
COMMIT;
