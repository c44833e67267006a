"""MODEL_CARD.md of a pick: the facts that a stranger must know before using the network, all read from the ledger."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import binomtest

from analysis.data.frames import Frames
from analysis.data.predictions import Predictions
from analysis.findings.network_scores import Score, gained, points
from analysis.findings.pick import Pick
from analysis.findings.sets import known_sets
from analysis.statistics import resampling as st
from analysis.verdict import Findings
from study.console.text import markdown
from study.inference.softmax import sigmoid
from study.metrics import class_scores, f1
from study.metrics import counts as counts_of
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.question.which_epoch import IN_WORDS


def model_card(frames: Frames, found: Findings, pick: Pick, licence: str = "") -> str:
    """Return the card as Markdown. `licence` is that of the pretrained weights in one line, "" where it is not known."""
    sections = {
        "What it is": _what(frames, pick),
        "Data": _data(frames, pick),
        "How it was trained": _training(frames, pick),
        "Scores": _scores(frames, found, pick),
        "Prediction sets": _sets(frames, pick),
        "Classes": _classes(frames, pick),
        "Limits": _limits(frames, found, pick),
        "Licence": [licence or "The licence of the pretrained weights is not known here. Ask whoever published them.", _own_licence()],
    }
    lines = [f"# {markdown(pick.of)}: {pick.cell.backbone}, {pick.cell.strategy}", ""]
    for title, body in sections.items():
        lines += [f"## {title}", "", *body, ""]
    return "\n".join(lines)


def _what(frames: Frames, p: Pick) -> list[str]:
    names = frames.classes.get(p.cell.id, [])
    size = _protocol(frames, p).image_size
    if p.delivered:
        chosen = f"Chosen so: {markdown(p.reason)}. Its settings and its number of epochs by validation. No test score chose it."
    else:
        chosen = f"Chosen so: {markdown(p.reason or 'named by its cell')}; " + (
            "of its confirm runs the one with the best validation " + f"{p.metric.words}."
            if p.confirmed
            else "the search's winner, not confirmed."
        )
        chosen += " No test score chose it."
    return [
        f"An image classifier of {len(names)} classes ({', '.join(map(markdown, names))}): {p.cell.backbone}, pretrained, fine-tuned as "
        f"`{p.cell.strategy}`, {size} x {size} pixels. Trial `{p.trial}` of the study `{frames.study.name}`.",
        "",
        chosen,
    ]


def _protocol(frames: Frames, p: Pick) -> Protocol:
    """Return the network's own protocol.

    A confirm run may have had more epochs or pixels than the search, and a delivered network more still.
    """
    ask = frames.ledger.ask(p.trial)
    return TrialConfig.from_dict(ask.config).protocol if ask else frames.study.protocol_of(p.cell)


def _data(frames: Frames, p: Pick) -> list[str]:
    report = frames.data_report.get(p.cell.data.key) or {}
    out = [f"{markdown(p.of)}: {markdown(str(report.get('form', 'no report of the data is kept')))}.", ""]
    counts = report.get("counts")
    totals = report.get("split_images") or {}
    if counts:
        out += [
            "| images | " + " | ".join(map(markdown, report["classes"])) + " | all |",
            "| --- |" + " ---: |" * (len(report["classes"]) + 1),
        ]
        out += [f"| {split} | " + " | ".join(map(str, n)) + f" | {totals.get(split, sum(n))} |" for split, n in counts.items()]
        out.append("")
    if p.cell.train_fraction < 1:
        out += [f"Trained on {p.cell.train_fraction:.0%} of the training images{' and all validation images' if p.delivered else ''}.", ""]
    elif p.delivered:
        out += ["Trained on the training images and the validation images.", ""]
    return out + [f"- {markdown(w)}" for w in report.get("warnings", [])]


def _training(frames: Frames, p: Pick) -> list[str]:
    q, s = _protocol(frames, p), frames.study
    result = frames.ledger.result(p.trial)
    facts = result.facts if result else {}
    return [
        f"- Settings: {p.shown_settings}. Seed {p.seed}, the network of epoch {p.epoch} of {q.max_epochs} ({IN_WORDS[q.keep]})"
        + (f", trained on {p.delivered.images:,} images." if p.delivered else "."),
        *([f"- Epochs: {markdown(p.delivered.tried)}."] if p.delivered and p.delivered.tried else []),
        *([f"- {markdown(p.outdated[0].upper() + p.outdated[1:])}."] if p.outdated else []),
        f"- Protocol: batch {q.batch_size}, {q.optimizer}, {q.precision}, batch norm `{q.batch_norm}`. The settings are the "
        f"best of {s.trials} trials on validation. Selected by {frames.rule or 'no rule yet'}.",
        f"- Pretrained weights: {markdown(str(facts.get('weights', 'unknown')))}, sha256 `{facts.get('weights_sha256', 'unknown')}`.",
        f"- {facts.get('trained_parameters', 0):,} of {facts.get('parameters', 0):,} parameters were trained, in "
        f"{result.seconds if result else 0:.0f} s on {markdown(result.device if result else '')}.",
        f"- Code: commit `{frames.facts.get('commit', 'unknown')}`. Repeat it with `{_code(frames.facts.get('command', 'unknown'))}`.",
    ]


def _scores(frames: Frames, found: Findings, p: Pick) -> list[str]:
    if p.test is None and p.delivered is None:
        return [
            (
                f"Not confirmed: nothing is known but its validation {p.metric.words}, {p.metric.shown(p.validation):.1f}, by "
                "which it was chosen: optimistic."
            )
        ]
    unit = "Points" if p.metric.unit == "points" else f"{p.metric.title} {p.metric.unit}"
    out = [f"{unit}. Intervals are 95 %.", "", f"| {p.metric.words} | score | interval contains |", "| --- | ---: | --- |"]
    whose = f"its strategy's {p.folds} networks, each on the images that it never saw" if p.folds > 1 else "this network, test"
    out.append(f"| {whose} | {points(p.test, p.metric) if p.test else 'no predictions are kept'} | test images |")
    if p.delivered and p.delivered.compared is not None:
        whose = f", {p.delivered.compared_strategy}" if p.delivered.compared_strategy else ""
        out.append(f"| the networks that the study compares{whose} (mean) | {p.metric.shown(p.delivered.compared):.1f} | none |")
    for row in found.strategies.to_dict("records") if len(found.strategies) and not p.delivered else []:
        mine = row["strategy"] == p.cell.strategy and all(row[k] == v for k, v in p.question.columns.items())
        if mine and row["metric"] == p.metric.key and row["low"] == row["low"]:
            score = points(Score(mean=row["mean"], low=row["low"], high=row["high"]), p.metric)
            out.append(f"| a network trained so (mean of {row['seeds']}) | {score} | seeds and test images |")
    if p.together:
        out.append(f"| all {p.together.networks} confirm runs together | {points(p.together.test, p.metric)} | test images |")
        out.append(f"| the same, over one of them on average | {gained(p.together.gain)} | test images |")
    what = "its settings and epochs on the training images alone, validation" if p.delivered else "this network, validation"
    out.append(f"| {what} | {p.metric.shown(p.validation):.1f} | none: it was chosen there, optimistic |")
    if p.rule:
        out += ["", f"Decision: it {markdown(p.rule)}."]
    divide = "Divide logits by it before the softmax."
    if p.delivered:
        out += ["", f"Calibration: {p.delivered.calibration}. {divide if p.delivered.calibration_runs else ''}".rstrip()]
    if p.calibrated:
        c = p.calibrated
        error = f"expected calibration error on test {100 * c.before:.1f} % as trained, {100 * c.after:.1f} % with the temperature"
        own = f"Calibration: {error} {c.temperature:.3f}, fitted on validation. {divide}"
        out += ["", f"In all: {error}." if p.delivered else own]
    return out


def _sets(frames: Frames, p: Pick) -> list[str]:
    known = known_sets(frames, p)
    if not known:
        return ["None: too few images are known that it did not learn from."]
    out = [
        "All classes with at least the least probability, and the most probable one: the true class is among them as often as "
        "the level says. From "
        f"{known[0].images} {markdown(known[0].source)}. Coverage as measured on other images, with its 95 % interval (Wilson).",
        "",
        "| level | least probability | holds the true class | classes a set | one class alone |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for s in known:
        m = s.measured
        found = "not measured | n/a | n/a"
        if m is not None:
            found = f"{100 * m.share:.1f} [{100 * m.low:.1f}, {100 * m.high:.1f}] of {m.images} | {m.size:.1f} | {100 * m.single:.0f} %"
        out.append(f"| {100 * s.level:g} % | {s.least:.3g} | {found} |")
    return out


def _classes(frames: Frames, p: Pick) -> list[str]:
    test = frames.predictions(p.trial).get("test") if p.confirmed else None
    if test is None:
        return ["No test predictions are kept."]
    names, said = frames.classes[p.cell.id], test.named
    if test.several:
        return _labels(replace(test, thresholds=np.array(p.thresholds)) if p.thresholds else test, names)
    counts = st.confusions(said, test.labels, len(names))
    rows = class_scores(counts)
    known = [k for k in np.argsort([v if v is not None else 2.0 for v in rows.f1], kind="stable") if rows.support[k]]
    out = [
        "On test, worst first. Recall with its 95 % interval (Wilson; images of one class taken as independent).",
        "",
        "| class | F1 | precision | recall | test images | most often taken for |",
    ]
    out.append("| --- | ---: | ---: | ---: | ---: | --- |")
    for k in known:
        wrong = counts[k].copy()
        wrong[k] = 0
        other = f"{markdown(names[int(wrong.argmax())])} ({int(wrong.max())})" if wrong.any() else ""
        precision = rows.precision[k]
        # Wilson 1927: of a class's few images a bootstrap would say too much
        low, high = binomtest(int(counts[k, k]), rows.support[k]).proportion_ci(method="wilson")
        out.append(
            f"| {markdown(names[k])} | {100 * float(rows.f1[k] or 0):.0f} | {'n/a' if precision is None else f'{100 * precision:.0f}'} | "
            f"{100 * float(rows.recall[k] or 0):.0f} [{100 * low:.0f}, {100 * high:.0f}] | {rows.support[k]} | {other} |"
        )
    return out


def _labels(test: Predictions, names: Sequence[str]) -> list[str]:
    """Return the table of labels, worst first."""
    assert test.thresholds is not None, "labels have thresholds"
    own, thresholds = counts_of(test.named, test.labels, len(names)), sigmoid(test.thresholds)
    scores, precision, recall = f1(own), own.hits / np.maximum(own.said, 1), own.hits / np.maximum(own.truth, 1)
    out = [
        "On test, worst first. A picture has the labels whose probabilities are above their thresholds, which validation gave.",
        "",
        "| label | F1 | precision | recall | test images | threshold |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for k in (k for k in np.argsort(scores, kind="stable") if own.truth[k]):
        shares = " | ".join(f"{100 * v[k]:.0f}" for v in (scores, precision, recall))
        out.append(f"| {markdown(names[k])} | {shares} | {int(own.truth[k])} | {thresholds[k]:.2f} |")
    return out


def _limits(frames: Frames, found: Findings, p: Pick) -> list[str]:
    test = frames.predictions(p.trial).get("test")
    out = [
        "- A picture of something else gets labels and probabilities too."
        if test is not None and test.several
        else "- It names one of its classes whatever it is shown: a picture of something else gets a class and a probability too.",
        "- Scores and calibration hold for images like the test images: same cameras, places and kinds, same shares of the classes.",
    ]
    if not p.confirmed:
        out.append("- It was not confirmed with fresh seeds: its score is that of a search, optimistic.")
    if len(frames.openings) > 1:
        out.append(f"- The study opened its test set {len(frames.openings)} times.")
    about = [w for w in found.warnings if p.cell.dataset in w or p.cell.id in w]
    return out + [f"- {markdown(w)}" for w in about]


def _own_licence() -> str:
    return "What the training images allow is not known here either: their own terms hold for networks made from them, where they say so."


def _code(text: str) -> str:
    return " ".join(text.replace("`", "'").split())
