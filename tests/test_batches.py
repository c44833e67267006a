"""No step of a training is left with fewer images than its network can be trained on, and that is said before anything starts."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study import sweep, trial
from study.datasets.spec import TRAIN
from study.errors import ConfigError
from study.networks.fits import phases_on
from study.networks.pretrained import create
from study.question.training_settings import Protocol
from study.run import open_table
from study.storage.places import Places
from study.strategies import EVERY
from study.training.batches import check_share, fewest_images


@given(st.integers(1, 3000), st.integers(1, 70), st.integers(1, 9))
def test_the_fewest_images_of_a_step_are_counted(images: int, each: int, workers: int) -> None:
    """They are counted as the loop deals them: batches that differ by one at most, every world-th image to a worker."""
    protocol = Protocol(batch_size=each * workers, workers=workers)
    batches = np.array_split(np.arange(images), math.ceil(images / protocol.batch_size))
    assert protocol.share(images) == min(len(b[rank::workers]) for b in batches for rank in range(workers))


@given(st.integers(1, 400), st.integers(1, 12), st.integers(1, 5), st.integers(1, 2))
def test_the_batch_size_that_is_advised_is_enough_and_the_smallest(images: int, each: int, workers: int, needed: int) -> None:
    protocol = Protocol(batch_size=each * workers, workers=workers)
    try:
        check_share("c", protocol, images, needed)
    except ConfigError as error:
        assert protocol.share(images) < needed
        if "batch_size=" in str(error):
            advised = int(str(error).partition("set batch_size=")[2].split()[0])
            check_share("c", Protocol(batch_size=advised, workers=workers), images, needed)
            between = range(protocol.batch_size, advised, workers)
            assert all(protocol.share(images, b) < needed for b in between)
        else:
            assert images < needed * workers
        return
    assert protocol.share(images) >= needed


FEWEST = {  # an image of 32 px has one number a channel at the end of a network of five halvings
    ("efficientnet_lite0", "full", "train", 32): 2,
    ("efficientnet_lite0", "partial", "train", 32): 2,
    ("efficientnet_lite0", "full", "freeze", 32): 1,
    ("efficientnet_lite0", "full_bn_freeze", "train", 32): 1,
    ("efficientnet_lite0", "linear_probe", "train", 32): 1,
    ("efficientnet_lite0", "full", "train", 64): 1,
    ("test_vit", "full", "train", 160): 1,
}


@pytest.mark.parametrize(("backbone", "strategy", "norm", "size"), FEWEST)
def test_only_what_normalises_one_number_a_channel_needs_two(backbone: str, strategy: str, norm: str, size: int) -> None:
    made = create(backbone, 2, start="random", seed=0, image_size=size)
    phases = phases_on(EVERY[strategy](), made, 2)
    assert fewest_images(made, phases, norm) == FEWEST[backbone, strategy, norm, size]  # type: ignore[arg-type]


TRIALS = list(itertools.product(("full", "partial", "linear_probe"), (1, 2), ("train", "freeze")))


@pytest.mark.parametrize(("strategy", "batch", "norm"), TRIALS)
def test_a_trial_of_batches_of_one_is_refused_where_it_could_not_be_trained(strategy: str, batch: int, norm: str, capsys) -> None:
    """Batches of two leave one of 1077 training images alone.

    PyTorch raises ValueError for it: "Expected more than 1 value per channel".
    """
    config = trial.parse_trial(f"digits/efficientnet_lite0/{strategy}", [f"batch_size={batch}", "image_size=32", f"batch_norm={norm}"])
    places = Places(folder="")
    images = int((open_table(config, places).split == TRAIN).sum())
    if strategy == "linear_probe" or norm == "freeze" or (batch == 2 and images % 2 == 0):
        trial.check(config, places)
        return
    least = 3 if images % 2 else 2
    with pytest.raises(
        ConfigError, match=f"batch_size {batch} gives a worker 1 of {images} training images.*set batch_size={least} or more"
    ):
        trial.check(config, places)


@pytest.mark.parametrize("more", [["--dry-run"], ["--local", "--mlflow", "off"]])
def test_a_study_of_batches_of_one_is_refused_before_it_starts(more: list[str], tmp_path: Path, capsys) -> None:
    assert sweep.main(["quickstart", "--set", "batch_size=1", "image_size=32", "--results", str(tmp_path), *more]) == 2
    said = capsys.readouterr().err
    assert "gives a worker 1 of" in said and "set batch_size=" in said and said.count("error:") == 1 and not list(tmp_path.iterdir())


def test_a_trial_is_no_record_of_workers_that_there_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert trial.main(["digits/efficientnet_lite0/full", "--set", "workers=2"]) == 2
    assert "workers=2, and this is 1: start it as torchrun --nproc-per-node 2" in capsys.readouterr().err
