"""The page on which a picture is dropped: what the network says, where it looked, which training images are alike."""

import subprocess
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from study import Results, demo
from study.conduct.workplace import Workplace
from study.errors import DataError
from study.inference.device import Device
from study.networks.pretrained import create
from study.use import gradcam
from study.use.neighbours import Neighbours, features
from tests.browser import page
from tests.raycluster import free_port
from tests.services import Service


def test_the_nearest_training_image_of_a_training_image_is_itself(used: Results) -> None:
    shown = demo.Demo(used, "", data=None, images=50)
    assert shown.neighbours is not None and len(shown.neighbours.names) == 50
    image = shown.neighbours.images[7]
    near = shown.neighbours.nearest(image, 3)
    assert near[0].name == shown.neighbours.names[7] and near[0].cosine == pytest.approx(1, abs=1e-5)
    assert near[0].cosine >= near[1].cosine >= near[2].cosine
    logits = shown.network.logits(image[None])
    own = features(shown.network, image[None])
    assert np.linalg.norm(own) == pytest.approx(1, abs=1e-5) and logits.shape == (1, 10)
    assert isinstance(shown.neighbours, Neighbours)


def test_without_the_training_images_the_page_says_so(used: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise DataError("digits: its folder is gone. Name another with --data.")

    monkeypatch.setattr(Workplace, "images", gone)
    shown = demo.Demo(used, "", data=str(tmp_path), images=50)
    assert shown.neighbours is None and shown.missing.startswith("the training images are not at hand: ")


class Colours(nn.Module):
    """A stand-in that says "red" by the red places of a picture, "green" by the green ones."""

    num_features = 3

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(images, 8)

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        return features.mean((2, 3))[:, :2]


def test_where_the_network_looked_is_where_the_evidence_lies() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[:16, :16, 0], image[16:, 16:, 1] = 255, 255
    network = SimpleNamespace(
        model=Colours(), where=Device.best("fp32"), kept=SimpleNamespace(image_size=32, tiles=[1, 1]), mean=(0.0,) * 3, std=(1.0,) * 3
    )
    red, green = (gradcam.heat_map(network, image, k)[0] for k in (0, 1))  # type: ignore[arg-type]
    assert red is not None and green is not None and red.max() == green.max() == 1
    assert red[:12, :12].min() > 0.5 > 0.1 > red[20:, 20:].max() and green[20:, 20:].min() > 0.5 > 0.1 > green[:12, :12].max()
    assert (gradcam.shown(image, red)[:8, :8, 0] == 255).all()


@pytest.mark.parametrize(
    ("name", "shown"),
    [("small_resnet", True), ("small_swin", True), ("test_vit", False), ("small_distilled", False)],
)
def test_every_kind_of_network_shows_where_it_looked_or_says_why_not(name: str, shown: bool) -> None:
    """A head that reads the class token alone has no gradient at the patches."""
    torch.manual_seed(0)
    backbone = create(name, 10, start="random", image_size=64)
    network = SimpleNamespace(
        model=backbone.model.eval(),
        where=Device.best("fp32"),
        kept=SimpleNamespace(image_size=64, tiles=[1, 1]),
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
    )
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with torch.no_grad():
        said = int(network.model((torch.tensor(image[None]).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5).argmax())
    heat, why = gradcam.heat_map(network, image, said)  # type: ignore[arg-type]
    assert (heat is not None) == shown and bool(why) != shown
    if heat is not None:
        assert heat.shape == (64, 64) and heat.min() >= 0 and heat.max() == pytest.approx(1)


@pytest.mark.slow
def test_a_picture_is_dropped_in_a_browser(used: Results, digit_files: Path) -> None:
    pytest.importorskip("nicegui")
    port = free_port()
    service = Service([sys.executable, "-m", "study.demo", used.folder, "--port", str(port), "--images", "60"], f"http://127.0.0.1:{port}")
    service.env.pop("PYTEST_CURRENT_TEST", None)  # NiceGUI would take itself for its own test
    service.start()
    try:
        for dark, width in ((False, 1280), (True, 390)):
            with page(dark=dark, width=width) as browser:
                browser.goto(service.url)
                browser.set_input_files("input[type=file]", str(digit_files / "d00.png"))
                browser.wait_for_selector(".like img", timeout=60000)
                network = used.predictor()
                (shares,) = network(network.read(str(digit_files / "d00.png"))[None])
                assert browser.locator(".bar .name").first.inner_text() == network.classes[shares.argmax()]
                assert browser.locator(".bar .share").first.inner_text() == f"{100 * shares.max():.1f} %"
                assert browser.locator(".like img").count() == demo.SHOWN_IMAGES
                browser.evaluate("document.querySelector('h1').textContent = 'folder:' + 'x'.repeat(80)")
                assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing is cut at this width"
                browser.set_input_files("input[type=file]", str(digit_files / "broken.jpg"))
                browser.wait_for_selector("text=is no picture that can be read", timeout=60000)
                assert browser.problems_seen == [] and all(f"127.0.0.1:{port}" in r for r in browser.requests_seen)
        with pytest.raises(OSError):
            urllib.request.urlopen(f"http://{outside()}:{port}", timeout=3)
    finally:
        service.kill()


def outside() -> str:
    """Return this machine's address on its network, where it has one."""
    found = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
    if not found:
        pytest.skip("this machine has one address only")
    return found[0]
