"""What goes in comes out, or is refused with the place; what was damaged is named."""

import json
import math
import sqlite3
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from helpers import text_message, texts
from strands_sqlite_session_manager import SessionCatalog, SQLiteSessionRepository
from strands_sqlite_session_manager._codec import decode, decode_message, encode, encode_message

any_text = st.text(st.characters(codec=None))  # lone surrogates and NUL too
scalars = st.none() | st.booleans() | st.integers() | st.floats() | any_text | st.binary() | st.just("__encoded__")
keys = any_text | st.just("__encoded__")
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=20)
objects = st.dictionaries(keys, values)


# Rows that are damaged by hand.
pytestmark = pytest.mark.file_only


def identical(one: Any, other: Any) -> bool:
    """Whether two values are equal in type too, and NaN where the other is NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(identical(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(identical, one, other))
    if isinstance(one, float):
        return (one.hex() == other.hex() and math.copysign(1, one) == math.copysign(1, other)) or one != one
    return bool(one == other)


@settings(max_examples=60)
@given(objects)
@example({"__encoded__": ["bytes", "aGk="]})
@example({"__encoded__": 1, "x": [{"__encoded__": {"__encoded__": b""}}]})
@example({"x": math.nan, "y": -math.inf, "z": -0.0})
def test_values_come_back_as_they_were(value: Any) -> None:
    text = encode(value, "state")
    text.encode()
    assert identical(decode(text, "agents", ("s", "a")), value)
    assert "NaN" not in text or "NaN" in repr(value)  # strict JSON


@settings(max_examples=50)
@given(objects, st.none() | objects)
def test_messages_come_back_as_they_were(content: dict[str, Any], redaction: dict[str, Any] | None) -> None:
    message = {"role": "user", "content": [content]}
    redact_message = None if redaction is None else {"role": "user", "content": [redaction]}
    session_message = SessionMessage(message, 3, redact_message, "created", "updated")
    read = decode_message((3, *encode_message(session_message), "created", "updated"), "s", "a")
    assert identical(read.message, message)
    assert identical(read.redact_message, redact_message)
    assert (read.message_id, read.created_at, read.updated_at) == (3, "created", "updated")


def test_bytes_are_stored_as_they_are(repository: SQLiteSessionRepository, raw: sqlite3.Connection) -> None:
    """No base64: an image costs its own size."""
    image = bytes(range(256)) * 400
    message = text_message(0)
    message.message["content"] = [{"image": {"format": "png", "source": {"bytes": image}}}]
    repository.create_message("s", "a", message)
    text, attachments = raw.execute("SELECT message, attachments FROM messages").fetchone()
    assert attachments == image
    assert len(text) < 200


def test_odd_values_pass_through_the_database(repository: SQLiteSessionRepository) -> None:
    message = text_message(0, "\ud800 lone, \x00 NUL, \U0010ffff")
    message.message["content"].append({"json": {"big": 2**64, "nan": math.nan, "inf": -math.inf, "\udfff\0": "key"}})
    repository.create_message("s", "a", message)
    assert identical(vars(repository.read_message("s", "a", 0)), vars(message))


def test_text_is_stored_as_people_read_it(repository: SQLiteSessionRepository, raw: sqlite3.Connection) -> None:
    repository.create_message("s", "a", text_message(0, "naïve 漢字 🎉"))
    assert "naïve 漢字 🎉" in raw.execute("SELECT message FROM messages").fetchone()[0]


def _nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"x": value}
    return value


def _cyclic() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = [value]
    return value


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"when": Path("x")}, r"message\.content\[0\]\.json\.when: a value of type \w*Path cannot be stored as JSON"),
        ({"when": datetime.now(timezone.utc)}, r"message\.content\[0\]\.json\.when: a value of type datetime cannot"),
        ({"tags": [1, {1}]}, r"message\.content\[0\]\.json\.tags\[1\]: a value of type set cannot"),
        ({"x": bytearray(b"x")}, r"message\.content\[0\]\.json\.x: a value of type bytearray cannot"),
        ({(1, 2): "x"}, r"message\.content\[0\]\.json\.\(1, 2\): a tuple cannot be the key of a JSON object"),
        ({math.nan: "x"}, r"message"),
        (_cyclic(), r"message\.content\[0\]\.json\.self\[0\]\.?.*…: nested too deeply, or holding itself"),
        (_nested(100_000), r"message\.content\[0\]\.json\.x.*…: nested too deeply, or holding itself"),
        ({"n": 10**5000}, r"message\.content\[0\]\.json\.n: Exceeds the limit"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_place(
    repository: SQLiteSessionRepository, value: Any, complaint: str
) -> None:
    message = text_message(0)
    message.message["content"] = [{"json": value}]
    with pytest.raises(SessionException, match=complaint):
        repository.create_message("s", "a", message)
    repository.create_message("s", "a", text_message(0, "the session goes on"))
    assert texts(repository.list_messages("s", "a")) == ["the session goes on"]


@pytest.mark.parametrize("message", [None, [], "text", {}, {"role": "user"}, {"content": []}])
def test_what_is_no_message_is_refused(repository: SQLiteSessionRepository, message: Any) -> None:
    with pytest.raises(SessionException, match=r"^message: "):
        repository.create_message("s", "a", SessionMessage(message, 0))
    with pytest.raises(SessionException, match=r"^redact_message: " if message is not None else "does not exist"):
        repository.update_message("s", "a", SessionMessage({"role": "user", "content": []}, 0, message))
    assert repository.list_messages("s", "a") == []


def test_states_that_json_cannot_hold_are_refused_by_name(repository: SQLiteSessionRepository) -> None:
    bad = {"x": {1}}
    for agent, name in (
        (SessionAgent("b", bad, {}), "state"),
        (SessionAgent("b", {}, bad), "conversation_manager_state"),
        (SessionAgent("b", {}, {}, bad), "internal_state"),
    ):
        with pytest.raises(SessionException, match=rf"^{name}\.x: a value of type set"):
            repository.create_agent("s", agent)
    assert repository.read_agent("s", "b") is None


DAMAGED = [
    "",
    "{",
    "null",
    "[]",
    "5",
    '"text"',
    '{"role": "user"}',
    '{"content": []}',
    '{"role": "user", "content": []} trailing',
    '{"role": "user", "content": [{"__encoded__": ["attachment", 0, 5]}]}',
    '{"role": "user", "content": [{"__encoded__": ["attachment", -1, 0]}]}',
    '{"role": "user", "content": [{"__encoded__": ["bytes", "?"]}]}',
    '{"role": "user", "content": [{"__encoded__": ["float", "x"]}]}',
    '{"role": "user", "content": [{"__encoded__": ["dict", [1]]}]}',
    '{"role": "user", "content": [{"__encoded__": ["nothing"]}]}',
    '{"role": "user", "content": [{"__encoded__": []}]}',
    '{"role": "user", "content": [{"__encoded__": [[]]}]}',
    '{"role": "user", "content": ' + "9" * 5000 + "}",
    "[" * 100_000,
]


@pytest.mark.slow
@pytest.mark.parametrize("column", ["message", "redact_message"])
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_message_is_named_and_the_others_stay_readable(
    repository: SQLiteSessionRepository, raw: sqlite3.Connection, column: str, damage: str
) -> None:
    for message_id in range(3):
        repository.create_message("s", "a", text_message(message_id))
    raw.execute(f"UPDATE messages SET {column} = ? WHERE message_id = 1", (damage,))
    for read in (lambda: repository.read_message("s", "a", 1), lambda: repository.list_messages("s", "a")):
        with pytest.raises(SessionException, match=r"messages \('s', 'a', 1\): damaged JSON"):
            read()
    assert texts([repository.read_message("s", "a", 0), *repository.list_messages("s", "a", offset=2)]) == ["hello"] * 2


@pytest.mark.parametrize("column", ["state", "conversation_manager_state", "internal_state"])
@pytest.mark.parametrize("damage", ["", "{", "null", "[]"])
def test_a_damaged_state_is_named(
    repository: SQLiteSessionRepository, raw: sqlite3.Connection, column: str, damage: str
) -> None:
    raw.execute(f"UPDATE agents SET {column} = ?", (damage,))
    with pytest.raises(SessionException, match=r"agents \('s', 'a'\): damaged JSON"):
        repository.read_agent("s", "a")


def test_a_damaged_multi_agent_state_is_named(repository: SQLiteSessionRepository, raw: sqlite3.Connection) -> None:
    raw.execute("INSERT INTO multi_agents (session_id, multi_agent_id, state) VALUES ('s', 'g', 'null')")
    with pytest.raises(SessionException, match=r"multi_agents \('s', 'g'\): damaged JSON"):
        repository.read_multi_agent("s", "g")


def test_text_that_is_not_utf8_is_damage_of_its_row(
    repository: SQLiteSessionRepository, raw: sqlite3.Connection
) -> None:
    raw.execute(
        "INSERT INTO messages (session_id, agent_id, message_id, message) VALUES ('s', 'a', 0, CAST(x'ff' AS TEXT))"
    )
    with pytest.raises(
        SessionException, match=r"messages \('s', 'a', 0\): damaged JSON in the database: 'utf-8' codec"
    ):
        repository.list_messages("s", "a")


@pytest.mark.slow
@given(
    st.recursive(
        scalars.filter(lambda value: not isinstance(value, bytes)),
        lambda inner: st.lists(inner) | st.dictionaries(keys, inner),
    )
)
def test_any_json_in_a_row_loads_or_raises_session_exception(value: Any) -> None:
    try:
        decode_message((0, json.dumps(value), json.dumps({"role": "x", "content": value}), b"ab", "", ""), "s", "a")
    except SessionException as error:
        assert "messages ('s', 'a', 0): damaged JSON" in str(error)  # noqa: PT017


def test_unknown_session_types_stay_text(repository: SQLiteSessionRepository, raw: sqlite3.Connection) -> None:
    """A session that a newer SDK made can be opened, as with the SDK's own managers."""
    raw.execute("UPDATE sessions SET session_type = 'TEAM'")
    assert repository.read_session("s").session_type == "TEAM"
    repository.create_session(Session("t", SessionType.AGENT))
    assert repository.read_session("t").session_type is SessionType.AGENT


@pytest.mark.parametrize("wrap", [lambda value: {"x": value}, lambda value: [value]], ids=["dictionaries", "lists"])
def test_nesting_is_refused_where_it_could_not_be_read_everywhere(wrap: Any) -> None:
    value: Any = {}
    for _ in range(198):
        value = wrap(value)
    assert decode(encode({"state": value}, "state"), "agents", ("s", "a")) == {"state": value}
    with pytest.raises(SessionException, match="state: nested too deeply: more than 200 levels"):
        encode({"state": wrap(value)}, "state")


@pytest.mark.parametrize("size", [1, 1000])
def test_references_to_more_than_there_is_are_damage(size: int) -> None:
    """Thousands of them to the same bytes would fill the memory."""
    blocks = [{"image": {"source": {"bytes": {"__encoded__": ["attachment", 0, size]}}}}] * 20_000
    text = json.dumps({"role": "user", "content": blocks})
    with pytest.raises(SessionException, match="more attachments than there are bytes"):
        decode(text, "messages", ("s", "a", 0), bytes(size))


@pytest.mark.parametrize("spans", [[(0, 6), (4, 4)], [(4, 4), (0, 5)], [(2, 3), (2, 3)], [(0, 8), (3, 0)]])
def test_references_that_overlap_are_damage(spans: list[tuple[int, int]]) -> None:
    text = json.dumps({str(number): {"__encoded__": ["attachment", *span]} for number, span in enumerate(spans)})
    with pytest.raises(SessionException, match=r"messages \('s', 'a', 0\): .*(overlap|more attachments)"):
        decode(text, "messages", ("s", "a", 0), bytes(8))


def test_references_may_come_in_any_order() -> None:
    """Tools that sort keys, or a person, put them in another one."""
    attachments: list[bytes] = []
    value = {"z": b"", "y": b"first", "x": b"", "a": b"second"}
    text = encode(value, "message", attachments)
    sorted_text = json.dumps(json.loads(text), sort_keys=True)
    assert list(decode(sorted_text, "messages", (), b"".join(attachments))) == ["a", "x", "y", "z"]
    assert decode(sorted_text, "messages", (), b"".join(attachments)) == value


def test_a_text_that_is_nested_too_deeply_is_damage_of_its_row(
    repository: SQLiteSessionRepository, raw: sqlite3.Connection
) -> None:
    """It takes no others with it."""
    text = '{"role":"user","content":[{"toolUse":{"toolUseId":"1","name":"n","input":' + "[" * 500 + "]" * 500 + "}}]}"
    with pytest.raises(SessionException, match="damaged JSON in the database: nested too deeply"):
        decode(text, "agents", ("s", "a"))
    insert = "INSERT INTO messages (session_id, agent_id, message_id, message) VALUES ('s', 'a', ?, ?)"
    raw.executemany(insert, [(0, text), (1, '{"role":"user","content":[]}')])
    shown = SessionCatalog.on(repository).history("s", "a", with_damaged=True)
    assert {message.message_id: bool(message.damage) for message in shown} == {0: True, 1: False}
