"""The length that is taken, the studies that fit into hours, and the temperature: laws of pure functions."""

import math

import numpy as np
import pytest

from analysis.data.predictions import Predictions
from analysis.statistics.temperature import crossfit
from study.metrics import log_shares
from study.search.lengths import Tried, affordable, choose, compare, is_lower, price


def tried(*rows: tuple[int, tuple[float, ...]]) -> list[Tried]:
    return [Tried(epochs=epochs, scores=scores) for epochs, scores in rows]


def drawn(seed: int) -> list[Tried]:
    rng = np.random.default_rng(seed)
    runs = [int(rng.integers(1, 6)), 2, 2]
    centre = rng.uniform(0.3, 0.8, 3)
    return tried(*((e, tuple((c + rng.normal(0, 0.03, n)).tolist())) for e, c, n in zip((3, 9, 30), centre, runs, strict=True)))


@pytest.mark.parametrize("seed", range(50))
def test_the_choice_obeys_its_rule(seed: int) -> None:
    rows = drawn(seed)
    taken = choose(rows)
    assert taken in rows
    longer = [t for t in rows if t.epochs > taken.epochs]
    assert all(any(is_lower(t, s) for s in rows if s.epochs < t.epochs) for t in longer), "a longer one that is not taken is lower"
    assert not any(is_lower(taken, s) for s in rows if s.epochs < taken.epochs)
    assert choose(rows[::-1]) == taken, "whatever order they come in"
    shifted = [Tried(epochs=t.epochs, scores=tuple(s + 0.1 for s in reversed(t.scores))) for t in rows]
    assert choose(shifted).epochs == taken.epochs, "nor whose run it was, nor where zero lies"
    assert choose([taken]) == taken


def test_longer_is_taken_unless_it_is_lower_by_more_than_a_standard_error() -> None:
    short = (10, (0.60, 0.62))
    assert choose(tried(short, (30, (0.60, 0.62)))).epochs == 30, "equal"
    # 0.61 against 0.60: pooled sd 0.0141, standard error 0.0141
    assert compare(*reversed(tried(short, (30, (0.59, 0.61))))) == pytest.approx((-0.01, math.sqrt(0.0002)))
    assert choose(tried(short, (30, (0.59, 0.61)))).epochs == 30, "lower by less"
    assert choose(tried(short, (30, (0.57, 0.59)))).epochs == 10, "lower by more"
    assert choose(tried(short, (30, (0.50, 0.52)), (100, (0.7, 0.7)))).epochs == 100
    assert choose(tried(short, (30, (0.50, 0.52)), (100, (0.60, 0.60)))).epochs == 100, "lower than neither"
    assert choose(tried((10, (0.6,)), (30, (0.6,)))).epochs == 30 and choose(tried((10, (0.6,)), (30, (0.59,)))).epochs == 10


def test_a_slow_fall_does_not_add_up() -> None:
    """Each is lower than the one before it by less than a standard error, and the last is lower than the first by more."""
    rows = tried((10, (0.60, 0.64)), (30, (0.585, 0.625)), (100, (0.57, 0.61)))
    assert not is_lower(rows[1], rows[0]) and not is_lower(rows[2], rows[1]) and is_lower(rows[2], rows[0])
    assert choose(rows).epochs == 30


def test_runs_of_one_seed_pair_up() -> None:
    """The numbers were measured on ants and bees: two heads apart by 6 points, and both 1 point lower after longer training."""
    a = Tried(epochs=9, scores=(0.797, 0.861), seeds=(1, 2))
    b = Tried(epochs=30, scores=(0.848, 0.786), seeds=(2, 1))
    assert compare(b, a) == pytest.approx((-0.012, 0.001)) and choose([a, b]) == a
    apart = [Tried(epochs=t.epochs, scores=t.scores) for t in (a, b)]
    assert compare(apart[1], apart[0])[1] > 0.04 and choose(apart).epochs == 30, "nothing is known of what they share"
    assert choose([a, Tried(epochs=30, scores=(0.862, 0.786), seeds=(2, 1))]).epochs == 30, "of two seeds, one did better"
    assert compare(b, Tried(epochs=9, scores=(0.8,), seeds=(1,)))[0] == pytest.approx(0.017), "one pair is none"


@pytest.mark.parametrize("seed", range(20))
def test_more_hours_never_hold_less_and_what_they_hold_is_within_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths, pace, share = (3, 9, 30), float(rng.uniform(0.1, 20)), float(rng.uniform(1, 2))
    to_train = {3: int(rng.integers(0, 3)), 9: 2, 30: 2}
    before: tuple[int, ...] = ()
    for seconds in np.linspace(0, price(lengths, to_train, pace, share), 40):
        held = affordable(lengths, to_train, pace, share, float(seconds) * (1 + 1e-12))
        assert held == lengths[: len(held)] and len(held) >= len(before)
        assert not held or price(held, to_train, pace, share) <= seconds * (1 + 1e-9)
        before = held
    assert before == lengths and affordable(lengths, to_train, pace, share, math.inf) == lengths
    assert affordable(lengths, to_train, pace, share, 0.0) == ()


def said(temperature: float, images: int, seed: int) -> Predictions:
    """Return predictions with labels drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (images, 4))
    shares = np.exp(log_shares(logits / temperature))
    labels = np.array([rng.choice(4, p=row) for row in shares])
    return Predictions(images=np.arange(images).astype(str), labels=labels, groups=None, logits=logits)


def test_a_temperature_is_found_and_judged_on_images_it_was_not_fitted_on() -> None:
    found = crossfit([said(2.5, 2000, 1), said(2.5, 2000, 2)])
    assert found.temperature == pytest.approx(2.5, rel=0.1) and (found.runs, found.images) == (2, 2000)
    assert found.before is not None and found.after is not None and found.after < 0.06 < 0.15 < found.before
    few = crossfit([said(2.5, 30, 3)])
    assert few.before is few.after is None and few.temperature > 0, "too few images to say"


def test_an_error_that_is_cross_fitted_is_no_better_than_chance_allows() -> None:
    """Labels have nothing to do with the logits, so the fitted half cannot make the other half right."""
    rng = np.random.default_rng(0)
    noise = Predictions(
        images=np.arange(400).astype(str), labels=rng.integers(0, 4, 400), groups=None, logits=np.asarray(rng.normal(0, 3, (400, 4)))
    )
    found = crossfit([noise])
    assert found.temperature > 10 and found.after is not None and found.before is not None and found.after < found.before
