"""The conditions of an epoch's training, which its record holds."""

import os
import platform
from typing import Any

import torch

from study.inference.device import Device
from study.networks.pretrained import Backbone
from study.training import distributed
from study.training.inputs import Features


def describe(features: Features, backbone: Backbone, where: Device, micro_batches: int, trained: int) -> dict[str, Any]:
    """Return the conditions. `trained`: the most parameters that a phase so far has trained."""
    model, cuda = features.model, where.device.type == "cuda"
    return {
        "device": device_name(where),
        "host": platform.node(),
        "torch": str(torch.__version__),
        "workers": distributed.world(),
        "train_images": len(features.inputs.train) // features.inputs.tiles,
        "precision": where.precision,
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained_parameters": trained,
        "weights": backbone.weights,
        "weights_sha256": backbone.fingerprint,
        "cut": model.where,
        **({"cut_by": model.how} if model.how else {}),
        **({"why_whole": model.why_whole} if model.why_whole else {}),
        "activations_reused": features.reused,
        **({"why_not_reused": features.why_not} if features.why_not else {}),
        "micro_batches": micro_batches,
        "peak_gpu_bytes": torch.cuda.max_memory_reserved(where.device) if cuda else 0,
        "gpu_bytes": torch.cuda.get_device_properties(where.device).total_memory if cuda else 0,
    }


def device_name(where: Device) -> str:
    """Return the name of the GPU or MIG slice as PyTorch has it, or "cpu x4" for four threads, for `records.on_gpu` to tell apart."""
    if where.device.type != "cuda":
        return f"cpu x{torch.get_num_threads()}"
    name = torch.cuda.get_device_name(where.device)
    is_slice = os.environ.get("CUDA_VISIBLE_DEVICES", "").startswith("MIG-") and "MIG" not in name
    return f"{name} MIG slice" if is_slice else name
