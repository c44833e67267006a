"""The documentation as a site: `make site` builds it into a folder. Every page is in the navigation, every link leads somewhere."""

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parent.parent
CONFIG = tomllib.loads((ROOT / "zensical.toml").read_text())


class Page(HTMLParser):
    """The links of a page, the files it loads, and the names within it that a link may lead to."""

    LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("source", "src"), ("iframe", "src")}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name in ("id", "name"):
                self.names.add(value)
            if (tag, name) == ("a", "href"):
                self.links.append(value)
            if (tag, name) in self.LOADED:
                self.loads.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("zensical.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, folder)
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text()) for path in site.rglob("*.html")}


def leaves(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for item in nav.values() if isinstance(nav, dict) else nav:
            yield from leaves(item)


def target(site: Path, page: Path, link: str) -> tuple[Path, str] | None:
    """Return the file a link leads to and the name within it, or None for another host."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    path = unquote(parts.path)
    file = page if not path else (site / path.lstrip("/") if path.startswith("/") else page.parent / path).resolve()
    return (file / "index.html" if file.is_dir() else file), unquote(parts.fragment)


def test_every_page_is_in_the_navigation_once() -> None:
    said = list(leaves(CONFIG["project"]["nav"]))
    assert sorted(said) == sorted(p.name for p in (ROOT / "docs").glob("*.md"))


def test_every_link_leads_to_a_page_and_to_a_name_on_it(site: Path, pages: dict[Path, Page]) -> None:
    lost = []
    for path, page in pages.items():
        for link in page.links if path.name != "404.html" else []:
            found = target(site, path, link)
            if found is None:
                continue
            file, name = found
            known = pages.get(file)
            if not file.is_file() or (name and known is not None and name not in known.names):
                lost.append(f"{path.relative_to(site)}: {link}")
    assert len(pages) > 25 and lost == []


def test_nothing_is_loaded_from_elsewhere_and_what_is_loaded_is_there(site: Path, pages: dict[Path, Page]) -> None:
    lost, foreign = [], []
    for path, page in pages.items():
        for link in page.loads if path.name != "404.html" else []:
            found = target(site, path, link)
            if found is None:
                foreign.append(link)
            elif not found[0].exists():
                lost.append(f"{path.relative_to(site)}: {link}")
    assert (set(lost), {f for f in foreign if not f.startswith("data:")}) == (set(), set())


def test_search_knows_what_the_pages_say_and_no_source_lies_in_it(site: Path) -> None:
    text = json.dumps(json.loads((site / "search.json").read_text()))
    assert "line to beat" in text and "MLflow as its users expect it" in text
    assert list(site.rglob("*.py")) == []
