"""The plan before a study and the table after it, as text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.table import Table

from study.budget.cost import Pricing, disk
from study.conduct.after_search import controls
from study.conduct.lines import line_cells, line_hours
from study.conduct.stages import ended
from study.console.panel import print_panel
from study.console.text import span
from study.console.wide import make_console
from study.datasets.spec import ImageTable
from study.question.cell import Cell
from study.question.naming import splits_said
from study.question.study_config import Study
from study.records import Outcome, Stage
from study.scoring import Metric
from study.search.confirmed import checks, factors_of
from study.space import extremes, in_words
from study.storage.places import Places
from study.tracking.ledger import Ledger

if TYPE_CHECKING:
    from analysis.words.answer import Answer


def print_plan(study: Study, ledger: Ledger, tables: dict[tuple[str, str], ImageTable], places: Places) -> None:
    """Print cells, trials, epochs, estimated hours and disk, and the part that is done already."""
    console = make_console(160)
    console.print(f"[bold]{study.name}[/]" + (f": {study.about}" if study.about else ""), highlight=False)
    p = study.protocol
    console.print(
        f"protocol: {_each(study, 'max_epochs')} epochs, batch {p.batch_size}, {_each(study, 'image_size')} px, {p.precision}, "
        f"{p.workers} worker(s), batch norm {p.batch_norm}, {_each(study, 'views') if p.views else 'fresh'} augmented views"
        f"{f', winners confirmed at {study.confirm_size} px' if study.confirm_size not in (0, p.image_size) else ''}"
        f"{', at least ' + _each(study, 'min_steps') + ' steps a trial' if p.min_steps else ''}. Selects on validation "
        f"{study.scored_by.words}",
        highlight=False,
    )
    if study.folds > 1:
        passes = study.searches // study.folds
        console.print(
            f"outer folds: {study.folds}. Each of the {study.searches} searches leaves one out, and its winner is tested on it: "
            f"every image is a test image {'once' if passes == 1 else f'{passes} times'}",
            highlight=False,
        )
    for strategy in dict.fromkeys(c.strategy for c in study.cells):
        if asked := _asked(study, strategy):
            console.print(f"recipe of {strategy}, searched besides: {asked}", highlight=False)
    done = ended(study, ledger)
    factors = factors_of(study, ledger.budgets(), ledger.confirmed_trials())
    table = Table("cell", "trials", "done", "confirm runs", "done", "epochs", "trained parameters", "trained above", "at most")
    table.columns[0].no_wrap = True
    hours, left = 0.0, {}
    pricing = confirming = Pricing(study.protocol_of, tables, places.weights)
    if study.confirm_size not in (0, p.image_size):
        confirming = Pricing(study.confirmed_protocol, tables, places.weights)
    runs, check = study.confirm_seeds, Checked()
    for cell in study.cells:
        price, factor = pricing.price(cell), factors.get(cell.id, 1)
        searches, confirms = study.trials - done[cell.id, Stage.SEARCH], runs - done[cell.id, Stage.CONFIRM]
        looks = checks(study, cell) - done[cell.id, Stage.BUDGET]
        left[cell.id] = searches + confirms + looks
        once = confirming.hours(cell)
        check.add(
            once, looks * study.budget_check, study.budget_check * (runs - 1) if checks(study, cell) and cell.id not in factors else 0
        )
        cost = searches * pricing.hours(cell) + (confirms * factor + looks * study.budget_check) * once
        hours += cost
        table.add_row(
            cell.id,
            str(study.trials),
            str(done[cell.id, Stage.SEARCH]),
            str(runs),
            str(done[cell.id, Stage.CONFIRM]),
            str((study.trials + runs * factor + checks(study, cell) * study.budget_check) * study.protocol_of(cell).max_epochs),
            f"{price.trained:,} of {price.parameters:,}",
            price.cut,
            span(3600 * cost),
        )
    console.print(table)
    line = line_hours(study, {key: len(t.ids) for key, t in tables.items()}, places.weights)
    hours += line
    console.print(
        f"and the line to beat, frozen features with an exact classifier, before all else: about {span(3600 * line)}", highlight=False
    )
    for said in _budget_check(study, check):
        console.print(said, highlight=False)
    if study.explain:
        extra, count = _explain_hours(study, confirming)
        hours += extra
        console.print(
            f"and {count} runs that explain the verdict ({', '.join(study.explain)}): at most {span(3600 * extra)}", highlight=False
        )
    needed = disk(study, {backbone: price.parameters for (backbone, *_), price in pricing.prices.items()}, left)
    console.print(
        f"at most {span(3600 * hours)} on one trial's share of this machine, one after the other. Early stopping makes it "
        f"less, deep cuts make it more. Disk: about {needed / 1e9:.2f} GB under {ledger.folder.location}.",
        highlight=False,
    )


def _each(study: Study, field: str) -> str:
    """Return a field of the protocol as the study's questions have it: "10, 30 and 100"."""
    first, *more = sorted({getattr(study.protocol_of(c), field) for c in study.cells}, reverse=True)
    return f"{', '.join(map(str, more[::-1]))} and {first}" if more else str(first)


@dataclass
class Checked:
    """The highest further cost of the budget check."""

    hours: float = 0.0
    longer: float = 0.0  # of confirming everything at the longer budget

    def add(self, once: float, check: int, longer: int) -> None:
        """Add a cell. `once`: hours of one confirm run; `check` and `longer`: numbers of such runs."""
        self.hours += once * check
        self.longer += once * longer


def _budget_check(study: Study, check: Checked) -> list[str]:
    """Return lines about the check before the test set is opened and its possible cost; none where it is off."""
    checked = [c for c in study.cells if checks(study, c)]
    if not checked:
        if all(study.is_longest(c) for c in study.cells):
            return ["budget check: off, so nobody will know whether longer training would turn the verdict"]
        return [
            f"budget check: off. Up to {max(study.protocol_of(c).max_epochs for c in study.cells)} epochs this study shows what it brings"
        ]
    longer = " and ".join(map(str, dict.fromkeys(study.protocol_of(c).max_epochs for c in checked)))
    epochs = " and ".join(map(str, dict.fromkeys(study.budget_check * study.protocol_of(c).max_epochs for c in checked)))
    of = f" of {longer} epochs" if len(checked) < len(study.cells) else ""
    lines = [
        f"budget check, before the test set is opened: each winner{of} once at {epochs} epochs, on validation "
        f"({span(3600 * check.hours)} of it; --budget-check off leaves it out)"
    ]
    if of:
        lines.append("the shorter budgets need no check: this study trains longer too, and shows what that brings")
    if study.longest >= study.budget_check:
        lines.append(
            f"where a strategy gains, its question is confirmed at {epochs} epochs: at most {span(3600 * check.longer)} more, "
            "in no sum here (--set longest=1: never)"
        )
    return lines


def _asked(study: Study, strategy: str) -> str:
    """Return the recipe fields that the study asks for, with their ranges and their cost."""
    ranges = study.ranges(next(c for c in study.cells if c.strategy == strategy))
    asked = {name: ranges[name] for name in study.asked(strategy)}
    text = "; ".join(f"{name} {in_words(domain)}" for name, domain in asked.items())
    blends = study.protocol.views and any(max(extremes(asked[n])) > 0 for n in ("mixup", "cutmix") if n in asked)
    return text + (" (trials that blend images make fresh views and reuse none)" if blends else "")


def _explain_hours(study: Study, pricing: Pricing) -> tuple[float, int]:
    """Return hours and number of the runs of the explain stage, done or not."""
    runs = study.confirm_seeds
    cells = [c for name in ("memorisation", "default") if name in study.explain for c in study.cells]
    if "controls" in study.explain:
        cells += dict.fromkeys(replace(c, strategy=control) for c in study.cells for control in controls())
    return runs * sum(map(pricing.hours, cells)), runs * len(cells)


def _at(study: Study, cell: Cell) -> str:
    """Return the budget and the image size of a cell, where the study has several: " (3 epochs, 128 px)"."""
    own = study.protocol_of(cell)
    epochs = [f"{own.max_epochs} epoch{'s' * (own.max_epochs > 1)}"] if any(c.budget != 1 for c in study.cells) else []
    pixels = [f"{own.image_size} px"] if any(c.image_size for c in study.cells) else []
    return f" ({', '.join([*epochs, *pixels])})" if epochs or pixels else ""


def print_results(study: Study, ledger: Ledger) -> None:
    """Print a table for each data set with the results of the search. The verdict comes from the confirm stage, not from this table."""
    console, metric = make_console(160), study.scored_by
    asks, results = ledger.asks(Stage.SEARCH), ledger.results()
    chosen = (ledger.selection() or {"chosen": {}})["chosen"]
    for dataset in dict.fromkeys((c.dataset, c.splits) for c in study.cells):
        table = Table(
            "strategy",
            "backbone",
            f"best val {metric.words}",
            "accuracy",
            "at epoch",
            "trials",
            "stopped",
            "diverged",
            "failed",
            "seconds",
            title=f"{dataset[0]}{f' ({said})' if (said := splits_said(dataset[1])) else ''}, search",
        )
        lines = [c for c in line_cells(study) if (c.dataset, c.splits) == dataset]
        for cell in lines:
            for ask in (a for a in ledger.asks(Stage.CONFIRM) if a.cell == cell.id and a.trial_id in results):
                size, metrics = ask.config["protocol"]["image_size"], results[ask.trial_id].metrics
                scores = [_figure(metric, metrics), f"{metrics['val/accuracy']:.3f}" if "val/accuracy" in metrics else "n/a"]
                took = f"{results[ask.trial_id].seconds:.0f}"
                table.add_row(f"{cell.strategy} ({size} px)", cell.backbone, *scores, "solved", "1", "", "", "", took)
        for cell in (c for c in study.cells if (c.dataset, c.splits) == dataset):
            own = [results[a.trial_id] for a in asks if a.cell == cell.id and a.trial_id in results]
            count = Counter(r.outcome for r in own)
            best = results.get(chosen.get(cell.id, ""))
            shown = (_figure(metric, best.metrics), f"{best.metrics['val/accuracy']:.3f}", str(best.best_epoch)) if best else ("n/a",) * 3
            table.add_row(
                f"{cell.strategy}{_at(study, cell)}",
                cell.backbone,
                *shown,
                str(len(own)),
                str(count[Outcome.STOPPED]),
                str(count[Outcome.DIVERGED]),
                str(count[Outcome.FAILED]),
                f"{sum(r.seconds for r in own):.0f}",
            )
        console.print(table)


def _figure(metric: Metric, metrics: Mapping[str, float]) -> str:
    """The natural value of a validation score."""
    return f"{metric.natural(metrics[metric.recorded]):.3f}" if metric.recorded in metrics else "n/a"


def print_answers(answers: "Sequence[Answer]") -> None:
    """Print a panel for each data set: what to do, how sure it is, what is next."""
    from analysis.words.panel import body, summary, title

    if line := summary(answers):
        print(line)
    for answer in answers:
        print_panel(title(answer), body(answer), answer.next_step.command, answer.said.lower())
