"""Lists of sessions: their order, their pages, and which sessions are on them."""

import base64
import sqlite3
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from catalog_helpers import NOW, add_session, at, ids, message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strands.types.session import Session, SessionType

from helpers import query_plans
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager.catalog import SessionCatalog


def all_pages(catalog: SessionCatalog, **options: Any) -> list[list[str]]:
    """Return the ids on each page of a list."""
    pages, after = [], None
    while True:
        page = catalog.list_sessions(after=after, **options)
        pages.append(ids(page))
        after = page.next
        if after is None:
            return pages


class TestListSessions:
    @pytest.fixture(autouse=True)
    def _five_sessions(self, empty: SQLiteSessionRepository) -> None:
        for number, name in enumerate(["b", "a", "d", "c", "e"]):
            add_session(empty, name, number)

    def test_the_last_active_comes_first(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        assert ids(catalog.list_sessions()) == ["e", "c", "d", "a", "b"]
        empty.create_message("b", "a", message(0, 10))
        assert ids(catalog.list_sessions()) == ["b", "e", "c", "d", "a"]
        assert catalog.list_sessions(limit=1).sessions[0].updated_at == at(10)

    @pytest.mark.parametrize(
        ("order", "expected"), [("updated", "ecdab"), ("created", "ecdab"), ("session_id", "abcde")]
    )
    def test_pages_follow_on_from_each_other(self, catalog: SessionCatalog, order: Any, expected: str) -> None:
        assert all_pages(catalog, limit=2, order=order) == [list(expected[:2]), list(expected[2:4]), [expected[4]]]
        assert all_pages(catalog, limit=5, order=order) == [list(expected)]

    def test_sessions_of_the_same_moment_are_neither_lost_nor_doubled(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository
    ) -> None:
        for number in range(7):
            add_session(empty, f"same {number}", 100)
        listed = [name for page in all_pages(catalog, limit=3) for name in page]
        assert len(listed) == len(set(listed)) == 12

    def test_pages_are_stable_while_others_write(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        first = catalog.list_sessions(limit=2)
        add_session(empty, "new", 50)
        empty.create_message("e", "a", message(0, 60))
        catalog.delete_session("d")
        assert ids(catalog.list_sessions(after=first.next)) == ["a", "b"]

    def test_the_time_of_the_last_activity_decides_what_is_listed_and_counted(self, catalog: SessionCatalog) -> None:
        assert ids(catalog.list_sessions(updated_after=NOW + timedelta(minutes=3))) == ["e", "c"]
        assert ids(catalog.list_sessions(updated_before=NOW + timedelta(minutes=3))) == ["d", "a", "b"]
        assert catalog.count_sessions(updated_before=NOW + timedelta(minutes=3)) == 3
        elsewhere = timezone(timedelta(hours=5))
        assert catalog.count_sessions(updated_after=(NOW + timedelta(minutes=3)).astimezone(elsewhere)) == 2
        assert catalog.count_sessions() == 5

    @pytest.mark.parametrize(
        "options",
        [
            {"order": "size"},
            {"limit": -1},
            {"after": "nonsense"},
            {"after": "WyJ4Il0="},
            {"after": "MTIz"},
            {"after": "WyJ1cGRhdGVkIiwgMSwgMl0="},
            {"updated_after": datetime(2026, 1, 1)},
            {"prefix": "a\0"},
            {"prefix": 0},
            {"metadata": [1]},
            {"after": base64.urlsafe_b64encode(b"[" * 50_000).decode()},
        ],
    )
    def test_bad_arguments_are_refused_by_name(self, catalog: SessionCatalog, options: Any) -> None:
        with pytest.raises(ValueError, match=next(iter(options))):
            catalog.list_sessions(**options)

    def test_a_cursor_belongs_to_its_order(self, catalog: SessionCatalog) -> None:
        cursor = catalog.list_sessions(limit=1).next
        with pytest.raises(ValueError, match="order='updated'"):
            catalog.list_sessions(after=cursor, order="created")

    @pytest.mark.slow
    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=4)),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=2),
    )
    def test_any_prefix_finds_what_python_finds(self, names: list[str], prefix: str) -> None:
        names = [*names, prefix, prefix + "\U0010ffff", prefix + "\U0010ffff\U0010ffff", prefix + "x"]
        with SQLiteSessionRepository(":memory:") as repository:
            for name in set(names):
                repository.create_session(Session(name, SessionType.AGENT))
            listed = ids(SessionCatalog(session_repository=repository).list_sessions(prefix=prefix))
        assert sorted(listed) == sorted({name for name in names if name.startswith(prefix)})


@pytest.mark.file_only
def test_walks_an_index_sorts_nothing_and_reads_no_message(
    catalog: SessionCatalog, raw: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "st":
        raw.execute("INSERT INTO sessions (session_id) VALUES (?)", (name,))
    cursor = catalog.list_sessions(limit=1).next
    plans = query_plans(catalog, raw, monkeypatch)
    catalog.list_sessions()
    catalog.list_sessions(after=cursor)
    catalog.list_sessions(order="session_id", prefix="a")
    catalog.list_sessions(order="created")
    assert plans == [
        ["SCAN sessions USING INDEX sessions_by_activity"],
        ["SEARCH sessions USING INDEX sessions_by_activity ((updated_at,session_id)<(?,?))"],
        ["SEARCH sessions USING PRIMARY KEY (session_id>? AND session_id<?)"],
        ["SCAN sessions USING INDEX sessions_by_creation"],
    ]
