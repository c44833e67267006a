"""The installed package: a wheel of three packages, whose commands run in any folder."""

import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from study import __main__ as finetune_study

ROOT = Path(__file__).parent.parent
PACKAGES = {"study", "analysis", "cluster"}
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def ran(command: list[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_"))}
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, so that the checkout gets no build folder and stray files of it cannot get in."""
    source = tmp_path_factory.mktemp("source") / "project"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    for package in (*PACKAGES, "benchmarks", "tests"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__", "golden"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    built = ran([sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", source / "out", source], source)
    assert built.returncode == 0, built.stderr
    (found,) = (source / "out").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of programs of an environment that holds the wheel, and sees what this one installed but not this checkout."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, symlinks=True)
    (site,) = home.glob("lib/python*/site-packages")
    # a line is a folder to look in: its own .pth files, of which one names this checkout, are not followed
    (site / "dependencies.pth").write_text("\n".join(p for p in sys.path if p.endswith("site-packages")))
    python = home / "bin" / "python"
    options = ["--no-deps", "--no-index", "--disable-pip-version-check"]
    done = ran([sys.executable, "-m", "pip", "--python", python, "install", *options, "--ignore-installed", wheel], home)
    assert done.returncode == 0, done.stderr
    return python.parent


def test_the_wheel_holds_three_packages_and_what_they_read(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    here = {str(p.relative_to(ROOT)) for package in PACKAGES for p in (ROOT / package).rglob("*.py")}
    assert {n.partition("/")[0] for n in names} == PACKAGES | {f"finetune_study-{VERSION}.dist-info"}
    assert {n for n in names if n.endswith(".py")} == here
    pages = {str(p.relative_to(ROOT)) for suffix in ("html", "css", "js") for p in (ROOT / "analysis").rglob(f"*.{suffix}")}
    assert pages | {f"{p}/py.typed" for p in PACKAGES} <= set(names)


def test_commands_run_where_it_is_installed(installed: Path, tmp_path: Path) -> None:
    where = ran([installed / "python", "-c", "import study, analysis, cluster; print(study.__file__)"], tmp_path)
    assert where.stdout.startswith(str(installed.parent)), where.stdout + where.stderr
    module = ran([installed / "python", "-m", "study.sweep", "--help"], tmp_path)
    script = ran([installed / "finetune-study", "sweep", "--help"], tmp_path)
    assert module.returncode == script.returncode == 0 and "usage: python -m study.sweep" in module.stdout, module.stderr + script.stderr
    assert script.stdout == module.stdout
    assert ran([installed / "finetune-study", "--version"], tmp_path).stdout == f"finetune-study {VERSION}\n"


@pytest.mark.slow
def test_a_plan_is_printed_by_what_is_installed(installed: Path, tmp_path: Path) -> None:
    """It tests more than help: data, weights and templates of the package are found."""
    done = ran([installed / "finetune-study", "sweep", "quickstart", "--dry-run"], tmp_path)
    assert done.returncode == 0 and "quickstart" in done.stdout, done.stderr


def test_every_command_is_one_and_others_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for name in finetune_study.COMMANDS:
        with pytest.raises(SystemExit) as ended:
            finetune_study.main([name, "--help"])
        out = capsys.readouterr().out
        assert ended.value.code == 0 and out.startswith("usage: python -m ") and name in out.split()[3]
    assert finetune_study.main([]) == 0 and "\n  sweep " in capsys.readouterr().out
    assert finetune_study.main(["predcit", "x"]) == 2
    assert capsys.readouterr().err == ("error: predcit is no command; did you mean predict? finetune-study --help says what each does.\n")
    assert finetune_study.main(["x\ny"]) == 2
    assert capsys.readouterr().err.startswith("error: x\\ny is no command; these are: sweep, deliver, ")


def test_it_can_be_cited() -> None:
    about = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= about.keys(), "what the format asks for"
    assert about["version"] == VERSION
