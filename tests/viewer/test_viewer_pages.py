"""What the pages of the viewer show."""

import json
import re
import shlex
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from strands.agent.agent_result import AgentResult
from strands.multiagent.base import MultiAgentResult, NodeResult
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType
from viewer_helpers import add_conversation, get, opened

from helpers import FakeMultiAgent
from strands_sqlite_session_manager import SessionCatalog, SQLiteSessionRepository
from strands_sqlite_session_manager.viewer import create_app, file_pages
from strands_sqlite_session_manager.viewer.text import sum_of_money


def ids_on(html: str) -> list[int]:
    """Return the numbers of the messages on a page, in their order."""
    return [int(number) for number in re.findall(r'<article [^>]*id="m-(\d+)"', html)]


def article(html: str, number: int) -> str:
    """Return what a page shows of a message."""
    return re.findall(rf'<article [^>]*id="m-{number}".*?</article>', html, re.DOTALL)[0]


class TestSessions:
    """The list of sessions."""

    def test_lists_what_is_there_the_last_active_first(self, desk: str) -> None:
        """A row has the session's agents, messages, tokens, kind and tags."""
        html = get(desk, "/").text
        assert html.index("refund-7781</bdi>") < html.index("user-42</bdi>") < html.index("user-311</bdi>")
        (row,) = [row for row in html.split("<tr>") if ">refund-7781<" in row]
        for shown in ("fraud_check", "triage", ">swarm<", ">12<", "6,497", "<bdi>finance</bdi>"):
            assert shown in row

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({"prefix": "user-1"}, ["user-105"]),
            ({"tag": "team=finance"}, ["refund-7781", "billing-2031"]),
            ({"tag": "priority:=2"}, ["user-42"]),
            ({"tag": "priority=2"}, []),
            ({"until": "2001-01-01"}, []),
            ({"until": "9999-12-31", "prefix": "refund"}, ["refund-7781"]),
            ({"since": "2001-01-01", "prefix": "refund"}, ["refund-7781"]),
        ],
    )
    def test_filters(self, desk: str, query: dict[str, str], found: list[str]) -> None:
        """By the beginning of the id, a tag, and time; and the command line does the same."""
        html = get(desk, "/", **query).text
        assert re.findall(r'<th scope="row"><a[^>]*><bdi>([^<]*)', html) == found
        assert ("No session matches" in html) == (not found)

    def test_a_tag_that_is_none_and_a_day_that_is_none_are_refused(self, desk: str) -> None:
        """The page says what is wrong."""
        for query in ({"tag": "team"}, {"tag": "a:={"}, {"since": "yesterday"}, {"after": "x"}, {"limit": "-1"}):
            answer = get(desk, "/", **query)
            assert answer.status == 400
            assert "This cannot be shown" in answer.text

    def test_large_tags_are_shown_in_part_and_filter_nothing(self, db_path: Path) -> None:
        """Browsers and servers take no link of that size."""
        add_conversation(db_path, "s", "one")
        with opened(create_app(db_path)) as host, SessionCatalog(db_path) as catalog:
            catalog.set_metadata("s", {"a": "x" * 300_000, "n" * 300_000: 1, "title": "y" * 300_000, "small": 1})
            for path in ("/", "/session?id=s"):
                html = get(host, path).text
                assert len(html) < 20_000
                assert "xxx" in html
                assert len(re.findall('<a class="tag" href', html)) == 1
                assert len(re.findall('<a class="tag"', html)) == 3

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["a=b", "a:", "a", " a", "=", "a:b"])
    @pytest.mark.parametrize("value", ["x", "x ", "=", ":=", 1, None])
    def test_links_of_tags_find_their_sessions(self, db_path: Path, name: str, value: Any) -> None:
        """Or there is none: what a link says has a `=` between name and value."""
        add_conversation(db_path, "s", "one")
        add_conversation(db_path, "other", "one")
        with opened(create_app(db_path)) as host, SessionCatalog(db_path) as catalog:
            catalog.set_metadata("s", {name: value})
            links = re.findall('<a class="tag" href="([^"]*)"', get(host, "/").text)
            assert links or "=" in name or name.endswith(":") or f"{name}{value}" != f"{name}{value}".strip()
            for link in links:
                assert 'id=s"' in get(host, unescape(link)).text
                assert "id=other" not in get(host, unescape(link)).text

    @pytest.mark.parametrize(
        "change",
        [
            "metadata = 'nope'",
            # A cluster answers with U+FFFD for it.
            pytest.param("created_at = CAST(x'ff' AS TEXT)", marks=pytest.mark.file_only),
        ],
    )
    def test_damaged_sessions_can_be_opened(self, db_path: Path, raw: Any, change: str) -> None:
        """What is in them may be sound."""
        add_conversation(db_path, "s", "one", "two", agent_id="helper")
        raw.execute(f"UPDATE sessions SET {change}")
        with opened(create_app(db_path)) as host:
            (row,) = [row for row in get(host, "/").text.split("<tr>") if 'class="damage"' in row]
            (link,) = re.findall('class="next" href="([^"]*)"', row)
            assert ids_on(get(host, link).text) == [0, 1]
        assert "<bdi>helper</bdi>" in row
        assert ">2</td>" in row

    def test_times_at_the_end_of_all_times_are_shown_as_they_are(self, db_path: Path, raw: Any) -> None:
        """In UTC, this one is in a year that Python does not have."""
        time = "9999-12-31T23:59:59-05:00"
        add_conversation(db_path, "s", "one", "two")
        for table in ("sessions", "agents", "messages"):
            raw.execute(f"UPDATE {table} SET created_at = ?, updated_at = ?", (time, time))
        with opened(create_app(db_path)) as host:
            for path in ("/", "/session?id=s", "/search?q=one"):
                answer = get(host, path)
                assert (answer.status, f">{time}</time>" in answer.text) == (200, True)

    def test_pages_follow_one_another(self, desk: str) -> None:
        """The link to the next page leads to the sessions that follow, with the same filters."""
        html = get(desk, "/", prefix="user", limit=2).text
        first = re.findall(r'<th scope="row"><a[^>]*><bdi>([^<]*)', html)
        (following,) = re.findall(r'rel="next" href="([^"]*)"', html)
        second = get(desk, following.replace("&amp;", "&")).text
        assert first == ["user-42", "user-7"]
        assert re.findall(r'<th scope="row"><a[^>]*><bdi>([^<]*)', second) == ["user-105", "user-311"]
        assert 'rel="next"' not in second

    def test_an_empty_database_says_so(self, db_path: Path) -> None:
        """There is a page for a database without sessions."""
        SQLiteSessionRepository(db_path).close()
        with opened(create_app(db_path)) as host:
            assert "There are no sessions yet" in get(host, "/").text

    def test_a_long_session_is_listed_without_being_read(self, db_path: Path) -> None:
        """The number of messages is that of the last one, and tokens are left to the page of usage."""
        with SQLiteSessionRepository(db_path) as repository:
            repository.create_session(Session("long", SessionType.AGENT))
            repository.create_agent("long", SessionAgent("a", {}, {}))
            message: Any = {"role": "user", "content": [{"text": "x"}]}
            repository.create_message("long", "a", SessionMessage(message, 999_999))
        with opened(create_app(db_path)) as host:
            html = get(host, "/").text
        assert "1,000,000" in html
        assert "add up" in html


class TestSearch:
    """Searches."""

    def test_hits_are_marked_and_lead_to_the_message(self, desk: str) -> None:
        """The link of a hit opens the page that has the message."""
        html = get(desk, "/search", q="neighbour carrier").text
        assert "<mark>carrier</mark>" in html
        (link,) = re.findall(r'class="next" href="([^"]*)"', html)
        path, _, fragment = link.replace("&amp;", "&").partition("#")
        assert fragment == "m-3"
        assert 3 in ids_on(get(desk, path).text)

    def test_what_was_found_is_shown_where_the_link_leads(self, db_path: Path) -> None:
        """Far beyond what is shown of a long message, too; a short one shows it by itself."""
        add_conversation(db_path, "s", "word " * 5_000 + "the needle <b>", "a needle", "without")
        with opened(create_app(db_path)) as host:
            links = re.findall(r'class="next" href="([^"#]*)', get(host, "/search", q="needle").text)
            long, short = (get(host, unescape(link)).text for link in sorted(links))
            other = get(host, "/session", id="s", at=2, q="needle").text
        assert "the <mark>needle</mark> &lt;b&gt;</p>" in article(long, 0)
        assert "<mark>" not in article(long, 1) + short + other

    def test_more_than_the_best_are_a_click_away(self, db_path: Path) -> None:
        """With the same words and filters; where there are no more, there is no link."""
        add_conversation(db_path, "s", *["needle"] * 120)
        with opened(create_app(db_path)) as host:
            html = get(host, "/search", q="needle", role="user").text
            assert html.count("<mark>") == 50
            (link,) = re.findall(r'href="([^"]*)">More<', html)
            more = get(host, unescape(link)).text
        assert more.count("<mark>") == 60
        assert ">More<" not in more
        assert "--limit 500" in more

    def test_can_be_narrowed_down(self, desk: str) -> None:
        """By session, role and time."""
        assert "user-105" not in get(desk, "/search", q="question", session="user-311").text.split("<ol")[1]
        assert "assistant ·" not in get(desk, "/search", q="voucher", role="user").text
        assert "No message has" in get(desk, "/search", q="voucher", until="2001-01-01").text

    def test_a_search_that_would_take_long_asks_first(self, db_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where much is not in the index; not in one session, nor when it was said to go on."""
        monkeypatch.setattr("strands_sqlite_session_manager.viewer.session_pages.MOST_READ", 3)
        add_conversation(db_path, "s", "one", "two", "three", "four")
        with opened(create_app(db_path)) as host:
            html = get(host, "/search", q="two").text
            assert "About 4 messages are not in the search index" in html
            (link,) = re.findall(r'href="([^"]*)">search anyway', html)
            assert "<mark>two</mark>" in get(host, link.replace("&amp;", "&")).text
            assert "<mark>two</mark>" in get(host, "/search", q="two", session="s").text
            with SessionCatalog(db_path) as catalog:
                assert catalog.search_backlog() == 4
                catalog.search("two")
                assert catalog.search_backlog() == 0
            assert "<mark>two</mark>" in get(host, "/search", q="two").text

    @pytest.mark.parametrize("path", ["/search?q=parcel&session=user-4", "/usage?session=user-4&since="])
    def test_a_session_that_does_not_exist_is_told(self, desk: str, path: str) -> None:
        """It is no session in which nothing was said."""
        answer = get(desk, path)
        assert (answer.status, "Session user-4 does not exist" in answer.text) == (404, True)

    def test_nothing_found_and_nothing_asked_are_told(self, desk: str) -> None:
        """There is a page for either."""
        assert "No message has all of these words" in get(desk, "/search", q="zebra").text
        assert "Type a few words" in get(desk, "/search").text


class TestConversation:
    """The page of a session."""

    def test_shows_each_kind_of_block(self, desk: str) -> None:
        """Text, reasoning, tools with their results, images, documents and citations."""
        html = get(desk, "/session", id="user-42").text
        assert "<strong>it is on its way</strong>" in article(html, 3)
        assert "<table>" in article(html, 3)
        assert re.search(r'<img src="/attachment[^"]*place=1"', article(html, 0))
        assert "The number on the label" in article(html, 1)
        assert "Terms of delivery" in article(html, 5)
        assert "Receipt JD-0146" in article(html, 5)
        assert "redacted" in article(html, 4)

    def test_results_are_folded_under_their_calls(self, desk: str) -> None:
        """The message with the results has no place of its own, but a link to it leads to them."""
        html = get(desk, "/session", id="user-42").text
        assert 2 not in ids_on(html)
        first, second = re.findall(r"<details class=\"tool.*?</details>", article(html, 1), re.DOTALL)
        assert 'id="m-2"' in first
        assert "Leipzig" in first
        assert "failed" in second
        assert "Timeout after 5 s" in second

    def test_long_results_can_be_seen_whole(self, db_path: Path) -> None:
        """They are in another message than the call that they are folded under."""
        call = {"toolUse": {"toolUseId": "t", "name": "read", "input": {"path": "p" * 20_000 + "the path"}}}
        result = {"toolResult": {"toolUseId": "t", "content": [{"text": "x" * 20_000 + "the end"}]}}
        add_conversation(db_path, "s", "Read it.", [call], [result])
        with opened(create_app(db_path)) as host:
            links = re.findall(r'href="([^"]*)">Show all', get(host, "/session?id=s").text)
            whole = [get(host, unescape(link)).text for link in links]
        assert ["the path" in text for text in whole] == [True, False]
        assert ["the end" in text for text in whole] == [False, True]

    def test_a_call_without_a_result_and_a_result_without_a_call_say_so(self, db_path: Path) -> None:
        """So does a result whose call is on another page, and a second call with the same id."""
        use = {"toolUse": {"toolUseId": "t", "name": "look", "input": {}}}
        result = {"toolResult": {"toolUseId": "t", "status": "success", "content": [{"text": "found"}]}}
        again = {"toolResult": {**result["toolResult"], "content": [{"text": "found twice"}]}}
        add_conversation(db_path, "s", [result], [use], [result, again], [use])
        with opened(create_app(db_path)) as host:
            html = get(host, "/session", id="s").text
        assert ids_on(html) == [0, 1, 2, 3]
        assert "of the call <bdi>t</bdi>" in article(html, 0)
        assert "found</p>" in article(html, 1)
        assert "found twice" in article(html, 2)
        assert "no result" in article(html, 3)

    def test_calls_with_one_id_have_a_result_each(self, db_path: Path) -> None:
        """In their order. One of an earlier message gets none of them."""
        use = {"toolUse": {"toolUseId": "t", "name": "look", "input": {}}}
        results = [
            {"toolResult": {"toolUseId": "t", "status": "success", "content": [{"text": text}]}} for text in "xy"
        ]
        add_conversation(db_path, "s", "go", [use], "again", [use, use], results)
        with opened(create_app(db_path)) as host:
            html = get(host, "/session", id="s").text
        assert ids_on(html) == [0, 1, 2, 3]
        assert 'class="tool"' in article(html, 1)
        assert "no result" in article(html, 1)
        assert re.findall("<p>([xy])</p>", article(html, 3)) == ["x", "y"]
        assert article(html, 3).count('class="tool done"') == 2

    def test_blank_texts_are_told(self, db_path: Path) -> None:
        """They would look like a mistake of the page."""
        add_conversation(db_path, "s", "one", " \n")
        with opened(create_app(db_path)) as host:
            html = get(host, "/session", id="s").text
        assert "Empty." in article(html, 1)
        assert "Empty." not in article(html, 0)

    def test_images_in_documents_have_no_address(self, db_path: Path) -> None:
        """That of their place in the document would be of another block of the message."""
        image = {"image": {"format": "png", "source": {"bytes": b"png"}}}
        document = {"format": "txt", "name": "notes", "source": {"content": [{"text": "inner"}, image]}}
        add_conversation(db_path, "s", [{"document": document}, {"text": "outer"}])
        with opened(create_app(db_path)) as host:
            html = article(get(host, "/session", id="s").text, 0)
        assert "inner" in html
        assert "image · png · 3 B" in html
        assert "attachment" not in html

    @pytest.mark.parametrize("is_text", [True, False])
    def test_tasks_of_graphs_are_shown_whole(self, db_path: Path, is_text: bool) -> None:
        """Also where they were given as blocks of content."""
        task = "Plan a trip. " * 100 + "Go to **Rome**."
        state = {"type": "graph", "current_task": task if is_text else [{"text": task}]}
        with SQLiteSessionRepository(db_path) as repository:
            repository.create_session(Session("s", SessionType.AGENT))
            repository.create_multi_agent("s", FakeMultiAgent("g", state))
        with opened(create_app(db_path)) as host:
            assert "Plan a trip. Go to <strong>Rome</strong>." in get(host, "/session", id="s").text

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("query", "first", "last"),
        [
            ({}, 250, 299),
            ({"before": 250}, 200, 249),
            ({"after": 9}, 10, 59),
            ({"at": 0}, 0, 49),
            ({"at": 150}, 125, 174),
        ],
    )
    def test_pieces(self, db_path: Path, query: dict[str, int], first: int, last: int) -> None:
        """A conversation opens at its end; links lead to what is before, after and around a message."""
        add_conversation(db_path, "s", *(f"number {number}" for number in range(300)))
        with opened(create_app(db_path)) as host:
            html = get(host, "/session", id="s", **query).text
            assert ids_on(html) == list(range(first, last + 1))
            for name, page in (
                ("prev", range(max(first - 50, 0), first)),
                ("next", range(last + 1, min(last + 51, 300))),
            ):
                links = re.findall(rf'rel="{name}" href="([^"]*)"', html)
                assert bool(links) == bool(page)
                assert [ids_on(get(host, link.replace("&amp;", "&")).text) for link in links] == [[*page]][: len(links)]

    def test_what_the_agent_has_now_is_told_from_the_log(self, desk: str) -> None:
        """Removed messages are marked, and a summary stands before the first that is left."""
        html = get(desk, "/session", id="billing-2031").text
        assert " gone" in article(html, 67)
        assert " gone" not in article(html, 68)
        assert html.index('id="m-67"') < html.index("Summary: the customer asked") < html.index('id="m-68"')
        assert "<dt>The agent has now</dt><dd>13</dd>" in html

    def test_a_summary_of_another_shape_is_shown_as_it_is(self, db_path: Path) -> None:
        """A conversation manager of one's own may keep anything under that name."""
        add_conversation(db_path, "s", "one", manager={"removed_message_count": 1, "summary_message": {"x": "odd"}})
        with opened(create_app(db_path)) as host:
            html = get(host, "/session?id=s").text
        assert "&#34;x&#34;: &#34;odd&#34;" in html.split('class="message summary')[1].split("</article>")[0]

    def test_edited_messages_show_both_versions(self, db_path: Path, raw: Any) -> None:
        """What the log has, and what the agent has in its place."""
        add_conversation(db_path, "s", "as it was", "yes", "bye")
        view = [{"message_id": 0, "message": {"role": "user", "content": [{"text": "as it is"}]}}, [2]]
        raw.execute("UPDATE agents SET live_view = ?", (json.dumps(view),))
        with opened(create_app(db_path)) as host:
            html = get(host, "/session", id="s").text
        assert "as it was" in article(html, 0)
        assert "as it is" in article(html, 0).split("What the agent has instead")[1]
        assert " gone" in article(html, 1)

    def test_results_that_were_changed_since_are_shown_in_their_place(self, db_path: Path, raw: Any) -> None:
        """As well as under their calls."""
        calls: list[Any] = [{"toolUse": {"toolUseId": "t", "name": "look", "input": {}}}]
        results = [{"toolResult": {"toolUseId": "t", "status": "success", "content": [{"text": "found it"}]}}]
        add_conversation(db_path, "s", "go", calls, results, calls, results)
        raw.execute("UPDATE messages SET redact_message = message WHERE message_id = 2")
        view = [[0, 3], {"message_id": 4, "message": {"role": "user", "content": [{"text": "cut"}]}}, [5]]
        raw.execute("UPDATE agents SET live_view = ?", (json.dumps(view),))
        with opened(create_app(db_path)) as host:
            html = get(host, "/session", id="s").text
        assert "Empty." not in html.split("<aside")[0]
        for number, mark in ((2, "redacted"), (4, "changed since")):
            assert "found it" in article(html, number)
            assert mark in article(html, number)
            assert "found it" in article(html, number - 1)

    def test_what_is_no_time_of_an_answer_is_left_out(self, db_path: Path) -> None:
        """Metrics may have anything in them."""
        add_conversation(db_path, "s")
        times: list[Any] = [10**400, float("inf"), float("nan"), "1"]
        with SQLiteSessionRepository(db_path) as repository:
            for number, time in enumerate(times):
                metadata = {"usage": {"outputTokens": 7}, "metrics": {"latencyMs": time}}
                message: Any = {"role": "user", "content": [{"text": "x"}], "metadata": metadata}
                repository.create_message("s", "default", SessionMessage(message, number))
        with opened(create_app(db_path)) as host:
            assert get(host, "/session?id=s").text.count('remarks">7 out</span>') == len(times)

    def test_side_panel_has_state_and_interrupts(self, desk: str) -> None:
        """What the agent keeps, and what it waits for."""
        assert "&#34;language&#34;: &#34;de&#34;" in get(desk, "/session", id="user-42").text
        html = get(desk, "/session", id="refund-7781").text
        assert "approve_refund" in html
        assert "waits for an answer" in html

    def test_swarms_are_drawn_in_order(self, desk: str) -> None:
        """Each node with its status; those that are agents lead to their conversations."""
        html = get(desk, "/session", id="refund-7781", agent="triage").text
        flow = re.findall(r'<ol class="flow in-turn">(.*?)</ol>', html, re.DOTALL)[0]
        assert re.findall(r'<li class="(\w+)">.*?<bdi>(\w+)', flow) == [
            ("completed", "triage"),
            ("completed", "billing"),
            ("interrupted", "fraud_check"),
            ("pending", "payout"),
        ]
        assert "/session?id=refund-7781&amp;agent=fraud_check" in flow

    def test_nodes_show_what_they_came_to(self, db_path: Path) -> None:
        """What they said, why one failed, and what a graph in a node came to; and all of what is long."""

        def said(content: Any) -> NodeResult:
            return NodeResult(AgentResult("end_turn", {"role": "assistant", "content": content}, None, {}))  # type: ignore[arg-type]

        results = {
            "writer": said([{"text": "A **poem**." + "x" * 20_000}]),
            "critic": NodeResult(ValueError("<no words>")),
            "team": NodeResult(MultiAgentResult(results={"inner": said([{"text": "From within."}])})),
        }
        state = {
            "type": "swarm",
            "node_history": ["writer", "critic", "writer", "team", "next"],
            "node_results": {name: result.to_dict() for name, result in results.items()},
        }
        with SQLiteSessionRepository(db_path) as repository:
            repository.create_session(Session("s", SessionType.AGENT))
            repository.create_multi_agent("s", FakeMultiAgent("g/h", state))
        with opened(create_app(db_path)) as host:
            html = get(host, "/session", id="s").text
            first, critic, writer, team, following = re.findall(r"<li .*?</li>", html, re.DOTALL)
            assert "The agents of this session keep no conversation of their own." in html
            assert "<summary>Error</summary>" in critic
            assert '<p class="damage" dir="auto"><bdi>&lt;no words&gt;</bdi></p>' in critic
            assert "<summary>Result</summary>" in writer
            assert "A <strong>poem</strong>" in writer
            assert re.search(r"<bdi>inner</bdi>.*<p>From within.</p>", team, re.DOTALL)
            # The SDK keeps what a node came to at its last turn.
            assert "<details" not in first + following
            (link,) = re.findall(r'href="([^"]*)">Show all', html)
            assert "x" * 20_000 in get(host, unescape(link)).text
            assert get(host, "/multi-agent", session="s", id="x").status == 404

    def test_graphs_show_what_they_wait_for(self, db_path: Path) -> None:
        """As agents do."""
        interrupt = {"id": "1", "name": "approve_poem", "reason": {"lines": 4}, "response": None}
        waiting = {"interrupt_state": {"interrupts": {"1": interrupt}, "context": {}, "activated": True}}
        with SQLiteSessionRepository(db_path) as repository:
            repository.create_session(Session("s", SessionType.AGENT))
            graph = FakeMultiAgent("g", {"type": "graph", "_internal_state": waiting})
            repository.create_multi_agent("s", graph)
        with opened(create_app(db_path)) as host:
            html = get(host, "/session", id="s").text
        assert re.search(r"approve_poem.*waits for an answer.*&#34;lines&#34;: 4", html, re.DOTALL)

    @pytest.mark.parametrize(
        "state",
        [
            {"_internal_state": 7, "node_results": {"a": {"result": 7}, "b": {"result": [None]}, "c": 7}},
            {"_internal_state": {"interrupt_state": []}, "node_results": {"a": {"result": {"message": 7}}}},
            {"_internal_state": {"interrupt_state": {"interrupts": {"x": 7, "y": {}}}}},
            {"node_results": {"a": {"result": {"message": {}}}, "b": {"result": {"type": "exception"}}}},
            {"node_results": {"a": {"result": {"message": {"content": [7, {"text": 7}, {"image": 7}, {}]}}}}},
            {"node_results": {"a": {"result": {"results": 7}}, "b": {"result": {"results": {"c": 7, "d": {}}}}}},
            {"node_results": {"a": {"execution_time": 10**400, "result": {}, "accumulated_usage": 7}}},
            {"type": 7, "status": [], "current_task": {}, "node_history": [{}], "next_nodes_to_execute": 7},
        ],
    )
    def test_states_of_another_shape_can_be_opened(self, db_path: Path, state: dict[str, Any]) -> None:
        """Whatever somebody has stored there."""
        with SQLiteSessionRepository(db_path) as repository:
            repository.create_session(Session("s", SessionType.AGENT))
            repository.create_multi_agent("s", FakeMultiAgent("g", state))
        with opened(create_app(db_path)) as host:
            for path in ("/", "/session?id=s", "/multi-agent?session=s&id=g"):
                assert get(host, path).status == 200

    def test_nodes_in_nodes_can_be_opened(self, db_path: Path) -> None:
        """As deep as they can be stored."""
        result: Any = {"message": {"content": [{"text": "From within."}]}}
        for _ in range(60):
            result = {"results": {"a": {"result": result}}}
        with SQLiteSessionRepository(db_path) as repository:
            repository.create_session(Session("s", SessionType.AGENT))
            repository.create_multi_agent("s", FakeMultiAgent("g", {"node_results": {"a": {"result": result}}}))
        with opened(create_app(db_path)) as host:
            assert "From within." in get(host, "/session", id="s").text

    def test_damage_is_shown_in_its_place(self, db_path: Path, raw: Any) -> None:
        """One damaged row takes no other with it."""
        add_conversation(db_path, "s", "one", "two", "three")
        raw.execute("UPDATE messages SET message = '{' WHERE message_id = 1")
        raw.execute("UPDATE agents SET state = 'x'")
        with opened(create_app(db_path)) as host:
            html = get(host, "/session", id="s").text
        assert ids_on(html) == [0, 1, 2]
        assert "damaged JSON" in article(html, 1)
        assert html.split("<aside")[1].count("damaged JSON") == 1
        assert "Unreadable." in html
        assert "Empty." not in html

    @pytest.mark.parametrize(
        "path", ["/session?id=nobody", "/session?id=user-42&agent=x", "/session", "/x", "/static/x"]
    )
    def test_what_does_not_exist_is_told(self, desk: str, path: str) -> None:
        """With the status that says so."""
        assert get(desk, path).status in (400, 404)

    def test_is_not_mistaken_for_one_whose_id_begins_so(self, db_path: Path) -> None:
        """Not even where that was active later."""
        for name in ("user-4", "user-42"):
            add_conversation(db_path, name, f"I am {name}.")
        with opened(create_app(db_path)) as host, SessionCatalog(db_path) as catalog:
            catalog.set_metadata("user-4", {"title": "the fourth"})
            html = get(host, "/session", id="user-4").text
        assert "the fourth" in html
        assert "I am user-4." in html

    @pytest.mark.file_only
    def test_an_agent_whose_id_is_none_leaves_the_others_alone(self, db_path: Path, raw: Any) -> None:
        """It is named, and the others are shown."""
        add_conversation(db_path, "s", "one")
        raw.execute("INSERT INTO agents (session_id, agent_id) VALUES ('s', CAST(x'41ff' AS TEXT))")
        with opened(create_app(db_path)) as host:
            html = get(host, "/session", id="s").text
            assert get(host, "/").status == 200
        assert "The id of an agent is no UTF-8" in html
        assert "one" in article(html, 0)

    def test_large_states_are_shown_in_part(self, db_path: Path) -> None:
        """The page stays small."""
        add_conversation(db_path, "s", "one", state={"a": "x" * 1_000_000})
        with opened(create_app(db_path)) as host:
            html = get(host, "/session", id="s").text
            assert len(html) < 50_000
            assert "The first 10,000 of 1,000,013 characters" in html
            (link,) = re.findall(r'href="([^"]*)">Show all', html)
            whole = json.loads(get(host, unescape(link)).text)
        assert whole["state"] == {"a": "x" * 1_000_000}

    def test_a_session_without_agents_says_so(self, db_path: Path) -> None:
        """There is a page for it."""
        with SQLiteSessionRepository(db_path) as repository:
            repository.create_session(Session("empty", SessionType.AGENT))
            repository.create_session(Session("quiet", SessionType.AGENT))
            repository.create_agent("quiet", SessionAgent("a", {}, {}))
        with opened(create_app(db_path)) as host:
            html = get(host, "/session", id="empty").text
            assert "No agent of this session is stored" in html
            assert "strands-sqlite show empty --db" in unescape(html)
            assert "Nothing was said yet" in get(host, "/session", id="quiet").text


class TestTaking:
    """What can be taken from a page."""

    def test_copies_are_what_the_session_has(self, desk: str) -> None:
        """As JSON for a program, as Markdown for people, as a test that runs."""
        query = {"session": "user-7", "agent": "support"}
        messages = json.loads(get(desk, "/copy", **query).text)
        assert [message["role"] for message in messages] == ["user", "assistant"] * 4
        assert get(desk, "/copy", **query, **{"as": "markdown"}).text.count("\n## ") == 8
        test = get(desk, "/copy", **query, **{"as": "python"}).text
        namespace: dict[str, Any] = {}
        exec(compile(test, "test", "exec"), namespace)
        namespace["test_conversation"]()
        assert [m["content"] for m in namespace["MESSAGES"]] == [m["content"] for m in messages]

    def test_one_message_or_a_range_can_be_copied(self, desk: str) -> None:
        """As the links beside a message and above a conversation do."""
        query = {"session": "user-7", "agent": "support"}
        (message,) = json.loads(get(desk, "/copy", **query, message=3).text)
        assert message["role"] == "assistant"
        assert len(json.loads(get(desk, "/copy", **query, first=2, last=5).text)) == 4
        assert get(desk, "/copy", **query, message=99).status == 404
        assert get(desk, "/copy", **query, **{"as": "xml"}).status == 400

    @pytest.mark.parametrize("query", [{"session": "nope"}, {"session": "user-7", "agent": "nope"}])
    def test_what_does_not_exist_is_told(self, desk: str, query: dict[str, str]) -> None:
        """It is no trouble with the database."""
        for path, more in (
            ("/copy", {}),
            ("/copy", {"message": 0}),
            ("/attachment", {"message": 0}),
            ("/snapshots", {}),
        ):
            answer = get(desk, path, **{"agent": "support", **query}, **more)
            assert answer.status == 404
            assert "Agent" in answer.text
            assert "does not exist" in answer.text

    @pytest.mark.slow
    @pytest.mark.parametrize("query", [{}, {"at": 150}, {"before": 20}, {"after": 9}, {"at": 295}, {"limit": 500}])
    def test_copies_and_their_commands_have_what_is_on_the_page(self, db_path: Path, query: dict[str, int]) -> None:
        """Also in the middle of a conversation. The whole of it can be had from any page."""
        run = pytest.importorskip("command_line", reason="the command line needs the extra cli").run
        add_conversation(db_path, "s", *(f"number {number}" for number in range(300)))
        with opened(create_app(db_path)) as host:
            html = unescape(get(host, "/session", id="s", **query).text)
            page, *whole = [
                get(host, link).text
                for link in re.findall(r'class="take" href="(/copy[^"]*json[^"]*)"', html)
                if "message=" not in link
            ]
        shown = [f"number {number}" for number in ids_on(html)]
        assert [message["content"][0]["text"] for message in json.loads(page)] == shown
        lines = [shlex.split(line)[1:] for line in re.findall(r'data-text="([^"]*)"', html)]
        assert run(*next(line for line in lines if "json" in line)).output == page
        assert re.findall(r"number \d+", run(*lines[0]).output) == shown
        assert bool(whole) == (len(shown) < 300)
        for text in (*whole, run(*lines[-1]).output):
            assert len(json.loads(text)) == 300

    def test_a_conversation_that_is_too_long_to_copy_says_what_copies_it(
        self, db_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rather than a part of it."""
        monkeypatch.setattr("strands_sqlite_session_manager.viewer.conversation_pages.LONGEST_COPY", 3)
        add_conversation(db_path, "s", "one", "two", "three", "four")
        with opened(create_app(db_path)) as host:
            assert "Copy the whole" not in get(host, "/session", id="s", limit=2).text
            answer = get(host, "/copy", session="s", agent="default")
        assert answer.status == 400
        assert "strands-sqlite show --as" in answer.text

    def test_commands_do_the_same(self, desk: str, desk_path: Path) -> None:
        """Beside each page stands the line for a shell."""
        for path, line in (
            ("/?prefix=user&tag=a%3Db", f"strands-sqlite ls --prefix user --metadata a=b --limit 50 --db {desk_path}"),
            ("/search?q=-x+y", f"strands-sqlite search --limit 50 --db {desk_path} -- -x y"),
            ("/session?id=user-42", f"strands-sqlite show user-42 --agent support --limit 50 --db {desk_path}"),
            ("/usage?since=&by=agent", f"strands-sqlite usage --by agent --db {desk_path}"),
            ("/health", f"strands-sqlite check --db {desk_path}"),
        ):
            assert f">{line}</code>" in get(desk, path).text


class TestUsageAndHealth:
    """The pages about the database as a whole."""

    def test_tokens_and_money(self, desk: str) -> None:
        """By session, with prices for a million tokens: 4,256 and 482 of them here."""
        html = get(desk, "/usage", by="session", input="100", output="1000").text
        (row,) = [row for row in html.split("<tr>") if "user-42" in row]
        assert re.findall(r'class="number">([\d,.]*)', row) == ["8", "4,256", "482", "4,738", "0.91"]

    @pytest.mark.parametrize(("total", "drawn"), [(100, ["60.00", "30.00", "10.00"]), (70, ["85.71", "14.29"])])
    def test_cached_tokens_are_told_beside_the_cost(self, db_path: Path, total: int, drawn: list[str]) -> None:
        """Some providers have them in the input, others beside it."""
        usage = {"inputTokens": 60, "outputTokens": 10, "totalTokens": total}
        usage |= {"cacheReadInputTokens": 25, "cacheWriteInputTokens": 5}
        message: Any = {"role": "assistant", "content": [{"text": "x"}], "metadata": {"usage": usage}}
        add_conversation(db_path, "s", "one")
        with SQLiteSessionRepository(db_path) as repository:
            repository.create_message("s", "default", SessionMessage(message, 1))
        with opened(create_app(db_path)) as host:
            html = get(host, "/usage", by="session", input="1000000").text
            free = get(host, "/usage", by="session").text
        (row,) = [row for row in html.split("<tr>") if 'class="next"' in row]
        assert re.findall(r'class="number">([\d,.]*)', row) == ["2", "60", "30", "10", str(total), "60.00"]
        assert re.findall(r'<rect [^>]*width="([\d.]*)"', row) == drawn
        assert "knows no prices of cached tokens" in html
        assert 'name="input" inputmode="decimal" value="1000000"' in html
        assert "no prices" not in free

    @pytest.mark.parametrize(
        ("amount", "shown"),
        [(0, "0.00"), (0.00001234, "0.000012"), (0.091, "0.091"), (0.91, "0.91"), (4321, "4,321.00")],
    )
    def test_small_sums_are_not_rounded_to_nothing(self, amount: float, shown: str) -> None:
        """A question to a small model costs less than a cent."""
        assert sum_of_money(amount) == shown

    @pytest.mark.parametrize("by", ["day", "session", "agent"])
    def test_totals_are_those_of_all_rows(self, desk: str, by: str) -> None:
        """Whatever they are told apart by."""
        html = get(desk, "/usage", by=by).text
        assert "207,730" in html.split("<tfoot>")[1]

    def test_what_is_no_price_is_refused(self, desk: str) -> None:
        """Neither are what JavaScript has no number for."""
        for price in ("x", "nan", "-1", "inf"):
            assert get(desk, "/usage", input=price).status == 400
        assert get(desk, "/usage", by="week").status == 400

    def test_time_without_messages_is_told(self, desk: str) -> None:
        """With a link to all time, which leads there."""
        html = get(desk, "/usage", until="2001-01-01").text
        assert "No messages in this time" in html
        (link,) = re.findall(r'href="([^"]*)">Show all time', html)
        assert "207,730" in get(desk, link.replace("&amp;", "&")).text

    def test_large_databases_are_read_as_a_whole_on_demand(self, desk: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A mere click on "Usage" or "Health" asks first. One session is read at once."""
        monkeypatch.setattr("strands_sqlite_session_manager.viewer.file_pages.MOST_READ", 1_000)
        html = get(desk, "/usage").text
        assert "<tfoot>" not in html
        assert "Press Show to begin" in html
        assert "207,730" in get(desk, "/usage", by="day").text
        assert "<tfoot>" in get(desk, "/usage", session="user-42").text
        html = get(desk, "/health").text
        assert "Largest sessions" not in html
        assert "reads the whole database" in html
        assert "Largest sessions" in get(desk, "/health", sizes=1).text

    def test_one_page_at_a_time_reads_the_whole_database(self, desk: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another one is told so, if that takes long. The other pages do not wait."""
        monkeypatch.setattr(file_pages, "PATIENCE", 0.01)
        with file_pages._alone():
            for path in ("/usage", "/health?check=1"):
                answer = get(desk, path)
                assert answer.status == 503
                assert "Another page is reading" in answer.text
            assert get(desk, "/session", id="user-42").status == 200
            assert get(desk, "/usage", session="user-42").status == 200
        assert get(desk, "/health", check=1).status == 200

    def test_health_tells_sizes_and_on_demand_what_is_wrong(self, db_path: Path, raw: Any) -> None:
        """A damaged row is found by the check."""
        add_conversation(db_path, "s", "one", "two")
        raw.execute("UPDATE messages SET message = '{' WHERE message_id = 1")
        with opened(create_app(db_path)) as host:
            assert "Check now" in get(host, "/health").text
            html = get(host, "/health", check=1).text
        assert 'class="badge error"' in html
        assert "damaged JSON" in html
