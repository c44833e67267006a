"""The page of the data doctor: one self-contained HTML file with thumbnails."""

import base64
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from study.datasets.audit import AuditReport
from study.datasets.spec import SPLITS, ImageTable
from study.datasets.thumbnails import thumbnail
from study.storage import outputs

SUSPECTS = 60  # shown with a thumbnail
KIND = outputs.page("a check of data")

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="generator" content="finetune-study: a check of data">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>Data check: {{ r.dataset }}</title><style>
:root{color-scheme:light dark;--ink:#1a1c20;--soft:#667;--line:#d8dae0;--paper:#fff;--warn:#8a4b00}
@media(prefers-color-scheme:dark){:root{--ink:#e8e9ec;--soft:#a2a6b0;--line:#3a3d45;--paper:#16181c;--warn:#ffb454}}
body{font:16px/1.55 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;margin:3rem auto;padding:0 1.2rem}
h1{font-size:1.9rem;line-height:1.2;margin-bottom:.2rem}h2{margin-top:2.4rem}p.form{color:var(--soft)}
table{border-collapse:collapse;width:100%}th,td{text-align:right;padding:.3rem .6rem;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left}
li.warn{color:var(--warn)}figure{display:inline-block;margin:.5rem 1rem .5rem 0;vertical-align:top;width:13rem}
figcaption{font-size:.8rem;color:var(--soft);overflow-wrap:anywhere}
img{width:6rem;height:6rem;object-fit:cover;border-radius:4px}</style></head><body>
<h1>{{ r.dataset }}</h1><p class="form">{{ r.form }}</p>
<h2>Findings</h2>{% if r.warnings or r.unreadable %}<ul>{% for w in r.unreadable + r.warnings
%}<li class="warn">{{ w }}</li>{% endfor %}</ul>{% else %}<p>Nothing to warn about.</p>{% endif %}
{% if r.ignored %}<h2>Left out</h2><ul>{% for name in r.ignored %}<li>{{ name }}</li>{% endfor %}</ul>{% endif %}
<h2>Figures</h2><table><tr><td>exact copies beyond the first</td><td>{{ r.exact_extra }}</td></tr>
<tr><td>held-out images that are in train, pixel for pixel</td><td>{{ r.exact_across }}</td></tr>
<tr><td>held-out images with a near-duplicate in train</td><td>{{ 'not compared' if r.near_across is none else r.near_across }}</td></tr>
{% if r.sessions_shared is not none %}<tr><td>held-out images whose session has images in train</td><td>{{
r.sessions_shared }}</td></tr>{% endif %}
<tr><td>groups of equal images with different labels</td><td>{{ r.conflicts }}</td></tr>
<tr><td>images longer than 1.5 : 1</td><td>{{ r.long_images }}{% if r.long_images
%}, of which the centre square loses {{ '%.0f' % (100 * r.long_lost) }} % in the mean{% endif %}</td></tr>
<tr><td>test accuracy of the commonest class</td><td>{{ '%.1f' % (100 * r.majority_accuracy) }} %</td></tr>
{% if r.metadata_accuracy is not none %}<tr><td>test accuracy of the nearest training image in time, same instrument</td><td>{{
'%.1f' % (100 * r.metadata_accuracy) }} %</td></tr>{% endif %}</table>
<h2>Images per class</h2><table><tr><th>class</th>{% for s in splits %}<th>{{ s }}</th>{% endfor %}</tr>
{% for c in r.classes %}{% set outer = loop.index0 %}<tr><td>{{ c }}</td>{% for s in splits
%}<td>{{ r.counts[s][outer] }}</td>{% endfor %}</tr>{% endfor %}</table>
{% if suspects %}<h2>Worth a look</h2><p>{{ r.suspects|length }} images; all of them by name with --csv.</p>{% for s, a in suspects
%}<figure><img alt="" src="{{ a }}">
<figcaption>{{ s.image }} ({{ s.split }}, {{ s.label }})<br>{{ s.kind }}: {{ s.detail }}</figcaption></figure>{% endfor %}{% endif %}
{% if pairs %}<h2>Pairs that are, or nearly are, the same</h2>{% for p, a, b in pairs
%}<figure><img alt="" src="{{ a }}"> <img alt="" src="{{ b }}">
<figcaption>{{ p.first }} ({{ p.splits[0] }}, {{ p.labels[0] }})<br>{{ p.second }} ({{ p.splits[1] }}, {{ p.labels[1] }})<br>{{
p.apart }}</figcaption></figure>{% endfor %}{% endif %}
</body></html>"""


def write_page(table: ImageTable, report: AuditReport, path: Path, *, overwrite: bool = False) -> None:
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    pairs = [(p, _thumbnail(table, p.positions[0]), _thumbnail(table, p.positions[1])) for p in report.pairs]
    suspects = [(s, _thumbnail(table, s.position)) for s in report.suspects[:SUSPECTS]]
    html = environment.from_string(PAGE).render(r=report, splits=SPLITS, pairs=pairs, suspects=suspects)
    outputs.write_output(path, html.encode("utf-8", "backslashreplace"), KIND, "--html", overwrite=overwrite)


def _thumbnail(table: ImageTable, position: int) -> str:
    small = thumbnail(table, position)
    return "data:," if small is None else "data:image/jpeg;base64," + base64.b64encode(small).decode()
