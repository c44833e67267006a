"""Checkpoints: a folder of tensors whose manifest (sha256 of every file) is written last. The newest valid one is used.

Plain torch tensors and JSON, loaded with weights_only: opening a checkpoint runs no code.
"""

import hashlib
import io
import json
import logging
from typing import Any

import torch
from safetensors.torch import load, save

from study.failpoints import failpoint
from study.records import dumps
from study.storage.folder import Folder

log = logging.getLogger(__name__)
KEEP = 2
FILES = ("state.pt", "model.safetensors")


def write(folder: Folder, name: str, state: dict[str, Any], facts: dict[str, Any]) -> None:
    """Write `state`, which must hold tensors, numbers, strings, lists and dicts only. `facts` go into the manifest."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    _write(folder, name, FILES[0], buffer.getvalue(), facts)


def _write(folder: Folder, name: str, file: str, data: bytes, facts: dict[str, Any]) -> None:
    folder.write(f"{name}/{file}", data)
    failpoint("before_ckpt_rename")
    manifest = {**facts, "file": file, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    folder.write(f"{name}/manifest.json", dumps(manifest).encode())
    failpoint("after_ckpt_rename")


def read(folder: Folder, name: str, **expected: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return (state, facts), or None where nothing valid is stored or it belongs to another network. A damaged checkpoint is logged."""
    valid = _valid(folder, name, expected)
    if valid is None:
        return None
    data, manifest = valid
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True), manifest


def _valid(folder: Folder, name: str, expected: dict[str, Any]) -> tuple[bytes, dict[str, Any]] | None:
    text = folder.read(f"{name}/manifest.json")
    if text is None:
        return None
    try:
        manifest: dict[str, Any] = json.loads(text)
        if not isinstance(manifest, dict) or manifest["file"] not in FILES:  # a stranger's manifest must not choose what is opened
            raise ValueError(f"its manifest names no file of a checkpoint ({' or '.join(FILES)})")
        size = folder.size(f"{name}/{manifest['file']}")
        if size is None or size != manifest.get("bytes", size):
            raise ValueError("its file is none, or of another size than its manifest says")
        data = folder.read(f"{name}/{manifest['file']}")
        if data is None or hashlib.sha256(data).hexdigest() != manifest["sha256"]:
            raise ValueError("its contents do not match its manifest")
        for key, value in expected.items():
            if manifest.get(key) != value:
                raise ValueError(f"{key} is {manifest.get(key)!r}, expected {value!r}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        log.warning("checkpoint %s/%s is not used: %s", folder.location, name, error)
        return None
    return data, manifest


def save_newest(folder: Folder, epoch: int, state: dict[str, Any], facts: dict[str, Any]) -> None:
    """Add checkpoint/<epoch> and drop all but the newest two."""
    write(folder, f"checkpoint/{epoch:06d}", state, {**facts, "epoch": epoch})
    for old in [n for n in folder.names("checkpoint") if n.isdigit()][:-KEEP]:
        folder.remove(f"checkpoint/{old}")


def load_newest(folder: Folder, **expected: Any) -> dict[str, Any] | None:
    for name in reversed([n for n in folder.names("checkpoint") if n.isdigit()]):
        if (found := read(folder, f"checkpoint/{name}", **expected)) is not None:
            return found[0]
    return None


def save_weights(
    folder: Folder, name: str, tensors: dict[str, torch.Tensor], facts: dict[str, Any], metadata: dict[str, str] | None = None
) -> None:
    """Write weights alone, as safetensors, which is all that prediction needs. `metadata` is stored inside the file."""
    own: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name_of, tensor in tensors.items():
        whole = tensor.detach().cpu().contiguous()
        own[name_of] = whole.clone() if whole.data_ptr() in seen else whole  # a module in two places: the format holds no tensor twice
        seen.add(whole.data_ptr())
    data = save(own, metadata)
    _write(folder, name, FILES[1], data, facts)


def load_weights(folder: Folder, name: str, **expected: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Return (tensors, manifest), or None where nothing valid is stored."""
    valid = weights_file(folder, name, **expected)
    return None if valid is None else (load(valid[0]), valid[1])


def weights_file(folder: Folder, name: str, **expected: Any) -> tuple[bytes, dict[str, Any]] | None:
    """Return (the bytes of the weights file, manifest), or None where nothing valid is stored."""
    return _valid(folder, name, expected)
