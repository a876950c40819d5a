"""Metadata of sessions: changed, refused, and what lists are filtered by."""

import json
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import pytest
from catalog_helpers import add_session, at, ids
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager.catalog import SessionCatalog


def escaped(character: str) -> str:
    """Return a character as JSON may write it too."""
    return f"\\u{ord(character):04x}"


def update(catalog: SessionCatalog, session_id: str, metadata: dict[str, Any]) -> None:
    catalog.update_metadata(session_id, **metadata)


UNFINDABLE = [
    ({"x": "42\0mallory"}, "NUL"),
    ({"x": ["\0"]}, "NUL"),
    ({"x": {"deep": ({"deeper": "\0"},)}}, "NUL"),
    ({"x": {"na\0me": 1}}, "NUL"),
    ({"na\0me": 1}, "NUL"),
    ({"x": 2**63}, "64 bits"),
    ({"x": -(2**63) - 1}, "64 bits"),
    ({"x": [{"y": 2**64 + 1}]}, "64 bits"),
]


class TestChanging:
    def test_set_replaces_all_and_update_changes_some(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository
    ) -> None:
        add_session(empty, "s")
        catalog.set_metadata("s", {"title": "one", "user": "42", "kept": {"deep": None}})
        catalog.update_metadata("s", title="two", user=None, session_id="a name like any other")
        summary = catalog.describe("s")
        assert summary is not None
        assert summary.metadata == {"title": "two", "kept": {"deep": None}, "session_id": "a name like any other"}
        catalog.set_metadata("s", {})
        assert catalog.list_sessions().sessions[0].metadata == {}

    def test_a_change_is_no_activity(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s")
        catalog.set_metadata("s", {"title": "one"})
        catalog.update_metadata("s", archived=True)
        assert catalog.list_sessions().sessions[0].updated_at == at(0)

    def test_what_is_no_dictionary_is_refused(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s")
        with pytest.raises(ValueError, match="metadata=None: must be a dictionary"):
            catalog.set_metadata("s", None)  # type: ignore[arg-type]

    @pytest.mark.parametrize("change", [SessionCatalog.set_metadata, update])
    def test_a_session_that_does_not_exist_has_none_to_change(
        self, catalog: SessionCatalog, change: Callable[..., None]
    ) -> None:
        with pytest.raises(SessionException, match="Session nobody does not exist"):
            change(catalog, "nobody", {"x": 1})

    @pytest.mark.parametrize("change", [SessionCatalog.set_metadata, update])
    def test_a_value_without_a_json_form_is_refused(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository, change: Callable[..., None]
    ) -> None:
        add_session(empty, "s")
        catalog.set_metadata("s", {"kept": 1})
        with pytest.raises(SessionException, match=r"metadata\.x: a value of type set"):
            change(catalog, "s", {"x": {1}})
        assert catalog.list_sessions().sessions[0].metadata == {"kept": 1}

    @pytest.mark.parametrize("change", [SessionCatalog.set_metadata, update])
    @pytest.mark.parametrize(("unfindable", "complaint"), UNFINDABLE)
    def test_what_a_list_could_not_find_is_refused(
        self,
        catalog: SessionCatalog,
        empty: SQLiteSessionRepository,
        change: Callable[..., None],
        unfindable: dict[str, Any],
        complaint: str,
    ) -> None:
        """SQLite ends a text at a NUL, and makes a float of an integer beyond 64 bits."""
        add_session(empty, "s")
        catalog.set_metadata("s", {"kept": 1})
        with pytest.raises(ValueError, match=f"metadata: .*{complaint}"):
            change(catalog, "s", unfindable)
        assert catalog.list_sessions().sessions[0].metadata == {"kept": 1}

    def test_the_highest_and_the_lowest_integer_are_kept_and_found(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository
    ) -> None:
        add_session(empty, "s")
        for number in (2**63 - 1, -(2**63)):
            catalog.update_metadata("s", number=number)
            assert catalog.list_sessions(metadata={"number": number}).sessions[0].metadata == {"number": number}
            assert catalog.count_sessions(metadata={"number": number + (1 if number < 0 else -1)}) == 0

    def test_changes_of_many_threads_are_all_kept(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository
    ) -> None:
        add_session(empty, "s")
        together = threading.Barrier(8)

        def change(number: int) -> None:
            together.wait()
            for turn in range(10):
                catalog.update_metadata("s", **{f"{number}-{turn}": turn})

        threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(catalog.list_sessions().sessions[0].metadata) == 80


class TestFinding:
    @pytest.fixture(autouse=True)
    def _five_sessions(self, empty: SQLiteSessionRepository) -> None:
        for name in "abcde":
            add_session(empty, name)

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            ({"user": "42"}, "ae"),
            ({"user": 42}, "b"),
            ({"user": 42.0}, "b"),
            ({"user": "42", "vip": True}, "e"),
            ({"vip": 1}, "c"),
            ({"tags": ["x", "y"]}, "d"),
            ({"tags": '["x","y"]'}, ""),
            ({"note": None}, "b"),
            ({'a"b$.c': "ü"}, "d"),
            ({"missing": None}, ""),
            ({}, "abcde"),
        ],
    )
    def test_metadata_matches_equal_values(self, catalog: SessionCatalog, wanted: Any, found: str) -> None:
        catalog.set_metadata("a", {"user": "42"})
        catalog.set_metadata("b", {"user": 42, "note": None})
        catalog.set_metadata("c", {"vip": 1})
        catalog.set_metadata("d", {"tags": ["x", "y"], 'a"b$.c': "ü"})
        catalog.set_metadata("e", {"user": "42", "vip": True})
        assert "".join(ids(catalog.list_sessions(metadata=wanted, order="session_id"))) == found
        assert catalog.count_sessions(metadata=wanted) == len(found)

    @pytest.mark.parametrize(("unfindable", "complaint"), UNFINDABLE)
    def test_what_no_session_can_have_is_refused(
        self, catalog: SessionCatalog, unfindable: dict[str, Any], complaint: str
    ) -> None:
        for find in (catalog.list_sessions, catalog.count_sessions):
            with pytest.raises(ValueError, match=f"metadata: .*{complaint}"):
                find(metadata=unfindable)

    def test_what_only_looks_like_a_nul_is_found(self, catalog: SessionCatalog) -> None:
        catalog.set_metadata("c", {"pattern": r"\u0000"})
        assert ids(catalog.list_sessions(metadata={"pattern": r"\u0000"})) == ["c"]

    @pytest.mark.parametrize("text", ["", "5", "a/b", 'a"b', "a\\b", "ü", "\u2028", "\ud800", "\n", "a','b"])
    def test_text_is_found_however_it_is_written(
        self, catalog: SessionCatalog, raw: sqlite3.Connection, text: str
    ) -> None:
        in_escapes = "".join(map(escaped, text))
        for name, written in (("a", json.dumps({"x": text})), ("b", f'{{"x": "{in_escapes}"}}')):
            raw.execute("UPDATE sessions SET metadata = ? WHERE session_id = ?", (written, name))
        catalog.set_metadata("c", {"x": text})
        assert ids(catalog.list_sessions(metadata={"x": text}, order="session_id")) == ["a", "b", "c"]

    @pytest.mark.parametrize(
        "damage", ["'{'", "CAST(x'7bff7d' AS TEXT)", "'{\"a\":' || replace(hex(zeroblob(500)), '00', '[')"]
    )
    def test_damaged_metadata_is_named_and_takes_no_others_with_it(
        self, catalog: SessionCatalog, raw: sqlite3.Connection, damage: str
    ) -> None:
        raw.execute(f"UPDATE sessions SET metadata = {damage} WHERE session_id = 'c'")
        assert catalog.count_sessions(metadata={"user": 1}) == 0
        listed = {entry.session_id: entry.damage for entry in catalog.list_sessions().sessions}
        assert (listed.pop("c") or "").startswith("sessions ('c',): damaged JSON")
        assert listed
        assert set(listed.values()) == {None}
        described = catalog.describe("c")
        assert described is not None
        assert described.damage
        with pytest.raises(SessionException, match=r"sessions \('c',\): damaged JSON"):
            catalog.update_metadata("c", user=1)
