"""Advice in refusals of pretrained weights is followed here: the network is made, or something else is said."""

import argparse
import errno
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from study.errors import ConfigError, EnvironmentProblem
from study.networks import weights as module
from study.networks.pretrained import create
from study.networks.weights import find_weights, timm_name
from tests import networks as networks  # registers the small ones

SMALL = "small_resnet"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return {k: v.clone() for k, v in timm.create_model(SMALL, pretrained=False).state_dict().items()}


def wrapped(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + k: v for k, v in state.items()}


READ: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model": lambda s: {"model": s, "optimizer": {"state": {}, "param_groups": []}},
    "model_state_dict": lambda s: {"model_state_dict": s, "loss": 0.5},
    "parallel": lambda s: wrapped("module.", s),
    "compiled": lambda s: wrapped("_orig_mod.", s),
    "both": lambda s: {"state_dict": wrapped("module._orig_mod.", s)},
    "lightning": lambda s: {"state_dict": wrapped("model.", s), "pytorch-lightning_version": "2"},
}
OBJECTS: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "args": lambda s: {"state_dict": s, "args": argparse.Namespace(lr=1.0)},
    "best": lambda s: {"state_dict": s, "best": np.float64(0.5)},
    "path": lambda s: {"model": wrapped("module.", s), "where": Path("x")},
    "whole": lambda s: _whole(s),
}


def _whole(state: dict[str, torch.Tensor]) -> torch.nn.Module:
    model = timm.create_model(SMALL, pretrained=False)
    model.load_state_dict(state)
    return model


def same(folder: Path, state: dict[str, torch.Tensor]) -> bool:
    found = find_weights(SMALL, folder).state
    create(SMALL, 3, weights=folder)
    return set(found) == set(state) and all(torch.equal(found[k], state[k]) for k in state)


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize("held", READ)
def test_tensors_are_found_wherever_training_put_them(held: str, suffix: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(READ[held](state), tmp_path / f"{SMALL}{suffix}")
    assert same(tmp_path, state)


@pytest.mark.parametrize("held", OBJECTS)
def test_objects_are_named_and_the_line_that_is_advised_saves_the_tensors(
    held: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    folder = tmp_path / "my weights"
    folder.mkdir()
    torch.save(OBJECTS[held](state), folder / f"{SMALL}.pth")
    with pytest.raises(ConfigError) as error:
        find_weights(SMALL, folder)
    message = str(error.value)
    named = {"args": "argparse.Namespace", "best": "numpy", "path": "pathlib", "whole": "timm|torch.nn"}[
        held
    ]  # whichever comes first in it
    assert re.search(named, message) and "intact" not in message
    command = re.search(r"python -c .*$", message)
    place = re.search(r"give --weights ('[^']+'|\S+): python", message)
    assert command and place
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(command[0], shell=True, check=True, cwd=Path(__file__).parent.parent, timeout=120, env={**os.environ, "PATH": path})
    assert same(Path(shlex.split(place[1])[0]), state)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "run git lfs pull"),
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\x80\x02c__main__\nThing\n.", "Python objects"),
        (b"abc" * 100, "cut short or damaged"),
        (b"PK\x03\x04" + b"\0" * 100, "cut short or damaged"),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_that_is_none_says_what_it_is(suffix: str, data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / f"{SMALL}{suffix}").write_bytes(data)
    with pytest.raises(ConfigError, match=words if suffix == ".pth" or "objects" not in words else "cut short or damaged"):
        find_weights(SMALL, tmp_path)


@pytest.mark.parametrize("held", [{"epoch": 3}, {}, [1, 2], {"state_dict": {"a": 1}}, {"a": torch.zeros(1), "epoch": 3}])
def test_what_stands_beside_or_instead_of_tensors_is_named(held: Any, tmp_path: Path) -> None:
    torch.save(held, tmp_path / f"{SMALL}.pth")
    with pytest.raises(ConfigError, match=r"holds (a list|nothing|epoch \(a int\)|state_dict \(a dict\))"):
        find_weights(SMALL, tmp_path)


# ---- names, tags and files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet10t.nosuch", "resnet10t.mine", "efficientnet_b0.ra4", "efficientnet_lite0.x", "small_resnet.x"])
def test_an_unknown_tag_is_refused_and_the_names_that_are_advised_are_known(name: str) -> None:
    with pytest.raises(ConfigError, match="timm knows no weights") as error:
        timm_name(name)
    found = re.search(r"Name the network (\w+)(?:, or (.*) for weights)?", str(error.value))
    assert found
    for known in (found[1], *(found[2].split(" or ") if found[2] else ())):
        timm_name(known)


@pytest.mark.parametrize("name", timm.list_pretrained("efficientnet_b*") + timm.list_pretrained("resnet1*"))
def test_every_tag_of_timms_is_known(name: str) -> None:
    assert timm_name(name) == name


def test_weights_of_ones_own_by_a_tag_are_taken_for_the_network_alone(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / f"{SMALL}.mine.safetensors")
    assert same(tmp_path, state)


def test_a_file_called_by_a_tag_of_other_pixels_is_refused_and_both_ways_out_lead_out(tmp_path: Path) -> None:
    tag = "efficientnet_b0.ra4_e3600_r224_in1k"
    state = {k: v.clone() for k, v in timm.create_model("efficientnet_b0", pretrained=False).state_dict().items()}
    file = tmp_path / f"{tag}.safetensors"
    save_file(state, file)
    with pytest.raises(ConfigError, match=r"mean 0\.5 .* would give them 0\.485") as error:
        create("efficientnet_b0", 2, weights=tmp_path)
    named = re.search(r"Name the network (\S+). Or, if they are others, call the file (\S+)\.$", str(error.value))
    assert named and named[1] == tag
    assert create(named[1], 2, weights=tmp_path).mean == (0.5,) * 3
    file.rename(tmp_path / named[2])
    assert create("efficientnet_b0", 2, weights=tmp_path).mean[0] == pytest.approx(0.485)


def test_a_tag_of_the_same_pixels_is_taken(tmp_path: Path) -> None:
    state = {k: v.clone() for k, v in timm.create_model("resnet10t", pretrained=False).state_dict().items()}
    save_file(state, tmp_path / "resnet10t.c3_in1k.safetensors")
    assert create("resnet10t", 2, weights=tmp_path).weights.endswith("c3_in1k.safetensors")


def test_a_network_without_published_weights_is_told_from_a_hub_that_is_silent(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ConfigError, match="timm publishes none") as error:
        find_weights(SMALL, tmp_path)
    assert "hub" not in str(error.value) and "online" not in str(error.value)
    named = re.search(r"put (\S+) or \.pth", str(error.value))
    assert named
    save_file(state, tmp_path / named[1])
    assert same(tmp_path, state)


class Answered(Exception):
    def __init__(self, status: int) -> None:
        super().__init__("words with 401, 403, 404 and No space left on device")
        self.response = argparse.Namespace(status_code=status)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "x"), "make room"),
        (PermissionError(errno.EACCES, "x"), "HF_HOME"),
        (Answered(401), "hf auth login"),
        (Answered(403), "hf auth login"),
        (Answered(404), "update timm"),
        (Answered(500), "run once online"),
        (ConnectionError("403 404 full disk"), "run once online"),
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_the_hubs_errors_are_told_by_code(error: Exception, words: str, deep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **values: object) -> None:
        if deep:
            raise RuntimeError("403") from error
        raise error

    monkeypatch.setattr(module, "_reachable_hub", refuse)
    with pytest.raises(ConfigError) as caught:
        find_weights("resnet26t", None)
    assert words in str(caught.value) and str(caught.value).count("hf auth") + str(caught.value).count("make room") <= 1


def test_a_file_that_may_not_be_read_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{SMALL}.pth").write_bytes(b"x")

    def refuse(*args: object, **values: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("torch.load", refuse)
    with pytest.raises(EnvironmentProblem, match="permissions"):
        find_weights(SMALL, tmp_path)
