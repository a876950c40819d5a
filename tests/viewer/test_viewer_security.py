"""Who may see the pages, and what a hostile message can do there: nothing."""

import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from strands.types.exceptions import SessionException
from viewer_helpers import add_conversation, get, opened, serving

from strands_sqlite_session_manager import SessionCatalog
from strands_sqlite_session_manager.viewer import create_app
from strands_sqlite_session_manager.viewer.security import is_trusted_host
from strands_sqlite_session_manager.viewer.text import markdown

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "</title></pre></details><iframe src=//evil.example>",
    "[a](javascript:alert(1)) [b](vbscript:x) [c](data:text/html,<script>alert(1)</script>)",
    "[d](JaVaScRiPt&#58;alert(1)) <javascript:alert(1)>",
    "![p](http://evil.example/pixel.png)",
    "<style>@import url(//evil.example)</style>",
    '```"onmouseover=alert(1)\n</code></pre><script>alert(1)</script>\n```',
    "' onfocus='alert(1)' autofocus='",
    "{{ 7 * 7 }} {% include 'x' %}",
    "\x1b]0;title\x07\x1b[31mred\x1b[0m \x00 \u202eexe.txt",
]


class _Tags(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def dangers(html: str) -> list[Any]:
    """Return the elements of a page that could run something, or ask another host for something."""
    parser = _Tags()
    parser.feed(html)
    found = []
    for tag, attributes in parser.tags:
        addresses = [value or "" for name, value in attributes.items() if name in ("href", "src", "action")]
        if (
            (tag in ("iframe", "object", "embed", "style", "base", "meta") and "http-equiv" in attributes)
            or tag in ("iframe", "object", "embed", "style", "base")
            or any(name.startswith("on") or name == "style" for name in attributes)
            or (tag == "script" and not (attributes.get("src") or "").startswith("/static/"))
            or any(not address.startswith(("/", "#")) for address in addresses if tag != "a")
            or any(re.match(r"\s*(javascript|vbscript|data):", address, re.IGNORECASE) for address in addresses)
        ):
            found.append((tag, attributes))
    return found


def led_to(html: str) -> str:
    """Return where a page leads a browser by itself."""
    (url,) = re.findall('http-equiv="refresh" content="0;url=([^"]*)"', html)
    return unescape(url)


class TestToken:
    """The link with the token, and the cookie after it."""

    @pytest.fixture
    def host(self, desk_path: Path) -> Any:
        with serving(create_app(desk_path, token="secret")) as host:
            yield host

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "path", ["/", "/session?id=user-42", "/static/viewer.js", "/events", "/copy", "/?token=no"]
    )
    def test_without_it_there_is_nothing_to_see(self, host: str, path: str) -> None:
        """Not even a script, nor which sessions exist."""
        answer = get(host, path)
        assert answer.status == 403
        assert "strands-sqlite view" in answer.text

    def test_the_link_gives_a_cookie_and_leads_to_the_page_without_the_token(self, host: str) -> None:
        """The cookie goes to no other site and no script sees it."""
        answer = get(host, "/session?id=user-42&token=secret")
        assert (answer.status, led_to(answer.text)) == (200, "/session?id=user-42")
        cookie, *flags = answer.headers["set-cookie"].split("; ")
        assert {flag.lower() for flag in flags} == {"httponly", "path=/", "samesite=strict"}
        assert get(host, "/session?id=user-42", {"Cookie": cookie}).status == 200
        assert get(host, "/", {"Cookie": cookie + "x"}).status == 403

    def test_the_link_leads_to_no_other_host(self, host: str) -> None:
        """A path with two slashes would be one."""
        assert led_to(get(host, "//evil.example/?token=secret").text) == "/evil.example/"
        for path in ("/%22%3E%3Cscript%3E", "/?a=%22%3E%3Cscript%3E"):
            answer = get(host, f"{path}{'&' if '?' in path else '?'}token=secret")
            assert led_to(answer.text) == path
            assert "<script" not in answer.text

    def test_who_comes_from_another_site_without_a_cookie_is_led_on_once(self, host: str) -> None:
        """The browser may have one, which it does not send then. It says where it comes from."""
        came = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        answer = get(host, "/session?id=user-42", came)
        assert (answer.status, led_to(answer.text)) == (403, "/session?id=user-42")
        for other in ({"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Mode": "no-cors"}):
            assert "refresh" not in get(host, "/session?id=user-42", {**came, **other}).text
        assert "refresh" not in get(host, "/session?id=user-42", came, method="POST").text

    @pytest.mark.parametrize("root", ["/pre", "/s"])
    @pytest.mark.parametrize("is_in_both", [True, False])
    def test_the_link_leads_to_where_a_proxy_has_the_pages(self, desk_path: Path, root: str, is_in_both: bool) -> None:
        """Servers differ in whether the path has the prefix that the proxy has taken off."""
        app = create_app(desk_path, token="secret")

        async def behind(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "root_path": root}, receive, send)

        with opened(app):
            path = f"{root}/session" if is_in_both else "/session"
            assert led_to(get(behind, f"{path}?id=user-42&token=secret").text) == f"{root}/session?id=user-42"

    def test_a_token_may_have_any_characters(self, desk_path: Path) -> None:
        """A cookie may not."""
        token = 'a; b="é€%41'
        with opened(create_app(desk_path, token=token)) as host:
            cookie = get(host, "/", token=token).headers["set-cookie"].split("; ")[0]
            assert get(host, "/", {"Cookie": cookie}).status == 200

    def test_viewers_on_other_ports_have_other_cookies(self, desk_path: Path, host: str) -> None:
        """A browser sends cookies to all ports of a host."""
        with serving(create_app(desk_path, token="other")) as other:
            names = {
                get(each, f"/?token={token}").headers["set-cookie"].split("=")[0]
                for each, token in ((host, "secret"), (other, "other"))
            }
        assert len(names) == 2

    def test_names_of_other_machines_are_refused(self, host: str) -> None:
        """A page of another site whose name leads here sees nothing, with or without a cookie."""
        cookie = get(host, "/?token=secret").headers["set-cookie"].split(";")[0]
        for name in ("evil.example", "evil.example:80", "", "localhost.evil.example", "127.0.0.1.evil.example"):
            assert get(host, "/", {"Host": name, "Cookie": cookie}).status in (400, 421)
        assert get(host, "/", {"Host": "localhost:1", "Cookie": cookie}).status == 200

    def test_an_empty_token_is_refused(self, desk_path: Path) -> None:
        """It would let everyone in."""
        with pytest.raises(ValueError, match="empty token"):
            create_app(desk_path, token="")


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "localhost:8000", "LOCALHOST", "[::1]:80", "[::1]", "192.168.0.7:80", "box"]
)
def test_addresses_and_given_names_are_trusted(name: str) -> None:
    """No name server has a say in them."""
    assert is_trusted_host(name, {"box"})


class TestHeaders:
    """What each response tells the browser."""

    @pytest.mark.parametrize("path", ["/", "/nothing", "/static/viewer.css", "/copy?session=user-42&agent=support"])
    def test_nothing_inline_and_no_other_host(self, desk: str, path: str) -> None:
        """Pages, errors, files and copies have the same headers."""
        headers = get(desk, path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"

    def test_a_page_with_a_bug_has_them_too(self, desk_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """The answer says nothing about the bug, which the server logs."""

        def bug(_: Any) -> Any:
            raise RuntimeError("a secret")

        app = create_app(desk_path)
        app.router.routes.append(Route("/bug", bug))
        with serving(app) as host:
            answer = get(host, "/bug")
            expected = get(host, "/").headers
        assert answer.status == 500
        assert "secret" not in answer.text
        for name in ("content-security-policy", "x-content-type-options", "x-frame-options", "cache-control"):
            assert answer.headers[name] == expected[name]

    def test_nothing_but_reading(self, desk: str) -> None:
        """No page takes anything but GET and HEAD."""
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            answer = get(desk, "/session?id=user-42", method=method)
            assert (answer.status, set(answer.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
        assert get(desk, "/", method="HEAD").status == 200


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A viewer of a database in which everything is an attack: texts, ids, names, states, tags."""
    path = tmp_path_factory.mktemp("attacks") / "sessions.db"
    for number, attack in enumerate(ATTACKS):
        name = attack.replace("\0", "")
        use = {"toolUse": {"toolUseId": name, "name": name, "input": {name: name}}}
        result = {"toolResult": {"toolUseId": name, "status": name, "content": [{"text": attack}, {"json": name}]}}
        document = {"document": {"format": name, "name": name, "source": {"bytes": attack.encode()}}}
        citation = {
            "title": attack,
            "location": {"web": {"url": "javascript:alert(1)"}},
            "sourceContent": [{"text": attack}],
        }
        cited = {"citationsContent": {"content": [{"text": attack}], "citations": [citation]}}
        thought = {"reasoningContent": {"reasoningText": {"text": attack}}}
        odd = {name: name}
        interrupt = {"interrupt_state": {"interrupts": {"i": {"name": name, "reason": name}}}}
        add_conversation(
            path,
            f"{number}{name}",
            [{"text": attack}, document],
            [use, cited, thought, odd],
            [result],
            agent_id=name,
            state={name: name},
            internal=interrupt,
        )
        with SessionCatalog(path) as catalog:
            catalog.set_metadata(f"{number}{name}", {name: name, "title": name})
    with serving(create_app(path)) as host:
        yield host


class TestHostileMessages:
    """Whatever somebody has said to an agent is only text."""

    @pytest.mark.parametrize("number", range(len(ATTACKS)))
    def test_do_nothing_on_the_page_of_their_session(self, attacked: str, number: int) -> None:
        """Nor anywhere else where their names are shown."""
        name = ATTACKS[number].replace("\0", "")
        answer = get(attacked, "/session", id=f"{number}{name}", agent=name)
        assert answer.status == 200
        assert dangers(answer.text) == []
        assert "\x1b" not in answer.text
        assert "\0" not in answer.text

    @pytest.mark.parametrize("path", ["/", "/search?q=alert", "/usage?by=agent&since=", "/health?check=1"])
    def test_do_nothing_on_other_pages(self, attacked: str, path: str) -> None:
        """Where their sessions are listed."""
        answer = get(attacked, path)
        assert answer.status == 200
        assert dangers(answer.text) == []

    @pytest.mark.parametrize("attack", [attack for attack in ATTACKS if "\0" not in attack])
    def test_do_nothing_in_a_query(self, desk: str, attack: str) -> None:
        """What is asked for is shown too."""
        for path, name in (("/search", "q"), ("/", "prefix"), ("/", "tag"), ("/session", "id"), ("/usage", "since")):
            assert dangers(get(desk, path, **{name: attack}).text) == []

    @pytest.mark.parametrize("form", ["json", "markdown", "python"])
    def test_copies_are_plain_text(self, attacked: str, form: str) -> None:
        """A browser that is led there runs nothing."""
        answer = get(attacked, "/copy", session=f"0{ATTACKS[0]}", agent=ATTACKS[0], **{"as": form})
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"


class TestFiles:
    """Images and documents of messages."""

    @pytest.fixture
    def host(self, db_path: Path) -> Any:
        svg = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"
        add_conversation(
            db_path,
            "s",
            [
                {"image": {"format": "png", "source": {"bytes": b"<script>alert(1)</script>"}}},
                {"image": {"format": "svg", "source": {"bytes": svg}}},
                {"document": {"format": "html", "name": 'a"; x="\r\nb/../é', "source": {"bytes": b"<script>"}}},
                {
                    "toolResult": {
                        "toolUseId": "t",
                        "content": [{"image": {"format": "gif", "source": {"bytes": b"GIF"}}}],
                    }
                },
                {"text": "none"},
            ],
        )
        with opened(create_app(db_path)) as host:
            yield host

    def test_images_are_nothing_else(self, host: str) -> None:
        """A browser told the type, and not to guess, shows no HTML in the place of an image."""
        for place, kind in (("0", "image/png"), ("3.0", "image/gif")):
            answer = get(host, "/attachment", session="s", agent="default", message=0, place=place)
            assert answer.headers["content-type"] == kind
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "sandbox" in answer.headers["content-security-policy"]

    @pytest.mark.parametrize("place", ["1", "2"])
    def test_everything_else_is_to_be_saved(self, host: str, place: str) -> None:
        """An SVG can hold a script, and so can a document."""
        answer = get(host, "/attachment", session="s", agent="default", message=0, place=place)
        assert answer.headers["content-type"] == "application/octet-stream"
        disposition = answer.headers["content-disposition"]
        assert re.fullmatch(r"attachment; filename\*=UTF-8''[\w.%~-]+", disposition)
        assert "/" not in disposition

    @pytest.mark.parametrize("place", ["", "4", "5", "-1", "0.0", "x", "3", "3.1", "3.0.0"])
    def test_what_is_no_file_does_not_exist(self, host: str, place: str) -> None:
        """Whatever the address says."""
        assert get(host, "/attachment", session="s", agent="default", message=0, place=place).status == 404


def test_a_very_long_line_is_shown_in_part(db_path: Path) -> None:
    """With a link to all of it, as plain text."""
    line = "<b>" + "x" * 5_000_000
    add_conversation(db_path, "s", line)
    with opened(create_app(db_path)) as host:
        html = get(host, "/session", id="s").text
        assert len(html) < 50_000
        (link,) = re.findall(r'href="([^"]*)">Show all', html)
        assert line in get(host, link.replace("&amp;", "&")).text


@pytest.mark.parametrize("part", ["[", "![", "*_", "_a ", "[a", "**a*", "a_b ", "a[a](b"])
def test_texts_that_take_long_to_parse_are_plain(part: str) -> None:
    """Fifty of them on a page would keep the server busy for ten seconds."""
    # What is parsed loses its backticks.
    text = "`x`" + (part * 9_900)[:9_900].strip()
    assert markdown(text) == f"<p>{text}</p>\n"
    assert "<strong>" in markdown("**some_long_name** " * 80)


@pytest.mark.parametrize(
    ("head", "part"),
    [
        ("a|b\n-|-\n", "x|y\n"),
        ("a|b\n-|-\n", "x\n"),
        ("|a" * 100 + "\n" + "|-" * 100 + "\n", "x\n"),
        ("", "#\n"),
        ("", "|\n"),
        ("", "- a\n"),
        ("", "> a\n\n"),
        # These have fewer lines than are shown as they are by that alone.
        ("a|b|c|d\n-|-|-|-\n", "w|x|y|z\n"),
        ("|a" * 100 + "\n" + "|-" * 100 + "\n", "row 1\n"),
        ("", "- a b c\n"),
    ],
)
def test_texts_of_very_many_pieces_are_plain(head: str, part: str) -> None:
    """A page of them took up to a minute."""
    text = (head + part * 9_900)[:9_900].strip() + "\n\n`x`"
    assert markdown(text) == "<p>{}</p>\n".format(text.replace(">", "&gt;").replace("\n", "<br />\n"))


def test_tables_of_a_few_hundred_rows_are_tables() -> None:
    """So are lists."""
    html = markdown("| name | value | unit |\n|---|---|---|\n" + "| some name | some value | kg |\n" * 320)
    assert html.count("<tr>") == 321
    assert markdown("- an item\n" * 900).count("<li>") == 900


def test_headings_look_like_some_and_are_none_of_the_page() -> None:
    """What reads the outline of a page aloud would take them for its parts."""
    html = markdown("# One\n\nunder <h2> it\n\nTwo\n---\n\n###### Six")
    assert html.split("\n")[:-1] == [
        '<p class="h1">One</p>',
        "<p>under &lt;h2&gt; it</p>",
        '<p class="h2">Two</p>',
        '<p class="h6">Six</p>',
    ]


def test_half_a_surrogate_pair_is_shown(db_path: Path) -> None:
    """JSON can hold it, UTF-8 cannot."""
    add_conversation(db_path, "s", "a \ud83d b")
    with opened(create_app(db_path)) as host:
        assert "a � b" in get(host, "/session", id="s").text
        assert get(host, "/copy", session="s", agent="default", **{"as": "markdown"}).status == 200


class TestDirection:
    """Characters that change the order in which text is shown."""

    NAME = "a\u202etxt.exe \x1b'\\ \u05d0"

    @pytest.fixture
    def host(self, db_path: Path) -> Iterator[Any]:
        add_conversation(db_path, self.NAME, "\u05d0\u200f!", "in `\u202ecode`")
        with opened(create_app(db_path)) as host:
            yield host

    def test_are_seen_in_names_and_code(self, host: Any) -> None:
        """Prose keeps them: some languages need them."""
        for path in ("/", f"/session?{urlencode({'id': self.NAME})}"):
            html = re.sub(r' (value|title|aria-label)="[^"]*"', "", get(host, path).text)
            assert "a[U+202E]txt.exe" in html
            assert "\u202e" not in html
        assert "\u05d0\u200f!" in html
        assert "[U+202E]code" in html

    @pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
    def test_are_seen_in_commands_which_do_the_same(self, host: Any) -> None:
        """What is shown and copied is what a shell gives to the program."""
        html = get(host, "/session", id=self.NAME).text
        line = unescape(re.findall(r'data-text="([^"]*)"', html)[0])
        assert line.isprintable()
        shown = unescape(re.sub("<.*?>", "", re.findall(r"<code tabindex[^>]*>(.*?)</code>", html)[0]))
        assert shown == line
        script = line.replace("strands-sqlite show", r"printf '%s\n'")
        printed = subprocess.run(["bash", "-c", script], capture_output=True, check=True, env={"LC_ALL": "C"}).stdout
        assert printed.decode().splitlines()[0] == self.NAME


def test_names_of_blanks_are_seen(db_path: Path) -> None:
    """Or the link to a session could not be."""
    add_conversation(db_path, " ", "one")
    with opened(create_app(db_path)) as host:
        assert re.findall(r'href="([^"]*)"><bdi>␠</bdi></a>', get(host, "/").text) == ["/session?id=+"]
        assert "<h1><bdi>␠</bdi></h1>" in get(host, "/session?id=+").text


def test_control_characters_are_seen_in_copies(db_path: Path) -> None:
    """In Markdown, which may be pasted into a terminal. JSON and Python escape them by themselves."""
    add_conversation(db_path, "s", "a\x1b[31m\x07 b\x9bm\r\nc\td")
    with opened(create_app(db_path)) as host:
        copy = get(host, "/copy", session="s", agent="default", **{"as": "markdown"}).text
    assert "a\u241b[31m\u2407 b\ufffdm\nc\td" in copy


def test_links_are_kept_and_lead_out_without_a_trace() -> None:
    """A link in Markdown opens elsewhere, and tells nobody where it was."""
    assert 'href="https://example.com" rel="noopener noreferrer" target="_blank"' in markdown(
        "[a](https://example.com)"
    )


def test_nothing_is_written(desk: str, desk_path: Path) -> None:
    """The file is the same after every page was seen."""
    before = desk_path.read_bytes()
    for path in ("/", "/search?q=parcel", "/session?id=user-42", "/usage", "/health?check=1"):
        assert get(desk, path).status == 200
    assert desk_path.read_bytes() == before


@pytest.mark.file_only
def test_a_writer_is_not_held_up(db_path: Path) -> None:
    """Nor are pages by a writer: neither waits for the other."""
    add_conversation(db_path, "s", "one")
    with opened(create_app(db_path)) as host, closing(sqlite3.connect(db_path, timeout=0)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        for path in ("/", "/session?id=s", "/search?q=one", "/usage"):
            assert get(host, path).status == 200
        writer.execute("COMMIT")


@pytest.mark.file_only
@pytest.mark.skipif(os.name == "nt", reason="Windows deletes no file that is open")
def test_a_database_that_went_away_is_told(db_path: Path) -> None:
    """What is still open is nobody's any more, also where another file has taken its place."""
    add_conversation(db_path, "s", "one")
    with opened(create_app(db_path)) as host:
        assert get(host, "/session?id=s").status == 200
        db_path.rename(db_path.with_suffix(".moved"))
        gone = get(host, "/session?id=s")
        add_conversation(db_path, "other", "two")
        replaced = get(host, "/")
        db_path.with_suffix(".moved").replace(db_path)
        assert get(host, "/").status == 200
    for answer in (gone, replaced):
        assert answer.status == 503
        assert "the file was removed or replaced" in answer.text
        assert dangers(answer.text) == []


def test_a_database_must_exist(tmp_path: Path) -> None:
    """Looking makes none."""
    with pytest.raises(SessionException, match="no such file"):
        create_app(tmp_path / "missing.db")
    assert not any(tmp_path.iterdir())


def test_can_be_mounted_under_another_application(desk_path: Path) -> None:
    """All links lead to where it is mounted."""
    with serving(Starlette(routes=[Mount("/{who}/sessions", create_app(desk_path))])) as host:
        html = get(host, "/a%20%3F/sessions/session?id=user-42").text
        links = re.findall(r'(?:href|src|action|data-events)="(/[^"]*)"', html)
        assert links
        assert all(link.startswith("/a%20%3F/sessions/") for link in links)
        for link in {
            link.replace("&amp;", "&").partition("#")[0] for link in links if "?" in link and "/events" not in link
        }:
            assert get(host, link).status == 200, link


def test_json_of_a_page_is_text(db_path: Path) -> None:
    """A state with markup in it is shown as it is."""
    add_conversation(db_path, "s", "one", state={"a": "</pre><script>"})
    with opened(create_app(db_path)) as host:
        html = get(host, "/session", id="s").text
    assert dangers(html) == []
    assert "&lt;/pre&gt;&lt;script&gt;" in html
