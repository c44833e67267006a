"""The pretrained networks that can be used without a download."""

from pathlib import Path

import huggingface_hub
import timm

from study.networks.weights import names_in, timm_name

INSTALLED = "efficientnet_lite0"  # its weights come with a package that is always installed


def networks_at_hand(folder: str | None) -> list[str]:
    """Return the networks whose weights are in `folder`, are installed, or were kept by timm's hub; each network once."""
    names = [*(names_in(Path(folder)) if folder else []), INSTALLED, *_kept_by_the_hub()]
    return list({timm_name(name): name for name in reversed(names)}.values())[::-1]


def _kept_by_the_hub() -> list[str]:
    """Return the networks in the hub's cache that are timm's own and that timm still knows, by the names of its folders."""
    kept = Path(huggingface_hub.constants.HF_HUB_CACHE)
    folders = sorted(kept.glob("models--timm--*")) if kept.is_dir() else []
    names = [
        f.name.removeprefix("models--timm--")
        for f in folders
        if any(f.glob("snapshots/*/*.safetensors")) or any(f.glob("snapshots/*/*.bin"))
    ]
    return [name for name in names if timm.is_model(name)]
