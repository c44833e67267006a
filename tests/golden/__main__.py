"""`make golden`: the golden study run anew, and the tables written that the tests compare with.

Use it when numbers are meant to change.
"""

import tests.conftest  # noqa: F401, I001 -- first: it pins the processor's instructions, for the numbers of every machine

import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    shutil.rmtree(HERE / "study", ignore_errors=True)
    subprocess.run(
        [sys.executable, "-m", "study.sweep", str(HERE / "my_study.py"), "--local", "--mlflow", "off", "--results", str(HERE / "study")],
        check=True,
    )
    study = HERE / "study" / "golden"
    for path in [*study.glob("trials/*/best"), *study.glob("trials/*/checkpoint"), study / "tables"]:
        shutil.rmtree(path, ignore_errors=True)
    (study / "report.html").unlink()
    for lock in study.glob(".lock*"):
        lock.unlink()
    hide_machine(study)
    write_tables(HERE / "tables")


def hide_machine(study: Path) -> None:
    """Remove the machine's name and the folder it was made in from the files that are committed."""
    here = {platform.node(): "golden", platform.platform(): "Linux", f"{HERE.parent.parent}/": ""}
    for path in [p for p in study.rglob("*") if p.suffix in (".json", ".jsonl")]:
        text = path.read_text()
        for shown, instead in here.items():
            text = text.replace(shown, instead)
        path.write_text(text)


def write_tables(folder: Path) -> None:
    from analysis.report import write_report

    shutil.rmtree(folder, ignore_errors=True)
    write_report(str(HERE / "study"), folder.parent / "report.html", tables=str(folder))
    (folder.parent / "report.html").unlink()


if __name__ == "__main__":
    main()
