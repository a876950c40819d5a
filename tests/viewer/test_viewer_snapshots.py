"""Sessions of the SDK's `SnapshotSessionManager` in the viewer, and what it asks the catalog about them."""

import asyncio
import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from viewer_helpers import get, opened

from snapshot_helpers import restored, talking
from strands_sqlite_session_manager import SessionCatalog
from strands_sqlite_session_manager.catalog import SessionContents
from strands_sqlite_session_manager.storage import SQLiteStorage
from strands_sqlite_session_manager.viewer import create_app

TURNS = (("one", "first"), ("two", "second"), ("three", "third"))


@pytest.fixture
def snapshots(db_path: Path) -> Iterator[SQLiteStorage]:
    """A storage with the session `s`: an agent of three turns, with a snapshot of each."""
    with SQLiteStorage(db_path) as storage:
        talking(storage, "s", *TURNS, always=True, state={"name": "Ada"})
        yield storage


def ids_of(catalog: SessionCatalog) -> list[Any]:
    """Return the ids of the snapshots, the latest first."""
    return [snapshot.snapshot_id for snapshot in catalog.list_snapshots("s", "a")]


class TestCatalog:
    """What the catalog tells of such sessions."""

    def test_contents(self, snapshots: SQLiteStorage, catalog: SessionCatalog) -> None:
        """Agents with the number of their last message, as of sessions in the tables."""
        talking(snapshots, "t", agent_id="quiet")
        assert catalog.contents(["s", "t", "u"])["s"] == SessionContents({"a": 5}, {})

    def test_pieces(self, snapshots: SQLiteStorage, catalog: SessionCatalog) -> None:
        """A history of a snapshot can be read before and after a message too."""

        def ids(**options: Any) -> list[int]:
            return [found.message_id for found in catalog.history("s", "a", **options)]

        assert ids() == [5, 4, 3, 2, 1, 0]
        assert ids(after=1, limit=2) == [3, 2]
        assert ids(after=-1, limit=1) == [0]
        assert ids(after=1, before=4) == [3, 2]
        assert ids(after=1, snapshot_id=ids_of(catalog)[2]) == [3, 2]

    def test_an_agent_is_described_by_its_latest_snapshot_or_another(
        self, snapshots: SQLiteStorage, catalog: SessionCatalog
    ) -> None:
        """State, conversation manager, and the rest of what a snapshot has."""
        found = catalog.describe_agent("s", "a")
        assert found is not None
        assert (found.last_message_id, found.live_view, found.state) == (5, [[0]], {"name": "Ada"})
        assert found.conversation_manager_state["__name__"] == "SlidingWindowConversationManager"
        assert "messages" not in found.internal_state
        past = catalog.describe_agent("s", "a", snapshot_id=ids_of(catalog)[-1])
        assert past is not None
        assert past.last_message_id == 1
        assert catalog.describe_agent("s", "x") is None
        assert catalog.describe_agent("s", "a", snapshot_id="x") is None

    def test_revisions(self, snapshots: SQLiteStorage, catalog: SessionCatalog) -> None:
        """Another one after each turn."""
        before = catalog.revisions([("s", "a"), ("s", "x")])
        assert list(before) == [("s", "a")]
        assert catalog.revisions([("s", "a")]) == before
        talking(snapshots, "s", ("four", "fourth"))
        assert catalog.revisions([("s", "a")]) != before
        assert len(restored(snapshots, "s").messages) == 8


class TestPages:
    """What the pages show of them."""

    def test_are_listed_and_shown_like_the_others(self, snapshots: SQLiteStorage, db_path: Path) -> None:
        """With a mark, and a link to their past."""
        with opened(create_app(db_path)) as host:
            html = get(host, "/").text
            assert ">snapshots<" in html
            assert 'class="number">6<' in html
            html = get(host, "/session", id="s").text
        assert re.findall(r'<article [^>]*id="m-(\d+)"', html) == ["0", "1", "2", "3", "4", "5"]
        assert "/snapshots?session=s&amp;agent=a" in html
        assert "Ada" in html.split("<aside")[1]

    def test_the_past_is_a_time_line(self, snapshots: SQLiteStorage, db_path: Path, catalog: SessionCatalog) -> None:
        """Each snapshot leads to the conversation as it was, which follows nothing."""
        with opened(create_app(db_path)) as host:
            html = get(host, "/snapshots", session="s", agent="a").text
            links = re.findall(r'class="next" href="([^"]*)"', html)
            assert len(links) == len(ids_of(catalog)) == 4
            past = get(host, links[-1].replace("&amp;", "&")).text
            assert re.findall(r'<article [^>]*id="m-(\d+)"', past) == ["0", "1"]
            assert "data-events" not in past
            assert "This is the snapshot" in past
            (copy,) = re.findall(r'href="([^"]*as=json[^"]*first[^"]*)"', past)
            assert len(json.loads(get(host, copy.replace("&amp;", "&")).text)) == 2
            assert f"--snapshot {ids_of(catalog)[-1]}" in past

    def test_a_long_past_has_pages(
        self, snapshots: SQLiteStorage, db_path: Path, catalog: SessionCatalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each leads to the next, and the last snapshot on it too tells what has changed."""
        monkeypatch.setattr("strands_sqlite_session_manager.viewer.snapshot_pages.PAGE", 2)
        shown, link = [], "/snapshots?session=s&agent=a"
        with opened(create_app(db_path)) as host:
            for _ in range(2):
                html = unescape(get(host, link).text)
                shown += re.findall(r'class="next" href="[^"]*?(?:&snapshot=([^"]*))?"', html)
                assert html.count("What has changed") == (2 if 'rel="next"' in html else 1)
                link = next(iter(re.findall(r'rel="next" href="([^"]*)"', html)), "")
        assert shown == [snapshot_id or "" for snapshot_id in ids_of(catalog)]
        assert link == ""

    def test_a_snapshot_does_not_differ_from_itself(
        self, snapshots: SQLiteStorage, db_path: Path, catalog: SessionCatalog
    ) -> None:
        """The page says so, and does not compare."""
        name = ids_of(catalog)[-1]
        with opened(create_app(db_path)) as host:
            html = get(host, "/snapshots", session="s", agent="a", first=name, second=name).text
            assert "nothing differs" in html
            assert get(host, "/snapshots", session="s", agent="a", first="", second="").status == 200

    def test_what_has_changed_can_be_seen(
        self, snapshots: SQLiteStorage, db_path: Path, catalog: SessionCatalog
    ) -> None:
        """Messages that came, and keys of the state."""
        talking(snapshots, "s", ("four", "fourth")).state.set("name", "Grace")
        agent = restored(snapshots, "s")
        agent.state.set("name", "Grace")
        asyncio.run(agent._session_manager.save_snapshot(agent, is_latest=True))  # type: ignore[union-attr]
        with opened(create_app(db_path)) as host:
            html = get(host, "/snapshots", session="s", agent="a", first=ids_of(catalog)[1], second="").text
        difference = html.split("What has changed</h2>")[1].split("</section>")[0]
        assert [part for part in ("four", "fourth", "one") if f"{part}</p>" in difference] == ["four", "fourth"]
        assert "<bdi>name</bdi>" in difference
        assert difference.count(">added<") == 2

    def test_long_messages_that_changed_can_be_seen_whole(
        self, snapshots: SQLiteStorage, db_path: Path, catalog: SessionCatalog
    ) -> None:
        """Each as its snapshot has it."""
        talking(snapshots, "s", ("four " * 10_000, "fourth"))
        with opened(create_app(db_path)) as host:
            html = get(host, "/snapshots", session="s", agent="a", first=ids_of(catalog)[1]).text
            (link,) = re.findall(r'href="([^"]*)">Show all', html)
            assert "four " * 10_000 in get(host, link.replace("&amp;", "&")).text

    def test_damage_is_told(self, snapshots: SQLiteStorage, db_path: Path, raw: Any) -> None:
        """Of one snapshot, in its place."""
        raw.execute("UPDATE storage SET data = CAST('{' AS BLOB) WHERE key LIKE '%latest%'")
        with opened(create_app(db_path)) as host:
            assert "a damaged snapshot" in get(host, "/snapshots", session="s", agent="a").text
            assert "a damaged snapshot" in get(host, "/session", id="s").text
            assert get(host, "/").status == 200

    def test_what_does_not_exist_is_told(self, snapshots: SQLiteStorage, db_path: Path) -> None:
        """A snapshot, or an agent."""
        with opened(create_app(db_path)) as host:
            assert get(host, "/session", id="s", snapshot="x").status == 404
            assert get(host, "/snapshots", session="s", agent="x").status == 404
            assert get(host, "/snapshots", session="s", agent="a", first="x").status == 404
