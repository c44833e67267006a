"""Folds of pictures with several labels: every label in proportion, groups whole.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, ECML PKDD, algorithm 1) deals out the rarest label first, each time to
the fold that wants it most. The kept libraries (iterative-stratification, scikit-multilearn) deal single pictures, and would tear
groups apart.
"""

import numpy as np


def iterative_parts(labels: np.ndarray, groups: np.ndarray | None, folds: int, seed: int) -> list[np.ndarray]:
    """Return positions of `folds` parts of pictures with labels bool [N, L]; pictures of one group [N] lie in one part."""
    member = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(member.max()) + 1
    kinds = np.concatenate([labels, ~labels.any(axis=1, keepdims=True)], axis=1)  # without any label is dealt out as one
    have = np.stack([np.bincount(member, kinds[:, k], units) for k in range(kinds.shape[1])], axis=1)
    size = np.bincount(member, minlength=units)
    rng = np.random.Generator(np.random.Philox(key=[seed, 2011]))
    order = np.lexsort((rng.permutation(units), -size))  # large groups first: they fit least
    wanted, room = np.tile(have.sum(axis=0) / folds, (folds, 1)), np.full(folds, len(labels) / folds)
    fold = np.full(units, -1)
    while (left := np.flatnonzero(fold < 0)).size:
        remaining = have[left].sum(axis=0)
        rarest = int(np.where(remaining > 0, remaining, np.inf).argmin())
        for unit in order[(fold[order] < 0) & (have[order, rarest] > 0)]:
            ties = np.flatnonzero(wanted[:, rarest] >= wanted[:, rarest].max() - 1e-9)
            ties = ties[room[ties] >= room[ties].max() - 1e-9]
            chosen = int(rng.choice(ties))
            fold[unit] = chosen
            wanted[chosen] -= have[unit]
            room[chosen] -= size[unit]
    return [np.flatnonzero(fold[member] == k) for k in range(folds)]
