"""Data that Python or Hugging Face's `datasets` holds: made once, the same name for the same contents, read by any process."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from study import own_dataset
from study.datasets import open_dataset
from study.errors import ConfigError, DataError, EnvironmentProblem
from tests.own import classes, jpeg, scene


class Items:
    """A map-style data set as people write them."""

    classes = ("ash", "oak")

    def __init__(self, count: int = 20, first: int = 0) -> None:
        self.count, self.first = count, first

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, k: int) -> tuple[object, int]:
        if k >= self.count:
            raise IndexError(k)
        return scene(self.first + k), k % 2


def test_a_map_style_data_set_is_a_table_by_its_contents(tmp_path: Path) -> None:
    name = own_dataset(Items(), name="trees", folder=tmp_path)
    assert name == own_dataset(Items(), name="trees", folder=tmp_path) != own_dataset(Items(first=1), name="trees", folder=tmp_path)
    assert name.startswith(f"table:{tmp_path}/trees-") and not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    table = open_dataset(name)
    assert (
        table.classes == ("ash", "oak") and table.labels.tolist() == [0, 1] * 10 and np.array_equal(table.decode(3), np.asarray(scene(3)))
    )
    code = f"from study.datasets import open_dataset; print(len(open_dataset({name!r}).ids))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "20\n", (
        "another process reads it by its name"
    )


def test_torchvision_splits_tensors_and_groups_are_taken(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import ToTensor

    classes(tmp_path / "train", {"a": 10, "b": 10})
    classes(tmp_path / "test", {"a": 3, "b": 3}, first=5000)
    parts = {split: ImageFolder(str(tmp_path / split), transform=ToTensor()) for split in ("train", "test")}
    table = open_dataset(own_dataset(parts, folder=tmp_path / "made"))
    assert table.counts()["test"] == [3, 3] and "val cut from train" in table.form
    assert np.array_equal(table.decode(0), np.asarray(Image.open(tmp_path / "train" / "a" / "000.png")))
    grouped = open_dataset(own_dataset(Items(40), groups=[k // 4 for k in range(40)], folder=tmp_path / "made"))
    assert grouped.groups is not None and len(set(grouped.groups)) == 10


def test_a_frame_of_files_keeps_the_files_and_one_of_arrays_makes_them(tmp_path: Path) -> None:
    classes(tmp_path, {"a": 12, "b": 12})
    files = sorted(tmp_path.rglob("*.png"))
    frame = pd.DataFrame({"path": files, "species": [f.parent.name for f in files], "plant": [k // 3 for k in range(24)]})
    table = open_dataset(own_dataset(frame, folder=tmp_path / "made"))
    assert table.classes == ("a", "b") and not list((tmp_path / "made").rglob("*.png")) and len(set(table.groups)) == 8
    arrays = pd.DataFrame({"scan": [np.asarray(scene(k)) for k in range(20)], "y": [k % 2 for k in range(20)]})
    with pytest.raises(ConfigError, match="which column is the image"):
        own_dataset(arrays, folder=tmp_path / "made")
    table = open_dataset(own_dataset(arrays, columns={"image": "scan"}, folder=tmp_path / "made"))
    assert table.classes == ("0", "1") and np.array_equal(table.decode(1), np.asarray(scene(1)))


class Random(Items):
    def __getitem__(self, k: int) -> tuple[object, int]:
        return Image.fromarray(np.random.default_rng().integers(0, 255, (9, 9, 3), dtype=np.uint8)), k % 2


class Normalised(Items):
    def __getitem__(self, k: int) -> tuple[object, int]:
        return torch.randn(3, 9, 9), k % 2


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (Random(), DataError, "another image each time. Give the data set without random transforms"),
        (Normalised(), DataError, "without normalisation"),
        ([scene(0)], ConfigError, "item 0 is Image. It must be"),
        (iter([]), ConfigError, "no len or no"),
        ([], DataError, "no images were given"),
        ({"later": Items()}, DataError, "split is 'later'"),
    ],
)
def test_what_is_no_data_set_is_one_line_and_leaves_nothing(data: object, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        own_dataset(data, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---- hf: ---------------------------------------------------------------------------------------------------

datasets = pytest.importorskip("datasets")


def by_label(name: str) -> list[tuple[str, int]]:
    """Return class and brightness of each image, whatever its name."""
    table = open_dataset(name)
    return sorted((table.classes[y], int(table.decode(k).sum())) for k, y in enumerate(table.labels))


def tar_of(path: Path, files: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_hugging_face_folders_of_every_kind_are_the_same_data(tmp_path: Path) -> None:
    root = classes(tmp_path / "images", {"ash": 12, "oak": 12})
    expected = by_label(f"folder:{root}")
    assert by_label(f"hf:{root}") == expected, "imagefolder"
    loaded = datasets.load_dataset(str(root), cache_dir=str(tmp_path / "cache"), split="train")
    loaded.save_to_disk(str(tmp_path / "saved"))
    assert by_label(f"hf:{tmp_path / 'saved'}") == expected, "save_to_disk"
    (tmp_path / "parquet").mkdir()
    loaded.to_parquet(str(tmp_path / "parquet" / "train.parquet"))
    assert by_label(f"hf:{tmp_path / 'parquet'}") == expected and by_label(f"hf:{tmp_path / 'parquet' / 'train.parquet'}") == expected
    with pytest.raises(DataError, match=r"holds images themselves \(column image\), not their files. Give it as hf:"):
        open_dataset(f"table:{tmp_path / 'parquet' / 'train.parquet'}")
    (tmp_path / "web").mkdir()
    samples = [(f"{k:03d}", f) for k, f in enumerate(sorted(root.rglob("*.png")))]
    tar_of(tmp_path / "web" / "train-000.tar",
        [x for key, f in samples for x in ((f"{key}.png", f.read_bytes()),
            (f"{key}.cls", f"{int(f.parent.name == 'oak')}".encode()))])  # fmt: skip
    assert [pixels for _, pixels in by_label(f"hf:{tmp_path / 'web'}")] == [pixels for _, pixels in expected], "WebDataset"


def test_hugging_face_splits_columns_and_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = datasets.Features({"img": datasets.Image(), "fine": datasets.ClassLabel(names=["x", "y", "none"]),
        "coarse": datasets.Value("string"), "plant": datasets.Value("int64")})  # fmt: skip

    def part(count: int, first: int) -> object:
        rows = {"img": [{"bytes": jpeg(scene(first + k), 95), "path": None} for k in range(count)], "fine": [k % 2 for k in range(count)]}
        return datasets.Dataset.from_dict({**rows, "coarse": ["u" if k % 4 < 2 else "v" for k in range(count)],
            "plant": [k // 4 for k in range(count)]}, features=features)  # fmt: skip

    datasets.DatasetDict({"train": part(40, 0), "test": part(8, 900), "extra": part(4, 950)}).save_to_disk(str(tmp_path / "d"))
    table = open_dataset(f"hf:{tmp_path / 'd'}")
    assert table.classes == ("x", "y") and table.counts()["test"] == [4, 4] and "val cut from train" in table.form
    assert ("split extra", "is none of train, validation, test") in table.ignored and table.ids[0] == "train:0"
    assert not set(table.groups[table.split == 0]) & set(table.groups[table.split == 1]), "plant is taken for the group"
    assert open_dataset(f"hf:{tmp_path / 'd'}?label=coarse").classes == ("u", "v")
    with pytest.raises(ConfigError, match="has no column 'lobel'"):
        open_dataset(f"hf:{tmp_path / 'd'}?label=lobel")
    with pytest.raises(DataError, match="cannot be loaded") as caught:
        (tmp_path / "empty").mkdir()
        open_dataset(f"hf:{tmp_path / 'empty'}")
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(Exception, match=r"needs the package datasets: pip install finetune-study\[data\]"):
        open_dataset(f"hf:{tmp_path / 'd'}")


def test_hugging_face_columns_of_other_types_are_taken_or_refused_by_name(tmp_path: Path) -> None:
    import datasets

    images = [jpeg(scene(k)) for k in range(16)]

    def made(name: str, **columns: list[object]) -> str:
        rows = datasets.Dataset.from_dict({"image": images, **columns}).cast_column("image", datasets.Image())
        rows.save_to_disk(str(tmp_path / name))
        return f"hf:{tmp_path}/{name}"

    words: list[object] = ["ash", "oak"] * 8
    assert open_dataset(made("bool", label=[True, False] * 8)).classes == ("False", "True")
    groups = open_dataset(made("nan", label=words, group=[float("nan") if k % 2 else float(k) for k in range(16)])).groups
    assert groups is not None and len(set(groups.tolist())) == 16
    for name, columns, message in (
        ("list", {"group": [["a", "b"]] * 16}, "group is a list of 2"),
        ("less", {"weight": [-1.0] * 16}, "weight is '-1'. It must be a number >= 0"),
        ("word", {"weight": ["high"] * 16}, "weight is 'high'. It must be a number >= 0"),
    ):
        with pytest.raises(DataError, match=message):
            open_dataset(made(name, label=words, **columns))


@pytest.mark.parametrize("below", ["", "deeper"])
@pytest.mark.parametrize("given", [True, False], ids=["folder=", "STUDY_CACHE"])
def test_a_file_where_the_folder_should_be_is_named_with_the_way_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str, given: bool
) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    place = file / below
    monkeypatch.setenv("STUDY_CACHE", str(tmp_path / "cache" if given else place))
    with pytest.raises(EnvironmentProblem) as told:
        own_dataset(Items(), folder=place if given else None)
    assert f"{file} is a file where a folder should be" in str(told.value)
    assert ("give another folder" if given else "STUDY_CACHE") in str(told.value)
    assert file.read_text() == "mine"
