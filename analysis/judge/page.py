"""The page of a judged pair, without a script: the answer, the scores of both sides, and every class."""

import math
from typing import Any

from jinja2 import Environment, StrictUndefined

from analysis.judge.judged import Judged, side_rows
from analysis.judge.words import sentences, warnings
from study.scoring.metric import MEMBERS, Metric
from study.storage import outputs

KIND = outputs.page("a verdict on predictions")
PAGE = (
    """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
"""
    + outputs.stamp("a verdict on predictions")
    + """
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ a }} and {{ b }}</title><style>:root{color-scheme:light dark}body{font:16px/1.55 system-ui,sans-serif;max-width:64rem;\
margin:3rem auto;padding:0 1.2rem;overflow-wrap:anywhere}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.35rem 1rem .35rem 0;border-bottom:1px solid \
#8885;text-align:left}td.n,th.n{text-align:right;white-space:nowrap}.seen{font-weight:600}
.answer{font-size:1.25rem}</style></head><body>
<h1>{{ a }} and {{ b }}</h1><p class="answer">{{ sentences[0] }}</p>
{% for s in sentences[1:] %}<p>{{ s }}</p>{% endfor %}
{% if warnings %}<h2>Know this first</h2><ul>{% for w in warnings %}<li>{{ w }}</li>{% endfor %}</ul>{% endif %}
<h2>Scores, {{ unit }}</h2><p>Each with its 95 % interval. The verdict speaks of {{ metric }} alone, and a difference of {{ \
margin }} is worth having. The other differences are beside it: each interval is for itself (unadjusted).</p>
<table><thead><tr><th>metric</th><th class="n">{{ a }}</th><th class="n">{{ b }}</th><th class="n">{{ a }} minus {{ b }}</th>\
</tr></thead><tbody>
{% for r in rows %}<tr><td>{{ r.metric }}</td><td class="n">{{ r.a }}</td><td class="n">{{ r.b }}</td>\
<td class="n">{{ r.difference }}</td></tr>{% endfor %}</tbody></table>
<h2>F1 by class, in points</h2><p>Each interval is for itself: of twenty classes without a difference, about one is bold. Bold: \
the interval leaves out zero.</p>
<table><thead><tr><th>class</th><th class="n">test images</th><th class="n">{{ a }}</th><th class="n">{{ b }}</th>\
<th class="n">{{ a }} minus {{ b }}</th></tr></thead><tbody>
{% for r in classes %}<tr{% if r.seen %} class="seen"{% endif %}><td>{{ r.name }}</td><td class="n">{{ r.images }}</td>\
<td class="n">{{ r.a }}</td><td class="n">{{ r.b }}</td><td class="n">{{ r.difference }}</td></tr>{% endfor %}</tbody></table>
<h2>What was read</h2><table><thead><tr><th>side</th><th>file</th><th class="n">{{ metric }}</th></tr></thead><tbody>
{% for r in files %}<tr><td>{{ r.side }}</td><td>{{ r.file }}</td><td class="n">{{ r.score }}</td></tr>{% endfor %}</tbody></table>
<p>Labels: {{ labels }}, {{ images }} images of {{ classes|length }} classes. Images are drawn again {{ resamples }} times. The \
p value is {{ p }}.</p>
</body></html>"""
)


def render(found: Judged, resamples: int) -> str:
    """Return the page as HTML. Every name on it is escaped."""
    a, b = (s.name for s in found.sides)
    p = found.pair.decision.p
    return (
        Environment(autoescape=True, undefined=StrictUndefined)
        .from_string(PAGE)
        .render(
            a=a,
            b=b,
            sentences=sentences(found),
            warnings=warnings(found),
            metric=found.metric.words,
            unit="in points" if found.metric.unit == "points" else f"{found.metric.words} {found.metric.unit}, the others in points",
            margin=found.metric.count(found.margin),
            rows=_rows(found),
            classes=_classes(found),
            files=_files(found),
            labels=str(found.truth.path),
            images=f"{len(found.truth.labels):,}",
            resamples=f"{resamples:,}",
            p="not known" if math.isnan(p) else "below 0.001" if p < 0.001 else f"{p:.3f}",
        )
    )


def _rows(found: Judged) -> list[dict[str, str]]:
    """Return one row per metric, the requested one first."""
    by = {(r["metric"], r["side"]): r for r in side_rows(found)}
    d = found.pair.decision
    differences = {found.metric.key: _difference(found.pair.estimate.mean, d.low, d.high)} | {
        m: _difference(o.mean, o.low, o.high) for m, o in found.others.items()
    }
    a, b = (s.name for s in found.sides)
    metrics = {m: found.metric if m == found.metric.key else MEMBERS[m] for m in differences}
    return [
        {
            "metric": metrics[m].words + ("" if metrics[m].higher else ", less is better. The difference is what the first saves"),
            "a": _score(by[m, a], metrics[m]),
            "b": _score(by[m, b], metrics[m]),
            "difference": text,
        }
        for m, text in differences.items()
    ]


def _classes(found: Judged) -> list[dict[str, Any]]:
    """Return one row per class that occurs, the largest difference first."""
    return [
        {
            "name": found.truth.classes[k],
            "images": int((found.truth.labels == k).sum()),
            "a": f"{100 * found.f1[0][k]:.1f}",
            "b": f"{100 * found.f1[1][k]:.1f}",
            "difference": _difference(d.mean, d.low, d.high),
            "seen": d.seen,
        }
        for k, d in sorted(found.classes.items(), key=lambda item: -abs(item[1].mean))
    ]


def _files(found: Judged) -> list[dict[str, str]]:
    by_side = found.scores[found.metric.key]
    return [
        {"side": s.name, "file": f, "score": f"{found.metric.shown(score):.1f}"}
        for s in found.sides
        for f, score in zip(s.files, by_side[s.name][1], strict=True)
    ]


def _score(row: dict[str, Any], metric: Metric) -> str:
    low, high = metric.interval(row["low"], row["high"])
    return f"{metric.shown(row['mean']):.1f}" + ("" if math.isnan(low) else f" [{low:.1f}, {high:.1f}]")


def _difference(mean: float, low: float, high: float) -> str:
    return f"{100 * mean:+.1f}" + ("" if math.isnan(low) else f" [{100 * low:+.1f}, {100 * high:+.1f}]")
