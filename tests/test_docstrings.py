"""Docstrings begin with a verb or a noun, and lines of code and prose stay below 140 columns."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("analysis", "benchmarks", "cluster", "docs", "study", "tests")
SOURCES = [p for folder in FOLDERS for p in sorted((ROOT / folder).rglob("*.py"))]
FRAGMENTS = {"What", "Of", "By", "As", "Whether", "How", "Which", "Where", "Who", "Whose"}
MOST_COLUMNS = 139


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every string that stands alone: docstrings, and the strings below fields and constants."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def fragments(source: str) -> list[int]:
    """Return the lines of texts that begin as a fragment does."""
    return [line for line, text in texts(ast.parse(source)) if text.split()[:1] and text.split()[0] in FRAGMENTS]


def test_no_docstring_begins_as_a_fragment_does() -> None:
    assert fragments('def f():\n    """By trial, its score."""\n') == [2]
    assert [f"{p.relative_to(ROOT)}:{line}" for p in SOURCES for line in fragments(p.read_text())] == []


def test_no_line_is_longer_than_a_screen() -> None:
    found = {p: [k for k, line in enumerate(p.read_text().splitlines(), 1) if len(line) > MOST_COLUMNS] for p in SOURCES}
    assert [f"{p.relative_to(ROOT)}:{k}" for p, lines in found.items() for k in lines] == []
