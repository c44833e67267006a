"""The settings of a training: the recipe, which every search tunes, and the protocol, which a study fixes."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from study.bounds import check_fields
from study.canonical import added
from study.errors import require
from study.scoring.metric import DEFAULT, Metric, find_metric, metric_of
from study.space import Choice, Log, Offered, Uniform

Loss = Literal["cross_entropy", "focal"]
Schedule = Literal["cosine", "wsd"]
Fit = Literal["square", "pad", "stretch"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Nuisance settings, tuned for every cell and every strategy. Offered fields are off, and searched where a study asks for them."""

    augmentation: Annotated[float, Uniform(0.0, 1.0)] = 0.5  # scales every magnitude of the dataset's policy
    weight_decay: Annotated[float, Log(1e-6, 1e-1)] = 1e-4
    label_smoothing: Annotated[float, Uniform(0.0, 0.2)] = 0.1
    class_weighting: Annotated[float, Offered(Choice(0.0, 0.9, 0.99, 0.999, 0.9999, 1.0))] = added(
        0.0, since=6
    )  # 0: none; 1: inverse frequency; between: beta of the effective number of samples (Cui et al. 2019)
    mixup: Annotated[float, Offered(Uniform(0.0, 0.8))] = added(0.0, since=6)  # alpha of the shares' Beta(alpha, alpha); 0 = off
    cutmix: Annotated[float, Offered(Uniform(0.0, 1.0))] = added(0.0, since=6)  # the same; with both, each batch has one of them
    drop_path: Annotated[float, Offered(Uniform(0.0, 0.3))] = added(0.0, since=6)  # timm's drop_path_rate, of the deepest block
    ema: Annotated[float, Offered(Choice(0.0, 0.9, 0.99, 0.999))] = added(
        0.0, since=6
    )  # decay a step of the running average of weights that is scored and kept; 0 = off
    loss: Annotated[Loss, Offered(Choice(*get_args(Loss)))] = added("cross_entropy", since=7)  # focal: Lin et al. 2017, gamma 2
    balanced_sampling: Annotated[float, Offered(Choice(0.0, 0.5, 1.0))] = added(
        0.0, since=7
    )  # a class of n images is shown in proportion to n^(1 - this): 0 as they are, 1 all classes equally often (Kang et al. 2020)

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.loss in get_args(Loss), f"loss must be {' or '.join(get_args(Loss))}, not {self.loss!r}.")

    @property
    def blends(self) -> bool:
        """Return True where training images are blended with each other."""
        return self.mixup > 0 or self.cutmix > 0


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The settings that are fixed for a whole study, and stated as a caveat on its report."""

    max_epochs: int = 10
    warmup_epochs: float = 1.0  # linear, at the start of every phase
    batch_size: int = 32  # global: split over workers
    image_size: int = 224  # pixels, square
    precision: Literal["auto", "fp32", "bf16"] = "fp32"  # auto: the faster, measured when the study first starts, kept ever after
    batch_norm: Literal["train", "freeze"] = "train"  # of the *trained* stages; frozen ones are always in eval mode
    grad_clip: float = 1.0  # global norm; inf = off
    workers: int = 1  # DDP: batch-norm statistics are per worker, so this changes numbers
    views: int = 0  # V augmented views per image whose frozen activations are reused; 0 = fresh views, nothing reused
    train_eval_images: int = 1024  # size of the fixed training subset scored in eval mode for the train-val gap
    optimizer: Literal["adamw", "sgd"] = added("adamw", since=2)  # rates are in AdamW's units whatever it is
    wrong_labels: float = added(0.0, since=5)  # share of training images given a wrong label: what a network memorises
    min_steps: int = added(0, since=5)  # optimiser steps of a whole trial, at least: where images are few, an epoch passes over them often
    keep: Literal["last", "best"] = added("last", since=7, before="best")  # which epoch's network a trial keeps, and is scored by
    schedule: Schedule = added("cosine", since=7)  # of the rate after the warm-up; wsd: constant, then down in the last tenth
    fit: Fit = added(
        "square", since=7
    )  # of a picture to the network's square: its centre, all of it with grey around, or all of it stretched
    metric: str = added(
        DEFAULT.text, since=7
    )  # by which everything is chosen and decided (study/scoring/metric.py); costs are kept as numbers

    def __post_init__(self) -> None:
        check_fields(self)
        require(isinstance(self.metric, str), f"metric must be a text, not {self.metric!r}.")
        object.__setattr__(self, "metric", find_metric(self.metric).text)
        require(self.precision in ("auto", "fp32", "bf16"), f"precision must be auto, fp32 or bf16, not {self.precision!r}.")
        require(self.optimizer in ("adamw", "sgd"), f"optimizer must be adamw or sgd, not {self.optimizer!r}.")
        require(self.schedule in get_args(Schedule), f"schedule must be {' or '.join(get_args(Schedule))}, not {self.schedule!r}.")
        require(
            self.fit in get_args(Fit),
            "fit must be square (the centre of each picture), pad (all of it, grey around) or stretch (all of it, pulled to a "
            f"square), not {self.fit!r}.",
        )
        require(self.batch_norm in ("train", "freeze"), f"batch_norm must be train or freeze, not {self.batch_norm!r}.")
        require(
            self.keep in ("last", "best"),
            f"keep must be last (the last epoch's network) or best (the best epoch's on validation), not {self.keep!r}.",
        )
        require(self.batch_size % self.workers == 0, f"batch_size {self.batch_size} must be divisible by workers {self.workers}.")

    @property
    def scored_by(self) -> Metric:
        """The metric, as a value."""
        return metric_of({"protocol": {"metric": self.metric}})

    def passes(self, images: int) -> int:
        """Return the number of passes of an epoch over so many training images: one, or as many as `min_steps` asks."""
        steps = self.max_epochs * -(-images // self.batch_size)
        return max(-(-self.min_steps // steps), 1)

    @property
    def at_once(self) -> int:
        """Return the fewest images that a worker must be able to train on at once: half of its part of a batch, where the whole does not
        fit."""
        return max(self.batch_size // self.workers // 2, 1)

    def share(self, images: int, batch_size: int = 0) -> int:
        """Return the fewest of so many training images that a worker gets at a step.

        The batches of a pass differ by one at most, and so do the workers' parts of one.
        """
        return images // -(-images // (batch_size or self.batch_size)) // self.workers if images else 0

    def steps(self, images: int) -> int:
        """Return the optimiser steps of a whole trial on so many training images."""
        return self.max_epochs * self.passes(images) * -(-images // self.batch_size)


def stretched(protocol: Protocol, factor: int) -> Protocol:
    """Return the protocol with so many times the epochs: the schedule is stretched, the warm-up is as long as before.

    Stored views and least steps grow alike, so that reuse costs no strategy a view.
    """
    return dataclasses.replace(
        protocol, max_epochs=factor * protocol.max_epochs, views=factor * protocol.views, min_steps=factor * protocol.min_steps
    )
