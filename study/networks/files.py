"""Reading a file of pretrained weights of unknown origin without running its code: its tensors, or what else it holds and how to save
them."""

import json
import pickle
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from study.datasets import no_images
from study.datasets.no_images import held_by
from study.errors import ConfigError, EnvironmentProblem

INSIDE = ("state_dict", "model_state_dict", "model", "net", "network", "state_dict_ema", "model_ema", "weights")
"""Names that checkpoints give to the tensors among their other contents, the surest first."""
WRAPPED = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.", "network.", "net.")
ALONE = "tensors"  # folder of what save_line writes
NO_WEIGHTS = (no_images.LFS, no_images.ANNEX, no_images.DVC, no_images.EMPTY, no_images.PAGE, no_images.NOTE)
ARGUMENTS = frozenset({"pad_type", "act_layer", "global_pool", "img_size", "patch_size", "in_chans", "aa_layer", "output_stride"})
"""Arguments for timm that a weights file may set for its network; others would open files or reach the internet."""


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return (tensors by name, arguments for timm). Raises ConfigError that says what the file holds instead."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                meta = file.metadata() or {}
            return load_file(path), allow_arguments(json.loads(meta.get("timm_kwargs", "{}")))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except ConfigError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise EnvironmentProblem(f"{path} cannot be read ({error.strerror}). Mend its permissions, or its disk.") from None
        raise ConfigError(_why(path, error)) from None
    return _tensors(state, path), {}


def unwrapped(state: dict[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors under the network's own names where training wrapped it; unchanged where that does not succeed."""
    found = state
    for _ in WRAPPED:
        if set(found) & set(own):
            return found
        prefix = next((p for p in WRAPPED if all(name.startswith(p) for name in found)), None)
        if prefix is None:
            break
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found if set(found) & set(own) else state


def allow_arguments(arguments: Any) -> dict[str, Any]:
    """Return the arguments, where all are allowed and plain. Raises ConfigError naming the one that is not."""
    if not isinstance(arguments, dict):
        raise ConfigError(f"timm_kwargs must be a JSON object, not {type(arguments).__name__}. Leave it out of the weights file.")
    for name, value in arguments.items():
        if name not in ARGUMENTS or not isinstance(value, str | int | float | None):
            raise ConfigError(f"timm_kwargs may not set {name!r}. Allowed are {', '.join(sorted(ARGUMENTS))}, as text or numbers.")
    return arguments


def _tensors(state: Any, path: Path) -> dict[str, torch.Tensor]:
    inside = [key for key in INSIDE if isinstance(state, dict) and _are_tensors(state.get(key))]
    found = state[inside[0]] if inside else state
    if _are_tensors(found):
        return dict(found)
    if not isinstance(state, dict):
        raise ConfigError(f"{path} holds {_called(state)}, not tensors by name. Save model.state_dict() there.")
    others = [f"{key} ({_called(value)})" for key, value in state.items() if not isinstance(value, torch.Tensor)]
    what = f"{', '.join(others[:5])}{' and more' if len(others) > 5 else ''} " if others else "nothing"
    raise ConfigError(f"{path} holds {what}beside or instead of tensors by name. Save model.state_dict() alone there.")


def _are_tensors(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in value.items())


def _called(value: Any) -> str:
    return f"a {type(value).__name__}"


def _why(path: Path, error: Exception) -> str:
    if (held := held_by(path)) in NO_WEIGHTS and held is not None:
        return f"{path} is {held.what.replace('the image', 'the weights')}; {held.way_out}."
    if isinstance(error, pickle.UnpicklingError) and (objects := _objects(path)) is not None:
        return (
            f"{path} holds Python objects beside its tensors ({objects}), and reading those may run code. If you trust it, save "
            f"the tensors alone and give --weights {shlex.quote(str(path.parent / ALONE))}: {save_line(path)}"
        )
    return f"{path} cannot be read as weights ({type(error).__name__}): it is cut short or damaged. Copy or download it again."


def save_line(path: Path) -> str:
    """Return the command that saves a checkpoint's tensors alone, in a folder beside it. The command runs the code in the file."""
    new = path.parent / ALONE / f"{path.stem}.safetensors"
    code = (
        "import os, sys, torch; from safetensors.torch import save_file; "
        's = torch.load(sys.argv[1], map_location="cpu", weights_only=False); '
        f"s = next((s[k] for k in {json.dumps(INSIDE)} if k in s), s) if isinstance(s, dict) else s; "
        "s = s if isinstance(s, dict) else s.state_dict(); os.makedirs(os.path.dirname(sys.argv[2]), exist_ok=True); "
        "save_file({k: v.clone().contiguous() for k, v in s.items() if torch.is_tensor(v)}, sys.argv[2])"
    )
    return f"python -c {shlex.quote(code)} {shlex.quote(str(path))} {shlex.quote(str(new))}"


def _objects(path: Path) -> str | None:
    """Return the names of all that is no tensor in an intact file of torch.save; None where it is no such file."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # of torch.save before 1.6, or none at all
        with open(path, "rb") as file:
            start = file.read(2)
        return "of an old format" if start[:1] == b"\x80" else None
    return ", ".join(names[:4]) + (" and more" if len(names) > 4 else "") if names else None
