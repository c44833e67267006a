"""The number of labels that decide an undecided verdict: pictures drawn where strategies disagree, against pictures drawn at random.

    python -m benchmarks.labels --data DATA --features FEATURES.npz --studies 100 --json

Studies compare two ways to train a head on frozen EfficientNet-Lite0 features of DeepWeeds' photographs. Each study owns `--train` of
them and 100 test images. The labels of all others are held out, and come one draw after another: 20, 40, ... of them, drawn as
`study.label` draws, or at random and weighted alike.

The table shows, for studies undecided on their test images, how many are decided with so many labels, whether the sign of a verdict is
that of all photographs together, and how often the interval holds the difference there.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.statistics import survey
from analysis.statistics.decisions import decide
from analysis.statistics.forecast import alpha_of_look
from analysis.statistics.intervals import Estimate, difference, difference_interval
from analysis.statistics.resampling import METRICS
from analysis.statistics.scored_runs import score_runs
from benchmarks import arguments
from study.datasets import open_dataset
from study.inference.framing import prepare
from study.inference.pixels import plain
from study.metrics import counts
from study.networks.pretrained import create
from study.networks.timm_model import as_timm
from study.scoring.metric import DEFAULT

SIDE = 96  # pixels
TESTED, RUNS, RESAMPLES = 100, 5, 100
LABELS = (20, 40, 60, 100, 150, 250)
MARGIN = 0.01
WIDTHS = (64, 12)  # components that each of the two strategies reads


def features_of(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Float32 [N, D] that the head reads, and classes [N]."""
    table = open_dataset("deepweeds", splits="session", root=data)
    model = create("efficientnet_lite0", None).model.eval()
    mean, std = as_timm(model).default_cfg["mean"], as_timm(model).default_cfg["std"]
    rows = []
    with torch.no_grad():
        for start in range(0, len(table.ids), 64):
            own = [prepare(table.decode(k), SIDE, 3) for k in range(start, min(start + 64, len(table.ids)))]
            pixels = plain(torch.from_numpy(np.stack(own)), size=SIDE, mean=mean, std=std)
            timm_model = as_timm(model)
            rows.append(timm_model.forward_head(timm_model.forward_features(pixels), pre_logits=True).numpy())
    return np.concatenate(rows).astype(np.float32), table.labels.copy()


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """One study: its test images first, then those whose labels are held out."""

    labels: np.ndarray  # [N]
    said: Sequence[np.ndarray]  # of both strategies, classes [RUNS, N]
    shares: np.ndarray  # [N, C] the mean over all runs
    classes: int


def train_study(features: np.ndarray, labels: np.ndarray, train: int, rng: np.random.Generator) -> Drawn:
    """Train a head on 64 principal components of all features, and one on the first twelve, each run on four fifths of the images."""
    order = rng.permutation(len(labels))
    own, rest = order[:train], order[train:]
    said, shares, classes = [], [], int(labels.max()) + 1
    for strategy in (0, 1):
        runs = []
        for _ in range(RUNS):
            part = rng.choice(own, round(0.8 * train), replace=False)
            head = LogisticRegression(C=0.3, max_iter=100)
            found = make_pipeline(StandardScaler(), head).fit(features[part, : WIDTHS[strategy]], labels[part])
            each = np.zeros((len(rest), classes))
            each[:, found.classes_] = found.predict_proba(features[rest, : WIDTHS[strategy]])
            runs.append(each.argmax(axis=1))
            shares.append(each)
        said.append(np.stack(runs))
    return Drawn(labels=labels[rest], said=said, shares=np.mean(shares, axis=0), classes=classes)


def estimate(study: Drawn, places: np.ndarray, sample: survey.Sample) -> Estimate:
    """The difference on these images of the study."""
    again, units = sample.resample(RESAMPLES), sample.units()
    runs = [
        score_runs(own[:, places], [0] * RUNS, study.labels[places], study.classes, again, units, (DEFAULT.name,), each=sample.weights)[
            DEFAULT.name
        ]
        for own in study.said
    ]
    return difference(*runs)


def whole_difference(study: Drawn) -> float:
    scores = [np.mean([float(METRICS[DEFAULT.name](counts(p, study.labels, study.classes))) for p in own]) for own in study.said]
    return float(scores[0] - scores[1])


def measure_study(study: Drawn, rng: np.random.Generator) -> list[dict[str, object]] | None:
    """A row a way to draw and number of labels; None where the study is decided on its test images."""
    tested, held = np.arange(TESTED), np.arange(TESTED, len(study.labels))
    alone = survey.Sample(stratum=np.zeros(TESTED, int), weights=np.ones(TESTED))
    if decide([estimate(study, tested, alone)], MARGIN, alpha=alpha_of_look(1))[0].kind != "undecided":
        return None
    at = [counts(np.concatenate([p[:TESTED] for p in own]), np.tile(study.labels[:TESTED], RUNS), study.classes) for own in study.said]
    squares = survey.squared_influence(study.said[0][:, held], study.said[1][:, held], study.shares[held], (at[0], at[1]))
    truth, rows = whole_difference(study), []
    for way in ("drawn", "random"):
        for most in LABELS:
            chance = survey.inclusion(squares, most) if way == "drawn" else np.full(len(held), most / len(held))
            taken = survey.drawn(chance, rng)
            total = survey.worth(squares, chance)
            sample = survey.Sample(
                stratum=np.repeat([0, 1], [TESTED, most]),
                weights=np.concatenate([np.ones(TESTED), survey.hajek(chance[taken], total)]),
            )
            e = estimate(study, np.concatenate([tested, held[taken]]), sample)
            decision = decide([e], MARGIN, alpha=alpha_of_look(2))[0]
            low, high = difference_interval(e)
            rows.append(
                {
                    "way": way,
                    "labels": most,
                    "worth": total,
                    "decided": decision.kind != "undecided",
                    "wrong": decision.winner is not None and (decision.winner == "a") != (truth > 0),
                    "holds": low <= truth <= high,
                    "width": 100 * (high - low),
                    "error": 100 * (e.mean - truth),
                }
            )
    return rows


def main() -> None:
    parser = arguments.parser(__doc__, "--data")
    parser.add_argument("--features", type=Path, required=True, help="where the features are kept")
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--train", type=int, default=300)
    parser.add_argument("--json", action="store_true", help="a JSON object a row")
    args = parser.parse_args()
    if not args.features.exists():
        features, labels = features_of(Path(args.data))
        np.savez(args.features, features=features, labels=labels)
    kept = np.load(args.features, allow_pickle=False)
    features = PCA(max(WIDTHS), random_state=0).fit_transform(kept["features"])
    rows, undecided = [], 0
    for k in range(args.studies):
        rng = np.random.default_rng([args.train, k])
        found = measure_study(train_study(features, kept["labels"], args.train, rng), rng)
        undecided += found is not None
        rows += found or []
        print(f"{k + 1} of {args.studies} studies, {undecided} undecided", file=sys.stderr, flush=True)
    print(json.dumps({"studies": args.studies, "undecided": undecided}), flush=True)
    for way in ("drawn", "random"):
        for most in LABELS:
            own = [r for r in rows if (r["way"], r["labels"]) == (way, most)]
            row = {"way": way, "labels": most}
            row |= {n: round(100 * float(np.mean([r[n] for r in own])), 1) for n in ("decided", "wrong", "holds")}
            row |= {n: round(float(np.median([r[n] for r in own])), 1) for n in ("worth", "width")}
            row["rms error"] = round(float(np.sqrt(np.mean([float(r["error"]) ** 2 for r in own]))), 2)
            print(json.dumps(row) if args.json else row, flush=True)


if __name__ == "__main__":
    main()
