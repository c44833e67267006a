"""A study ends once: the same command again changes neither when it did nor what trackers have of it."""

from pathlib import Path

from study import sweep
from study.tracking.ledger import Ledger
from tests.test_same_images import asked, made


def test_the_same_command_on_a_finished_study_leaves_its_last_word(tmp_path: Path) -> None:
    """Once, its end was written anew, and every test score stood twice in MLflow."""
    study = asked(made(tmp_path / "own", "folder"))
    (tmp_path / "my_study.py").write_text(
        f"from study.question.study_config import *\nfrom study.strategies import *\nS = Study.from_dict({study.as_dict()!r})\n"
    )
    line = [str(tmp_path / "my_study.py"), "--local", "--mlflow", "off", "--results", str(tmp_path)]
    ends = []
    for _ in range(2):
        assert sweep.main(line) == 0
        ends.append(Ledger(str(tmp_path), "s").facts()["finished_at"])
    assert ends[0] == ends[1]
