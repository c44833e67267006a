"""Strategies as people read them: a name for a table, a noun and an imperative for sentences."""

from study.strategies import EVERY

NAMES = {
    "features": "frozen, linear classifier",
    "features_small": "linear classifier, smaller images",
    "linear_probe": "frozen, head trained (linear probe)",
    "partial": "last stages trained (partial)",
    "full": "everything trained (full)",
    "layer_decay": "everything, earlier layers slower",
    "lp_ft": "head, then everything (LP-FT)",
    "scratch": "everything, from random weights",
    "random_probe": "head only, on random features",
    "fast_head": "everything, the head faster",
    "l2_sp": "everything, kept near the start (L2-SP)",
    "gradual": "unfrozen step by step (gradual)",
    "surgical": "one block and the head (surgical)",
    "norm_only": "norms and the head",
    "bias_only": "biases and the head (BitFit)",
    "lora": "low-rank updates (LoRA)",
    "retrain_head": "everything, then a fresh head",
    "partial_bn_freeze": "last stages, batch norm frozen",
    "full_bn_freeze": "everything, batch norm frozen",
}
NOUNS = {
    "features": "the frozen network with a linear classifier",
    "features_small": "the same on smaller images",
    "linear_probe": "the frozen network with a trained head",
    "partial": "training the last stages",
    "full": "training everything",
    "layer_decay": "training everything, earlier layers slower",
    "lp_ft": "training the head, then everything",
}
DO = {
    "features": "keep the network frozen and fit only a linear classifier",
    "linear_probe": "freeze the network and train only the head",
    "partial": "train the head and the last stages of the network",
    "full": "fine-tune the whole network",
    "layer_decay": "fine-tune the whole network, with smaller learning rates in earlier layers",
    "lp_ft": "train the head first, then the whole network",
    "scratch": "train the whole network from random weights",
    "fast_head": "fine-tune the whole network, with a higher learning rate for the head",
    "l2_sp": "fine-tune the whole network, kept near its pretrained weights (L2-SP)",
    "gradual": "unfreeze the network step by step, from the head down",
    "surgical": "fine-tune one block of the network and the head",
    "norm_only": "train the head and the normalisation layers",
    "bias_only": "train the head and the biases (BitFit)",
    "lora": "train the head and low-rank updates of the layers (LoRA)",
    "retrain_head": "fine-tune the whole network, then train a fresh head",
    "partial_bn_freeze": "train the head and the last stages, with batch norm frozen",
    "full_bn_freeze": "fine-tune the whole network, with batch norm frozen",
}


def plain_name(strategy: str) -> str:
    """Return a strategy's name for a table: the plain name, or its title where it has none."""
    return NAMES.get(strategy, EVERY[strategy].title if strategy in EVERY else strategy)


def noun(strategy: str) -> str:
    """Return a strategy as a noun of a sentence: "training the last stages"."""
    return NOUNS.get(strategy, plain_name(strategy))


def to_do(strategy: str) -> str:
    """Return what to do with the network, as the lower-case imperative of a sentence without its end."""
    return DO.get(strategy, f"train the network with {strategy} ({plain_name(strategy)})")


def sentence(text: str) -> str:
    """Return the text with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '?')) else '.'}"
