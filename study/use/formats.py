"""A network in formats that others read, each read back and compared with the network itself on the same images.

    timm          config.json, model.safetensors: timm.create_model("local-dir:FOLDER/timm", pretrained=True)
    onnx          model.onnx, for onnxruntime and other programs that run ONNX
    torch_export  model.pt2: torch.export.load("FOLDER/model.pt2").module()

All take pixels float32 [N, 3, S, S], normalised, and give logits [N, classes]; `describe` says how a picture becomes such pixels.
"""

import contextlib
import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

from study import inference
from study.errors import ConfigError, nearest
from study.inference.framing import GREY, cut_tiles
from study.inference.pixels import plain
from study.inference.softmax import over_tiles, sigmoid
from study.networks.kept import keep
from study.storage.folder import Folder
from study.use.predictor import Predictor

Run = Callable[[Tensor], np.ndarray]
RELATIVE = 1e-4  # of the greatest logit: what other kernels may round; files are run on the CPU in float32
COARSE = 1e-2  # where the network itself runs on a GPU (TF32) or in bf16, with 10 or 8 bits of fraction
READING = ("__init__.py", "scales.py", "pictures.py", "framing.py", "softmax.py", "outside.py")
FITTED = {
    "square": "resize the short side to {side} pixels (Lanczos), cut out the centre square",
    "pad": f"resize the long side to {{side}} pixels (Lanczos), in the middle of a square of {{side}} pixels of grey {GREY}",
    "stretch": "resize both sides to {side} pixels (Lanczos)",
}
POOLED = {"mean": "mean", "max": "highest"}
NOISE = 8  # generated images, where nobody gave some


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The largest difference of a file's logits from the network's, over `images`."""

    format: str
    file: Path
    images: int
    difference: float
    tolerance: float

    @property
    def close(self) -> bool:
        return self.difference <= self.tolerance


class Pixels(nn.Module):
    """The network with one name for its input, independent of the name in its own forward."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.model(pixels)
        return logits


def write(name: str, predictor: Predictor, folder: Path) -> tuple[Path, Run]:
    """Write one format below `folder` and read it back: (file, its function). Raises ConfigError for an unknown format or a missing
    extra."""
    if name not in FORMATS:
        raise ConfigError(f"Unknown format {name!r}. Choose from {nearest(name, list(FORMATS))}.")
    with _quietly():
        return FORMATS[name](predictor, folder)


def compare(name: str, file: Path, run: Run, predictor: Predictor, batches: Iterator[np.ndarray]) -> Compared:
    """Compare the file with the network on uint8 [N, S, S, C] as `Predictor.prepare` gives them, a batch at a time."""
    worst = largest = 0.0
    count = 0
    for images in batches:
        expected = predictor.logits(images)
        k = predictor.kept
        found = over_tiles(run(pixels_of(predictor, images)), k.tiles[0] * k.tiles[1], k.pool, k.several)
        worst = max(worst, float(np.abs(found - expected).max())) if np.isfinite(found).all() else np.inf
        largest, count = max(largest, float(np.abs(expected).max())), count + len(images)
    exact = predictor.where.device.type == "cpu" and predictor.kept.precision == "fp32"
    tolerance = (RELATIVE if exact else COARSE) * max(largest, 1.0)
    return Compared(format=name, file=file, images=count, difference=worst, tolerance=tolerance)


def pixels_of(predictor: Predictor, images: np.ndarray) -> Tensor:
    """Return uint8 [N, S, S, C] as float32 [N, 3, size, size], what exported networks take; of pictures in tiles each tile."""
    tiles = cut_tiles(images, (predictor.kept.tiles[0], predictor.kept.tiles[1]))
    return plain(torch.from_numpy(tiles), size=predictor.kept.image_size, mean=predictor.mean, std=predictor.std)


def noise(predictor: Predictor) -> np.ndarray:
    """Return uint8 [8, S, S, C] of noise that is smooth, as photographs are, rather than white."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (NOISE, 6, 6, predictor.channels), dtype=np.uint8)
    return np.stack([predictor.prepare(np.repeat(np.repeat(image, 20, axis=0), 20, axis=1)) for image in small])


def describe(predictor: Predictor, temperature: float, sets: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the steps from a picture to the input of the files, and from their logits to probabilities and these `sets` of classes."""
    k = predictor.kept
    tiled, squash = k.tiles != [1, 1], "sigmoid" if k.several else "softmax"
    in_set = "of the probabilities, all that are at least the least_probability of a level, and the highest: the classes of a set"
    return {
        "trial": k.trial,
        "classes": k.classes,
        "size": k.image_size,
        "stored_side": k.side,
        **({"fit": k.fit} if k.fit != "square" else {}),
        **({"tiles": k.tiles, "pool": k.pool} if k.tiles != [1, 1] else {}),
        "channels": k.channels,
        "mean": list(predictor.mean),
        "std": list(predictor.std),
        "temperature": temperature,
        **({"several": True, "thresholds": _shares(k.thresholds or [0.0] * len(k.classes), temperature)} if k.several else {}),
        **predictor.deciding.as_dict(k.classes),
        **({"sets": dict(sets)} if sets else {}),
        "steps": [
            "turn by its EXIF orientation, put what is transparent on white, " + ("make it grey" if k.channels == 1 else "make it RGB"),
            *([f"cut into {k.tiles[0]} rows of {k.tiles[1]} equal tiles. Each goes through the steps below by itself"] if tiled else []),
            FITTED[k.fit].format(side=k.side),
            *([f"resize to {k.image_size} pixels (bilinear, antialiased)"] if k.side != k.image_size else []),
            "divide by 255" + (", show grey to all three channels" if k.channels == 1 else ""),
            "subtract mean, divide by std: float32 [N, 3, size, size]",
            *(
                [
                    (
                        f"{squash} the logits of each tile. The {POOLED[k.pool]} over a picture's tiles, and its "
                        f"{'logit' if k.several else 'logarithm'}, are its logits"
                    )
                ]
                if tiled
                else []
            ),
            f"divide the logits by temperature, then {squash}: probabilities, in the order of classes",
            *(["a picture has the labels whose probabilities are above their thresholds"] if k.several else []),
            *([predictor.deciding.text(k.classes)] if not predictor.deciding.usual else []),
            *([in_set] if sets else []),
        ],
    }


def _shares(thresholds: list[float], temperature: float) -> list[float]:
    """Return thresholds of logits as probabilities."""
    return [float(v) for v in sigmoid(np.array(thresholds) / temperature)]


def reading() -> dict[str, bytes]:
    """Return the modules that read a picture, by their names in an export: they import nothing of ours, so they work without this
    project."""
    source = Path(inference.__file__).parent
    return {f"reading/{page}": (source / page).read_bytes() for page in READING}


# ---- the formats ---------------------------------------------------------------------------------------------


def _timm(predictor: Predictor, folder: Path) -> tuple[Path, Run]:
    keep(Folder(str(folder)), predictor.kept, predictor.model.state_dict(), "timm")
    model = timm.create_model(f"local-dir:{folder / 'timm'}", pretrained=True).eval()
    return folder / "timm", lambda pixels: _run(model, pixels)


def _torch_export(predictor: Predictor, folder: Path) -> tuple[Path, Run]:
    file = folder / "model.pt2"
    folder.mkdir(parents=True, exist_ok=True)
    torch.export.save(torch.export.export(*_traced(predictor), dynamic_shapes=_any_batch()), file)
    model = torch.export.load(file).module()
    return file, lambda pixels: _run(model, pixels)


def _onnx(predictor: Predictor, folder: Path) -> tuple[Path, Run]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  # what torch.onnx writes with
    except ImportError as error:
        raise ConfigError(f"the format onnx needs {error.name}: pip install 'finetune-study[export]'.") from None
    file = folder / "model.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        *_traced(predictor),
        str(file),
        input_names=["pixels"],
        output_names=["logits"],
        dynamic_shapes=_any_batch(),
        dynamo=True,
        external_data=False,  # one file
        verbose=False,
    )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return file, lambda pixels: np.asarray(session.run(["logits"], {"pixels": pixels.contiguous().numpy()})[0])


# by the names of study/use/__init__.py
FORMATS: dict[str, Callable[[Predictor, Path], tuple[Path, Run]]] = {"timm": _timm, "onnx": _onnx, "torch_export": _torch_export}


def _traced(predictor: Predictor) -> tuple[nn.Module, tuple[Tensor]]:
    """Return the network on the CPU with an example of two images: with one, the exporter would fix the batch size."""
    side = predictor.kept.image_size
    model = copy.deepcopy(predictor.model).cpu().to(memory_format=torch.contiguous_format)
    return Pixels(model).eval(), (torch.zeros(2, 3, side, side),)


def _any_batch() -> dict[str, dict[int, Any]]:
    return {"pixels": {0: torch.export.Dim("batch", min=1)}}


@torch.no_grad()
def _run(model: nn.Module, pixels: Tensor) -> np.ndarray:
    out: np.ndarray = model(pixels).float().numpy()
    return out


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silence the exporters' messages inside the block."""
    level = logging.getLogger().level
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            yield
    finally:
        logging.disable(logging.NOTSET)
        logging.getLogger().setLevel(level)
