"""Takes the pictures of the viewer in Chromium: `python .github/pictures/viewer.py`, with the extra `test-browser`.

It needs fonts with emoji and Japanese (Debian's `fonts-noto-color-emoji` and `fonts-ipafont-gothic`).
"""

import shutil
import socket
import tempfile
import threading
from pathlib import Path

import uvicorn
from playwright.sync_api import Page, sync_playwright
from support_desk import fill

from strands_sqlite_session_manager.viewer import create_app

HERE = Path(__file__).parent
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
# By name: the page, and how high the picture is.
PAGES = {
    "viewer-sessions": ("/", 720),
    "viewer-session": ("/session?id=user-42", 1_180),
    "viewer-usage": ("/usage?by=day&input=3&output=15", 560),
}


def prepare(page: Page) -> None:
    """Open what is to be seen, and leave out what differs from one machine to the next."""
    for fold in page.locator("details.tool").all()[:1]:
        fold.evaluate("fold => fold.open = true")
    page.evaluate("document.querySelectorAll('footer').forEach(element => element.remove())")


def take(host: str) -> None:
    """Take all pictures."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for name, (path, height) in PAGES.items():
            page = browser.new_page(viewport={"width": 1180, "height": height})
            page.goto(f"http://{host}{path}")
            page.wait_for_timeout(500)
            prepare(page)
            page.screenshot(path=HERE / f"{name}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory, socket.create_server(("127.0.0.1", 0)) as listener:
        db_path = Path(directory) / "sessions.db"
        fill(db_path)
        server = uvicorn.Server(uvicorn.Config(create_app(db_path), log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            take(f"127.0.0.1:{listener.getsockname()[1]}")
        finally:
            server.should_exit = True
            thread.join()
