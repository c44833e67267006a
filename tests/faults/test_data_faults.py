"""Hostile data, by case id: every problem is one line that names file and way out, and nothing wraps, hangs or leaks."""

import hashlib
import io
import json
import os
import pickle
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as draw
from PIL import Image

from study.datasets import open_dataset
from study.datasets.archives import Limits, extract
from study.datasets.audit import audit
from study.datasets.audit_page import write_page
from study.datasets.fer2013 import read_csv
from study.datasets.imagefiles import check_headers, decode_file
from study.errors import ConfigError, DataError
from study.networks.pretrained import create
from study.storage import checkpoint
from study.storage.folder import Folder
from tests.test_datasets import folder, rows

GOOD = " ".join(["7"] * 2304)


def csv_of(*lines: str, header: str = "emotion,pixels,Usage") -> bytes:
    full = [f"{k},{GOOD},{u}" for u in ("Training", "PublicTest", "PrivateTest") for k in range(7)]
    return ("\n".join([header, *full, *lines]) + "\n").encode()


BAD_PIXELS = [
    " ".join(["7"] * 2303), " ".join(["7"] * 2305), "",
    *(f"{v} " + " ".join(["7"] * 2303) for v in ("NaN", "256", "300", "-1", "1.5", "1e2", "٣", "1_0", "0x7")),
]  # fmt: skip


@pytest.mark.parametrize("pixels", BAD_PIXELS, ids=lambda p: p[:6] or "none")
def test_C1_wrong_pixels_name_row_column_value(pixels: str, tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_bytes(csv_of(f"0,{pixels},Training"))
    with pytest.raises(DataError, match=r"fer2013\.csv:23: pixels"):
        read_csv(path)


@pytest.mark.parametrize("label", ["-1", "7", "3.0", "", "happy"])
def test_C2_wrong_labels_are_named(label: str, tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_bytes(csv_of(f"{label},{GOOD},Training"))
    with pytest.raises(DataError, match=r"fer2013\.csv:23: emotion"):
        read_csv(path)


def test_C3_utf16_is_named(tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_bytes(csv_of().decode().encode("utf-16"))
    with pytest.raises(DataError, match="UTF-16"):
        read_csv(path)


def test_C4_usage_missing_unknown_or_only_training(tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_bytes(csv_of(f"0,{GOOD},Private"))
    with pytest.raises(DataError, match="Usage is 'Private'"):
        read_csv(path)
    only = [f"{e},{p},Training" for e, p, u in rows(6) if u == "Training"]
    path.write_text("emotion,pixels,Usage\n" + "\n".join(only) + "\n")
    assert "own stratified" in read_csv(path).form


@pytest.mark.parametrize(
    "content", [csv_of()[:-3000], csv_of() + b"\0\0", b"", b"emotion,pixels,Usage\n", csv_of(f"0,{'9' * 200_000},Training")]
)
def test_C5_cut_nul_empty_and_oversized(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"fer2013\.csv"):
        read_csv(path)


@settings(max_examples=int(os.environ.get("STUDY_MUTATIONS", "150")), deadline=None, suppress_health_check=list(HealthCheck))
@given(draw.lists(draw.tuples(draw.integers(0, 10**6), draw.integers(0, 255)), min_size=1, max_size=6))
def test_C6_random_mutations_are_read_or_named(tmp_path_factory, changes) -> None:
    data = bytearray(csv_of())
    for at, value in changes:
        data[at % len(data)] = value
    path = tmp_path_factory.mktemp("c6") / "fer2013.csv"
    path.write_bytes(bytes(data))
    try:
        table = read_csv(path)
        assert table.labels.max() < 7
    except DataError as error:
        assert "\n" not in str(error) and "fer2013.csv" in str(error)


def test_C7_duplicates_across_splits_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    path.write_bytes(csv_of())
    report = audit(read_csv(path))
    assert report.exact_across == 14 and report.conflicts == 1


def test_D1_unreadable_images_are_all_listed_in_one_pass(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a": 8, "b": 8})
    (root / "a" / "empty.jpg").write_bytes(b"")
    (root / "a" / "page.jpg").write_text("<html>not found</html>")
    (root / "b" / "text.png").write_text("hello")
    with pytest.raises(DataError) as caught:
        open_dataset(f"folder:{root}")
    assert all(n in str(caught.value) for n in ("3 of the images", "empty.jpg", "page.jpg", "text.png"))
    for name in ("empty.jpg", "page.jpg"):
        (root / "a" / name).unlink()
    (root / "b" / "text.png").unlink()
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
    (root / "b" / "half.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(DataError, match=r"1 of the images .*half\.jpg"):
        open_dataset(f"folder:{root}")
    (root / "b" / "half.jpg").unlink()
    table = open_dataset(f"folder:{root}")
    file = root / table.ids[0]
    file.write_bytes(file.read_bytes()[:-40])  # since it was opened
    report = audit(table)
    assert report.blocking and len(report.problems) == 1 and table.ids[0] in report.problems[0]


def test_D2_fifo_socket_and_broken_link_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    os.symlink(tmp_path / "nowhere", tmp_path / "b.jpg")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "c.jpg"))
        done: list[object] = []
        thread = threading.Thread(
            target=lambda: done.append(check_headers([tmp_path / n for n in ("a.jpg", "b.jpg", "c.jpg")])), daemon=True
        )
        thread.start()
        thread.join(5)
    assert done and len(done[0][1]) == 3


def png(width: int, height: int, body: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + body
        + chunk(b"IDAT", b"")
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(60_000, 60_000), (13_000, 13_000), (2**31 - 1, 1)])
def test_D3_image_bombs_are_refused_by_their_header(size: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(*size))
    _, bad = check_headers([tmp_path / "a.png"])
    assert len(bad) == 1
    with pytest.raises(DataError, match=r"a\.png"):
        decode_file(tmp_path / "a.png", 3)


@pytest.mark.parametrize(
    "head",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"SIMPLE  =                    T",
        b"8BPS\0\1",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\xd7\xcd\xc6\x9a",
    ],
)
def test_D5_other_formats_are_refused(head: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(head.ljust(4000, b" "))
    _, bad = check_headers([tmp_path / "a.jpg"])
    assert ("an SVG drawing" if b"svg" in head else "JPEG/PNG") in bad[0][1]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "I;16", "RGB"])
def test_D6_every_mode_becomes_the_same_kind_of_array(mode: str, tmp_path: Path) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    base = Image.fromarray(np.linspace(0, 255, 300).astype(np.uint8).reshape(15, 20))
    if mode == "I;16":
        image = Image.fromarray(np.linspace(0, 65535, 300).astype(np.uint16).reshape(15, 20))
    elif mode == "PA":
        image = base.convert("LA")
    else:
        image = base.convert("RGB").convert(mode) if mode in ("CMYK", "P") else base.convert(mode)
    image.save(tmp_path / "a.img", kind)
    for channels in (1, 3):
        array = decode_file(tmp_path / "a.img", channels)
        assert array.shape == (15, 20, channels) and array.dtype == np.uint8
    if mode == "I;16":
        assert array[0, 0, 0] < 5 and array[-1, -1, 0] > 250 and 110 < array[7, 10, 0] < 145, "scaled, not clipped"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_D6_orientation_is_applied(orientation: int, tmp_path: Path) -> None:
    image = Image.new("L", (20, 10))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", exif=exif)
    assert decode_file(tmp_path / "a.jpg", 1).shape[:2] == ((10, 20) if orientation <= 4 else (20, 10))


def test_D7_empty_single_and_tiny_classes(tmp_path: Path) -> None:
    root = folder(tmp_path / "one", {"a": 8})
    with pytest.raises(DataError, match="one class only"):
        open_dataset(f"folder:{root}")
    (folder(tmp_path / "two", {"a": 8, "b": 8}) / "c").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        open_dataset(f"folder:{tmp_path / 'two'}")
    with pytest.raises(DataError, match="fewer than 5"):
        open_dataset(f"folder:{folder(tmp_path / 'three', {'a': 8, 'b': 1})}")
    (tmp_path / "four").mkdir()
    with pytest.raises(DataError, match="no images"):
        open_dataset(f"folder:{tmp_path / 'four'}")


NAMES = [
    "new\nline",
    "<script>alert(1)</script>".replace("/", "∕"),
    "😀",
    "\u202eRTL",
    "e\u0301",
    "surrogate\udcff",
    "x" * 250,
    "=1+1",
    "a..b",
    "CON",
    "a b",
]


def test_D8_strange_names_load_and_are_shown_escaped(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", dict.fromkeys(NAMES, 6))
    table = open_dataset(f"folder:{root}")
    assert len(table.classes) == len(NAMES) and all(len(c) <= 80 and "\n" not in c for c in table.classes)
    [c.encode() for c in table.classes]
    write_page(table, audit(table), tmp_path / "page.html")
    assert "<script>alert" not in (tmp_path / "page.html").read_text()


def test_D9_links_are_not_followed_out_of_the_tree_or_in_circles(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", {"a": 8, "b": 8})
    os.symlink(root / "a", root / "a" / "loop")
    assert len(open_dataset(f"folder:{root}").ids) == 16
    outside = tmp_path / "secret.png"
    outside.write_bytes((root / "a" / "000.png").read_bytes())
    os.symlink(outside, root / "b" / "link.png")
    with pytest.raises(DataError, match=r"link\.png links to a file outside"):
        open_dataset(f"folder:{root}")


def test_D10_junk_is_ignored_and_counted(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a": 8, "b": 8})
    for junk in (".ipynb_checkpoints", "__MACOSX"):
        (root / junk).mkdir()
        (root / junk / "._a.jpg").write_bytes(b"x")
    (root / "a" / "Thumbs.db").write_bytes(b"x")
    (root / "a" / ".DS_Store").write_bytes(b"x")
    table = open_dataset(f"folder:{root}")
    assert table.classes == ("a", "b")
    assert [name for name, _ in table.ignored] == [".ipynb_checkpoints", "__MACOSX", "a/.DS_Store", "a/Thumbs.db"]


def weeds(root: Path) -> Path:
    (root / "deepweeds" / "images").mkdir(parents=True)
    (root / "deepweeds" / "labels").mkdir()
    names = [f"20170101-08{k // 60:02d}{k % 60:02d}-0.jpg" for k in range(90)]
    for n in names:
        Image.new("RGB", (8, 8)).save(root / "deepweeds" / "images" / n)
    lines = [f"{n},{k % 9},x" for k, n in enumerate(names)]
    (root / "deepweeds" / "labels" / "labels.csv").write_text("Filename,Label,Species\n" + "\n".join(lines) + "\n")
    for k, split in enumerate(("train", "val", "test")):
        part = [f"{n},{i % 9}" for i, n in enumerate(names) if i // 30 == k]
        (root / "deepweeds" / "labels" / f"{split}_subset0.csv").write_text("Filename,Label\n" + "\n".join(part) + "\n")
    return root


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("-0.jpg,0,", "-0.jpg,9,", 1), r"labels\.csv:2: Label is '9'"),
        (lambda t: t.replace("Label", "Etikett"), "needs the columns Filename and Label"),
        (lambda t: t.replace(",", ";"), "separated by ';'"),
        (lambda t: t + "20170101-080000-0.jpg,3,x\n", r"labels\.csv:92: .* label 3 here and 0 above"),
        (lambda t: t + "20170101-090000-0.jpg\n", "columns, the header 3"),
        (lambda t: t.replace("20170101-080000-0.jpg", "../a.jpg"), "bare file name"),
    ],
)
def test_D11_wrong_labels_name_file_row_and_value(change, message: str, tmp_path: Path) -> None:
    root = weeds(tmp_path)
    path = root / "deepweeds" / "labels" / "labels.csv"
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=message):
        open_dataset("deepweeds", root=root)


def test_D11_bom_and_crlf_are_accepted_and_missing_images_named(tmp_path: Path) -> None:
    root = weeds(tmp_path)
    path = root / "deepweeds" / "labels" / "labels.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_text().replace("\n", "\r\n").encode())
    assert len(open_dataset("deepweeds", root=root).ids) == 90
    (root / "deepweeds" / "images" / "20170101-080000-0.jpg").unlink()
    with pytest.raises(DataError, match="20170101-080000-0.jpg"):
        open_dataset("deepweeds", root=root)


def test_D12_a_file_changed_after_the_check_is_named_when_read(tmp_path: Path) -> None:
    root = folder(tmp_path, {"a": 8, "b": 8})
    table = open_dataset(f"folder:{root}")
    (root / "a" / "000.png").write_bytes(b"gone")
    with pytest.raises(DataError, match=r"000\.png"):
        table.decode(0)
    (root / "a" / "000.png").unlink()
    with pytest.raises(DataError, match=r"000\.png"):
        table.decode(0)


def tar_with(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


HOSTILE = {
    "parent": [(member("../evil"), b"x")],
    "absolute": [(member("/tmp/evil"), b"x")],
    "symlink": [(member("a", tarfile.SYMTYPE, "/tmp"), b""), (member("a/evil"), b"x")],
    "hardlink": [(member("a", tarfile.LNKTYPE, "/etc/passwd"), b"")],
    "device": [(member("a", tarfile.CHRTYPE), b"")],
    "deep": [(member("/".join("d" * 1 for _ in range(300)) + "/f"), b"x")],
    "twice": [(member("a"), b"x"), (member("a"), b"y")],
    "case": [(member("a"), b"x"), (member("A"), b"y")],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_X3_hostile_archives_are_refused_and_leave_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_with(*HOSTILE[name]))
    with pytest.raises(DataError, match=r"a\.tar"):
        extract(tmp_path / "a.tar", tmp_path / "out" / "in")
    assert not any((tmp_path / "out" / "in").iterdir()) and not (tmp_path / "out" / "evil").exists()


def test_X4_bombs_are_stopped_by_real_bytes_and_counts(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("zeros.bin", bytes(60_000_000))
    with pytest.raises(DataError, match="bomb"):
        extract(tmp_path / "bomb.zip", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as z:
        for k in range(300):
            z.writestr(f"{k}.txt", "x")
    with pytest.raises(DataError, match="more than 200"):
        extract(tmp_path / "many.zip", tmp_path / "out", Limits(files=200))
    assert sum(f.stat().st_size for f in (tmp_path / "out").rglob("*") if f.is_file()) == 0
    assert extract(tmp_path / "many.zip", tmp_path / "fine") == 300


def chunk(kind: bytes, data: bytes, length: int | None = None) -> bytes:
    return struct.pack(">I", len(data) if length is None else length) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress((b"\0" + bytes(24)) * 8))
    return b"\x89PNG\r\n\x1a\n" + header + extra + body + chunk(b"IEND", b"")


def gif_of(frames: int) -> bytes:
    buffer = io.BytesIO()
    first = Image.new("P", (8, 8))
    first.putpalette(list(range(256)) * 3)
    first.save(buffer, "GIF", save_all=True, append_images=[first.point(lambda v, k=k: (v + k) % 256) for k in range(1, 20)])
    data = buffer.getvalue()
    start = data.index(b"\x21\xf9") if b"\x21\xf9" in data else data.index(b"\x2c")
    one = data[start:-1]
    return data[:start] + one * (frames // 20) + b"\x3b"


BOMBS = {
    "zTXt": lambda: png_with(chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(200_000_000), 9))),
    "ICC": lambda: png_with(chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(200_000_000), 9))),
    "GIF of 10,000 frames": lambda: gif_of(10_000),
    "IDAT of a terabyte": lambda: (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)) + chunk(b"IDAT", b"xx", 2**31 - 1)
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_D4_bombs_inside_small_files_cost_no_memory(name: str, tmp_path: Path) -> None:
    """They are refused, or give the first frame of what is shown, in a process of its own, which a bomb that works would keep busy for
    ever.
    """
    (tmp_path / "a.png").write_bytes(BOMBS[name]())
    code = (
        "import resource, sys; from pathlib import Path; from study.datasets.imagefiles import decode_file; from study.errors "
        "import DataError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: print(decode_file(Path(sys.argv[1]), 3).shape)\n"
        "except DataError as error: print('refused', error)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said, megabytes = done.stdout.splitlines()
    assert said.startswith("refused") or said == "(8, 8, 3)"
    assert float(megabytes) < 100, f"{name}: {megabytes} MB"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_D13_a_hundred_thousand_files(tmp_path: Path) -> None:
    """They are hard links to a few pictures. Headers are read once, and nothing is held in memory by image."""
    root = folder(tmp_path, {"a": 4, "b": 4})
    for k in range(50_000):
        for c in ("a", "b"):
            os.link(root / c / f"{k % 4:03d}.png", root / c / f"x{k:06d}.png")
    code = (
        "import resource, sys, time; from pathlib import Path; from study.question.cell import Cell\n"
        "from study.question.training_settings import Protocol; from study.question.trial_config import TrialConfig\n"
        "from study.run import open_inputs; from study.storage.places import Places\n"
        "config = TrialConfig.default(Cell(dataset=f'folder:{sys.argv[1]}', backbone='efficientnet_lite0', strategy='full'), "
        "Protocol(image_size=32))\n"
        "for turn in ('first', 'later'):\n"
        "    began = time.monotonic(); inputs = open_inputs(config, Places(folder='')); inputs.pixels_of(inputs.train[:64])\n"
        "    print(turn, len(inputs.table.ids), round(time.monotonic() - began, 1), "
        "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, timeout=1100)
    assert done.returncode == 0, done.stderr
    print(f"\nD13: turn, images, seconds to the first batch, peak MB\n{done.stdout}")
    first, later = (line.split() for line in done.stdout.splitlines())
    assert int(first[1]) == 100_008 and int(later[3]) - int(first[3]) < 500, "the second reading holds no second copy"


def test_H2_batches_larger_than_the_data_and_last_batches_of_one(tmp_path: Path, capsys) -> None:
    """A batch larger than the training set is the whole set, and a last batch of one joins batch norm without an error."""
    from study import trial

    root = folder(tmp_path, {"a": 12, "b": 13})
    for batch in (4096, 16, 17):
        settings = [f"batch_size={batch}", "image_size=32", "max_epochs=1", "warmup_epochs=0.5"]
        assert trial.main([f"folder:{root}/efficientnet_lite0/full", "--json", "--set", *settings]) == 0
        record = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert record["images"] > 0 and record["metrics"]["train/loss"] > 0
    assert trial.main([f"folder:{root}/efficientnet_lite0/full", "--set", "batch_size=0"]) == 2
    assert "batch_size must be a whole number >= 1" in capsys.readouterr().err


def test_X1_weights_that_would_run_code_are_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/ran",)

    import torch

    torch.save({"conv_stem.weight": Evil()}, tmp_path / "resnet18.pth")
    with pytest.raises(ConfigError, match=r"holds Python objects beside its tensors \(posix\.system\)"):
        create("resnet18", 3, weights=tmp_path)
    (tmp_path / "checkpoint/000001").mkdir(parents=True)
    data = (tmp_path / "resnet18.pth").read_bytes()
    (tmp_path / "checkpoint/000001/state.pt").write_bytes(data)
    manifest = {"file": "state.pt", "sha256": hashlib.sha256(data).hexdigest(), "trial": "x"}
    (tmp_path / "checkpoint/000001/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.load_newest(Folder(str(tmp_path)), trial="x")
    assert not (tmp_path / "ran").exists()
