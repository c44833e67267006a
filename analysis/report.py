"""`python -m analysis.report RESULTS_OR_MLFLOW_URI`: one self-contained page, the verdict first."""

import argparse
import dataclasses
import html
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.data.frames import Frames
from analysis.data.question import Question, with_names, without_unused
from analysis.data.spent import CORE_WATTS, GPU_WATTS, spent
from analysis.figures import FIGURES
from analysis.findings.answers import confirm_seconds
from analysis.findings.budget_check import budget_lines, budget_rows
from analysis.findings.equal_compute import equal_compute
from analysis.findings.handed import to_use
from analysis.findings.ordered import ordered
from analysis.findings.sets import known_sets, sets_facts
from analysis.findings.tuning_gain import tuning_row
from analysis.load import load
from analysis.page import albums as pictures
from analysis.page.card import cards, environment
from analysis.page.labels import label_rows
from analysis.page.leaderboard import leaderboard
from analysis.page.studies import write_studies
from analysis.page.theme import colour
from analysis.page.verdict_values import dump_values, study_values
from analysis.page.write import write_tables
from analysis.score_facts import score_facts
from analysis.verdict import Findings, findings
from analysis.why.explanations import why_rows
from analysis.why.measures import MEASURED
from analysis.words.answer import WIDEST, Answer
from analysis.words.panel import body, title
from analysis.words.panel import summary as over_all
from analysis.words.protocol import protocol
from analysis.words.use_network import pick_facts, use_lines, uses
from study.bounds import check_options
from study.console.arguments import Parser, add_overwrite
from study.console.command import command
from study.console.panel import print_panel
from study.failpoints import failpoint
from study.question.which_epoch import IN_WORDS
from study.scoring.metric import Metric
from study.storage import outputs
from study.storage.folder import Folder
from study.tracking.ledger import SERVERS, Ledger, studies

PAGE = outputs.page("a study's report")
BESIDE = {"macro_f1": "macro-F1", "accuracy": "accuracy", "macro_precision": "precision", "macro_recall": "recall"}
"""Metrics that stand beside the study's own in the table of scores, none of them decided on."""


@dataclass(frozen=True, kw_only=True)
class ReportSummary:
    answers: list[Answer]  # one a data set
    verdicts: list[str]
    warnings: list[str]
    in_progress: bool
    use: list[str]  # the network to use of each data set, in lines for a terminal
    picks: list[dict[str, Any]]  # the same as plain values
    scores: dict[str, Any]  # on test, of every confirm run and cell, as plain values
    values: dict[str, Any]  # all that is decided, for other programs (docs/verdict.schema.json)


def write_report(
    source: str | Ledger,
    out: str | Path,
    *,
    tables: str | None = None,
    kind: str = "csv",
    study: str | None = None,
    margin: float | None = None,
    worth: float | None = None,
    fetch: pictures.Fetch | None = None,
    images: bool = True,
    price_per_hour: float | None = None,
    overwrite: bool = False,
) -> ReportSummary:
    """Read the study, decide, draw, and write the page to `out`.

    `fetch` gets small copies of the images that the page shows. Without it, the page shows those that were fetched before.
    `price_per_hour` is that of a core, or of a GPU where trials had one, in any currency.

    Raises ConfigError where there is no study of this schema, and where `out` or a table is another file that would be lost.
    `overwrite` replaces it.
    """
    outputs.check_output(out, PAGE, "--out", overwrite=overwrite)
    check_options(margin=margin, worth=worth, price_per_hour=price_per_hour)
    frames = load(source, study)
    own = frames.study
    if margin is not None or worth is not None:
        told = dataclasses.replace(own, margin=own.margin if margin is None else margin, worth=own.worth if worth is None else worth)
        frames = dataclasses.replace(frames, study=told)
    found = findings(frames)
    computed = {spec.name: spec.compute(frames, found) for spec in FIGURES}
    if tables:
        write_tables(all_tables(frames, found, computed), tables, kind, overwrite=overwrite)
    albums = pictures.albums(frames, found) if images else []
    if fetch is not None:
        fetch(pictures.wanted(albums))
    shown = pictures.read(frames.ledger.pictures() if images else None)
    page = render(
        frames, found, computed, str(source) if isinstance(source, str) else source.folder.location, albums, shown, price_per_hour
    )
    failpoint("mid_report_write")
    outputs.write_output(out, page.encode("utf-8", "backslashreplace"), PAGE, "--out", overwrite=overwrite)
    verdicts = [a.text for a in found.advice] + [s.text for s in found.sentences]
    return ReportSummary(
        answers=found.answers,
        verdicts=verdicts,
        warnings=found.warnings,
        in_progress=frames.in_progress,
        use=use_lines(frames, found.picks),
        picks=pick_facts(found.picks, {p.trial: sets_facts(known_sets(frames, p)) for p in to_use(found.picks)}),
        scores=score_facts(frames, found),
        values=study_values(frames, found, computed["class_differences"]),
    )


def all_tables(frames: Frames, found: Findings, computed: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return every table behind the page by file name, those of the figures under figure_<name>."""
    verdicts = pd.DataFrame({"sentence": [s.text for s in found.sentences]})
    tables = {
        "trials": frames.trials,
        "epochs": frames.epochs,
        "seeds": found.seeds,
        "strategies": found.strategies,
        "pairs": found.pairs,
        "pairs_secondary": found.secondary,
        "over_datasets": found.over_datasets,
        "why": why_rows(found.why),
        **({"tuning_gain": pd.DataFrame([tuning_row(g) for g in found.tuned])} if found.tuned else {}),
        **_size_tables(found),
        "verdicts": verdicts,
        "equal_compute": equal_compute(frames),
        **({"labels": with_names(pd.DataFrame(map(vars, labels)))} if (labels := label_rows(frames, found)) else {}),
        **({"ordered": with_names(pd.DataFrame(map(vars, steps)))} if (steps := ordered(found.gathered)) else {}),
        **({"budgets": pd.DataFrame(budget_rows(frames))} if frames.budgets else {}),
        **{f"figure_{s.name}": with_names(computed[s.name]) for s in FIGURES if len(computed[s.name]) or not s.optional},
    }
    return {name: without_unused(table) for name, table in tables.items()}


def _size_tables(found: Findings) -> dict[str, pd.DataFrame]:
    """Return the tables of sizes, none where the study asks at one size."""
    w = found.when
    tables = {"sizes": w.sizes, "size_differences": w.differences, "crossings": w.crossings, "ten_times": w.more}
    advice = pd.DataFrame({"sentence": [a.text for a in found.advice]})
    return {**tables, "advice": advice} if w.panels else {}


def render(
    frames: Frames,
    found: Findings,
    computed: dict[str, pd.DataFrame],
    source: str,
    albums: Sequence[pictures.Album] = (),
    shown: pd.DataFrame | None = None,
    price_per_hour: float | None = None,
) -> str:
    small = pictures.read(None) if shown is None else shown
    templates, metric = environment(), frames.scored_by
    templates.filters |= {"points": _points, "interval": _interval, "score": partial(_score, metric)}
    figures = [
        {
            "name": s.name,
            "section": s.section,
            "title": s.title,
            "note": s.note_in(metric),
            "html": _embedded(s.name, s.draw(computed[s.name])),
        }
        for s in FIGURES
        if len(computed[s.name])
    ]
    return templates.get_template("page.html").render(
        cards=cards(found.answers),
        study=frames.study,
        metric=metric,
        facts=frames.facts,
        rule=frames.rule,
        kept_epoch=IN_WORDS[frames.study.protocol.keep],
        in_progress=frames.in_progress,
        sentences=found.sentences,
        labelled=found.labelled,
        advice=found.advice,
        warnings=found.warnings,
        scores=_scores(frames, found),
        beside=[(m, words) for m, words in BESIDE.items() if m != metric.key],
        pairs=_named(found.pairs),
        secondary=_named(found.secondary),
        over_datasets=found.over_datasets.to_dict("records"),
        uses=uses(frames, found.picks),
        figures=figures,
        sections=list(dict.fromkeys(f["section"] for f in figures)),
        protocol=[*protocol(frames), *_not_drawn(computed)],
        budget=spent(frames, price_per_hour),
        leaders=_named_rows(leaderboard(frames, found)),
        compute=equal_compute(frames).to_dict("records"),
        longer=[{**row, "question": Question.of(row).name} for row in budget_rows(frames)],
        longer_lines=budget_lines(frames),
        lost=_lost(frames),
        why=found.why,
        controls=found.controls,
        tuned=[g.text for g in found.tuned],
        free=found.free,
        left_out=_left_out(frames),
        openings=len(frames.openings),
        ordered=ordered(found.gathered),
        labels=label_rows(frames, found),
        plotly_js=_plotly_js(),
        source=source,
        data_report=frames.data_report,
        albums=_with_sources(albums, small),
        samples=pictures.samples(small),
        watts=(CORE_WATTS, GPU_WATTS),
    )


def _points(share: float | None) -> str:
    return "n/a" if share is None or share != share else f"{100 * share:.1f}"


def _score(metric: Metric, score: float | None) -> str:
    """Return a score as people read it."""
    return "n/a" if score is None or score != score else f"{metric.shown(score):.1f}"


def _interval(ends: tuple[float, float]) -> str:
    """Return the interval in points, or say that it leaves nothing out."""
    low, high = ends
    return "too wide to tell" if low <= -WIDEST and high >= WIDEST else "n/a" if low != low else f"{100 * low:+.1f} to {100 * high:+.1f}"


def _with_sources(albums: Sequence[pictures.Album], small: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the albums with the pictures that exist. An album without any is not shown."""
    source = pictures.sources(small)
    shown = [
        {"title": a.title, "note": a.note, "shown": [(s, source[(*a.key, s.image)]) for s in a.shown if (*a.key, s.image) in source]}
        for a in albums
    ]
    return [a for a in shown if a["shown"]]


def _named(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{**row, "question": Question.of(row).name} for row in table.to_dict("records")]


def _not_drawn(computed: dict[str, pd.DataFrame]) -> list[tuple[str, str]]:
    """Return one line of the protocol for figures without data, with the reason that each would show."""
    reasons: dict[str, list[str]] = {}
    for s in FIGURES:
        if not len(computed[s.name]) and not s.optional:
            reason = html.unescape(s.draw(pd.DataFrame()).layout.annotations[0].text)
            reasons.setdefault(
                "not measured (python -m study.measure RESULTS/STUDY all)" if reason.startswith("not measured") else reason, []
            ).append(s.title.rstrip("?"))
    missing = [f"{', '.join(titles)}: {reason}" for reason, titles in reasons.items()]
    return [("Not drawn", "; ".join(missing))] if missing else []


def _left_out(frames: Frames) -> list[str]:
    """Return the measurements that have no result for some runs, one line per reason."""
    if not len(frames.trials):
        return []
    dataset = dict(zip(frames.trials["trial_id"], frames.trials["dataset"], strict=True))
    lines: dict[tuple[str, str], list[str]] = {}
    for name in MEASURED:
        for trial_id, reason in frames.left_out(name).items():
            lines.setdefault((name, reason), []).append(dataset[trial_id])
    return [f"{name} on {', '.join(dict.fromkeys(where))}: {reason}" for (name, reason), where in lines.items()]


def _scores(frames: Frames, found: Findings) -> list[dict[str, Any]]:
    """Return one row per question and strategy: every metric on test, and the search's best score on validation."""
    if not len(found.strategies):
        return []
    rows: dict[tuple[Question, str], dict[str, Any]] = {}
    for row in found.strategies.to_dict("records"):
        key = (Question.of(row), str(row["strategy"]))
        own = rows.setdefault(key, {"question": key[0].name, "strategy": key[1], "colour": colour(key[1])})
        own[row["metric"]] = row
    scored = frames.scored()
    for (question, strategy), own in rows.items():
        mine = scored[(scored.question == question) & (scored.strategy == strategy)] if len(scored) else scored
        own["searched"] = float(mine[frames.scored_by.recorded].max()) if len(mine) else None
        own["seconds"] = confirm_seconds(frames, question).get(strategy)
    return list(rows.values())


def _named_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return with_names(table).to_dict("records")


def _lost(frames: Frames) -> list[dict[str, Any]]:
    t = frames.trials
    return (
        t[t.outcome.isin(["failed", "diverged"])][["trial_id", "cell", "number", "outcome", "reason"]].to_dict("records") if len(t) else []
    )


def several(source: str) -> list[str]:
    """Return the names of the studies in a results folder, empty where `source` is a study's own folder or a server."""
    if source.startswith(SERVERS) or Folder(source).exists("study.json"):
        return []
    return studies(source)


def _embedded(name: str, figure: go.Figure) -> str:
    """Return the figure as a <div> and its script. The name is ours, and Plotly escapes the data."""
    config = {"displaylogo": False, "responsive": True, "showSendToCloud": False, "modeBarButtonsToRemove": ["lasso2d", "select2d"]}
    return figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"figure-{name}", config=config)


def _plotly_js() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs().replace("</script", "<\\/script")


def parser() -> Parser:
    p = Parser(prog="python -m analysis.report", description=__doc__)
    p.add_argument("source", help="a study's folder, a results folder (of several studies: one page over all), or an MLflow URI[#STUDY]")
    p.add_argument("--study", help="which one, where there are several")
    p.add_argument("--out", default="report.html")
    p.add_argument("--tables", metavar="DIR", help="also every table behind the page")
    p.add_argument(
        "--margin", type=float, help="points (the metric's unit) a difference must exceed to be worth having (default: the study's)"
    )
    p.add_argument(
        "--worth",
        type=float,
        help="points (the metric's unit) that a cheaper strategy may cost at most to be good enough (default: the study's)",
    )
    p.add_argument("--price-per-hour", type=float, metavar="MONEY", help="of a core, or of a GPU where trials had one: adds what it cost")
    p.add_argument("--no-images", dest="images", action="store_false", help="leave out the pictures")
    p.add_argument("--format", choices=("csv", "parquet"), default="csv", help="of the tables")
    p.add_argument("--json", action="store_true", help="print the verdict as JSON instead (docs/verdict.schema.json)")
    add_overwrite(p, "--out and --tables")
    return p


@command(parser, "stopped")
def main(args: argparse.Namespace) -> int:
    if args.study is None and len(several(args.source)) > 1:
        answers = write_studies(args.source, args.out, overwrite=args.overwrite)
        print(f"{over_all(answers) or 'no study there has an answer'}\nreport: {args.out}")
        return 0
    summary = write_report(
        args.source,
        args.out,
        tables=args.tables,
        kind=args.format,
        study=args.study,
        margin=args.margin,
        worth=args.worth,
        images=args.images,
        price_per_hour=args.price_per_hour,
        overwrite=args.overwrite,
    )
    for line in summary.warnings:
        print(f"warning: {line}", file=sys.stderr)
    if args.json:
        print(dump_values(summary.values))
        return 0
    if line := over_all(summary.answers):
        print(line)
    for answer in summary.answers:
        print_panel(title(answer), body(answer), answer.next_step.command, answer.said.lower())
    for line in summary.use:
        print(line)
    print(f"report: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
