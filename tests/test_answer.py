"""The answer at a glance for studies whose truth was planted: its words, their number, and where it is shown."""

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from analysis.data.frames import Frames
from analysis.load import load
from analysis.page.card import cards, cards_html
from analysis.report import main, write_report
from analysis.verdict import findings
from analysis.words.answer import Answer, commonest
from analysis.words.next_step import lasting, use
from analysis.words.panel import MOST, WIDTH, body, summary
from analysis.words.plain_names import DO, NAMES, plain_name, to_do
from study.errors import ConfigError
from study.metrics import Counts, macro_f1
from study.question.training_settings import Protocol
from study.results import Results, load_study
from study.strategies import EVERY
from study.tracking import events
from tests import sized
from tests.browser import page
from tests.goldens import GOLDEN
from tests.test_short import with_sizes

THREE = Protocol(max_epochs=3, image_size=48, views=3, precision="fp32")
FAR, NEAR = {"partial": [0.75], "full": [0.40]}, {"partial": [0.61], "full": [0.60]}
SENTENCE = re.compile(r"[^.?]+(?:\.\d+[^.?]*)*[.?]")


def made(folder: Path, right: dict[str, list[float]], **more: object) -> Frames:
    return load(sized.write(folder, right, (1.0,), tests=300, protocol=THREE, spread=0.04, **more))  # type: ignore[arg-type]


def answered(frames: Frames) -> Answer:
    (answer,) = findings(frames, 60).answers
    return answer


def unfinished(frames: Frames) -> Frames:
    return dataclasses.replace(frames, facts={k: v for k, v in frames.facts.items() if k != "finished_at"})


STUDIES = {
    "decided": lambda f: made(f, FAR),
    "alike": lambda f: made(f, {"partial": [0.6], "full": [0.6]}, seeds=10),
    "open": lambda f: made(f, {"partial": [0.55], "full": [0.58], "linear_probe": [0.57]}, seeds=3),
    "small images": lambda f: with_sizes(made(f, {"partial": [0.55], "full": [0.58], "linear_probe": [0.57]}, seeds=3), 384, 224),
    "cut short": lambda f: made(f, NEAR, fitted={"full": 0.63, "partial": 0.97}),
    "winner cut short": lambda f: made(f, FAR, fitted={"full": 0.95, "partial": 0.63}),
    "in progress": lambda f: unfinished(made(f, NEAR)),
    "one strategy": lambda f: made(f, {"partial": [0.6]}),
    "one seed": lambda f: made(f, NEAR, seeds=1),
    "golden": lambda f: load(str(GOLDEN)),
}  # fmt: skip


def test_decided_says_what_to_do_and_by_how_much(tmp_path: Path) -> None:
    frames = made(tmp_path, FAR)
    a = answered(frames)
    assert a.mark == "decided" and a.do == "Train the head and the last stages of the network."
    assert re.fullmatch(r"It scores 3\d\.\d points higher \(95 % interval \+\d+\.\d to \+\d+\.\d\) than training everything\.", a.why[0])
    found = findings(frames, 60).strategies
    mean = found[(found.metric == "macro_f1") & (found.strategy == "partial")]["mean"].iloc[0]
    assert a.worth is not None and a.worth.mean == mean and f"It scores {100 * mean:.0f} points of 100" in a.score
    assert [s.strategy for s in a.strategies] == ["partial", "full"] and [s.used for s in a.strategies] == [True, False]
    assert a.rests_on == "1,000 training images at 48 px, 3 epochs, 5 runs each, resnet18"
    assert a.next_step.command == "" and "not here" in a.next_step.text, "its networks lie elsewhere"


def test_a_network_that_lies_here_is_used_by_its_study_and_by_name_where_there_are_several(tmp_path: Path) -> None:
    frames = made(tmp_path, FAR)
    leading = next(p for p in findings(frames, 60).picks if p.leads)
    frames.ledger.trial_folder(leading.trial).write("best/manifest.json", b"{}")
    a = answered(frames)
    assert a.next_step.command == f"python -m study.predict {frames.ledger.folder.location} FOLDER --csv predictions.csv"
    other = dataclasses.replace(frames.study.cells[0], dataset="mini_faces")
    two = dataclasses.replace(frames, study=dataclasses.replace(frames.study, cells=(*frames.study.cells, other)))
    assert f"{frames.ledger.folder.location}:digits FOLDER" in use(two, leading).command


def test_an_open_study_whose_networks_lie_here_says_what_to_label(tmp_path: Path) -> None:
    frames = STUDIES["open"](tmp_path)
    assert "Collect more of it" in answered(frames).next_step.text, "its networks lie elsewhere"
    leading = next(p for p in findings(frames, 60).picks if p.leads)
    frames.ledger.trial_folder(leading.trial).write("best/manifest.json", b"{}")
    a = answered(frames)
    assert a.mark == "open" and a.next_step.command == f"python -m study.label {frames.ledger.folder.location} FOLDER --most 60"
    assert re.search(r"The class \S+ scores lowest \(\d+ points on \d+ test images\)", a.next_step.text)


def test_longer_training_stands_first_where_a_strategy_was_cut_short(tmp_path: Path) -> None:
    a = answered(with_sizes(made(tmp_path, NEAR, fitted={"full": 0.63, "partial": 0.97}), 384, 224))
    assert a.mark == "cut short" and a.do == "Train 3 times as long before you choose."
    assert "training everything" in a.why[0] and a.why[1].startswith("Until then, ")
    assert "max_epochs=9" in a.next_step.command and "3 times the compute of this study" in a.next_step.price
    assert {s.strategy: s.aside for s in a.strategies} == {"partial": "", "full": "cut short"}


def test_a_winner_that_was_cut_short_is_decided_and_may_gain(tmp_path: Path) -> None:
    a = answered(STUDIES["winner cut short"](tmp_path))
    assert a.mark == "decided" and "max_epochs=9" in a.next_step.command


def test_larger_images_come_before_more_repeats(tmp_path: Path) -> None:
    a = answered(STUDIES["small images"](tmp_path))
    assert a.mark == "open" and a.do.startswith("For now, ") and len(a.why) == 2
    assert a.next_step.text == "Train at 96 px. Your images have 384 px, and this study trained at 48."
    assert "image_size=96" in a.next_step.command and a.next_step.price.startswith("about 4 times the compute")


def test_in_progress_says_how_much_is_done_and_how_to_resume(tmp_path: Path) -> None:
    a = answered(unfinished(made(tmp_path, NEAR)))
    assert a.mark == "in progress" and a.why[0] == "12 of 12 trainings are done."
    assert a.next_step.command.startswith("python -m study.sweep ") and a.next_step.command.endswith("sized")


def test_one_strategy_is_compared_with_nothing(tmp_path: Path) -> None:
    a = answered(made(tmp_path, {"partial": [0.6]}))
    assert a.mark == "open" and a.why == ("This study has one strategy, so nothing is compared.",)
    assert "second strategy" in a.next_step.text


def test_one_seed_shows_no_interval(tmp_path: Path) -> None:
    a = answered(made(tmp_path, NEAR, seeds=1))
    assert not any(s.interval for s in a.strategies) and "interval" not in a.score and "--confirm-seeds 5" in a.next_step.command
    assert 'class="bar"' not in cards_html([a])


def test_a_range_that_ended_the_search_is_widened_first() -> None:
    a = answered(load(str(GOLDEN)))
    assert a.mark == "open" and "learning rate" in a.do and "Until then" in a.why[1]


@pytest.mark.parametrize("name", STUDIES)
def test_it_is_short_wherever_it_is_shown(name: str, tmp_path: Path) -> None:
    """Sentences have 25 words at most, and the panel has twelve lines and 80 columns."""
    a = answered(STUDIES[name](tmp_path))
    for text in (a.do, *a.why, a.score, a.next_step.text):
        for said in SENTENCE.findall(text):
            assert len(said.split()) <= 25, said
    assert len(a.do.split()) <= 20 and len(SENTENCE.findall(a.do)) == 1
    lines = body(a)
    assert len(lines) + 2 + bool(a.next_step.command) <= MOST and max(map(len, lines)) <= WIDTH
    assert any(line.startswith("> ") for line in lines), "the one to use is among the strategies shown"
    assert "nan" not in cards_html([a]) and "not even" not in a.text.lower()


def test_naming_the_commonest_class_scores_what_macro_f1_says() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [3])
    truth = np.bincount(labels).astype(float)
    said = np.array([10.0, 0, 0, 0])
    assert commonest(labels) == pytest.approx(float(macro_f1(Counts(hits=np.minimum(truth, said), said=said, truth=truth))))


def test_every_strategy_has_a_plain_name_and_an_instruction() -> None:
    assert set(NAMES) == set(EVERY) and len(set(NAMES.values())) == len(NAMES)
    controls = {"scratch", "random_probe", "features_small"}
    assert set(EVERY) - controls <= set(DO) and all(len(to_do(s).split()) <= 17 for s in EVERY)
    assert plain_name("unheard_of") == "unheard_of"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "about 1 second"), (48, "about 48 seconds"), (89.7, "about 90 seconds"), (420, "about 7 minutes"), (8280, "about 2.3 hours"),
        (9e5, "about 10 days")],
)  # fmt: skip
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert lasting(seconds) == said


def test_many_strategies_are_counted_not_listed(tmp_path: Path) -> None:
    a = answered(made(tmp_path, {s: [0.6] for s in ("partial", "full", "lora", "lp_ft", "linear_probe")}, seeds=3))
    assert a.why[0].startswith("5 strategies ") and len(a.strategies) == 5 and len(body(a)) + 2 + bool(a.next_step.command) <= MOST


def test_the_axis_of_a_card_measures_as_its_rows_do(tmp_path: Path) -> None:
    """A score of 70 points lies on the tick of 70."""
    (card,) = cards([answered(STUDIES["open"](tmp_path))])["answers"]
    assert card["ticks"][0]["at"] == 0 and card["ticks"][-1]["at"] == 100
    low, high = (float(card["ticks"][k]["text"]) for k in (0, -1))
    for standing, row in zip(card["answer"].strategies, card["rows"], strict=True):
        assert row["at"] == pytest.approx(100 * (standing.shown[0] - low) / (high - low), abs=0.02)


def test_several_data_sets_have_a_line_above_their_cards(tmp_path: Path) -> None:
    a, b = answered(made(tmp_path / "a", FAR)), answered(made(tmp_path / "b", NEAR, fitted={"full": 0.63, "partial": 0.97}))
    assert summary([a]) == "" and summary([a, a, b]) == "3 data sets: 2 decided, 1 trained too briefly."
    assert [c["answer"] for c in cards([a, b])["answers"]] == [a, b] and "<table" not in cards_html([a, b])
    named = dataclasses.replace(a, question=dataclasses.replace(a.question, dataset="folder:/x/<b>owls"))
    text = cards_html([named] * 20)
    assert text.count('<article class="answer') == 20 and text.count('href="#answer-') == 20 and "<b>owls" not in text


def test_python_has_the_answer(tmp_path: Path) -> None:
    found = load_study(str(GOLDEN / "golden"))
    assert found.answer is found.answers[0] and found.next_step == found.answer.next_step and str(found.answer) == found.answer.text
    assert found.answer.do in found._repr_html_() and found.answer.do in repr(found)

    class Two(Results):
        answers = [found.answer] * 2  # type: ignore[assignment]

    with pytest.raises(ConfigError, match="asks on 2 data sets"):
        _ = Two(found.frames).answer


def test_the_report_prints_panels_and_records_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(GOLDEN), "--out", str(tmp_path / "r.html"), "--no-images"]) == 0
    said = capsys.readouterr().out
    (a,) = findings(load(str(GOLDEN))).answers
    assert "== digits: not decided ==" in said and all(f"  {line}" in said for line in body(a))


def test_the_note_of_a_tracked_study_begins_with_the_answer() -> None:
    frames = load(str(GOLDEN))
    a = answered(frames)
    facts = {"finished_at": 1.0, "answers": [a.text], "verdicts": ["in numbers"]}
    first, *rest = events.note(frames.study, facts, [], "links").splitlines()
    assert first.startswith("**digits: Not decided. ") and any("in numbers" in line for line in rest)
    assert "**" not in events.note(frames.study, {"answers": [a.text]}, [], "links"), "nothing is answered before the end"


def test_a_folder_of_several_studies_has_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results"
    shutil.copytree(GOLDEN / "golden", results / "golden")
    sized.write(results, FAR, (1.0,), protocol=THREE)
    (results / "golden" / "report.html").write_text("<!doctype html>")
    (results / "broken").mkdir()
    (results / "broken" / "study.json").write_text('{"schema": 999}')
    out = tmp_path / "all.html"
    assert main([str(results), "--out", str(out)]) == 0
    assert "2 data sets: 1 not decided, 1 decided." in capsys.readouterr().out
    text = out.read_text()
    assert text.index(">golden</a>") < text.index(">sized<"), "the newest first"
    assert 'href="results/golden/report.html"' in text and "broken could not be read: " in text
    assert "Widen the range of the learning rate" in text and ">94<" in text and "processor hours" in text
    assert main([str(results), "--study", "golden", "--out", str(tmp_path / "one.html"), "--no-images"]) == 0
    assert main([str(results), "--out", str(out)]) == 0, "our own page is replaced"


@pytest.mark.parametrize("width", [390, 1280])
def test_the_first_screen_is_the_answer(width: int, tmp_path: Path) -> None:
    """The instruction, the picture of the strategies and the next step are seen without scrolling at 1280 px.

    On a phone it is the first two.
    """
    write_report(sized.write(tmp_path, FAR, (1.0,), protocol=THREE), tmp_path / "r.html")
    with page(width=width, height=900) as p:
        p.goto((tmp_path / "r.html").as_uri())
        for seen in (".answer .do", ".answer .forest", *([".answer .next"] if width > 640 else [])):
            box = p.locator(seen).first.bounding_box()
            assert box and box["y"] + box["height"] <= 900 and box["x"] >= 0 and box["x"] + box["width"] <= width, (seen, box)
        order = p.evaluate("[...document.querySelectorAll('main > section, main > details')].map(s => s.id)")
        assert order == [s for s in ("answer", "use-it", "errors", "sure", "when", "specialist", "words") if s in order]
        assert not p.evaluate("document.getElementById('specialist').open")
        p.evaluate("location.hash = '#protocol'")
        p.wait_for_function("document.getElementById('specialist').open")
