"""A manifest that says other than the weights it describes, or what no network has, is refused by name, wherever it is opened."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from study.errors import ConfigError
from study.inference.classifier import Classifier
from study.use.predictor import Predictor
from tests.test_kept import keep

VALUES: dict[str, list[Any]] = {
    "classes": ["reversed", "renamed", "twice", [], ["a"], "text", None, [1, 2, 3]],
    "image_size": [100_000, -5, 0, 33, 10**30, 1.5, "64", True, None, [64]],
    "side": [100_000, -5, 0, 10**30, 1.5, "64", True, None, [64]],
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


def rewrite_weights(best: Path, metadata: dict[str, str] | None) -> None:
    """Write the same tensors in a file that says something else of itself, and a manifest that knows it."""
    save_file(load_file(best / "model.safetensors"), best / "model.safetensors", metadata)
    data = (best / "model.safetensors").read_bytes()
    facts = json.loads((best / "manifest.json").read_text())
    facts |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (best / "manifest.json").write_text(json.dumps(facts))


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"kept": "[]"}], ids=str)
def test_weights_that_do_not_say_what_they_are_are_refused(metadata: dict[str, str] | None, best: Path) -> None:
    rewrite_weights(best, metadata)
    with pytest.raises(ConfigError, match="its weights do not say what network they are"):
        Predictor.from_folder(best.parent)
    with pytest.raises(ValueError, match="do not say"):
        Classifier.from_folder(best)


@pytest.mark.parametrize(("name", "value"), CASES, ids=str)
@pytest.mark.parametrize("told", [True, False], ids=["the weights say otherwise", "the weights say so too"])
def test_a_manifest_that_was_changed_is_refused(name: str, value: Any, told: bool, best: Path) -> None:
    Predictor.from_folder(best.parent)
    Classifier.from_folder(best)
    changed(best, name, value)
    if not told:
        facts = json.loads((best / "manifest.json").read_text())
        rewrite_weights(best, {"kept": json.dumps({k: v for k, v in facts.items() if k not in ("bytes", "sha256")})})
    plausible = [("classes", "reversed"), ("classes", "renamed"), ("image_size", 33), ("channels", 1),
        ("arguments", {"pad_type": "symmetric"}), ("precision", "bf16")]  # fmt: skip
    if not told and (name, value) in plausible and type(value) is not bool:
        return  # nothing says otherwise
    with pytest.raises(ConfigError) as refused:
        Predictor.from_folder(best.parent)
    assert "\n" not in str(refused.value) and str(best.parent) in str(refused.value)
    with pytest.raises((ValueError, TypeError, KeyError, RuntimeError)):
        Classifier.from_folder(best)


@pytest.mark.parametrize("what", ["absent", "of another shape", "one too many"])
def test_tensors_of_another_network_are_named(what: str, best: Path) -> None:
    """All three files agree, so only the tensors tell."""
    tensors = load_file(best / "model.safetensors")
    with safe_open(best / "model.safetensors", "pt") as file:
        says = file.metadata()
    if what == "absent":
        del tensors["classifier.weight"]
    elif what == "of another shape":
        tensors["classifier.weight"] = tensors["classifier.weight"][:1].clone()
    else:
        tensors["extra.bias"] = tensors["classifier.bias"].clone()
    save_file(tensors, best / "model.safetensors", says)
    data = (best / "model.safetensors").read_bytes()
    facts = json.loads((best / "manifest.json").read_text()) | {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (best / "manifest.json").write_text(json.dumps(facts))
    name = "extra.bias" if what == "one too many" else "classifier.weight"
    for read in (lambda: Predictor.from_folder(best.parent), lambda: Classifier.from_folder(best)):
        with pytest.raises((ConfigError, ValueError), match=f"its weights are another network's: {name} is .* in the network"):
            read()
