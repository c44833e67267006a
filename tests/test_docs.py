"""Statements of the reference pages are true: docs/api.md is its generator's, docs/files.md names every file, variable and exit code."""

import ast
import importlib.util
import os
import re
import runpy
import signal
from collections import defaultdict
from pathlib import Path

import pytest

import study
from study import errors
from study.console.moved import MOVED
from study.question.cell import Cell
from study.question.study_config import Study
from study.question.training_settings import Protocol, Recipe
from study.question.trial_config import TrialConfig
from study.records import SCHEMA
from study.strategies import STRATEGIES
from tests import tiny

ROOT = Path(__file__).parent.parent
FILES = (ROOT / "docs" / "files.md").read_text()
API = runpy.run_path(str(ROOT / "docs" / "make_api.py"))


# ---- docs/api.md -------------------------------------------------------------------------------------------


def test_the_page_is_what_its_generator_gives() -> None:
    assert (ROOT / "docs" / "api.md").read_text() == API["make_page"](), "make docs"


def test_every_public_name_is_on_it_with_a_docstring() -> None:
    items = [item for _, _, item in API["items"]()]
    assert set(study.__all__) <= {item.name for item in items}
    missing = [i.name for i in items if not i.doc] + [f"{i.name}.{m.name}" for i in items for m in i.members if not m.doc]
    assert missing == []


def test_markdown_shows_a_docstring_as_it_was_written() -> None:
    assert API["prose"]("hp/<name> and `a<b`") == "hp/&lt;name> and `a<b`"
    rows = [("x", "int | None", "", "", "a|b")]
    assert API["table"](rows).splitlines()[2] == r"| `x` | `int \| None` | a\|b |"


# ---- docs/strategy.md --------------------------------------------------------------------------------------


def test_the_table_of_strategies_is_what_its_generator_gives() -> None:
    generator = runpy.run_path(str(ROOT / "docs" / "make_strategies.py"))
    assert (ROOT / "docs" / "strategy.md").read_text() == generator["page"](), "python docs/make_strategies.py"
    assert all(cls.source and cls.title for cls in STRATEGIES.values())


# ---- docs/files.md -----------------------------------------------------------------------------------------


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table under a heading, without its head."""
    text = FILES.split(f"## {title}\n")[1].split("\n## ")[0]
    return [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")][2:]


def named(title: str) -> list[str]:
    return [name for row in rows(title) for name in re.findall("`([^`]+)`", row[0])]


def variables_of(path: Path) -> set[str]:
    """Return the STUDY_ variables of a file. In Python they are whole strings: constants and names inside messages do not count."""
    text = path.read_text()
    if path.suffix != ".py":
        return set(re.findall("STUDY_[A-Z_]+", text))
    strings = {n.value for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return {s for s in strings if re.fullmatch("STUDY_[A-Z_]+", s)}


def mentioned(folders: tuple[str, ...]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".sh", ".yaml", ".html") or path.name == "Dockerfile":
                for name in variables_of(path):
                    found[name].add(".".join(path.relative_to(ROOT).with_suffix("").parts))
    return found


def read_in(path: Path) -> set[str]:
    """Return the variables that a Python file reads: os.environ["X"], os.environ.get("X", ...), "X" in os.environ."""
    found = set()
    for n in ast.walk(ast.parse(path.read_text())):
        if isinstance(n, ast.Subscript) and isinstance(n.ctx, ast.Load) and ast.unparse(n.value) == "os.environ":
            found.add(ast.unparse(n.slice))
        elif isinstance(n, ast.Call) and ast.unparse(n.func) == "os.environ.get":
            found.add(ast.unparse(n.args[0]))
        elif isinstance(n, ast.Compare) and ast.unparse(n.comparators[0]) == "os.environ":
            found.add(ast.unparse(n.left))
    return {name.strip("'") for name in found if name.startswith("'STUDY_")}


def test_every_variable_is_in_the_table_and_no_other() -> None:
    assert set(mentioned(("study", "analysis", "cluster", "docker", "tests", "benchmarks"))) == set(named("Environment variables"))


def test_each_variable_is_read_where_the_table_says() -> None:
    readers: dict[str, set[str]] = defaultdict(set)
    for folder in ("study", "analysis", "cluster", "benchmarks", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for name in read_in(path):
                if folder != "tests" or not any(
                    not r.startswith("tests") for r in readers[name]
                ):  # tests look at ours; only their own count
                    readers[name].add(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for (name, _, _, by), key in zip(rows("Environment variables"), named("Environment variables"), strict=True):
        said = by.split(", ")
        unsaid = [r for r in readers[key] if not any(r == s or r.startswith(s + ".") for s in said)]
        untrue = [s for s in said if not any(r == s or r.startswith(s + ".") for r in readers[key])]
        assert (unsaid, untrue) == ([], []), name


def test_exit_codes_are_those_of_the_errors() -> None:
    said = {int(code): raised.strip("`") for code, raised, _ in rows("Exit codes")}
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.StudyError)]
    assert {c.exit_code: c.__name__ for c in classes} == {code: name for code, name in said.items() if name}
    assert {0, 5, 128 + signal.SIGINT, 128 + signal.SIGTERM} <= set(said)


def pattern(name: str) -> re.Pattern[str]:
    """Return a pattern for a name, where `STUDY/trials/ID/best/` matches whatever lies below such a folder."""
    parts = re.split("([A-Z]+)", name)
    return re.compile("".join("[^/]+" if k % 2 else re.escape(p) for k, p in enumerate(parts)) + (".+" if name.endswith("/") else ""))


def in_no_row(folder: Path, title: str) -> list[str]:
    known = [pattern(name) for name in named(title)]
    found = [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()]
    return [f for f in found if not any(k.fullmatch(f) for k in known)]


def test_every_file_of_the_golden_study_is_in_a_row(tmp_path: Path) -> None:
    assert in_no_row(ROOT / "tests" / "golden" / "study", "What a study leaves") == []
    (tmp_path / "tiny" / "trials" / "0123").mkdir(parents=True)
    (tmp_path / "tiny" / "trials" / "0123" / "other.bin").touch()
    assert in_no_row(tmp_path, "What a study leaves") == ["tiny/trials/0123/other.bin"]


def test_every_row_is_of_a_file_that_the_code_names() -> None:
    source = "\n".join(p.read_text() for p in [*(ROOT / "study").rglob("*.py"), *(ROOT / "analysis").rglob("*.py")])
    for name in named("What a study leaves") + named("What lies in the cache"):
        last = name.rstrip("/").rpartition("/")[2]
        pieces = [p.strip(".-") for p in re.split("[A-Z]+", last) if len(p.strip(".-")) > 2]
        assert all(p in source for p in pieces), name


@pytest.mark.slow
def test_every_file_of_a_study_is_in_a_row(tmp_path: Path) -> None:
    """The study is killed in the middle of it, and at its end, and has a cache of its own."""
    question, results, cache = tiny.write(tmp_path), tmp_path / "results", tmp_path / "cache"
    env = {"STUDY_CACHE": str(cache)}
    killed = tiny.run(question, results, "--local", "--mlflow", "off", env={**env, "STUDY_FAILPOINT": "after_ckpt_rename:3"})
    assert killed.returncode == -signal.SIGKILL and (results / "tiny" / ".lock").exists()
    assert in_no_row(results, "What a study leaves") == []
    done = tiny.run(question, results, "--local", env=env)
    assert done.returncode == 0, done.stderr
    assert (results / "mlflow.db").exists() and (results / "tiny" / "report.html").exists()
    assert in_no_row(results, "What a study leaves") == []
    assert os.listdir(cache / "activations") and in_no_row(cache, "What lies in the cache") == []


def test_generated_data_sets_are_in_a_row_of_the_cache(cache: Path) -> None:
    from study.datasets import open_dataset

    open_dataset("mini_faces")
    assert (cache / "miniatures").is_dir()
    assert [f for f in in_no_row(cache, "What lies in the cache") if f.startswith("miniatures")] == []


# ---- links -------------------------------------------------------------------------------------------------


def anchor(heading: str) -> str:
    """Return the anchor as GitHub makes it: lower case, blanks to hyphens, other signs left out."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub("```.*?```", "", page.read_text(), flags=re.S)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, part = link.partition("#")
        to = page.parent / file if file else page
        headings = re.findall("^#+ (.+)$", to.read_text(), re.M) if part and to.is_file() else []
        if not to.exists() or (part and part not in map(anchor, headings)):
            broken.append(link)
    assert broken == []


def test_readme_leads_to_the_pages_of_own_images_and_names_the_notebook() -> None:
    text = (ROOT / "README.md").read_text()
    assert all(f"](docs/{name}.md)" in text for name in ("own-images", "mine", "data", "use", "recipe"))
    assert "](examples/own_images.ipynb)" in text


# ---- CHANGELOG.md ------------------------------------------------------------------------------------------


def test_the_changelog_lists_late_fields_and_schemas() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    late = [
        (f"{cls.__name__}.{f.name}", f.metadata["since"])
        for cls in (Study, Protocol, Cell, Recipe, TrialConfig, *STRATEGIES.values())
        for f in cls.__dataclass_fields__.values()
        if "since" in f.metadata
    ]
    assert late and f"| 0.2.0 | {SCHEMA} | {max(since for _, since in late)} |" in text
    for name, since in late:
        assert re.search(rf"^\| {since} \|.*`{re.escape(name)}`", text, re.M), f"{name} (since {since}) is not in CHANGELOG.md"


@pytest.mark.parametrize("old", sorted(MOVED))
def test_an_old_name_says_the_new_one_which_is_there(old: str) -> None:
    with pytest.raises(ImportError, match=rf"^{re.escape(old)} is {re.escape(MOVED[old])} now\.$"):
        importlib.import_module(old)
    assert importlib.util.find_spec(MOVED[old]) is not None
