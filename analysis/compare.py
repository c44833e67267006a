"""`python -m analysis.compare STUDY_A STUDY_B`: two studies side by side,
paired over test images where they asked the same on the same ones.
"""

import argparse
import sys
from dataclasses import fields

import pandas as pd
from jinja2 import Environment, StrictUndefined

from analysis.data.frames import Frames
from analysis.data.question import COLUMNS, Question
from analysis.findings.across_studies import Paired, pair_studies
from analysis.findings.network_scores import Score, points
from analysis.load import load
from analysis.verdict import findings
from analysis.words.sentences import Sentence
from study.console.arguments import Parser, add_overwrite
from study.console.command import command
from study.errors import ConfigError
from study.question.study_config import Study
from study.scoring.metric import Metric
from study.storage import outputs

KIND = outputs.page("a comparison")
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="generator" content="finetune-study: a comparison">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ a }} and {{ b }}</title><style>:root{color-scheme:light dark}body{font:16px/1.55 system-ui,sans-serif;max-width:64rem;\
margin:3rem auto;padding:0 1.2rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.35rem 1rem .35rem 0;border-bottom:1px solid \
#8885;text-align:left}td.n,th.n{text-align:right}</style></head><body>
<h1>{{ a }} and {{ b }}</h1>
{% for title, lines in sentences %}<h2>{{ title }}</h2><ul>{% for s in lines %}<li>{{ s.text }}</li>{% endfor %}</ul>{% endfor %}
<h2>Test {{ metric.words }}, {{ metric.unit }}</h2><p>B minus A is paired over the test images where both studies hold the same \
ones, with its 95 % interval (unadjusted) over runs and images; it may be due to any of the settings that differ. The intervals \
of each study are its own; whether two of them overlap tests nothing.</p><table><thead><tr><th>question</th><th>strategy</th>\
<th class="n">{{ a }}</th><th class="n">{{ b }}</th><th class="n">B minus A</th></tr></thead><tbody>
{% for r in rows %}<tr><td>{{ r.question }}</td><td>{{ r.strategy }}</td><td class="n">{{ r.a }}</td><td class="n">{{ r.b }}</td>\
<td class="n">{{ r.difference }}</td></tr>{% endfor %}</tbody></table>
<h2>Settings that differ</h2>{% if settings %}<table><thead><tr><th>setting</th><th>{{ a }}</th><th>{{ b }}</th></tr></thead>\
<tbody>{% for k, x, y in settings %}<tr><td>{{ k }}</td><td>{{ x }}</td><td>{{ y }}</td></tr>{% endfor %}</tbody>\
</table>{% else %}<p>None.</p>{% endif %}
</body></html>"""


def side_by_side(a: Frames, b: Frames) -> tuple[pd.DataFrame, list[tuple[str, list[Sentence]]]]:
    """Return a row per question and strategy that either study has, and the sentences of both.

    Scores are shares, and `difference` is B minus A.
    """
    if a.scored_by.text != b.scored_by.text:
        raise ConfigError(
            f"{a.study.name} is scored by {a.scored_by.words}, {b.study.name} by {b.scored_by.words}. Compare studies of one metric."
        )
    found = [findings(f) for f in (a, b)]
    tables = []
    for k, f, frames in zip("ab", found, (a, b), strict=True):
        t = (
            f.strategies[f.strategies.metric == frames.scored_by.key]
            if len(f.strategies)
            else pd.DataFrame(columns=[*COLUMNS, "strategy", "mean", "low", "high"])
        )
        tables.append(t[[*COLUMNS, "strategy", "mean", "low", "high"]].rename(columns={c: f"{c}_{k}" for c in ("mean", "low", "high")}))
    both = tables[0].merge(tables[1], on=[*COLUMNS, "strategy"], how="outer")
    pairs = pair_studies(a, b)
    own = [pairs.get((Question.of(r), r["strategy"]), Paired()) for r in both.to_dict("records")]
    both = both.assign(
        difference=[p.mean for p in own], low=[p.low for p in own], high=[p.high for p in own], why_not=[p.why_not for p in own]
    )
    return both, [(f.study.name, x.sentences) for f, x in zip((a, b), found, strict=True)]


def settings_that_differ(a: Study, b: Study) -> list[tuple[str, object, object]]:
    """Return (name, value in A, value in B) of the studies, their protocols and what both search for one strategy.

    Cells are left out, since they are the rows.
    """
    found = []
    for part, x, y in (("", a, b), ("protocol.", a.protocol, b.protocol)):
        names = [f.name for f in fields(x) if f.name not in ("cells", "protocol", "space", "published")]
        found += [(part + n, getattr(x, n), getattr(y, n)) for n in names if getattr(x, n) != getattr(y, n)]
    cells = [{c.strategy: c for c in study.cells} for study in (a, b)]
    for strategy in (s for s in cells[0] if s in cells[1]):
        left, right = a.ranges(cells[0][strategy]), b.ranges(cells[1][strategy])
        found += [(f"range of {strategy}.{n}", left.get(n), right.get(n)) for n in left | right if left.get(n) != right.get(n)]
    return found


def _shown(row: dict[str, object], metric: Metric) -> dict[str, str]:
    def side(k: str) -> str:
        mean, low, high = (float(str(row[f"{n}_{k}"])) for n in ("mean", "low", "high"))
        if mean != mean:
            return "not there"
        own = Score(mean=mean, low=low, high=high)
        return points(own, metric) if low == low else f"{metric.shown(mean):.1f}, no interval"

    return {
        "question": Question.of(row).name,
        "strategy": str(row["strategy"]),
        "a": side("a"),
        "b": side("b"),
        "difference": _difference(row),
    }


def _difference(row: dict[str, object]) -> str:
    if row["why_not"]:
        return f"cannot be paired: {row['why_not']}"
    mean, low, high = (100 * float(str(row[n])) for n in ("difference", "low", "high"))
    if mean != mean:
        return ""
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]" if low == low else f"{mean:+.1f}, no interval: one run tells nothing of the spread"


def parser() -> Parser:
    p = Parser(prog="python -m analysis.compare", description=__doc__)
    p.add_argument("a", help="a study's folder or MLflow URI#STUDY")
    p.add_argument("b")
    p.add_argument("--out", default="comparison.html")
    add_overwrite(p, "--out")
    return p


@command(parser, "stopped")
def main(args: argparse.Namespace) -> int:
    outputs.check_output(args.out, KIND, "--out", overwrite=args.overwrite)
    a, b = load(args.a), load(args.b)
    table, sentences = side_by_side(a, b)
    rows = [_shown(r, a.scored_by) for r in table.to_dict("records")]
    settings = settings_that_differ(a.study, b.study)
    names = (f"{a.study.name} (A)", f"{b.study.name} (B)")
    html = (
        Environment(autoescape=True, undefined=StrictUndefined)
        .from_string(PAGE)
        .render(metric=a.scored_by, a=names[0], b=names[1], rows=rows, sentences=sentences, settings=settings)
    )
    outputs.write_output(args.out, html.encode("utf-8", "backslashreplace"), KIND, "--out", overwrite=args.overwrite)
    for row in rows:
        print(f"{row['question']}  {row['strategy']}: {row['a']} | {row['b']}  {row['difference']}")
    print(f"comparison: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
