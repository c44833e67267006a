"""The strategies under comparison. To add one, write its file and list it here; tests in tests/ check it."""

from collections import ChainMap
from collections.abc import Mapping

from study.strategies.base import Phase, Strategy
from study.strategies.bias_only import BiasOnly
from study.strategies.fast_head import FastHead
from study.strategies.full import Full
from study.strategies.full_bn_freeze import FullBnFreeze
from study.strategies.gradual import Gradual
from study.strategies.l2_sp import L2SP
from study.strategies.layer_decay import LayerDecay
from study.strategies.linear_probe import LinearProbe
from study.strategies.lines import LINES, Features, FeaturesSmall
from study.strategies.lora import LoRA
from study.strategies.lp_ft import LpFt
from study.strategies.norm_only import NormOnly
from study.strategies.partial import Partial
from study.strategies.partial_bn_freeze import PartialBnFreeze
from study.strategies.random_probe import RandomProbe
from study.strategies.retrain_head import RetrainHead
from study.strategies.scratch import Scratch
from study.strategies.surgical import Surgical

STRATEGIES: dict[str, type[Strategy]] = {
    s.name: s
    for s in (
        LinearProbe,
        Partial,
        Full,
        LayerDecay,
        LpFt,
        Scratch,
        RandomProbe,
        FastHead,
        L2SP,
        Gradual,
        Surgical,
        NormOnly,
        BiasOnly,
        LoRA,
        RetrainHead,
        PartialBnFreeze,
        FullBnFreeze,
    )
}
"""Strategies by name. New ones go to the end, since a strategy's place decides its colour in every figure."""

EVERY: Mapping[str, type[Strategy]] = ChainMap(STRATEGIES, LINES)
"""Strategies that a study asks for, and those that every study has. New members of the former are here too."""

__all__ = [
    "EVERY",
    "LINES",
    "STRATEGIES",
    "BiasOnly",
    "FastHead",
    "Features",
    "FeaturesSmall",
    "Full",
    "FullBnFreeze",
    "Gradual",
    "L2SP",
    "LayerDecay",
    "LinearProbe",
    "LoRA",
    "LpFt",
    "NormOnly",
    "Partial",
    "PartialBnFreeze",
    "Phase",
    "RandomProbe",
    "RetrainHead",
    "Scratch",
    "Strategy",
    "Surgical",
]
