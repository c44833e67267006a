"""A registered model answers where this project is not, and a picture has one answer: as a file, as an array, over HTTP."""

import ast
import base64
import io
import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from PIL import Image, ImageOps
from torch import nn

from study import inference, load_study, predict
from study.networks import kept
from study.networks.pretrained import create
from study.networks.weights import timm_name
from study.storage.folder import Folder
from study.tracking import model as registered
from study.tracking.cursor import NAME as CURSOR
from study.tracking.ledger import Ledger
from study.tracking.mirror import Mirror
from study.use.predictor import Predictor
from tests import tiny
from tests.bare import Bare
from tests.raycluster import free_port
from tests.services import Service, mlflow

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "serving.md"
CLASSES = ["a cat", "a dog", "ünclear"]
SLOW = [pytest.param(n, marks=pytest.mark.slow) for n in ("resnet50", "vit_tiny_patch16_224")]
FAST = ["efficientnet_lite0", "mobilenetv3_small_050", "mobilenetv2_100", "tf_efficientnetv2_b0"]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    python = Bare(tmp_path_factory.mktemp("bare"))
    yield python
    python.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write pictures that are not square, grey, with transparency, turned by their camera, long."""
    folder, noise = tmp_path_factory.mktemp("pictures"), np.random.default_rng(3)

    def smooth(height: int, width: int, bands: int) -> Image.Image:
        small = noise.integers(0, 256, (5, 5, bands), dtype=np.uint8)
        return Image.fromarray(small[..., 0] if bands == 1 else small).resize((width, height), Image.Resampling.BICUBIC)

    turned = Image.Exif()
    turned[0x0112] = 6
    smooth(90, 160, 3).save(folder / "wide.jpg")
    smooth(70, 50, 1).save(folder / "grey.png")
    smooth(60, 40, 4).save(folder / "clear.png")
    smooth(40, 64, 3).save(folder / "turned.jpg", exif=turned)
    smooth(200, 48, 3).save(folder / "long.png")
    smooth(48, 200, 3).save(folder / "flat.png")
    return sorted(folder.iterdir())


def make(network: str, folder: Path, channels: int = 3, size: int = 64) -> Predictor:
    """Return a network drawn from a seed, its norms and its head scaled by what they see, or most pictures would get the same answer."""
    torch.manual_seed(0)
    backbone = create(network, len(CLASSES), start="random", seed=4)
    model = backbone.model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        noise = nn.functional.interpolate(torch.randn(8, 3, 5, 5), size=(size, size), mode="bicubic")  # as `pictures` are
        model(noise)
        spread = model.eval()(noise).std()
        for parameter in model.get_submodule(backbone.head).parameters():
            parameter /= 3 * spread
    values = kept.Kept(
        trial="0" * 16, backbone=timm_name(network), classes=CLASSES, image_size=size, channels=channels, precision="fp32",
        epoch=1, arguments=backbone.arguments, side=round(size * 1.25),
    )  # fmt: skip
    kept.keep(Folder(str(folder)), values, model.state_dict())
    return Predictor.from_folder(folder)


def text(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def pixels(path: Path) -> np.ndarray:
    """Return [H, W, 1, 3 or 4], as anybody would read the picture."""
    array = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    return array if array.ndim == 3 else array[..., None]


def from_files(trial: Path, paths: list[Path], capsys: pytest.CaptureFixture[str]) -> list[list[float]]:
    """Return what `python -m study.predict --json` prints."""
    capsys.readouterr()
    assert predict.main([str(trial), *map(str, paths), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["image"] for line in lines] == list(map(str, paths)) and list(lines[0]["probabilities"]) == CLASSES
    return [list(line["probabilities"].values()) for line in lines]


@pytest.mark.parametrize("network", [*FAST, *SLOW])
def test_a_model_predicts_where_this_project_is_not(network: str, bare: Bare, pictures: list[Path], tmp_path: Path, capsys) -> None:
    predictor = make(network, tmp_path, size=224 if "224" in network else 64)
    registered.save(Folder(str(tmp_path)), tmp_path / "model")
    files = from_files(tmp_path, pictures, capsys)
    assert len({tuple(row) for row in files}) == len(pictures), "each picture has its own answer"
    answer = bare.ask(str(tmp_path / "model"), texts=[text(p) for p in pictures])
    assert answer == {"classes": CLASSES, "rows": files, "ours": False}
    for path, row in zip(pictures, files, strict=True):
        assert predictor(pixels(path)[None]).tolist() == [row], f"{path.name} as an array"
    one = [pixels(p) for p in pictures if p.name == "wide.jpg"]
    np.save(tmp_path / "array.npy", np.stack(one * 2))
    assert bare.ask(str(tmp_path / "model"), array=str(tmp_path / "array.npy"))["rows"] == predictor(one[0][None]).tolist() * 2


def test_a_model_of_grey_images_and_one_of_another_version_answer_in_one_process(
    bare: Bare, pictures: list[Path], tmp_path: Path, capsys, monkeypatch
) -> None:
    """Both carry a module of the same purpose, and neither may run the other's."""
    make("mobilenetv3_small_050", tmp_path / "grey", channels=1)
    registered.save(Folder(str(tmp_path / "grey")), tmp_path / "grey" / "model")
    make("mobilenetv3_small_050", tmp_path / "other")
    later = shutil.copytree(Path(inference.__file__).parent, tmp_path / "later")
    (later / "softmax.py").write_text(
        (later / "softmax.py").read_text()
        + "import numpy as np\ndef probabilities(logits, labels=False):\n    return np.full(logits.shape, 0.25, np.float32)\n"
    )
    monkeypatch.setattr(inference, "__file__", str(later / "__init__.py"))
    registered.save(Folder(str(tmp_path / "other")), tmp_path / "other" / "model")
    texts = [text(p) for p in pictures]
    grey = from_files(tmp_path / "grey", pictures, capsys)
    assert bare.ask(str(tmp_path / "grey" / "model"), texts=texts)["rows"] == grey
    assert bare.ask(str(tmp_path / "other" / "model"), texts=texts)["rows"] == [[0.25] * 3] * len(texts)
    assert bare.ask(str(tmp_path / "grey" / "model"), texts=texts)["rows"] == grey


def test_what_a_model_carries_asks_for_what_it_imports(tmp_path: Path) -> None:
    """Every import of the carried files is their own, the standard library's, or of a package pinned at the version that is installed."""
    make("mobilenetv3_small_050", tmp_path)
    registered.save(Folder(str(tmp_path)), tmp_path / "model")
    pinned = [Requirement(line) for line in (tmp_path / "model" / "requirements.txt").read_text().splitlines()]
    from importlib.metadata import version

    for requirement in pinned:
        assert requirement.specifier.contains(version(requirement.name)) and str(requirement.specifier).startswith("=="), requirement
    code = sorted((tmp_path / "model").rglob("*.py"))
    nodes = [n for p in code for n in ast.walk(ast.parse(p.read_text()))]
    found = {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom) and not n.level}
    found |= {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    import sys

    foreign = {n.partition(".")[0] for n in found} - set(sys.stdlib_module_names)
    foreign -= {"pillow_heif"}  # asked for by `formats`, which does without it
    assert foreign <= {"PIL" if r.name == "pillow" else r.name for r in pinned} and {"torch", "mlflow"} <= foreign
    assert not any("study" in p.read_text().split('"""')[2] for p in code), "outside their first docstrings"


def load(folder: Path) -> Any:
    import mlflow

    return mlflow.pyfunc.load_model(str(folder))


def test_what_is_no_picture_is_named_by_its_row(pictures: list[Path], tmp_path: Path) -> None:
    from mlflow.exceptions import MlflowException

    make("mobilenetv3_small_050", tmp_path)
    registered.save(Folder(str(tmp_path)), tmp_path / "model")
    model, good = load(tmp_path / "model"), text(pictures[0])
    huge = io.BytesIO()
    Image.new("1", (9000, 9000)).save(huge, "PNG")
    for bad, words in (
        ("%%%", "not base64"),
        (base64.b64encode(b"no image").decode(), "not JPEG/PNG/BMP/WEBP/GIF"),
        (text(pictures[0])[: len(good) // 8 * 4], "OSError"),
        (base64.b64encode(huge.getvalue()).decode(), "DecompressionBomb|more than 50,000,000"),
        (None, "NoneType"),
        ([[[0.5, 1, 2]]], "float64"),
        ([[[0, 1, 256]]], "values from 0 to 256"),
        ([[[0, 1, 2]], [[0, 1]]], "different lengths"),
        ([[1, 2]], r"shape \[1, 2\]"),
    ):
        given = np.empty(2, dtype=object)
        given[0], given[1] = good, bad
        with pytest.raises(MlflowException, match=words) as caught:
            model.predict(given)
        assert str(caught.value).startswith("row 1 (the first is 0) is no picture: ") and "\n" not in str(caught.value)
    assert list(model.predict(np.array([], dtype=object)).columns) == CLASSES


def test_a_model_gives_sets_at_the_levels_it_knows(pictures: list[Path], tmp_path: Path) -> None:
    make("mobilenetv3_small_050", tmp_path)
    sets = {"images": 40, "source": "validation images", "least_probability": {"0.9": 0.30, "0.95": 0.2}}
    registered.save(Folder(str(tmp_path)), tmp_path / "model", 1.5, sets)
    loaded = load(tmp_path / "model")
    given = np.array([p.read_bytes() for p in pictures], dtype=object)
    plain, wide, narrow = (loaded.predict(given, params=params) for params in (None, {"sets": 0.95}, {"sets": 0.9}))
    assert list(plain.columns) == CLASSES and list(wide.columns) == [*CLASSES, "in_set"]
    for least, found in ((0.2, wide), (0.30, narrow)):
        for row in found.to_dict("records"):
            shares = {c: row[c] for c in CLASSES}
            assert set(row["in_set"]) == {c for c, p in shares.items() if p >= least} | {max(shares, key=lambda c: shares[c])}
            assert shares[row["in_set"][0]] == max(shares.values())
    assert {len(s) for s in wide["in_set"]} != {1}
    with pytest.raises(Exception, match=r"sets 0.99 is no level of this model. It has 0.9, 0.95"):
        loaded.predict(given[:1], params={"sets": 0.99})


def test_weights_that_are_not_the_manifests_are_refused(tmp_path: Path) -> None:
    make("mobilenetv3_small_050", tmp_path)
    registered.save(Folder(str(tmp_path)), tmp_path / "model")
    weights = tmp_path / "model" / "artifacts" / "best" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(Exception, match="is not the file its manifest describes"):
        load(tmp_path / "model")


# ---- over HTTP -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(bare: Bare, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Yield (the trial's folder, URL) of a model behind `mlflow models serve`."""
    folder, port = tmp_path_factory.mktemp("served"), free_port()
    make("efficientnet_lite0", folder)
    registered.save(Folder(str(folder)), folder / "model")
    command = [
        bare.python, "-m", "mlflow", "models", "serve", "-m", str(folder / "model"), "--env-manager", "local",
        "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    service = Service(command, f"http://127.0.0.1:{port}", cwd=bare.home)
    service.env = bare.env
    service.start()
    yield folder, service.url
    service.kill()


def post(url: str, body: Any) -> tuple[int, Any]:
    request = urllib.request.Request(f"{url}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.slow
def test_files_arrays_and_requests_have_one_answer(served: tuple[Path, str], pictures: list[Path], capsys) -> None:
    folder, url = served
    files = from_files(folder, pictures, capsys)
    expected = [dict(zip(CLASSES, row, strict=True)) for row in files]
    texts = [text(p) for p in pictures]
    arrays = [pixels(p).tolist() for p in pictures]
    assert post(url, {"inputs": texts}) == (200, {"predictions": expected})
    assert post(url, {"instances": texts}) == (200, {"predictions": expected})
    assert post(url, {"dataframe_split": {"columns": ["image"], "data": [[t] for t in texts]}}) == (200, {"predictions": expected})
    assert post(url, {"inputs": arrays}) == (200, {"predictions": expected})
    for array, text_, row in zip(arrays, texts, expected, strict=True):
        assert post(url, {"inputs": [array]}) == post(url, {"inputs": [text_]}) == (200, {"predictions": [row]})
    given = np.empty(len(pictures), dtype=object)
    given[:] = [p.read_bytes() for p in pictures]
    assert load(folder / "model").predict(given).to_numpy().tolist() == files


@pytest.mark.slow
def test_a_request_with_something_else_is_answered_in_one_line(served: tuple[Path, str], pictures: list[Path]) -> None:
    status, answer = post(served[1], {"inputs": [text(pictures[0]), base64.b64encode(b"no image").decode()]})
    assert (status, set(answer)) == (400, {"error_code", "message"})
    assert answer["message"] == "row 1 (the first is 0) is no picture: not JPEG/PNG/BMP/WEBP/GIF."


@pytest.mark.slow
def test_the_lines_of_the_page_are_so(served: tuple[Path, str], pictures: list[Path], tmp_path: Path, capsys) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    (line,) = re.findall(r"^    ((?:.*\| )?curl (?:.*\\\n)*.*)$", PAGE.read_text(), re.M)
    shutil.copy(pictures[0], tmp_path / "leaf.jpg")
    run = subprocess.run(
        ["bash", "-c", line.replace("http://127.0.0.1:5001", served[1])], cwd=tmp_path, capture_output=True, text=True, env=os.environ
    )
    (row,) = from_files(served[0], [pictures[0]], capsys)
    assert json.loads(run.stdout) == {"predictions": [dict(zip(CLASSES, row, strict=True))]}, run.stderr


@pytest.mark.slow
def test_what_a_sweep_registers_is_loaded_by_its_name(bare: Bare, tmp_path: Path) -> None:
    """It goes the whole way: a study, its mirror, a server's registry, a machine without this project.

    Under a cell's name lies what its search found. Under the data set's lies, by the alias `best`, the confirm run to use, calibrated,
    with its test score on it.
    """
    with mlflow(f"sqlite:///{tmp_path}/server.db", tmp_path / "artifacts") as server:
        question = tiny.write(tmp_path, strategies=("linear_probe",))
        done = tiny.run(question, tmp_path / "results", "--local", "--mlflow", server.url, timeout=600)
        assert done.returncode == 0, done.stderr
        mirror = Mirror(Ledger(tmp_path / "results", "tiny"), server.url)
        assert mirror.sync().pending == 0, "a slow machine's sweep ends before its server has everything"
        from mlflow import MlflowClient

        client = MlflowClient(server.url)
        assert {m.name for m in client.search_registered_models()} == {
            "tiny-digits",
            "tiny-digits-official-efficientnet_lite0-linear_probe",
        }
        (version,) = client.search_model_versions("name = 'tiny-digits-official-efficientnet_lite0-linear_probe'")
        found = load_study(tmp_path / "results" / "tiny")
        pick, best = found.pick(), client.get_model_version_by_alias("tiny-digits", "best")
        assert best.tags["trial"] == pick.trial and best.tags["test_macro_f1"] == f"{pick.test.mean:.4f}"
        assert f"Test macro-F1 {100 * pick.test.mean:.1f} (95 % interval" in best.description
        assert client.get_run(best.run_id).data.tags["stage"] == "confirm"
        grey = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 1), dtype=np.uint8)
        np.save(tmp_path / "array.npy", grey)
        fresh = Bare(tmp_path)
        fresh.env["MLFLOW_TRACKING_URI"] = server.url
        trial = Predictor.from_folder(tmp_path / "results" / "tiny" / "trials" / version.tags["trial"])
        calibrated = found.predictor()
        assert calibrated.temperature != 1
        for name, predictor in ((f"{version.name}/1", trial), ("tiny-digits@best", calibrated)):
            answer = fresh.ask(f"models:/{name}", array=str(tmp_path / "array.npy"))
            expected = [predictor(image[None])[0].tolist() for image in grey]
            assert answer == {"rows": expected, "classes": predictor.classes, "ours": False}
        fresh.close()
        (tmp_path / "results" / "tiny" / CURSOR).unlink()  # what was sent is found again by its tags
        assert Mirror(mirror.ledger, server.url).sync().pending == 0
        assert len(client.search_model_versions("name = 'tiny-digits'")) == 1
