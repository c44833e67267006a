"""Folds as repeats: each is tested on images of its own, since otherwise one training is counted several times."""

from collections.abc import Collection, Sequence


def in_common(tests: Sequence[Collection[str]]) -> tuple[int, int, int] | None:
    """Return (a fold, a later one, the number of images that both are tested on) of the first two that share test images, by their names.

    None where no image is tested twice.
    """
    for later, own in enumerate(tests):
        for fold in range(later):
            if both := len(set(own) & set(tests[fold])):
                return fold, later, both
    return None
