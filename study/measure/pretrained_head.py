"""The network's original task: its own classifier's answers on the tuned backbone's features, compared with those before."""

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from study.datasets.spec import TRAIN, VAL
from study.inference.softmax import probabilities
from study.measure.base import Finished
from study.measure.features import Look, batches, chosen, look, remembered
from study.networks.pretrained import Backbone


@dataclass(frozen=True, kw_only=True, eq=False)
class Original:
    """The pretrained network with the head it came with, and the images on which both networks are compared."""

    backbone: Backbone
    images: np.ndarray  # positions of validation images
    look: Look  # what it says of them

    def kept(self, features: np.ndarray) -> dict[str, float]:
        """Return, for tuned features [N, D] under the original head, the share of equal answers and KL(before, after) in nats."""
        said = head_on(self.backbone, features)
        before, after = probabilities(self.look.logits).astype(float), probabilities(said).astype(float)
        tiny = 1e-12
        apart = (before * (np.log(before + tiny) - np.log(after + tiny))).sum(axis=1)
        return {
            "agreement": float((said.argmax(axis=1) == self.look.logits.argmax(axis=1)).mean()),
            "kl": max(float(apart.mean()), 0.0),
        }


def original(finished: Finished) -> Original:
    """Return the pretrained network. Raises NotMeasured where nothing was pretrained or no head came with it."""
    images = chosen(finished.table, VAL)

    def make() -> Original:
        backbone = finished.published()
        model = finished.network.where.place(backbone.model)
        return Original(backbone=backbone, images=images, look=look(finished, model, backbone.head, finished.pixels[images]))

    return remembered(("original", *_of_the_start(finished, images)), make)


def original_re_estimated(finished: Finished) -> Original | None:
    """Return the network with its own batch-norm statistics estimated on the study's images, to compare with a tuned network treated
    alike."""
    known = original(finished)

    def make() -> Original | None:
        model = re_estimated(finished, known.backbone.model)
        if model is None:
            return None
        return replace(known, look=look(finished, model, known.backbone.head, finished.pixels[known.images]))

    seen = chosen(finished.table, TRAIN).tobytes()  # each seed of a fraction has its own training images
    return remembered(("re-estimated", seen, *_of_the_start(finished, known.images)), make)


def _of_the_start(finished: Finished, images: np.ndarray) -> tuple[object, ...]:
    protocol, cell = finished.config.protocol, finished.config.cell
    return (
        cell.backbone,
        finished.start().fingerprint,
        finished.table.fingerprint,
        images.tobytes(),
        protocol.image_size,
        protocol.precision,
    )


@torch.no_grad()
def head_on(backbone: Backbone, features: np.ndarray) -> np.ndarray:
    """Return the original classifier's logits for features [N, D]: float32 [N, its classes]."""
    head = backbone.model.get_submodule(backbone.head)
    rows = torch.from_numpy(features).to(next(head.parameters()).device)
    out: np.ndarray = head(rows).float().cpu().numpy()
    return out


@torch.no_grad()
def re_estimated(finished: Finished, tuned: nn.Module) -> nn.Module | None:
    """Return a copy of a network with the batch-norm statistics of the study's training images under its own weights; None without any."""
    model = copy.deepcopy(tuned)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is not None]
    if not norms:
        return None
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    for batch in batches(finished, finished.pixels[chosen(finished.table, TRAIN)]):
        if len(batch) > 1:
            model(batch)
    return model.eval()


def between(start: dict[str, Tensor], tuned: dict[str, Tensor], share: float, head: str) -> dict[str, Tensor]:
    """Return (1 - share) start + share tuned, tensor by tensor. The head is always the tuned one, since the start's was never trained."""
    out = {}
    for name, after in tuned.items():
        before = start[name].to(after.device)
        mixed = after.is_floating_point() and not name.startswith(head + ".")
        out[name] = torch.lerp(before, after, share) if mixed else after
    return out
