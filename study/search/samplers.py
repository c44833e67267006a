"""The samplers that propose a search's guided trials, by name: Optuna's own, seeded for each trial.

Each begins where the default and the random trials have ended, so it draws no start of its own.
"""

from collections.abc import Callable

from optuna.samplers import BaseSampler, GPSampler, TPESampler

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    # multivariate: as what is searched goes together; constant_liar keeps parallel trials apart
    "tpe": lambda seed: TPESampler(seed=seed, n_startup_trials=1, multivariate=True, constant_liar=True),
    # a Gaussian process under expected improvement, over trials that ended: running ones are kept apart from, stopped ones tell it nothing
    "gp": lambda seed: GPSampler(seed=seed, n_startup_trials=1),
}
