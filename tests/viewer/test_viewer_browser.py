"""The viewer in a real browser: headless Chromium, driven by Playwright."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType
from test_viewer_follow import TALKER
from test_viewer_security import ATTACKS, attacked
from viewer_helpers import add_conversation, serving

from helpers import FakeMultiAgent, text_message
from strands_sqlite_session_manager import SessionCatalog, SQLiteSessionRepository
from strands_sqlite_session_manager.viewer import create_app

playwright = pytest.importorskip("playwright.sync_api", reason="tests in a browser need the extra test-browser")
expect = playwright.expect
# Milliseconds. Shared machines stand still at times.
expect.set_options(timeout=30_000)

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
# axe.min.js of the npm package axe-core.
AXE = os.environ.get("AXE_CORE")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: install it, or name it in CHROMIUM"),
]
__all__ = ["attacked"]  # a fixture

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
PAGES = [
    *("/", "/?prefix=nobody", "/search?q=invoice", "/search?q=zebra", "/session?id=user-42", "/session?id=refund-7781"),
    *("/session?id=billing-2031", "/usage?by=session&input=3&output=15", "/usage", "/health", "/health?check=1"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a window."""
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    """A function that opens a page, which must then report no error, and ask no other host for anything."""
    troubles: list[str] = []
    contexts = []

    def open_it(host: str, path: str, *, expected: str = "", **options: Any) -> Any:
        context = browser.new_context(base_url=f"http://{host}", **options)
        contexts.append(context)
        page = context.new_page()

        def report(message: Any) -> None:
            if message.type == "error" and not (expected and expected in message.text):
                troubles.append(message.text)

        page.on("console", report)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: troubles.append(f"dialog: {dialog.message}") or dialog.dismiss())
        page.on("request", lambda request: host in request.url or troubles.append(request.url))
        page.goto(path)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert troubles == []


def ids_on(page: Any) -> list[int]:
    """Return the numbers of the messages on a page, in their order."""
    return page.locator("article[id^=m-]").evaluate_all("all => all.map(a => Number(a.id.slice(2)))")


def serious_findings(page: Any) -> list[Any]:
    """Return what the tool axe finds on a page, with everything unfolded."""
    for fold in page.locator("details").all():
        fold.evaluate("fold => fold.open = true")
    page.evaluate(Path(str(AXE)).read_text("utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    serious = [rule for rule in found if rule["impact"] in ("serious", "critical")]
    return [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in serious]


class TestLooks:
    """What every page keeps."""

    @pytest.mark.skipif(AXE is None, reason="AXE_CORE does not name axe.min.js")
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("path", PAGES)
    def test_everyone_can_read_it(self, desk: str, open_page: Any, path: str, scheme: str) -> None:
        """The tool axe finds nothing serious: names, roles, contrast, order of headings."""
        assert serious_findings(open_page(desk, path, color_scheme=scheme)) == []

    @pytest.mark.skipif(AXE is None, reason="AXE_CORE does not name axe.min.js")
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_everyone_can_read_snapshots(self, db_path: Path, open_page: Any, scheme: str) -> None:
        """The time line, what has changed, and a snapshot itself."""
        talking = pytest.importorskip("snapshot_helpers", reason="an SDK without SnapshotSessionManager").talking
        from strands_sqlite_session_manager.storage import SQLiteStorage

        with SQLiteStorage(db_path) as storage, SessionCatalog(db_path) as catalog:
            talking(storage, "s", ("one", "first"), ("two", "second"), always=True)
            oldest = catalog.list_snapshots("s", "a")[-1].snapshot_id
        with serving(create_app(db_path)) as host:
            for path in (f"/snapshots?session=s&agent=a&first={oldest}", f"/session?id=s&snapshot={oldest}"):
                page = open_page(host, path, color_scheme=scheme, viewport={"width": 320, "height": 700})
                assert page.evaluate("document.documentElement.scrollWidth") <= 320
                assert serious_findings(page) == []
                page.close()

    @pytest.mark.parametrize("width", [320, 700, 1600])
    @pytest.mark.parametrize("path", PAGES)
    def test_nothing_is_cut_off(self, desk: str, open_page: Any, path: str, width: int) -> None:
        """The page is as wide as the window, however narrow."""
        page = open_page(desk, path, viewport={"width": width, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth") <= width

    def test_narrow_tables_hide_nothing(self, desk: str, open_page: Any) -> None:
        """All of a row is in sight, not to be scrolled to."""
        page = open_page(desk, "/usage?by=agent&since=&input=3&output=15", viewport={"width": 360, "height": 700})
        assert page.locator(".scroll").evaluate("box => box.scrollWidth <= box.clientWidth")
        expect(page.locator("tfoot td[data-label=Cost]")).to_be_visible()

    @pytest.mark.parametrize("width", [320, 1100])
    def test_long_tags_take_a_line_each(self, db_path: Path, open_page: Any, width: int) -> None:
        """And no more room than there is, whatever is wrong with another session."""
        for name in "ab":
            add_conversation(db_path, name, "one")
        with serving(create_app(db_path)) as host, SessionCatalog(db_path) as catalog:
            catalog.set_metadata("a", {"n" * 60: "some words " * 30, "m" * 60: "x" * 60, "a": "b"})
            page = open_page(host, "/", viewport={"width": width, "height": 700})
            heights = page.locator(".tag").evaluate_all("tags => tags.map(tag => tag.offsetHeight)")
            assert len(heights) == 3
            assert len(set(heights)) == 1
            assert page.locator(".scroll").evaluate("box => box.scrollWidth <= box.clientWidth")
            page.close()

    @pytest.mark.parametrize("width", [380, 1200])
    def test_many_agents_leave_room_for_the_conversation(self, db_path: Path, open_page: Any, width: int) -> None:
        """That is what one came for. The agent it is of is in sight."""
        add_conversation(db_path, "s", "one")
        with SQLiteSessionRepository(db_path) as repository:
            for number in range(100):
                repository.create_agent("s", SessionAgent(f"researcher of questions {number}", {}, {}))
            repository.create_agent("s", SessionAgent("an agent with " + "a long name " * 10, {}, {}))
        with serving(create_app(db_path)) as host:
            page = open_page(
                host, "/session?id=s&agent=researcher+of+questions+70", viewport={"width": width, "height": 700}
            )
            expect(page.locator("#agents [aria-current]")).to_be_in_viewport(ratio=1)
            assert page.locator("#agents").evaluate("agents => agents.offsetHeight") < 150
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.close()

    def test_commas_stay_with_their_words(self, db_path: Path, open_page: Any) -> None:
        """Between agents in the list of sessions, however long their ids are."""
        add_conversation(db_path, "s", agent_id="a")
        with SQLiteSessionRepository(db_path) as repository:
            for agent_id in ("the agent that looks after all of the orders", "z" * 300):
                repository.create_agent("s", SessionAgent(agent_id, {}, {}))
        lines = """cell => [...cell.childNodes].filter(node => node.textContent === ", ").map(node => {
            const [comma, before] = [document.createRange(), document.createRange()];
            comma.setStart(node, 0);
            comma.setEnd(node, 1);
            before.selectNodeContents(node.previousElementSibling);
            return [comma.getBoundingClientRect().bottom, [...before.getClientRects()].pop().bottom];
        })"""
        with serving(create_app(db_path)) as host:
            for width in (360, 1280):
                page = open_page(host, "/", viewport={"width": width, "height": 700})
                found = page.locator("td[data-label=Agents]").evaluate(lines)
                assert len(found) == 2
                assert all(abs(comma - before) < 5 for comma, before in found)
                page.close()

    def test_rows_without_tags_say_nothing_of_tags(self, db_path: Path, open_page: Any) -> None:
        """Where a row is shown as lines."""
        add_conversation(db_path, "s", "one")
        with serving(create_app(db_path)) as host:
            page = open_page(host, "/", viewport={"width": 360, "height": 700})
            expect(page.locator("td[data-label=Messages]")).to_be_visible()
            expect(page.locator("td[data-label=Tags]")).not_to_be_visible()
            page.close()

    def test_columns_of_tables_are_aligned(self, db_path: Path, open_page: Any) -> None:
        """As Markdown says; without a style in the page, which the browser would report."""
        add_conversation(db_path, "s", "|a|b|c|d|\n|-|:-|-:|:-:|\n|1|2|3|4|")
        with serving(create_app(db_path)) as host:
            page = open_page(host, "/session?id=s")
            for cells in ("th", "td"):
                found = page.locator(f"article {cells}").evaluate_all(
                    "all => all.map(c => getComputedStyle(c).textAlign)"
                )
                assert found == ["left", "left", "right", "center"]
            page.close()

    @pytest.mark.parametrize(("kind", "arrow"), [("swarm", '"→"'), ("graph", "none")])
    def test_arrows_are_between_nodes_of_a_swarm_only(
        self, db_path: Path, open_page: Any, kind: str, arrow: str
    ) -> None:
        """The SDK stores no edges of a graph, so an arrow would be made up."""
        node = {"status": "completed", "execution_time": 1}
        turns = {"node_history" if kind == "swarm" else "execution_order": ["a", "b"]}
        state = {"type": kind, "status": "completed", **turns, "node_results": {"a": node, "b": node}}
        add_conversation(db_path, "s", "one")
        with SQLiteSessionRepository(db_path) as repository:
            repository.create_multi_agent("s", FakeMultiAgent("g", state))
        with serving(create_app(db_path)) as host:
            page = open_page(host, "/session?id=s")
            nodes = page.locator(".flow li")
            expect(nodes).to_have_count(2)
            assert nodes.first.evaluate("node => getComputedStyle(node, '::after').content") == arrow
            page.close()

    def test_paper_has_all_of_it(self, db_path: Path, open_page: Any) -> None:
        """It does not scroll: neither a long text nor a wide table is cut off."""
        add_conversation(db_path, "s", f"```\n{'line' * 10_000}", f"| a |\n|---|\n| {'word' * 100} |")
        with serving(create_app(db_path)) as host:
            page = open_page(host, "/session?id=s", viewport={"width": 700, "height": 900})
            page.emulate_media(media="print")
            hidden = "all => all.map(e => Math.max(e.scrollHeight - e.clientHeight, e.scrollWidth - e.clientWidth))"
            assert page.locator("pre, .scroll").evaluate_all(hidden) == [0] * page.locator("pre, .scroll").count()
            assert page.evaluate("document.documentElement.scrollWidth") <= 700
            page.close()

    def test_dark_mode_is_dark(self, desk: str, open_page: Any) -> None:
        """As the system says."""
        shade = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        dark = open_page(desk, "/", color_scheme="dark").evaluate(shade)
        light = open_page(desk, "/", color_scheme="light").evaluate(shade)
        assert max(dark) < 60 < 200 < min(light)


class TestWays:
    """Ways through the pages."""

    def test_from_a_filter_to_a_conversation_and_its_folds(self, desk: str, open_page: Any) -> None:
        """Filter, open, unfold a tool's result."""
        page = open_page(desk, "/")
        page.get_by_label("Id begins with").fill("user-4")
        page.get_by_role("button", name="Filter").click()
        page.get_by_role("link", name="user-42").click()
        result = page.locator("#m-2")
        expect(result).not_to_be_visible()
        page.locator("summary", has_text="track_parcel").click()
        expect(result).to_be_visible()
        expect(result).to_contain_text("Leipzig")
        # The picture is there, and not only its place.
        page.wait_for_function("document.querySelector('figure img').naturalWidth > 0")

    def test_keys(self, desk: str, open_page: Any) -> None:
        """A slash searches; j and k go to the next and the previous thing; Enter opens it."""
        page = open_page(desk, "/")
        page.keyboard.press("/")
        page.keyboard.type("carrier /jk")
        assert page.get_by_role("searchbox", name="Search all messages").input_value() == "carrier /jk"
        page.keyboard.press("Escape")
        for key, focused in (("j", 0), ("j", 1), ("j", 2), ("k", 1)):
            page.keyboard.press(key)
            expect(page.locator("a.next").nth(focused)).to_be_focused()
        page.keyboard.press("Enter")
        page.wait_for_url("**/session?id=*")
        page.keyboard.press("j")
        expect(page.locator("article").first).to_be_focused()

    def test_a_hit_leads_to_its_message(self, db_path: Path, open_page: Any) -> None:
        """Also in the middle of a long conversation, and into a fold."""
        add_conversation(db_path, "s", *(f"number {number}, {'needle' * (number == 700)}" for number in range(1_000)))
        with serving(create_app(db_path)) as host:
            page = open_page(host, "/search?q=needle")
            expect(page.locator("mark")).to_have_text("needle")
            page.locator(".hits a").click()
            expect(page.locator("#m-700")).to_be_in_viewport()
            expect(page.locator("article")).to_have_count(50)

    def test_a_link_to_a_result_unfolds_it(self, desk: str, open_page: Any) -> None:
        """A bookmark of a message that is folded under a call."""
        page = open_page(desk, "/session?id=user-42&at=2#m-2")
        expect(page.locator("#m-2")).to_be_in_viewport()
        page.evaluate("document.querySelectorAll('details').forEach(fold => (fold.open = false))")
        page.goto("/session?id=user-42&at=2#m-0")
        page.evaluate("location.hash = 'm-2'")
        expect(page.locator("#m-2")).to_be_in_viewport()

    def test_a_link_to_nothing_harms_nothing(self, desk: str, open_page: Any) -> None:
        """Such as one that was cut in the middle of a character."""
        page = open_page(desk, "/session?id=user-42#%E0%A4%A")
        expect(page.locator("#follow")).to_have_text("Following")

    def test_a_long_conversation_opens_at_its_end(self, desk: str, open_page: Any) -> None:
        """And what is before it, with a link."""
        page = open_page(desk, "/session?id=billing-2031")
        expect(page.locator("#m-79")).to_be_in_viewport()
        page.get_by_role("link", name="Earlier messages").click()
        expect(page.locator("#m-29")).to_be_in_viewport()
        expect(page.locator("#m-0")).not_to_be_in_viewport()

    def test_what_is_no_tag_is_told_beside_its_field(self, desk: str, open_page: Any) -> None:
        """What else was typed stays."""
        page = open_page(desk, "/")
        page.get_by_label("Id begins with").fill("user")
        page.get_by_label("Tag").fill("support")
        page.get_by_role("button", name="Filter").click()
        assert page.get_by_label("Tag").evaluate("field => field.validity.patternMismatch")
        for tag in ("team=support", "priority:=2"):
            page.goto("/")
            page.get_by_label("Tag").fill(tag)
            page.get_by_role("button", name="Filter").click()
            page.wait_for_url("**tag=*")
            expect(page.get_by_role("link", name="user-42")).to_be_visible()

    def test_copying(self, desk: str, open_page: Any) -> None:
        """A link that shows a text copies it; a button copies the command."""
        page = open_page(desk, "/session?id=user-7", permissions=["clipboard-read", "clipboard-write"])
        page.locator(".bar").get_by_role("link", name="JSON").click()
        expect(page.locator(".bar").get_by_role("link", name="Copied")).to_be_visible()
        assert len(json.loads(page.evaluate("navigator.clipboard.readText()"))) == 8
        page.get_by_role("button", name="Copy").first.click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()").startswith("strands-sqlite show user-7")
        # What was clicked on twice has its own name again, too.
        page.locator(".bar .take").nth(1).dblclick()
        expect(page.locator(".bar .take").nth(1)).to_have_text("Copied")
        expect(page.locator(".bar .take")).to_have_text(["JSON", "Markdown", "Python test"])
        expect(page.get_by_text("Copied")).to_have_count(0)

    def test_copying_is_asked_for_in_the_click(self, desk: str, open_page: Any) -> None:
        """When the text is still on its way: some browsers allow it only then."""
        page = open_page(desk, "/session?id=user-7", permissions=["clipboard-read", "clipboard-write"])
        held: list[Any] = []
        page.route("**/copy?*", lambda route: held.append(route))
        page.evaluate(
            "const write = navigator.clipboard.write;"
            "navigator.clipboard.write = function (items) { window.isAsked = true; return write.call(this, items); };"
            "null"
        )
        with page.expect_request("**/copy?*"):
            page.locator(".bar").get_by_role("link", name="JSON").click()
        assert page.evaluate("window.isAsked")
        held[0].continue_()
        expect(page.locator(".bar").get_by_role("link", name="Copied")).to_be_visible()
        assert len(json.loads(page.evaluate("navigator.clipboard.readText()"))) == 8

    def test_what_cannot_be_copied_is_shown(self, desk: str, open_page: Any) -> None:
        """Where the browser refuses, or the server: the link leads to what it is a link to."""
        page = open_page(desk, "/session?id=user-7", expected="Failed to load resource")
        refuse = "navigator.clipboard.write = () => Promise.reject(new DOMException('', 'NotAllowedError')); null"
        page.evaluate(refuse)
        page.get_by_role("button", name="Copy").first.click()
        expect(page.get_by_role("button", name="Not allowed")).to_be_visible()
        page.locator(".bar").get_by_role("link", name="JSON").click()
        page.wait_for_url("**/copy?*")
        assert len(json.loads(page.locator("pre").inner_text())) == 8
        for is_refused_by_the_browser_too in (False, True):
            page.go_back()
            if is_refused_by_the_browser_too:
                page.evaluate(refuse)
            page.locator(".bar .take").first.evaluate("link => link.href = link.href.replace('as=json', 'as=nothing')")
            page.locator(".bar").get_by_role("link", name="JSON").click()
            expect(page.get_by_text("must be one of json")).to_be_visible()

    def test_the_link_with_the_token(self, desk_path: Path, open_page: Any) -> None:
        """From then on the browser is known, and the token is in no address."""
        with serving(create_app(desk_path, token="secret")) as host:
            page = open_page(host, "/?token=secret")
            page.wait_for_url(f"http://{host}/")
            # Nor does the browser go back to it.
            page.go_back()
            page.go_forward()
            assert page.url == f"http://{host}/"
            page.get_by_role("link", name="user-42").click()
            expect(page.locator("#follow")).to_have_text("Following")
            page.close()

    def test_links_in_pages_of_another_site(self, desk_path: Path, browser: Any) -> None:
        """Such as a terminal's: the link with the token, and later any link. Without the cookie there is nothing."""
        with serving(create_app(desk_path, token="secret")) as host, browser.new_context() as context:
            asked = []
            page = context.new_page()
            page.on("request", lambda request: asked.append(request.url))
            # Another site: a name instead of an address.
            other = f"http://localhost:{host.rpartition(':')[2]}/static/icon.svg"

            def click(path: str) -> None:
                page.goto(other)
                page.evaluate(f"location.assign('http://{host}{path}')")

            click("/session?id=user-7")
            expect(page.get_by_text("Open the link that")).to_be_visible()
            page.wait_for_url("**/session?id=user-7")
            page.wait_for_load_state("networkidle")
            assert sum("user-7" in url for url in asked) == 2
            click("/session?id=user-42&token=secret")
            expect(page.get_by_role("heading", name="user-42")).to_be_visible()
            assert page.url == f"http://{host}/session?id=user-42"
            click("/session?id=user-7")
            expect(page.get_by_role("heading", name="user-7")).to_be_visible()

    def test_without_javascript(self, desk: str, open_page: Any) -> None:
        """Everything but comfort works."""
        page = open_page(desk, "/?prefix=user", java_script_enabled=False)
        page.get_by_role("link", name="user-42").click()
        page.locator("summary", has_text="track_parcel").click()
        expect(page.locator("#m-2")).to_be_visible()
        page.goto("/session?id=billing-2031")
        page.get_by_role("link", name="Earlier messages").click()
        expect(page.locator("#m-0")).to_be_visible()
        page.get_by_label("Go to").fill("70")
        page.get_by_role("button", name="Go").click()
        expect(page.locator("#m-70")).to_be_visible()
        page.get_by_role("searchbox", name="Search all messages").fill("voucher")
        page.keyboard.press("Enter")
        expect(page.locator("mark").first).to_have_text("voucher")
        page.get_by_role("link", name="Usage").click()
        expect(page.locator("tfoot")).to_contain_text("207,730")


@pytest.mark.parametrize("number", range(len(ATTACKS)))
def test_attacks_do_nothing(attacked: str, open_page: Any, number: int) -> None:
    """No dialog, no error, no request: `open_page` looks for them."""
    page = open_page(attacked, "/")
    page.locator("a.next").nth(number).click()
    for fold in page.locator("details").all():
        fold.evaluate("fold => fold.open = true")
    page.goto("/health?check=1")
    page.goto("/usage?by=agent&since=")


class TestFollow:
    """A page that follows an agent at work in another process."""

    @pytest.fixture
    def talk(self, db_path: Path) -> Iterator[Any]:
        with subprocess.Popen(
            [sys.executable, "-c", TALKER, str(db_path), str(Path(__file__).parent.parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:

            def say(text: str) -> None:
                assert process.stdin is not None
                assert process.stdout is not None
                print(text, file=process.stdin, flush=True)
                assert process.stdout.readline() == "said\n"

            yield say
            assert process.stdin is not None
            process.stdin.close()

    def test_messages_appear(self, db_path: Path, talk: Any, open_page: Any) -> None:
        """Without a reload, in their order, each once."""
        talk("one")
        with serving(create_app(db_path)) as host:
            page = open_page(host, "/session?id=s")
            expect(page.locator("#follow")).to_have_text("Following")
            page.evaluate("window.mark = 'the same page'")
            for count, text in ((4, "two"), (6, "three")):
                talk(text)
                expect(page.locator("article")).to_have_count(count)
            assert re.findall(r"one|two|three", page.locator("#conversation").inner_text()) == ["one", "two", "three"]
            assert page.locator("#range").inner_text() == "Messages 0 to 5 of 6"
            assert page.evaluate("window.mark") == "the same page"
            page.close()

    def test_folds_stay_open_and_redactions_appear(self, db_path: Path, open_page: Any) -> None:
        """What differs is replaced, and the rest is left alone."""
        use = {"toolUse": {"toolUseId": "t", "name": "look", "input": {}}}
        result = {"toolResult": {"toolUseId": "t", "status": "success", "content": [{"text": "found it"}]}}
        add_conversation(db_path, "s", "secret", [use])
        with serving(create_app(db_path)) as host, SQLiteSessionRepository(db_path) as repository:
            page = open_page(host, "/session?id=s")
            expect(page.locator("#follow")).to_have_text("Following")
            page.locator("summary", has_text="look").click()
            message: Any = {"role": "user", "content": [result]}
            stored = repository.read_message("s", "default", 0)
            assert stored is not None
            stored.redact_message = {"role": "user", "content": [{"text": "gone"}]}
            repository.update_message("s", "default", stored)
            repository.create_message("s", "default", SessionMessage(message, 2))
            expect(page.locator("#m-2")).to_contain_text("found it")
            expect(page.locator("#m-2")).to_be_visible()
            expect(page.locator("#m-0")).to_contain_text("gone")
            assert "secret" not in page.content()
            page.close()

    def test_what_a_search_has_found_stays(self, db_path: Path, open_page: Any) -> None:
        """When the page to which a hit has led is read again."""
        add_conversation(db_path, "s", "word " * 5_000 + "needle")
        with serving(create_app(db_path)) as host, SQLiteSessionRepository(db_path) as repository:
            page = open_page(host, "/session?id=s&at=0&q=needle#m-0")
            expect(page.locator("#follow")).to_have_text("Following")
            message: Any = {"role": "assistant", "content": [{"text": "new"}]}
            repository.create_message("s", "default", SessionMessage(message, 1))
            expect(page.locator("#m-1")).to_contain_text("new")
            assert page.locator("mark").inner_text() == "needle"
            page.close()

    def test_focus_and_scrolling_stay_where_they_are(self, db_path: Path, open_page: Any) -> None:
        """Whoever reads what is beside the messages, or goes through the page by keyboard, is not disturbed."""
        use = {"toolUse": {"toolUseId": "t", "name": "look", "input": {}}}
        result = {"toolResult": {"toolUseId": "t", "status": "success", "content": [{"text": "found it"}]}}
        state = {f"key {number}": "value" for number in range(100)}
        add_conversation(db_path, "s", "one", [use], state=state, manager={"__name__": "Manager"})
        with serving(create_app(db_path)) as host, SQLiteSessionRepository(db_path) as repository:
            repository.create_agent("s", SessionAgent("other", {}, {}))
            page = open_page(host, "/session?id=s&agent=default", viewport={"width": 1280, "height": 400})
            expect(page.locator("#follow")).to_have_text("Following")
            state_box, side = page.locator("#side pre").first, page.locator("#side")
            state_box.evaluate("box => box.scrollTop = 321")
            side.evaluate("box => box.scrollTop = 43")
            places = [
                page.locator("article summary"),
                page.locator("#m-1"),
                page.locator("#side summary").first,
                page.locator("#takes .take").first,
                page.get_by_role("link", name="other 0"),
            ]
            for number, place in enumerate(places, 2):
                place.evaluate("place => place.focus({ preventScroll: true })")
                result["toolResult"]["content"] = [{"text": f"found {number}"}]
                stored: Any = SessionMessage({"role": "user", "content": [result]}, 2)
                if number == 2:
                    repository.create_message("s", "default", stored)
                else:
                    repository.update_message("s", "default", stored)
                    repository.create_message("s", "default", text_message(number))
                repository.create_agent("s", SessionAgent(f"agent {number}", {}, {}))
                repository.update_agent(
                    "s", SessionAgent("default", {**state, "last": number}, {"__name__": "Manager"})
                )
                expect(page.locator("#side pre").first).to_contain_text(f'"last": {number}')
                expect(page.locator("#m-2")).to_contain_text(f"found {number}")
                expect(place).to_be_focused()
                assert state_box.evaluate("box => box.scrollTop") == 321
                assert side.evaluate("box => box.scrollTop") == 43
            page.close()

    def test_times_are_told_anew(self, db_path: Path, open_page: Any, raw: Any) -> None:
        """That of the session when something is stored, and all of them as time goes by."""
        add_conversation(db_path, "s", "one")
        raw.execute("UPDATE sessions SET updated_at = '2026-01-01T12:00:00.000000+00:00'")
        with serving(create_app(db_path)) as host, SQLiteSessionRepository(db_path) as repository:
            page = open_page(host, "/session?id=s")
            page.clock.install()
            page.reload()
            expect(page.locator("#follow")).to_have_text("Following")
            expect(page.locator("#facts")).to_contain_text(re.compile(r"Last active [\d,]+ days ago · begun just now"))
            repository.create_message("s", "default", text_message(1, "two"))
            expect(page.locator("#facts")).to_contain_text("Last active just now · begun just now")
            page.clock.fast_forward("02:00:30")
            expect(page.locator("#facts")).to_contain_text("Last active 2 hours ago · begun 2 hours ago")
            page.close()

    def test_more_than_one_reading_takes_is_not_lost(self, db_path: Path, open_page: Any) -> None:
        """The page begins anew where it cannot go on, and shows no message before an older one."""
        add_conversation(db_path, "s", *(f"text {number}" for number in range(10)))
        with serving(create_app(db_path)) as host, SQLiteSessionRepository(db_path) as repository:
            page = open_page(host, "/session?id=s", expected="Failed to load resource")
            expect(page.locator("#follow")).to_have_text("Following")
            page.context.set_offline(True)
            repository.create_agent("s", SessionAgent("other", {}, {}))
            for number in range(10, 90):
                repository.create_message("s", "default", text_message(number, f"text {number}"))
            page.context.set_offline(False)
            expect(page.locator("article").last).to_contain_text("text 89")
            shown = ids_on(page)
            assert shown == list(range(shown[0], 90))
            page.close()

    def test_order_and_end_are_kept_over_several_days(self, db_path: Path, open_page: Any, raw: Any) -> None:
        """Only what is new is added, and the end stays in sight below which only the footer is."""
        add_conversation(db_path, "days", *(f"text {number}" for number in range(80)))
        raw.execute("UPDATE messages SET created_at = '2026-01-0' || (message_id / 30 + 1) || 'T12:00:00+00:00'")
        with serving(create_app(db_path)) as host, SQLiteSessionRepository(db_path) as repository:
            page = open_page(host, "/session?id=days")
            expect(page.locator("#follow")).to_have_text("Following")
            for number in (80, 81):
                repository.create_message("days", "default", text_message(number, f"text {number}"))
                expect(page.locator(f"#m-{number}")).to_be_in_viewport()
            assert ids_on(page) == list(range(30, 82))
            days = page.locator(".day").all_inner_texts()
            assert days[:2] == ["2026-01-02", "2026-01-03"]
            assert len(days) == 3
            page.close()

    def test_what_the_agent_no_longer_has_stays_marked(self, db_path: Path, open_page: Any) -> None:
        """However much is stored at once."""
        manager = {"removed_message_count": 35, "summary_message": {"role": "user", "content": [{"text": "In short"}]}}
        add_conversation(db_path, "s", *(f"text {number}" for number in range(80)), manager=manager)
        with serving(create_app(db_path)) as host, SQLiteSessionRepository(db_path) as repository:
            page = open_page(host, "/session?id=s")
            expect(page.locator("#follow")).to_have_text("Following")
            lines = page.locator(".live-line").all_inner_texts()
            assert len(lines) == 2
            for number in range(80, 110):
                repository.create_message("s", "default", text_message(number, f"text {number}"))
            expect(page.locator("#range")).to_have_text("Messages 30 to 109 of 110")
            assert ids_on(page) == list(range(30, 110))
            assert page.locator(".live-line").all_inner_texts() == lines
            expect(page.locator("article.summary")).to_have_count(1)
            page.close()

    def test_a_page_that_is_full_goes_on(self, db_path: Path, open_page: Any) -> None:
        """Of it, the last messages are read again: all that is before them stays."""
        use = {"toolUse": {"toolUseId": "t", "name": "look", "input": {}}}
        result = {"toolResult": {"toolUseId": "t", "status": "success", "content": [{"text": "found it"}]}}
        contents: list[Any] = [f"text {number}" for number in range(502)]
        manager = {"removed_message_count": 10, "summary_message": {"role": "user", "content": [{"text": "In short"}]}}
        # A result that is folded under its call is where the reading would begin otherwise.
        contents[401:403] = [[use], [result]]
        add_conversation(db_path, "s", *contents, manager=manager)
        with serving(create_app(db_path)) as host, SQLiteSessionRepository(db_path) as repository:
            page = open_page(host, "/session?id=s&limit=500")
            expect(page.locator("#follow")).to_have_text("Following")
            page.evaluate("window.mark = 'the same page'")
            before = page.locator("#conversation > *").evaluate_all("all => all.map(one => one.id)")
            for number in range(502, 505):
                repository.create_message("s", "default", text_message(number, f"text {number}"))
                expect(page.locator("article").last).to_contain_text(f"text {number}")
            after = page.locator("#conversation > *").evaluate_all("all => all.map(one => one.id)")
            assert after == [*before, "m-502", "m-503", "m-504"]
            assert page.evaluate("window.mark") == "the same page"
            expect(page.locator("#range")).to_have_text("Messages 2 to 504 of 505")
            expect(page.locator("#takes .take").first).to_have_attribute("href", re.compile("first=2&last=504"))
            page.close()

    def test_a_server_that_is_gone_is_told(self, db_path: Path, open_page: Any) -> None:
        """However often the browser tries."""
        add_conversation(db_path, "s", "one")
        with serving(create_app(db_path)) as host:
            page = open_page(host, "/session?id=s", expected="Failed to load resource")
            expect(page.locator("#follow")).to_have_text("Following")
        expect(page.locator("#follow")).to_have_text("Not connected")
        page.close()

    @pytest.mark.file_only
    @pytest.mark.skipif(os.name == "nt", reason="Windows deletes no file that is open")
    def test_a_file_that_is_gone_is_told(self, db_path: Path, open_page: Any) -> None:
        """Although the server is there. When the file is back, it goes on."""
        add_conversation(db_path, "s", "one")
        with serving(create_app(db_path)) as host:
            page = open_page(host, "/session?id=s", expected="503")
            expect(page.locator("#follow")).to_have_text("Following")
            db_path.rename(db_path.with_suffix(".moved"))
            expect(page.locator("#follow")).to_have_text("Not connected")
            db_path.with_suffix(".moved").rename(db_path)
            expect(page.locator("#follow")).to_have_text("Following")
            page.close()

    def test_a_failure_to_read_is_tried_again(self, db_path: Path, open_page: Any) -> None:
        add_conversation(db_path, "s", "one")
        with serving(create_app(db_path)) as host, SQLiteSessionRepository(db_path) as repository:
            page = open_page(host, "/session?id=s", expected="503")
            expect(page.locator("#follow")).to_have_text("Following")
            page.route("**/session?*", lambda route: route.fulfill(status=503, body="locked"), times=1)
            repository.create_message("s", "default", text_message(1, "two"))
            expect(page.locator("#follow")).to_have_text("Not connected")
            expect(page.locator("article").last).to_contain_text("two")
            expect(page.locator("#follow")).to_have_text("Following")
            page.close()

    def test_graphs_and_new_agents_appear(self, db_path: Path, open_page: Any) -> None:
        add_conversation(db_path, "s", "one")
        with serving(create_app(db_path)) as host, SQLiteSessionRepository(db_path) as repository:
            repository.create_multi_agent("s", FakeMultiAgent("g", {"type": "graph", "status": "executing"}))
            page = open_page(host, "/session?id=s")
            expect(page.locator("#follow")).to_have_text("Following")
            expect(page.locator("#agents")).to_be_hidden()
            repository.create_agent("s", SessionAgent("other", {}, {}))
            expect(page.locator("#agents")).to_contain_text("other 0")
            repository.create_message("s", "other", text_message(0))
            expect(page.locator("#agents")).to_contain_text("other 1")
            repository.update_multi_agent("s", FakeMultiAgent("g", {"type": "graph", "status": "completed"}))
            expect(page.locator("#flows")).to_contain_text("completed")
            page.close()

    def test_a_session_without_agents_is_followed(self, db_path: Path, open_page: Any) -> None:
        """That of a graph whose agents keep no conversation. When there is one, it is shown."""
        with SQLiteSessionRepository(db_path) as repository, serving(create_app(db_path)) as host:
            repository.create_session(Session("s", SessionType.AGENT))
            page = open_page(host, "/session?id=s")
            expect(page.locator("#follow")).to_have_text("Following")
            expect(page.locator("#conversation")).to_contain_text("No agent of this session is stored")
            repository.create_multi_agent("s", FakeMultiAgent("g", {"type": "graph", "status": "executing"}))
            expect(page.locator("#flows")).to_contain_text("executing")
            expect(page.locator("#conversation")).to_contain_text("keep no conversation of their own")
            repository.update_multi_agent("s", FakeMultiAgent("g", {"type": "graph", "status": "completed"}))
            expect(page.locator("#flows")).to_contain_text("completed")
            repository.create_agent("s", SessionAgent("a", {}, {}))
            expect(page.locator("#side")).to_contain_text("Agent a")
            repository.create_message("s", "a", text_message(0, "first"))
            expect(page.locator("article")).to_contain_text("first")
            page.close()

    def test_a_hidden_tab_takes_no_connection_and_catches_up(self, db_path: Path, open_page: Any) -> None:
        """Browsers have six connections to a server. A tab more would wait for ever."""
        add_conversation(db_path, "s", "one")
        hide = """hidden => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
        with serving(create_app(db_path)) as host, SQLiteSessionRepository(db_path) as repository:
            first = open_page(host, "/session?id=s")
            expect(first.locator("#follow")).to_have_text("Following")
            first.evaluate(hide, True)
            tabs = []
            for _ in range(7):
                tabs.append(first.context.new_page())
                tabs[-1].goto(f"http://{host}/session?id=s")
                expect(tabs[-1].locator("#follow")).to_have_text("Following")
                tabs[-1].evaluate(hide, True)
            repository.create_message("s", "default", text_message(1, "two"))
            first.evaluate(hide, False)
            expect(first.locator("article").last).to_contain_text("two")
            expect(tabs[-1].locator("article")).to_have_count(1)
            for page in (*tabs, first):
                page.close()

    def test_a_session_that_goes_away_is_told(self, db_path: Path, open_page: Any) -> None:
        """The page stays as it was."""
        add_conversation(db_path, "s", "one")
        with serving(create_app(db_path)) as host, SessionCatalog(db_path) as catalog:
            page = open_page(host, "/session?id=s")
            expect(page.locator("#follow")).to_have_text("Following")
            catalog.delete_session("s")
            expect(page.locator("#follow")).to_have_text("No longer there")
            expect(page.locator("#m-0")).to_be_visible()
            page.close()
