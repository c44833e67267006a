"""Sizes that the memory at hand does not hold are refused before they are tried."""

import functools
from pathlib import Path

import pytest
from torch import nn

from study import sweep, trial
from study.errors import ConfigError
from study.networks import memory
from study.networks.memory import check_memory, layers_put_out
from study.networks.pretrained import create

GB = 1e9


@functools.cache
def made() -> nn.Module:
    """Return a network that stays as it was, whatever is asked of it."""
    return create("efficientnet_lite0", 2, start="random", seed=0, image_size=64).model


@pytest.mark.parametrize("free", [0.5 * GB, 2 * GB, 8 * GB, 64 * GB, 1e15])
@pytest.mark.parametrize("size", [224, 512, 640, 1024, 2048, 5024, 8192])
@pytest.mark.parametrize("images", [0, 1, 16])
def test_what_fits_passes_and_what_does_not_is_refused_at_once(
    size: int, free: float, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "at_hand", lambda: free)
    monkeypatch.setattr(memory, "on_device", lambda: free)
    model = made()
    largest, total = layers_put_out(model, (3, size, size))
    fits = size <= memory.LARGE_PX or max(2 * largest, images * total / 2) <= free
    if fits:
        check_memory("n", model, (3, size, size), images)
    else:
        with pytest.raises(ConfigError, match=f"n: at {size} px .* needs about .* GB, and {free / 1e9:.1f} GB are free. Choose a smaller"):
            check_memory("n", model, (3, size, size), images)
    assert 0 < largest < total


def test_a_layers_bytes_go_by_pixels() -> None:
    model = made()
    small, large = layers_put_out(model, (3, 256, 256)), layers_put_out(model, (3, 1024, 1024))
    assert all(15 < b / a < 17 for a, b in zip(small, large, strict=True))
    assert next(model.parameters()).device.type == "cpu", "the network itself is as it was"


@pytest.mark.parametrize("command", ["sweep", "trial"])
def test_commands_refuse_a_size_that_does_not_fit(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    """It once took 28 seconds of a dry run and a traceback under a limit of 6 GB.

    Without a limit the machine would have been asked for 240.
    """
    monkeypatch.setattr(memory, "at_hand", lambda: 6 * GB)
    if command == "sweep":
        code = sweep.main(["quickstart", "--set", "image_size=5024", "precision=auto", "--dry-run", "--results", str(tmp_path)])
    else:
        code = trial.main(["digits/efficientnet_lite0/full", "--set", "image_size=5024"])
    assert code == 2 and "at 5024 px" in (said := capsys.readouterr().err) and "GB are free" in said
