"""Fixtures that all tests share: a cache of their own, real data when STUDY_REAL names its folder, a tiny folder of weights."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `import study` has it; torch is loaded before it here
os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx2")  # pinned numbers agree on every x86 machine
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
os.environ.setdefault("MKL_ENABLE_INSTRUCTIONS", "AVX2")
os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")  # numpy's and scipy's: else the golden tables' last digits are a processor's own

import pytest
import torch

from study import Results
from study.tracking.ledger import Ledger
from tests import networks, tiny
from tests import used as finished
from tests.goldens import GOLDEN
from tests.hosts import traces

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Set a cache of the tests' own, so that nothing is read from or left in the user's."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["STUDY_CACHE"] = str(folder)
    for name in ("STUDY_DATA", "STUDY_WEIGHTS", "STUDY_FAILPOINT", "RAY_ADDRESS"):
        os.environ.pop(name, None)
    return folder


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_in_the_checkout() -> Iterator[None]:
    """Fail where tests leave files in the checkout: activations were once left there to be committed."""
    root = Path(__file__).parent.parent
    before = {p.name for p in root.iterdir()}
    yield
    left = {p.name for p in root.iterdir()} - before - {"results", "data", "weights", "mlruns", "__pycache__"}
    assert not left, f"tests left {sorted(left)} in {root}: give them a folder of their own."


@pytest.fixture(autouse=True)
def a_test_ends_where_it_began() -> Iterator[None]:
    """Fail a test that changes the working folder: one that did failed fifteen tests of the next file on its worker."""
    before = os.getcwd()
    yield
    after = os.getcwd()
    os.chdir(before)
    assert after == before, f"went to {after} and stayed: monkeypatch.chdir goes back."


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_on_the_machine(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail where a process, mount, network or folder of hosts, Slurm or containers outlives the tests."""
    if not any(item.get_closest_marker("cluster") for item in request.session.items):
        yield
        return
    before = traces()
    yield
    assert not (left := traces() - before), f"tests left {sorted(left)}"


@pytest.fixture(scope="session")
def real() -> Path:
    """Return the folder with real FER2013 and DeepWeeds images."""
    if not os.environ.get("STUDY_REAL"):
        pytest.skip("needs real images: set STUDY_REAL to a folder that holds fer2013/ and deepweeds/")
    return Path(os.environ["STUDY_REAL"])


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of random weights made by timm itself: enough for everything except scores."""
    import timm

    folder = tmp_path_factory.mktemp("weights")
    timms = ("resnet18", "resnet50", "efficientnet_b0", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224", "test_vit")
    for name in (*timms, *networks.NAMES):
        torch.manual_seed(0)
        torch.save(timm.create_model(name).state_dict(), folder / f"{name}.pth")
    return folder


@pytest.fixture(scope="session")
def used(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A finished study whose networks are kept; no test may change it."""
    return finished.run(tmp_path_factory.mktemp("used"))


@pytest.fixture(scope="session")
def digit_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of digits in folders, among files that are none."""
    return finished.draw(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def copy(tmp_path: Path) -> Ledger:
    """Return a copy of the golden study for a test to change."""
    shutil.copytree(GOLDEN, tmp_path / "results")
    return Ledger(tmp_path / "results", "golden")


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """Return the tiny study (`tiny.in_any_order`) run in one process: the result it must have wherever else it runs."""
    folder = tmp_path_factory.mktemp("alone")
    done = tiny.run(tiny.in_any_order(folder), folder / "results", "--mlflow", "off", "--local", timeout=2400)
    assert done.returncode == 0, done.stderr
    return Ledger(folder / "results", "tiny")
