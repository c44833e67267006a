"""The study's protocol in words: the settings that were fixed for all of its trials, line by line as the page lists them."""

import math

from analysis.data.frames import Frames
from analysis.findings.budget_check import confirmed_at
from study.question.study_config import Study
from study.question.which_epoch import IN_WORDS
from study.scoring import DEFAULT
from study.space import in_words
from study.strategies import EVERY

OPTIMIZERS = {"adamw": "AdamW", "sgd": "SGD with Nesterov momentum 0.9, its rates 100 times those named"}
SAMPLERS = {"tpe": "TPE", "gp": "a Gaussian process"}
FITS = {
    "square": "the centre square of each",
    "pad": "all of each, its long side to the size, grey around (fit=pad)",
    "stretch": "all of each, pulled to a square (fit=stretch)",
}
SCHEDULES = {
    "cosine": "cosine",
    "wsd": "a constant learning rate that falls to zero in the last tenth (WSD)",
}


def protocol(frames: Frames) -> list[tuple[str, str]]:
    """Return (name, value in words) of every setting, in the order of a study."""
    p, s = frames.study.protocol, frames.study
    stored = (
        (
            f"{p.views} stored augmented views per image and seed take turns wherever a frozen part is reused, and strength is "
            "rounded to quarters there"
        )
        if p.views
        else "fresh augmentation every epoch for every strategy"
    )
    return [
        (
            "Search",
            (
                f"{s.trials} trials a cell: the published default, {s.random_trials} random ones that are never stopped, then "
                f"{SAMPLERS[s.sampler]} with successive halving (from epoch {s.grace_epochs}, factor {s.reduction_factor})"
            ),
        ),
        *[("Recipe", text) for text in [_recipe(frames)] if text],
        *([] if s.scored_by == DEFAULT else [("Metric", f"{s.scored_by.words}. {s.scored_by.explained}")]),
        ("Selection", frames.rule or "not made yet"),
        (
            "Confirmation",
            f"{s.confirm_seeds} fresh seeds"
            + (f", each on one of {s.folds} outer folds, which its search never saw" if s.folds > 1 else "")
            + ": head, order and augmentation. Nothing tuned"
            + "".join(f"; {text}" for text in confirmed_at(frames)),
        ),
        ("Budget check", _budget_check(s)),
        (
            "Test set",
            (
                f"locked until the winners were chosen{' and their budget was settled' if s.budget_check else ''}. Opened "
                f"{_times(len(frames.openings))}"
            ),
        ),
        (
            "Training",
            (
                f"{'in the search ' if confirmed_at(frames) else ''}at most {p.max_epochs} epochs, batch {p.batch_size}, "
                f"{p.image_size} px, {p.precision}, {OPTIMIZERS[p.optimizer]}, {SCHEDULES[p.schedule]} with "
                f"{p.warmup_epochs:g} epoch(s) warm-up, {p.workers} worker(s)"
            )
            + (". Gradients are not clipped" if p.grad_clip == math.inf else f". Gradients are clipped at norm {p.grad_clip:g}")
            + f". Scores on training images are of {p.train_eval_images:,} of them at most"
            + (f"; {p.wrong_labels:.0%} of the training images have wrong labels, made so" if p.wrong_labels else "")
            + (
                f". At least {p.min_steps} optimiser steps a trial: where images are few, an epoch passes over them several times"
                if p.min_steps
                else ""
            )
            + f"; {IN_WORDS[p.keep]} is kept",
        ),
        *([("Pictures", FITS[p.fit])] if p.fit != "square" else []),
        *(("Tiles", text) for text in _tiles(frames)),
        (
            "Batch norm",
            "statistics and weights of trained stages move, those of frozen stages do not"
            if p.batch_norm == "train"
            else "in eval mode everywhere",
        ),
        *((f"Strategy {n}", f"{EVERY[n].title} ({EVERY[n].source})") for n in dict.fromkeys(c.strategy for c in frames.cells.values())),
        ("Augmentation", stored),
        (
            "Intervals",
            "95 %. What repeats (runs; searches, where the search was repeated; folds, where there are several) and the test "
            "images (bootstrap, "
            "whole sessions where there are any) are two sources of variance, weighted as Cochran and Cox do. Two strategies "
            "are paired over "
            "images, not over seeds (Welch). p values by Holm over all pairs of the study, with simultaneous intervals beside them",
        ),
        ("Macro averages", "over classes that occur in the split. An absent class is n/a, not 0"),
    ]


def _tiles(frames: Frames) -> list[str]:
    """Return one line a data set whose pictures are seen in tiles."""
    options = {c.data.short: c.data.options for c in frames.study.cells if "tiles" in c.data.options}
    highest = {name: "highest" if own.get("pool") == "max" else "mean" for name, own in options.items()}
    return [f"{name}: {own['tiles']} a picture, whose probabilities are the {highest[name]} of theirs" for name, own in options.items()]


def _recipe(frames: Frames) -> str:
    """Return the parts of the recipe that the study was asked to search, with their ranges, or "" where it was asked for none."""
    ranges = {n: d for cell in frames.study.cells for n, d in frames.study.ranges(cell).items() if n in frames.study.asked(cell.strategy)}
    return "; ".join(f"{name} {in_words(domain)}" for name, domain in ranges.items())


def _times(count: int) -> str:
    return "never" if count == 0 else "once" if count == 1 else f"{count} times"


def _budget_check(study: Study) -> str:
    """Return in words what was asked of the budget check."""
    if not study.budget_check:
        return "off, so it is not known whether longer training would change the verdict"
    p = study.protocol
    longest = "never" if study.longest == 1 else f"at {study.longest} times the epochs at most"
    return (
        f"each winner once more at {study.budget_check * p.max_epochs} epochs instead of {p.max_epochs}, the schedule "
        "stretched, scored on "
        f"validation at its last epoch before the test set was opened. Where a strategy gains, its question is confirmed longer, {longest}"
    )
