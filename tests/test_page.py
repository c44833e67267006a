"""The page besides its figures: what was spent, the best trials, and how it looks on a phone."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.data.spent import CORE_WATTS, GPU_WATTS, cost_seconds, spent
from analysis.findings.answers import confirm_seconds
from analysis.load import load
from analysis.page.leaderboard import leaderboard
from analysis.report import main, write_report
from analysis.verdict import findings
from study.records import OBJECTIVE, on_gpu
from tests.browser import page
from tests.goldens import GOLDEN


def test_what_was_spent_adds_up_and_a_price_is_an_hours() -> None:
    frames = load(str(GOLDEN))
    *rows, whole = spent(frames, price_per_hour=2.0)
    seconds = frames.trials.seconds.sum() * frames.study.protocol.workers
    assert whole["hours"] == pytest.approx(seconds / 3600) == pytest.approx(sum(r["hours"] for r in rows))
    assert whole["trials"] == len(frames.trials) and whole["price"] == pytest.approx(2 * whole["hours"])
    assert whole["kwh"] == pytest.approx(whole["hours"] * CORE_WATTS / 1000) and not whole["gpu"]
    assert all(r["price"] is None for r in spent(frames))


DEVICES = {
    **dict.fromkeys(("NVIDIA H200", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "Tesla T4", "AMD Instinct MI300X", "Quadro P400",
        "GRID A100D-8C"), True),
    **dict.fromkeys(("cpu x1", "cpu x96", ""), False),
}  # fmt: skip
"""Devices as `training/conditions.py` writes them: PyTorch's name of a GPU, a processor's number of threads, or nothing.

Nothing stands where no epoch ended.
"""


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_hours_are_of_a_gpu_where_the_trials_had_one(device: str, mixed: bool) -> None:
    frames = load(str(GOLDEN))
    clock = frames.trials.seconds / 3600 * frames.study.protocol.workers
    frames.trials["cpu_seconds"], frames.trials["device"] = frames.trials.seconds / 4, device
    first = frames.trials.index[0]
    if mixed:
        frames.trials.loc[first, "device"] = "cpu x1"
    gpu = pd.Series(DEVICES[device], frames.trials.index) & ~((frames.trials.index == first) & mixed)
    *rows, whole = spent(frames)
    assert whole["gpu"] == DEVICES[device] and whole["gpu"] == any(r["gpu"] for r in rows)
    hours = clock.where(gpu, clock / 4)
    assert whole["hours"] == pytest.approx(hours.sum())
    assert whole["kwh"] == pytest.approx((hours * gpu.map({True: GPU_WATTS, False: CORE_WATTS})).sum() / 1000)
    assert cost_seconds(frames.trials).equals(frames.trials.seconds if DEVICES[device] else frames.trials.cpu_seconds)


def test_what_an_epoch_of_this_processor_says_is_no_gpu() -> None:
    from study.inference.device import Device
    from study.training.epoch_facts import device_name

    assert not on_gpu(device_name(Device(device=torch.device("cpu"), precision="fp32")))


def test_costs_are_the_processors_where_it_was_measured_and_the_clocks_stand_beside() -> None:
    frames = load(str(GOLDEN))
    by_clock, question = spent(frames)[-1], frames.questions(frames.confirmed())[0]
    clock = confirm_seconds(frames, question)
    frames = load(str(GOLDEN))  # what was asked for once is kept
    frames.trials["cpu_seconds"] = frames.trials.seconds / 4  # three of four seconds went to other programs
    whole = spent(frames)[-1]
    assert whole["hours"] == pytest.approx(by_clock["clock"] / 4) and whole["clock"] == pytest.approx(by_clock["clock"])
    assert confirm_seconds(frames, question) == pytest.approx({s: v / 4 for s, v in clock.items()})
    frames.trials.loc[frames.trials.index[-1], "cpu_seconds"] = np.nan
    assert cost_seconds(frames.trials).equals(frames.trials.seconds), "what one trial does not say is compared by the clock for all"
    frames = load(str(GOLDEN))
    frames.trials["cpu_seconds"], frames.trials["device"] = 1.0, "NVIDIA H200"
    assert confirm_seconds(frames, question) == pytest.approx(clock), "a GPU's work is not the processor's"


def test_the_best_trials_stand_with_their_settings_and_what_became_of_them() -> None:
    frames = load(str(GOLDEN))
    found = findings(frames, 50)
    table = leaderboard(frames, found)
    first = table.iloc[0]
    assert first.validation == frames.scored()[OBJECTIVE].max() and list(table.place) == list(range(1, len(table) + 1))
    assert (table.validation.diff().dropna() <= 0).all()
    chosen = table[table.test.notna()]
    assert set(chosen.trial_id) <= set(frames.chosen.values()) and len(chosen)
    means = found.strategies[found.strategies.metric == "macro_f1"].set_index("strategy")["mean"]
    assert all(row.test == means[row.strategy] for row in chosen.itertuples())
    row = frames.trials[frames.trials.trial_id == first.trial_id].iloc[0]
    assert f"lr {row['hp/lr']:.3g}" in first.settings


def test_a_price_stands_on_the_page_only_when_it_is_given(tmp_path: Path) -> None:
    assert main([str(GOLDEN), "--out", str(tmp_path / "a.html"), "--price-per-hour", "3"]) == 0
    assert main([str(GOLDEN), "--out", str(tmp_path / "b.html")]) == 0
    a, b = ((tmp_path / f).read_text() for f in ("a.html", "b.html"))
    assert '<th class="n">price</th>' in a and '<th class="n">price</th>' not in b
    assert "estimate" in b and b.count("ties go to the cheaper trial") == 2, "the rule stands below the scores and in the protocol"


@pytest.mark.parametrize("width", [390, 1280])
def test_no_figure_is_cut_on_a_phone_or_a_screen(width: int, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "results")
    write_report(str(tmp_path / "results"), tmp_path / "r.html")
    with page(dark=False, width=width, height=900) as p:
        p.goto((tmp_path / "r.html").as_uri())
        p.wait_for_timeout(1500)
        p.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        p.wait_for_timeout(1500)
        assert p.evaluate("document.documentElement.scrollWidth") <= width
        cut = p.evaluate(
            "[...document.querySelectorAll('.scroll')].filter(s => s.scrollWidth > s.clientWidth + 1).map(s => s.id || s.textContent)"
        )
        assert cut == [], "tables that are too wide show their rows below one another"
        drawn = p.evaluate(
            """[...document.querySelectorAll('.plotly-graph-div')].map(f => ({ name: f.id,
            whole: f.clientHeight, kept: f.parentNode.clientHeight, drawn: f._fullLayout.height,
            width: f.clientWidth, room: f.parentNode.parentNode.clientWidth,
            columns: new Set(Object.keys(f._fullLayout).filter(k => /^xaxis/.test(k))
                .map(k => f._fullLayout[k].domain[0].toFixed(2))).size }))"""
        )
        assert drawn and p.problems_seen == []
        for f in drawn:
            assert f["whole"] == f["kept"] == f["drawn"], f
            if f["name"] != "figure-parallel":  # many axes side by side are its point: it can be pushed aside
                assert f["width"] <= f["room"] and (width > 640 or f["columns"] == 1), f
