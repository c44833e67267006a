"""A real browser for the tests: Debian's headless Chromium, driven by Playwright. Every request and console error is kept."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.need import missing

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextmanager
def page(dark: bool = False, width: int = 1380, height: int = 1000) -> Iterator[Any]:
    """Yield a page with `.requests` (other than files and data) and `.problems` (console errors, dialogs, page errors)."""
    path = shutil.which("chromium")
    if path is None:
        missing("Chromium (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        made = browser.new_page(viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light")
        made.set_default_timeout(200_000)  # milliseconds: on a busy machine a page of five megabytes takes a minute
        requests: list[str] = []
        problems: list[str] = []
        made.on("request", lambda r: requests.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None)
        made.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
        made.on("pageerror", lambda e: problems.append(str(e)))
        made.on("dialog", lambda d: (problems.append(f"dialog {d.message}"), d.dismiss()))
        made.requests_seen, made.problems_seen = requests, problems
        yield made
        browser.close()
