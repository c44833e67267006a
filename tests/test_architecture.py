"""The layers of the house: each module imports only from rows above it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
    {"study.errors", "study.records", "study.space", "study.failpoints", "study.facts", "study.files"},
    {"study.datasets", "study.strategies", "study.backbones"},
    {"study.config"},
    {"study.training", "study.tracking", "study.studies", "study.progress", "study.lock", "study.signals"},
    {"study.search", "study.predict", "study.cost"},
    {"study.stages", "study.plan", "study.sweep", "study.trial"},
]
LAZY = {("study.training", "study.predict"), ("study.tracking", "study.predict")}  # inside functions, to break no layer at import


def layer(module: str) -> int | None:
    best = [(len(prefix), k) for k, row in enumerate(LAYERS) for prefix in row if module == prefix or module.startswith(prefix + ".")]
    return max(best)[1] if best else None


def imports(path: Path) -> set[str]:
    """Modules of ours that the file imports at its top level."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{a.name}" for a in node.names}
    return {f for f in found if f.startswith(("study.", "analysis."))}


FILES = sorted((ROOT / "study").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_each_layer_imports_only_from_those_above(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    own = layer(module)
    if module == "study":
        return
    assert own is not None, f"{module} is in no layer"
    for name in imports(path):
        if name.startswith("analysis."):
            assert module == "study.sweep", f"{module} imports {name}"
        elif (other := layer(name)) is not None:
            assert other <= own, f"{module} (row {own}) imports {name} (row {other})"


def test_ray_has_one_importer() -> None:
    users = [p for p in FILES if any(line.startswith(("import ray", "from ray")) for line in p.read_text().splitlines())]
    assert users and {p.parent.name for p in users} == {"on_ray"}


def loaded(code: str, names: list[str]) -> list[str]:
    script = f"import sys; {code}; print([n for n in {names} if n in sys.modules])"
    return ast.literal_eval(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout)


def test_analysis_needs_neither_torch_nor_ray_nor_mlflow() -> None:
    assert loaded("import analysis.report", ["torch", "ray", "mlflow", "timm", "optuna"]) == []


def test_a_single_trial_needs_neither_ray_nor_optuna_nor_mlflow() -> None:
    assert loaded("import study.trial", ["ray", "optuna", "mlflow"]) == []


def test_search_cannot_see_the_test_split() -> None:
    """Only prediction names the test split; the inputs of training hold its positions nowhere."""
    for path in [*(ROOT / "study/training").glob("*.py"), *(ROOT / "study/search").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Name) and node.id == "TEST":
                assert path.name == "inputs.py" and isinstance(node.ctx, ast.Store), f"{path} reads TEST"


def test_the_command_line_holds_operations_never_science() -> None:
    from study.sweep import parser

    flags = {a.option_strings[0] for a in parser()._actions if a.option_strings}
    assert not flags & {"--lr", "--epochs", "--batch-size", "--image-size", "--augmentation", "--weight-decay"}
