"""Folds: what makes them repeats. Each is tested on images of its own, or one training is counted several times."""

from collections.abc import Collection, Sequence


def in_common(tests: Sequence[Collection[str]]) -> tuple[int, int, int] | None:
    """(a fold, a later one, how many images both are tested on) of the first two that share test images, by their names; None where no
    image is tested twice."""
    for later, own in enumerate(tests):
        for fold in range(later):
            if both := len(set(own) & set(tests[fold])):
                return fold, later, both
    return None
