"""Names in messages must exist: every command, option, column option and variable in a text of ours."""

import ast
import functools
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.question.name_parts import OPTIONS
from tests.test_architecture import ROOT

FILES = [p for top in ("study", "analysis", "cluster") for p in sorted((ROOT / top).rglob("*.py"))]
OTHERS = {  # options of other programs that we name, and argparse's own
    *("--help", "--porcelain", "--untracked-files"),
    *("--nproc-per-node", "--experiment-id", "--run-id", "--allowed-hosts", "--backend-store-uri", "--shm-size"),
    *(
        "--artifacts-destination",
        "--address",
        "--head",
        "--require-hashes",
        "--index-url",
        "--extra-index-url",
        "--num-gpus",
        "--logdir",
        "--version",
    ),
    *("--block", "--num-cpus", "--object-store-memory", "--temp-dir", "--include-dashboard", "--log-color", "--ray-client-server-port"),
    *("--min-worker-port", "--max-worker-port", "--dashboard-agent-listen-port"),
}


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the texts that are no docstring: constants and the fixed parts of f-strings, whole."""
    tree = ast.parse(file.read_text())
    docs = {id(n.body[0].value) for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef) and n.body
        and isinstance(n.body[0], ast.Expr)}  # fmt: skip
    inside = {id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in n.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(v.value if isinstance(v, ast.Constant) else "\0" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | inside:
            yield node.lineno, node.value


@functools.cache
def own_options() -> set[str]:
    """Return the options of all commands together, from their parsers."""
    found: set[str] = set()
    for file in FILES:
        for call in (n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call)):
            if getattr(call.func, "attr", "") == "add_argument" or getattr(call.func, "id", "") == "add_argument":
                found |= {a.value for a in call.args if isinstance(a, ast.Constant) and str(a.value).startswith("--")}
            found |= {a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)
                and re.fullmatch(r"--[a-z-]+", a.value)} if "add" in getattr(call.func, "attr",
                getattr(call.func, "id", "")) else set()  # fmt: skip
    return found


EVERY = [(file, line, text) for file in FILES for line, text in texts(file) if "var(--" not in text]
COMMANDS = sorted(
    {(m[1], f"{f.relative_to(ROOT)}:{n}") for f, n, t in EVERY for m in re.finditer(r"-m ((?:study|analysis|cluster)[\w.]*)", t)}
)
NAMED = sorted({(m[0], f"{f.relative_to(ROOT)}:{n}") for f, n, t in EVERY for m in re.finditer(r"(?<![\w-])--[a-z][a-z-]+[a-z]", t)})
COLUMNS = sorted(
    {(m[1], f"{f.relative_to(ROOT)}:{n}") for f, n, t in EVERY if " " in t for m in re.finditer(r"[ ({\0]\?([a-z]+)=(?!\()", t)}
)


def test_there_is_something_to_look_at() -> None:
    assert len(COMMANDS) > 20 and len(NAMED) > 80 and len(COLUMNS) > 4


@pytest.mark.parametrize(("module", "where"), COMMANDS)
def test_every_command_that_is_named_can_be_run(module: str, where: str) -> None:
    found = importlib.util.find_spec(module)
    assert found is not None, f"{where} names {module}"
    if found.submodule_search_locations is not None:
        found = importlib.util.find_spec(f"{module}.__main__")
    assert found is not None and found.origin is not None, f"{where} names {module}, which is no command"
    assert "__main__" in Path(found.origin).name or '__name__ == "__main__"' in Path(found.origin).read_text(), f"{where} names {module}"


@pytest.mark.parametrize(("option", "where"), NAMED)
def test_every_option_that_is_named_is_one(option: str, where: str) -> None:
    assert option in own_options() | OTHERS, f"{where} names {option}"


@pytest.mark.parametrize(("option", "where"), COLUMNS)
def test_every_option_of_data_that_is_named_is_one(option: str, where: str) -> None:
    assert any(option in known for known in OPTIONS.values()), f"{where} names ?{option}="
