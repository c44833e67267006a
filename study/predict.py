"""`python -m study.predict RESULTS/STUDY/trials/ID IMAGE...`: classify images with what a study found."""

import argparse
import json
import sys
from collections.abc import Sequence

import numpy as np

from study.errors import StudyError
from study.facts import shown, tell
from study.predictor import Predictor


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m study.predict", description="Classify images with a trial's best checkpoint.")
    parser.add_argument("trial", help="folder of a trial: RESULTS/STUDY/trials/ID (local path or URL)")
    parser.add_argument("images", nargs="+", help="image files")
    parser.add_argument("--json", action="store_true", help="a JSON object a line, with the probability of every class to its last digit")
    args = parser.parse_args(argv)
    try:
        predictor = Predictor.from_folder(args.trial)
        for path in args.images:
            (row,) = predictor(predictor.read(path)[None])
            if args.json:
                print(json.dumps({"image": path, "probabilities": dict(zip(predictor.classes, row.tolist(), strict=True))}))
                continue
            top = np.argsort(-row)[:3]
            print(shown(path), *(f"{shown(predictor.classes[k])} {row[k]:.3f}" for k in top), sep="\t")
    except StudyError as error:
        return tell(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
