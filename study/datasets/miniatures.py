"""Generated stand-ins for FER2013 and DeepWeeds, written once in their on-disk formats and read by the same readers.

Faces: seven expressions drawn from mouth, brow and eye parameters, over identities, lighting, pose and noise, with FER2013's imbalance.
Leaves: nine species that differ in outline and texture, over clutter whose colour belongs to the recording session, and sessions favour a
species: the shortcut that DeepWeeds has. They are drawn with numpy from counter-based generators, without a font or a drawing library,
and saved without loss, so every machine makes the same pixels.
"""

import io
import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image

from study.datasets import deepweeds, fer2013
from study.datasets.built_arrays import built_once, temporary
from study.datasets.cache import cache_folder, kept_in
from study.datasets.spec import ImageTable

VERSIONS = {"faces": 1, "weeds": 2}  # of the drawings: part of the folder's name
FACE_COUNTS = {
    "Training": (58, 14, 60, 106, 70, 46, 72),
    "PublicTest": (19, 5, 20, 36, 24, 15, 24),
    "PrivateTest": (40, 10, 42, 72, 48, 32, 50),
}
#            mouth curve, mouth open, brow angle, brow height, eye open, mouth width
EXPRESSIONS = np.array(
    [
        [-0.35, 0.05, 0.55, -0.35, 0.75, 0.95],  # angry
        [-0.45, 0.25, 0.30, -0.25, 0.45, 0.80],  # disgust
        [-0.20, 0.45, -0.40, 0.45, 1.25, 0.85],  # fear
        [0.70, 0.25, -0.05, 0.05, 0.75, 1.20],  # happy
        [-0.55, 0.00, -0.50, 0.05, 0.60, 0.90],  # sad
        [0.00, 0.95, -0.10, 0.75, 1.40, 0.65],  # surprise
        [0.05, 0.05, 0.00, 0.00, 0.90, 1.00],  # neutral
    ]
)
WEED_CLASSES = deepweeds.CLASSES
WEED_TOTALS = (50, 50, 50, 50, 50, 50, 50, 50, 366)  # ten test images of a species: on fewer, no verdict is given


def read_faces(root: Path | None, protocol: str, fold: int) -> ImageTable:
    del root, fold
    table = fer2013.read_csv(_made("faces", _write_faces) / "fer2013.csv", protocol)
    return _renamed(table, "mini_faces")


def read_weeds(root: Path | None, protocol: str, fold: int) -> ImageTable:
    del root
    folder = _made("weeds", _write_weeds)
    return _renamed(deepweeds.read_from(folder, protocol, fold, name="mini_weeds", classes=WEED_CLASSES), "mini_weeds")


def _renamed(table: ImageTable, name: str) -> ImageTable:
    from dataclasses import replace

    return replace(table, name=name, form="generated, " + table.form)


def _made(name: str, write: Callable[[Path], None]) -> Path:
    """Return the folder of a miniature, written once. Raises EnvironmentProblem."""
    root = cache_folder() / "miniatures"
    folder = root / f"{name}-v{VERSIONS[name]}"

    def build() -> Path:
        part = temporary(folder)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        write(part)
        return part.rename(folder)

    with kept_in(root):
        return built_once(root / f"{name}.lock", lambda: folder if folder.is_dir() else None, build)


def _noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Return smooth noise in [0, 1], [size, size]: random values on a coarse grid, bilinearly between them."""
    grid = rng.random((cells + 1, cells + 1))
    t = np.linspace(0, cells, size, endpoint=False)
    k, f = t.astype(int), t - t.astype(int)
    rows = grid[k] * (1 - f)[:, None] + grid[k + 1] * f[:, None]
    out: np.ndarray = rows[:, k] * (1 - f) + rows[:, k + 1] * f
    return out


def _soft(distance: np.ndarray, width: float = 0.03) -> np.ndarray:
    """Return 1 inside (distance < 0), 0 outside, with an antialiased edge; a polynomial, so that every machine agrees."""
    t = np.clip(0.5 - distance / (2 * width), 0, 1)
    return t * t * (3 - 2 * t)


# ---- faces -----------------------------------------------------------------------------------------------


def face(expression: int, identity: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a face, uint8 [48, 48]."""
    who = np.random.Generator(np.random.Philox(key=[7, identity]))
    wide, long, eye_gap, nose, tone = (
        0.62 + 0.1 * who.random(),
        0.8 + 0.1 * who.random(),
        0.26 + 0.06 * who.random(),
        who.random(),
        0.45 + 0.4 * who.random(),
    )
    hair = who.random()
    curve, opened, angle, height, lids, mouth = EXPRESSIONS[expression] * (0.55 + 0.5 * rng.random()) + 0.16 * (rng.random(6) - 0.5)
    lids, mouth = 0.35 + 0.55 * max(lids, 0.05), 0.55 + 0.4 * mouth
    axis = (np.arange(96) + 0.5) / 48 - 1
    x0, y0 = np.meshgrid(axis, axis)
    dx, dy, tilt, zoom = 0.16 * (rng.random(4) - 0.5) * np.array([1, 1, 2.2, 1])
    x, y = ((x0 - dx) + tilt * (y0 - dy)) * (1 + zoom), ((y0 - dy) - tilt * (x0 - dx)) * (1 + zoom)
    image = 0.25 + 0.5 * _noise(rng, 96, 4)
    head = _soft(np.hypot(x / wide, y / long) - 1)
    image = image * (1 - head) + tone * head
    crown = _soft(np.hypot(x / (wide * 1.06), (y + 0.16) / (long * 0.98)) - 1) * _soft(y + 0.42 + 0.12 * np.cos(3 * x), 0.06)
    image = image * (1 - crown) + (0.1 + 0.5 * hair) * crown
    for side in (-1, 1):
        ex, ey = x - side * eye_gap, y + 0.12
        white = _soft(np.hypot(ex / 0.13, ey / max(0.07 * lids * 1.3, 0.01)) - 1, 0.12)
        image = image * (1 - white) + 0.92 * white
        pupil = _soft(np.hypot(ex, ey) / 0.05 - 1, 0.25) * white
        image = image * (1 - pupil) + 0.08 * pupil
        brow_y = y + 0.30 + 0.09 * height + side * angle * 0.32 * ex * -1
        brow = _soft(np.abs(brow_y) - 0.028, 0.02) * _soft(np.abs(ex) - 0.14, 0.03)
        image = image * (1 - brow) + 0.15 * brow
    ridge = _soft(np.abs(x - 0.05) - 0.015, 0.02) * _soft(np.abs(y - 0.08) - (0.10 + 0.06 * nose), 0.03)
    image = image - 0.14 * ridge
    mx, my = x / (0.24 * mouth), y - 0.40
    line = my + curve * 0.16 * (mx * mx - 0.5)
    gap = 0.02 + 0.13 * max(opened, 0.0)
    lips = _soft(np.abs(line) - gap * np.clip(1 - mx * mx, 0, 1) - 0.012, 0.02) * _soft(np.abs(mx) - 1, 0.06)
    image = image * (1 - lips) + (0.22 if opened < 0.35 else 0.1) * lips
    light = 1 + 0.5 * (rng.random() - 0.5) * 2 * x0 + 0.35 * (rng.random() - 0.5) * 2 * y0
    image = image * light * (0.75 + 0.5 * rng.random()) + 0.09 * rng.standard_normal((96, 96))
    if rng.random() < 0.3:  # a hand, hair or a microphone in front
        cx, cy = rng.random(2) * 1.6 - 0.8
        patch = _soft(np.hypot((x0 - cx) / 0.28, (y0 - cy) / 0.18) - 1)
        image = image * (1 - patch) + rng.random() * patch
    small = image.reshape(48, 2, 48, 2).mean(axis=(1, 3))
    return (np.clip(small, 0, 1) * 255).round().astype(np.uint8)


def _write_faces(folder: Path) -> None:
    lines = ["emotion,pixels,Usage"]
    for part, (usage, counts) in enumerate(FACE_COUNTS.items()):
        labels = np.repeat(np.arange(7), counts)
        order = np.random.Generator(np.random.Philox(key=[11, part])).permutation(len(labels))
        for k, label in enumerate(labels[order]):
            rng = np.random.Generator(np.random.Philox(key=[part + 1, k]))
            identity = part * 1000 + int(rng.integers(120))  # nobody is in two splits
            pixels = face(int(label), identity, rng)
            lines.append(f"{label},{' '.join(map(str, pixels.reshape(-1).tolist()))},{usage}")
    (folder / "fer2013.csv").write_text("\n".join(lines) + "\n")


# ---- weeds -----------------------------------------------------------------------------------------------

#            lobes, lobe depth, elongation, serration, vein contrast, leaflets
SPECIES = np.array(
    [
        [3, 0.10, 1.25, 0.02, 0.25, 1],
        [5, 0.06, 1.35, 0.06, 0.45, 1],
        [2, 0.02, 4.50, 0.00, 0.10, 5],
        [7, 0.34, 1.20, 0.05, 0.20, 1],
        [2, 0.02, 2.60, 0.00, 0.15, 7],
        [2, 0.03, 2.10, 0.00, 0.55, 1],
        [3, 0.22, 1.60, 0.08, 0.35, 1],
        [9, 0.10, 1.50, 0.11, 0.20, 1],
    ]
)


def weed(species: int, session: int, rng: np.random.Generator, size: int = 64, leaves: list[np.ndarray] | None = None) -> np.ndarray:
    """Draw a weed, uint8 [64, 64, 3]; species 8 is clutter without a weed.

    `leaves` collects the weed's own leaves, each as the share of every pixel that it covers [2S, 2S].
    """
    scene = np.random.Generator(np.random.Philox(key=[23, session]))
    soil = np.array([0.42, 0.33, 0.22]) + 0.22 * (scene.random(3) - 0.5)
    grass = np.array([0.34, 0.46, 0.18]) + 0.2 * (scene.random(3) - 0.5)
    light = 0.7 + 0.5 * scene.random()
    n = size * 2
    mix = (0.6 * _noise(rng, n, 5) + 0.4 * _noise(rng, n, 14))[..., None]
    image = soil * (1 - mix) + grass * mix
    axis = (np.arange(n) + 0.5) / size - 1
    x, y = np.meshgrid(axis, axis)
    for _ in range(int(rng.integers(14, 30))):  # blades of grass
        image = _blade(image, x, y, rng, grass)
    for _ in range(int(rng.integers(2, 5))):  # other plants: every species' leaf shape may lie about, small
        if rng.random() < 0.5:
            image = _leaf(image, x, y, int(rng.integers(8)), rng, scale=0.10 + 0.07 * rng.random(), own=False)
    if species < 8:
        for _ in range(int(rng.integers(2, 5))):
            image = _leaf(image, x, y, species, rng, scale=0.20 + 0.16 * rng.random(), own=True, leaves=leaves)
    image = image * light * (1 + 0.3 * (_noise(rng, n, 2)[..., None] - 0.5)) + 0.03 * rng.standard_normal((n, n, 1))
    small = image.reshape(size, 2, size, 2, 3).mean(axis=(1, 3))
    return (np.clip(small, 0, 1) * 255).round().astype(np.uint8)


def _blade(image: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator, grass: np.ndarray) -> np.ndarray:
    cx, cy = rng.random(2) * 2.2 - 1.1
    c, s = _turn(rng)
    half = 0.3 * rng.random()
    ends = 0.34 + half
    at = _around(x, y, ((cx + u * c - v * s, cy + u * s + v * c) for u in (-ends, ends) for v in (-0.024, 0.024 + 0.25 * ends * ends)))
    u, v = (x[at] - cx) * c + (y[at] - cy) * s, (y[at] - cy) * c - (x[at] - cx) * s
    mask = (_soft(np.abs(v - 0.25 * u * u) - 0.012, 0.012) * _soft(np.abs(u) - 0.3 - half, 0.04))[..., None]
    image[at] = image[at] * (1 - mask) + (grass * (0.7 + 0.7 * rng.random())) * mask
    return image


def _around(x: np.ndarray, y: np.ndarray, corners: Iterable[tuple[float, float]]) -> tuple[slice, slice]:
    """Return the slices of a picture that hold all corners: elsewhere their mask is 0 and changes nothing."""
    xs, ys = zip(*corners, strict=True)
    rows, columns = (np.searchsorted(axis, (min(own) - 1e-6, max(own) + 1e-6)) for axis, own in ((y[:, 0], ys), (x[0], xs)))
    return slice(*rows), slice(*columns)


def _turn(rng: np.random.Generator) -> tuple[float, float]:
    """Return a random rotation, made from a point in the disc with square roots only, which every machine rounds alike."""
    while True:
        a, b = rng.random(2) * 2 - 1
        norm = float(np.sqrt(a * a + b * b))
        if 0.1 < norm <= 1:
            return float(a) / norm, float(b) / norm


def _leaf(
    image: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    species: int,
    rng: np.random.Generator,
    *,
    scale: float,
    own: bool,
    leaves: list[np.ndarray] | None = None,
) -> np.ndarray:
    lobes, depth, long, teeth, vein, leaflets = SPECIES[species]
    cx, cy = (rng.random(2) * 1.5 - 0.75) if own else (rng.random(2) * 2.1 - 1.05)
    c, s = _turn(rng)
    colour = np.array([0.28, 0.48, 0.16]) + 0.16 * (rng.random(3) - 0.5)
    for k in range(int(leaflets)):
        shift = (k - (leaflets - 1) / 2) * scale * 0.75 if leaflets > 1 else 0.0
        reach = 1.08 + depth + teeth
        along, across = (reach * long**0.5, reach) if leaflets == 1 else (reach, reach / long**0.5)
        middle = 0.5 if leaflets > 1 else 0.0
        sides = ((scale * (middle + k * along), scale * j * across) for k in (-1, 1) for j in (-1, 1))
        at = _around(x, y, ((cx - shift * s + u * c - v * s, cy + shift * c + u * s + v * c) for u, v in sides))
        px, py = x[at] - cx - shift * -s, y[at] - cy - shift * c
        u, v = (px * c + py * s) / scale, (py * c - px * s) / scale
        if leaflets > 1:
            u = u - 0.5
        r2 = u * u / (long if leaflets == 1 else 1.0) + v * v * (1.0 if leaflets == 1 else long)
        r = np.sqrt(r2) + 1e-9
        cos1, sin1 = u / np.sqrt(u * u + v * v + 1e-9), v / np.sqrt(u * u + v * v + 1e-9)
        edge = 1 + depth * _cosine(int(lobes), cos1, sin1) + teeth * _cosine(int(lobes) * 4 + 3, cos1, sin1)
        mask = _soft(r - edge, 0.08)[..., None]
        if leaves is not None:
            leaves.append(np.zeros_like(x))
            leaves[-1][at] = mask[..., 0]
        shade = 1 + vein * (_soft(np.abs(v) - 0.04, 0.05) - 0.3 * _soft(np.abs(((u * 3) % 1) - 0.5 - np.abs(v)) - 0.08, 0.08))[..., None]
        image[at] = image[at] * (1 - mask) + np.clip(colour * (0.85 + 0.3 * rng.random()) * shade, 0, 1) * mask
    return image


def _cosine(n: int, c: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Return cos(n t) from cos t and sin t by repeated multiplication: the same on every machine, unlike libm's cosine."""
    re, im = np.ones_like(c), np.zeros_like(c)
    for _ in range(n):
        re, im = re * c - im * s, re * s + im * c
    return re


def _write_weeds(folder: Path) -> None:
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    rng = np.random.Generator(np.random.Philox(key=[31, 0]))
    labels = np.repeat(np.arange(9), WEED_TOTALS)
    rows: list[tuple[str, int]] = []
    starts: dict[int, datetime] = {}
    taken: dict[int, int] = {}
    for k, label in enumerate(labels):
        # five sessions favour each species; clutter is recorded in all of them
        session = int(rng.integers(40)) if label == 8 or rng.random() < 0.15 else int(label) * 5 + int(rng.integers(5))
        starts.setdefault(session, datetime(2017, 1, 9, 8, tzinfo=UTC) + timedelta(hours=2 * session))
        taken[session] = taken.get(session, 0) + 1
        when = starts[session] + timedelta(seconds=20 * taken[session])
        name = f"{when:%Y%m%d-%H%M%S}-{session % 3}.jpg"
        pixels = weed(int(label), session, np.random.Generator(np.random.Philox(key=[37, k])))
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")  # lossless under the format's usual name: JPEG encoders differ between versions
        (folder / "images" / name).write_bytes(buffer.getvalue())
        rows.append((name, int(label)))
    rows.sort()
    body = "".join(f"{n},{y},{WEED_CLASSES[y]}\n" for n, y in rows)
    (folder / "labels" / "labels.csv").write_text("Filename,Label,Species\n" + body)
    names = np.array([n for n, _ in rows])
    y = np.array([v for _, v in rows])
    from study.datasets.spec import stratified_split

    for fold in range(5):
        split = stratified_split(y, None, 0, fold, what="mini_weeds")
        for code, part in enumerate(("train", "val", "test")):
            chosen = np.flatnonzero(split == code)
            lines = "".join(f"{names[i]},{y[i]}\n" for i in chosen)
            (folder / "labels" / f"{part}_subset{fold}.csv").write_text("Filename,Label\n" + lines)
