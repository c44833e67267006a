"""Libraries report to nobody how they are used: nothing is sent anywhere but to what a user names (docs/security.md)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from study import SILENT

ASKED = {
    "mlflow": "from mlflow.telemetry.utils import is_telemetry_disabled as off",
    "huggingface_hub": "from huggingface_hub.constants import HF_HUB_DISABLE_TELEMETRY as on; off = lambda: on",
    "ray": "from ray._common.usage.usage_lib import usage_stats_enabled as on; off = lambda: not on()",
}


def clean(**more: str) -> dict[str, str]:
    """Return the environment without what study set in this process, and without what makes libraries think that they are tested."""
    hidden = {*SILENT, "PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS"}
    return {k: v for k, v in os.environ.items() if k not in hidden} | more


@pytest.mark.parametrize("library", ASKED)
def test_a_library_says_itself_that_it_reports_nothing(library: str) -> None:
    code = f"import study; {ASKED[library]}; print(off())"
    assert subprocess.run([sys.executable, "-c", code], env=clean(), capture_output=True, text=True, check=True).stdout == "True\n"


def test_what_a_user_set_stays() -> None:
    code = "import os, study; print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    env = clean(ORT_DISABLE_TELEMETRY="0", MLFLOW_DISABLE_TELEMETRY="false")
    assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout == "0 false\n"


def test_onnx_runtime_keeps_no_session_of_its_reports(tmp_path: Path) -> None:
    """It keeps a file of its session in the folder of temporary files where it reports."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    made = onnx.helper
    shape = made.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = made.make_graph([made.make_node("Identity", ["x"], ["y"])], "g", [shape], [made.make_tensor_value_info("y", 1, [1])])
    onnx.save(made.make_model(graph, opset_imports=[made.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    folder = tmp_path / "tmp"
    folder.mkdir()
    code = f"import study, onnxruntime\nonnxruntime.InferenceSession({str(tmp_path / 'm.onnx')!r})"
    subprocess.run([sys.executable, "-c", code], env=clean(TMPDIR=str(folder)), check=True, timeout=60)
    assert ".ses" not in os.listdir(folder)
