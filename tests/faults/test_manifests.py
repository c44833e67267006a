"""A manifest that says other than the weights it describes, or what no network has, is refused by name, wherever it is opened."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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


def test_a_network_in_another_trials_folder_is_not_taken_for_that_trials(tmp_path: Path, best: Path) -> None:
    """It is the slip of a copy: the scores, the temperature and the card beside it are the other trial's."""
    own = json.loads((best / "manifest.json").read_text())["trial"]
    for name, taken in ((own, True), ("1" * 16, False)):
        place = tmp_path / "study" / "trials" / name
        shutil.copytree(best, place / "best")
        if taken:
            assert Predictor.from_folder(place).kept.trial == own
        else:
            with pytest.raises(ConfigError, match=f"it is of trial {own}, and lies in the folder of trial {name}"):
                Predictor.from_folder(place)


DAMAGES: list[Callable[[dict], object]] = [
    lambda t: t["bn1.running_var"].fill_(-5.0),
    lambda t: t.update({"bn1.bias": t["bn1.bias"].to(torch.int8)}),
]


@pytest.mark.parametrize("change", DAMAGES)
def test_a_network_that_gives_no_numbers_gives_no_answer(change: Callable[[dict], object], best: Path) -> None:
    tensors = load_file(best / "model.safetensors")
    with safe_open(best / "model.safetensors", "pt") as file:
        says = file.metadata()
    change(tensors)
    save_file(tensors, best / "model.safetensors", says)
    data = (best / "model.safetensors").read_bytes()
    facts = json.loads((best / "manifest.json").read_text()) | {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (best / "manifest.json").write_text(json.dumps(facts))
    said = r"gives no numbers for a picture|bn1.bias is \[16\] int8 in the file, \[16\] float32 in the network"
    with pytest.raises(ConfigError, match=said):
        Predictor.from_folder(best.parent)(np.zeros((1, 9, 9, 3), np.uint8))
