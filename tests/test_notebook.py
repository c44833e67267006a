"""examples/own_images.ipynb: from a folder of images to a verdict, a figure and a network, run as Jupyter runs it."""

import ast
from pathlib import Path
from typing import Any

import nbformat
import pytest

NOTEBOOK = Path(__file__).parent.parent / "examples" / "own_images.ipynb"


def test_it_is_valid_parses_and_is_kept_without_output() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            ast.parse(cell.source)
            assert cell.outputs == [] and cell.execution_count is None, "clear all outputs: they hold this machine's paths"
    text = NOTEBOOK.read_text()
    assert not [place for place in ("home", "Users", "tmp", "root") if f"/{place}/" in text]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_runs_from_a_folder_to_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parent.parent))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=800, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    ran = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = {k: "".join(_texts(cell)) for k, cell in enumerate(ran)}
    everything = "".join(shown.values())
    assert "150 images of 3 classes" in everything and "macro-F1" in everything
    assert any("application/vnd.plotly.v1+json" in o.get("data", {}) for cell in ran for o in cell.outputs), "the figure"
    rows = [line.split() for line in shown[len(ran) - 1].splitlines()]
    assert len(rows) == 12 and {said for _, said, _ in rows} <= {"zero", "one", "four"}
    assert sum(file.startswith(said) for file, said, _ in rows) >= 7, "twelve images that it never saw: better than chance"
    assert (next(tmp_path.glob("own_images_*")) / "results" / "own" / "report.html").is_file()


def _texts(cell: Any) -> list[str]:
    return [o.get("text", "") + o.get("data", {}).get("text/plain", "") for o in cell.outputs]
