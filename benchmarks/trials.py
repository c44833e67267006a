"""What a trial costs before it trains: seconds from asking for it to its first step, and to its end, for a trial of three tiny epochs.

    python -m benchmarks.trials --json

Through this process, through Ray with one worker (reused actors) and with two (Ray Train), first trials and later ones; and the
same through Ray Train as its guide has it, a TorchTrainer a trial. Read from the ledger: when a trial was asked for, when it was
started in its worker, when its first epoch began.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from study.tracking.ledger import Ledger

STUDY = """
from study.config import Protocol, Study, grid
TINY = Study(name="tiny", cells=grid(["digits"], ["efficientnet_lite0"], ["linear_probe"], (0.1,)),
    protocol=Protocol(max_epochs=3, image_size=32, batch_size=64, views=1, train_eval_images=32), trials={trials}, random_trials={trials},
    confirm_seeds=0)
"""


def run(trials: int, *more: str) -> list[dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tiny.py").write_text(STUDY.format(trials=trials))
        command = [sys.executable, "-m", "study.sweep", f"{folder}/tiny.py", "--results", folder, "--mlflow", "off", *more]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        ledger, rows = Ledger(folder, "tiny"), []
        for ask in ledger.asks():
            asked = Path(ledger.folder.path(f"trials/{ask.trial_id}/config.json")).stat().st_mtime
            epochs, result = ledger.epochs(ask.trial_id), ledger.result(ask.trial_id)
            assert result is not None
            rows.append({"first_step": epochs[0].ended_at - epochs[0].seconds - asked, "whole": result.ended_at - asked})
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    ways = {
        "in this process": (args.trials, ["--local"]),
        "Ray, 1 worker (reused actor)": (args.trials, ["--concurrent", "1"]),
        "Ray Train, 2 workers": (3, ["--workers", "2"]),
    }
    print("seconds from asking                    first trial: first step / whole     later trials: first step / whole (median)")
    out = {}
    for name, (trials, more) in ways.items():
        rows = run(trials, *more)
        later = {k: statistics.median(r[k] for r in rows[1:]) for k in rows[0]}
        out[name] = {"first": rows[0], "later": later}
        print(
            f"{name:40s} {rows[0]['first_step']:10.2f} / {rows[0]['whole']:6.2f} {later['first_step']:27.2f} / {later['whole']:6.2f}",
            flush=True,
        )
    if args.json:
        print(json.dumps(out))


if __name__ == "__main__":
    main()
