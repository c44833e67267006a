"""The layers of the code: each module imports only from its own row and those above, at its top or anywhere else in it."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [  # a line a folder, and the files of the root
    {"study.early", "study.errors", "study.records", "study.space", "study.bounds", "study.canonical", "study.failpoints",
        "study.metrics", "study.scoring", "study.environment", "study.console", "study.inference"},
    {"study.strategies"},
    {"study.question"},
    {"study.storage"},
    {"study.networks", "study.datasets"},
    {"study.training"},
    {"study.use", "study.measure", "study.tracking"},
    {"study.run"},
    {"study.screen"},
    {"study.search"},
    {"study.budget"},
    {"study.conduct"},
    {"study.results", "study.label"},
    {"study.sweep", "study.trial", "study.predict", "study.replay", "study.export", "study.demo", "study.deliver",
        "study.measure.__main__", "study.tracking.__main__", "study.datasets.__main__", "study.screen.__main__", "study.label.__main__"},
    {"study.__main__"},
]  # fmt: skip
ANALYSIS = [
    {"analysis.data"},
    {"analysis.statistics"},
    {"analysis.findings"},
    {"analysis.words"},
    {"analysis.why"},
    {"analysis.load", "analysis.verdict", "analysis.score_facts"},
    {"analysis.page"},
    {"analysis.figures"},
    {"analysis.report", "analysis.compare", "analysis.judge"},
]
PACKAGES = ("study", "analysis", "cluster", "benchmarks")
MAY_USE_ANALYSIS = (
    "study.conduct",
    "study.results",
    "study.replay",
    "study.screen",
    "study.label",
)  # what a study says of itself is the analysis's to say
ANALYSIS_MAY_USE = (
    *LAYERS[0], *LAYERS[1], *LAYERS[2], *LAYERS[3], "study.tracking.ledger", "study.tracking.from_mlflow", "study.search.sample",
    "study.search.seeds", "study.search.confirmed",
    "study.datasets.called", "study.datasets.ids", "study.datasets.manifest", "study.datasets.shapes", "study.datasets.spec",
    "study.datasets.user_table",  # tables of labels
)  # fmt: skip
FILES = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
    for top in PACKAGES
    for p in sorted((ROOT / top).rglob("*.py"))
}


def layer(module: str, layers: list[set[str]] = LAYERS) -> int | None:
    best = [(len(prefix), k) for k, row in enumerate(layers) for prefix in row if module == prefix or module.startswith(prefix + ".")]
    return max(best)[1] if best else None


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Return the modules of ours that the file imports anywhere, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            named = {f"{node.module}.{a.name}" for a in node.names}
            found |= {n for n in named if n in FILES} or {node.module}
    return frozenset(f for f in found if f.partition(".")[0] in PACKAGES)


@pytest.mark.parametrize("module", [m for m in FILES if m.startswith("study.")])
def test_each_layer_imports_only_from_those_above(module: str) -> None:
    own = layer(module)
    assert own is not None, f"{module} is in no layer"
    for name in imports(FILES[module]):
        if name.startswith("study"):
            other = layer(name)
            assert name == "study" or (other is not None and other <= own), f"{module} (row {own}) imports {name} (row {other})"
        else:
            assert name.startswith("analysis") and module.startswith(MAY_USE_ANALYSIS), f"{module} imports {name}"


@pytest.mark.parametrize("module", [m for m in FILES if m.startswith("analysis")])
def test_the_analysis_reads_records_and_never_runs_anything(module: str) -> None:
    for name in imports(FILES[module]):
        assert name.startswith(("analysis", *ANALYSIS_MAY_USE)), f"{module} imports {name}"
        own, other = layer(module, ANALYSIS), layer(name, ANALYSIS)
        if name.startswith("analysis.") and module != "analysis":
            assert own is not None and other is not None and other <= own, f"{module} (row {own}) imports {name} (row {other})"


def test_few_files_lie_at_the_roots() -> None:
    assert len([*(ROOT / "study").glob("*.py")]) <= 20 and len([*(ROOT / "analysis").glob("*.py")]) <= 6


def test_nothing_imports_a_command_a_benchmark_or_the_cluster() -> None:
    commands = LAYERS[-2] | LAYERS[-1]
    for module, path in FILES.items():
        for name in imports(path):
            assert name not in commands or module in commands, f"{module} imports the command {name}"
            assert not name.startswith(("benchmarks", "cluster")) or module.startswith(name.partition(".")[0]), f"{module} imports {name}"


def test_every_command_reads_its_arguments_and_ends_in_one_way() -> None:
    """Only `console.command` turns an error into a line. Options that several commands take are defined once, with the same words."""
    runs = {m: p for m, p in FILES.items() if not m.startswith("benchmarks") and "\nif __name__ ==" in p.read_text()}
    for module, path in runs.items():
        nodes = list(ast.walk(ast.parse(path.read_text())))
        made = {ast.unparse(d.func) for n in nodes if isinstance(n, ast.FunctionDef) for d in n.decorator_list if isinstance(d, ast.Call)}
        assert made & {"command", "quiet"}, module
        assert "StudyError" not in {ast.unparse(n.type) for n in nodes if isinstance(n, ast.ExceptHandler) and n.type} or module in (
            "study.measure.__main__",
            "study.screen.__main__",
        ), f"{module} catches what ends a command"  # these two go on with the next run, or network
    assert len(runs) == 18
    options = [t for p in runs.values() for t in re.findall(r'"(--[a-z-]+)", default=os.environ', p.read_text())]
    assert set(options) <= {"--mlflow"}, "study/console/arguments.py has what several commands take"


def circles() -> Iterator[list[str]]:
    graph = {m: {n for n in imports(p) if n in FILES and n != m and FILES[n].name != "__init__.py"} for m, p in FILES.items()}
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> Iterator[list[str]]:
        if module in path:
            yield [*path[path.index(module) :], module]
        elif module not in done:
            for other in sorted(graph[module]):
                yield from visit(other, [*path, module])
            done.add(module)

    for module in sorted(graph):
        yield from visit(module, [])


def test_imports_run_in_no_circle() -> None:
    assert [" -> ".join(c) for c in circles()] == []


@pytest.mark.parametrize("module", FILES)
def test_private_names_stay_in_their_module(module: str) -> None:
    tree = ast.parse(FILES[module].read_text())
    ours = {
        a.asname or a.name
        for n in ast.walk(tree)
        if isinstance(n, ast.ImportFrom) and (n.module or "").split(".")[0] in PACKAGES
        for a in n.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
            assert not [a.name for a in node.names if a.name.startswith("_")], f"{module}:{node.lineno}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ours:
            assert not node.attr.startswith("_") or node.attr.startswith("__"), f"{module}:{node.lineno} uses {node.value.id}.{node.attr}"


def foreign(path: Path) -> set[str]:
    """Return the packages of others that the file imports anywhere."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    return {n.partition(".")[0] for n in plain | {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module}}


def test_ray_has_one_importer() -> None:
    users = {m for m, p in FILES.items() if m.startswith(("study.", "analysis")) and foreign(p) & {"ray"}}
    assert users and all(m.startswith("study.search.on_ray") for m in users)


def loaded(code: str, names: list[str]) -> list[str]:
    script = f"import sys; {code}; print([n for n in {names} if n in sys.modules])"
    return ast.literal_eval(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout)


def test_analysis_needs_neither_torch_nor_ray_nor_mlflow() -> None:
    for module in ("analysis.report", "analysis.judge.__main__"):
        assert loaded(f"import {module}", ["torch", "ray", "mlflow", "timm", "optuna"]) == []


def test_a_single_trial_needs_neither_ray_nor_optuna_nor_mlflow() -> None:
    """It does not need scikit-learn either, a fifth of what its worker would import.

    That is loaded where folds are drawn or digits are read.
    """
    refused = "from study import trial; assert trial.main(['digits/nosuch/full']) == 2"  # by what loads all that it needs
    assert loaded(refused, ["torch", "study.run", "ray", "optuna", "mlflow", "sklearn"]) == ["torch", "study.run"]


def test_training_and_search_never_name_the_test_split() -> None:
    """Only `study.run` opens whole data sets, and only measurements get them (tests/test_training.py has the law on the arrays)."""
    for path in [*(ROOT / "study/training").glob("*.py"), *(ROOT / "study/search").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            named = isinstance(node, ast.Name) and node.id in ("TEST", "open_images", "open_dataset")
            assert not named and not (isinstance(node, ast.Constant) and node.value == "test"), f"{path}:{node.lineno}"


def test_the_command_line_holds_operations_never_science() -> None:
    from study.sweep import parser

    flags = {a.option_strings[0] for a in parser()._actions if a.option_strings}
    assert not flags & {"--lr", "--epochs", "--batch-size", "--image-size", "--augmentation", "--weight-decay"}


def test_importing_the_interface_is_cheap() -> None:
    """Half a second is promised; what costs seconds is not loaded. Time itself is `benchmarks`' to measure."""
    assert (
        loaded("import study; study.Study, study.grid", ["torch", "ray", "optuna", "mlflow", "pandas", "plotly", "timm", "pydantic"]) == []
    )
