"""A manifest that says other than the weights it describes, or what no network has, is refused by name, wherever it is opened."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from study.errors import ConfigError
from study.inference.classifier import Classifier
from study.use.predictor import Predictor
from tests.test_kept import keep

VALUES: dict[str, list[Any]] = {
    "classes": ["reversed", "renamed", "twice", [], ["a"], "text", None, [1, 2, 3]],
    "image_size": [100_000, -5, 0, 33, 10**30, 1.5, "64", True, None, [64]],
    "side": [100_000, -5, 10**30, 1.5, "64", True, [64]],
    "channels": [0, 1, 2, 4, -3, 10**9, "3", 3.5, True, None],
    "arguments": [{"pad_type": "symmetric"}],
    "precision": ["bf16", "int1", 7],
}
CASES = [(name, value) for name, values in VALUES.items() for value in values]


@pytest.fixture
def best(tmp_path: Path, weights: Path) -> Path:
    keep("mobilenetv3_small_050", tmp_path, weights)
    return tmp_path / "best"


def changed(best: Path, name: str, value: Any) -> None:
    facts = json.loads((best / "manifest.json").read_text())
    own = facts["classes"]
    value = {"reversed": own[::-1], "renamed": [*own[:-1], "x"], "twice": [*own[:-1], own[0]]}.get(
        value if isinstance(value, str) else "", value
    )
    (best / "manifest.json").write_text(json.dumps({**facts, name: value}))


@pytest.mark.parametrize(("name", "value"), CASES, ids=str)
@pytest.mark.parametrize("told", [True, False], ids=["the weights say it too", "weights of version 0.1"])
def test_a_manifest_that_was_changed_is_refused(name: str, value: Any, told: bool, best: Path) -> None:
    if not told:
        save_file(load_file(best / "model.safetensors"), best / "model.safetensors")
        data = (best / "model.safetensors").read_bytes()
        facts = json.loads((best / "manifest.json").read_text())
        facts |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        (best / "manifest.json").write_text(json.dumps(facts))
    Predictor.from_folder(best.parent)
    Classifier.from_folder(best)
    changed(best, name, value)
    plausible = [("classes", "reversed"), ("classes", "renamed"), ("image_size", 33), ("channels", 1), ("arguments", {"pad_type": "symmetric"}), ("precision", "bf16")]  # fmt: skip
    if not told and (name, value) in plausible and type(value) is not bool:
        return  # nothing says otherwise
    with pytest.raises(ConfigError) as refused:
        Predictor.from_folder(best.parent)
    assert "\n" not in str(refused.value) and str(best.parent) in str(refused.value)
    with pytest.raises((ValueError, TypeError, KeyError, RuntimeError)):
        Classifier.from_folder(best)
