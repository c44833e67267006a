"""`python -m study.demo RESULTS/STUDY[:CELL]`: a page on this machine to try the network: drop a picture, see what it says and why."""

import argparse
import base64
import functools
import io
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from study.bounds import check_options
from study.console.arguments import Parser, add_data, add_pick
from study.console.command import command
from study.console.progress import load
from study.console.text import shown
from study.datasets.spec import TRAIN
from study.errors import ConfigError, DataError, EnvironmentProblem
from study.inference import pictures
from study.tracking.ledger import placed
from study.use.local_only import ENDING_S, HERE, LocalOnly, in_a_line, port_here

if TYPE_CHECKING:
    from study.results import Results
    from study.use.asked import MakesSets
    from study.use.neighbours import Neighbour, Neighbours
    from study.use.predictor import Predictor

SHOWN_CLASSES, SHOWN_IMAGES = 8, 8
SETS = 0.95  # level of the sets that are shown
LARGEST = 30_000_000  # bytes of a file
STYLE = """
:root { --ink: #16181d; --soft: #5c6370; --line: #dfe2e8; --paper: #ffffff; --card: #f6f7f9; --accent: #0072B2; }
body.body--dark { --ink: #e9eaee; --soft: #a0a6b4; --line: #343843; --paper: #15171b; --card: #1e2127; --accent: #56B4E9; }
body { background: var(--paper) !important; color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
.nicegui-content { padding: 0; align-items: stretch; }
.page { overflow-wrap: anywhere; width: 100%; max-width: 62rem; margin: 0 auto; padding: 2rem 1.2rem 4rem; gap: 1.2rem; }
.page h1 { font-size: 1.7rem; line-height: 1.2; font-weight: 650; margin: 0; letter-spacing: -.01em; }
.page h2 { font-size: 1.05rem; line-height: 1.3; font-weight: 600; margin: 1rem 0 .2rem; }
.soft { color: var(--soft); font-size: .92rem; overflow-wrap: anywhere; }
.page .q-uploader { width: 100%; max-height: none; background: var(--card); color: var(--ink); border: 2px dashed var(--line);
  border-radius: 10px; box-shadow: none; }
.page .q-uploader__header { background: transparent; color: var(--ink); } .page .q-uploader__list { display: none; }
.page .q-uploader__subtitle { display: none; } .page .q-uploader__header-content { padding: 1.1rem .9rem; }
.answer { display: grid; grid-template-columns: 12rem minmax(0, 1fr); gap: 1.4rem; align-items: start; width: 100%; }
.answer img { width: 100%; border-radius: 8px; image-rendering: auto; display: block; }
.bar { display: grid; grid-template-columns: minmax(5rem, 11rem) minmax(0, 1fr) 4rem; gap: .7rem; align-items: center; padding: .18rem 0; }
.bar .name { overflow-wrap: anywhere; } .bar .track { background: var(--card); border-radius: 4px; height: 1.1rem; }
.bar .fill { background: var(--accent); border-radius: 4px; height: 100%; min-width: 2px; }
.bar .share { text-align: right; font-variant-numeric: tabular-nums; }
.like { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); gap: .8rem; width: 100%; }
.like img { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 8px; display: block; }
.like .soft { font-size: .84rem; line-height: 1.3; }
@media (max-width: 40rem) { .answer { grid-template-columns: minmax(0, 1fr); } .answer .given { max-width: 12rem; }
  .bar { grid-template-columns: 6.5rem minmax(0, 1fr) 3.6rem; } }
"""


def parser() -> Parser:
    p = Parser(prog="python -m study.demo", description=__doc__.split(": ", 1)[1])
    add_pick(p)
    p.add_argument(
        "--port", type=int, default=8080, help="on 127.0.0.1, which other machines cannot reach (default 8080; 0: any that is free)"
    )
    add_data(p, "folder that holds the data, for the training images (or STUDY_DATA)")
    p.add_argument("--images", type=int, default=2000, help="training images among which the nearest are looked for, at most (0: none)")
    p.add_argument("--open", action="store_true", help="open it in the browser")
    return p


@command(parser, "")
def main(args: argparse.Namespace) -> int:
    check_options(images=args.images)
    port = port_here(args.port)
    placed(args.study)
    load("study.run", "study.use.gradcam", "study.results")
    from study.results import open_place

    demo = Demo(*open_place(args.study), data=args.data, images=args.images)
    serve(demo, port, args.open)
    return 0


class Demo:
    """The pick of a study with the training images at hand."""

    def __init__(self, results: "Results", cell: str, *, data: str | None, images: int) -> None:
        from study.conduct.known_features import unknown_of

        self.pick = results.pick(cell)
        self.network: Predictor = results.predictor(cell)
        self.title = f"{self.pick.of}: what does the network say?"
        self.about = (
            f"{self.pick.cell.backbone}, {self.pick.named}, {self.pick.scores}; {self.pick.probabilities}{self._rule()}. "
            "Nothing leaves this machine."
        )
        self.sets: MakesSets | None = next((s for s in results.known_sets(cell) if s.level == SETS), None)
        self.unknown = unknown_of(results.frames.ledger, self.pick.cell, data, make=False)  # where its features were made before
        self.neighbours: Neighbours | None = None
        self.missing = "no training images were asked for (--images 0)"
        if images > 0:
            self._look_up(results, data, images)

    def _rule(self) -> str:
        return "" if self.pick.deciding.usual else f". It {self.pick.deciding.text(self.pick.metric.classes)}"

    def _look_up(self, results: "Results", data: str | None, most: int) -> None:
        """Load training images, drawn from a seed where there are more than `most`.

        Where the data are not at hand, or are no longer those that the study was begun with, the page says so.
        """
        from study.conduct.workplace import Workplace
        from study.use.neighbours import Neighbours

        ledger = results.frames.ledger
        ask = ledger.ask(self.pick.trial)
        assert ask is not None, "it was picked"
        try:
            table, pixels = Workplace.of(ledger, data).images(ask)
        except (ConfigError, DataError, EnvironmentProblem) as error:
            self.missing = f"the training images are not at hand: {error}"
            return
        train = np.flatnonzero(table.split == TRAIN)
        self.count = len(train)
        if len(train) > most:
            train = np.sort(np.random.default_rng(0).choice(train, most, replace=False))
        print(f"looking at {len(train)} training images ...", flush=True)
        labels = [table.called(int(k)) for k in train]
        self.neighbours = Neighbours(self.network, np.asarray(pixels[train]), labels, [table.ids[k] for k in train])

    def answer(self, file: bytes) -> "Said":
        """Return the answer for a picture. Raises ValueError with the reason for a file that is no picture."""
        from study.use import gradcam

        image = self.network.prepare(pictures.decode(io.BytesIO(file), self.network.channels))
        none = False
        if self.unknown is not None and self.unknown.speaks:
            own = self.unknown.network
            none = bool(self.unknown.of(own.prepare(pictures.decode(io.BytesIO(file), own.channels))[None])[0])
        (shares,) = self.network(image[None])
        said = int(self.network.named(shares[None])[0])
        order = [said, *(int(k) for k in np.argsort(-shares, kind="stable") if k != said)]
        ranked = [(self.network.classes[k], float(shares[k])) for k in order]
        near = self.neighbours.nearest(image, SHOWN_IMAGES) if self.neighbours else []
        heat, why = gradcam.heat_map(self.network, image, said)
        in_set = [self.network.classes[k] for k in self.sets.of(shares[None])[0]] if self.sets else []
        return Said(image, ranked, near, None if heat is None else gradcam.shown(image, heat), why, in_set, none)


@dataclass(frozen=True)
class Said:
    """The answer for one picture."""

    image: np.ndarray  # uint8 [S, S, C], the square that it saw
    ranked: list[tuple[str, float]]  # classes with their probabilities: the one that is said, then from the highest on
    near: "list[Neighbour]"  # training images
    looked: np.ndarray | None  # uint8 [S, S, C], dark where it did not look for the first class
    blind: str  # why that is missing
    in_set: list[str] = field(default_factory=list)  # the classes that may be the true one; empty where no sets are known
    none: bool = False  # whether it may show none of the classes


def serve(demo: Demo, port: int, show: bool) -> None:
    """Serve the page until it is interrupted. Raises ConfigError where the extra is missing, EnvironmentProblem where the port is
    taken."""
    try:
        from nicegui import app, events, run, ui
    except ImportError:
        raise ConfigError("the page needs NiceGUI: pip install 'finetune-study[demo]'.") from None

    def page() -> None:
        ui.add_css(STYLE)
        with ui.column().classes("page"):
            _text(ui, "h1", demo.title)
            _text(ui, "div", demo.about).classes("soft")
            upload = ui.upload(label="Drop a picture here, or choose one with +", auto_upload=True, max_file_size=LARGEST)
            upload.props('accept="image/*" flat').on("rejected", lambda: ui.notify("Not taken: an image file of at most 30 MB, please."))
            place = ui.column().classes("w-full")

        async def look(event: events.UploadEventArguments) -> None:
            data, name = await event.file.read(), shown(event.file.name)
            upload.reset()
            place.clear()
            try:
                found = await run.io_bound(demo.answer, data)
            except Exception as error:  # also memory that is not there: the page stays, and says so
                why = (
                    f"is no picture that can be read: {error}."
                    if isinstance(error, ValueError)
                    else f"has no answer: {pictures.reason(error)}."
                )
                with place:
                    _text(ui, "div", f"{name} {why}").classes("soft")
                return
            if found is not None:  # the server is ending
                with place:
                    _show(ui, demo, name, found)

        upload.on_upload(look)

    def begin() -> None:
        assert app.middleware_stack is not None, "it is what starts"
        app.middleware_stack = LocalOnly(app.middleware_stack, LARGEST)  # around NiceGUI's own, which it adds last
        print(f"http://{HERE}:{port} (Ctrl+C ends it)", flush=True)

    port_here(port)
    app.on_startup(begin)
    run_page = functools.partial(ui.run, page, host=HERE, port=port, title=demo.title, dark=None, reload=False, show=show)
    try:
        with in_a_line():
            run_page(show_welcome_message=False, timeout_graceful_shutdown=ENDING_S)
    except SystemExit:  # the server's, which has said why
        raise EnvironmentProblem(f"port {port} was taken meanwhile. Give another with --port (0: any that is free).") from None


def _show(ui, demo: Demo, name: str, said: Said) -> None:  # type: ignore[no-untyped-def]  # a module
    ranked = said.ranked
    with ui.element("div").classes("answer"):
        with ui.element("div").classes("given"):
            _picture(ui, said.image, f"{name}, the square the network saw")
            _text(ui, "div", name).classes("soft")
            if said.looked is not None:
                _picture(ui, said.looked, f"{name}, dark where the network did not look")
                _text(ui, "div", f"bright: what speaks for {ranked[0][0]} (Grad-CAM)").classes("soft")
            else:
                _text(ui, "div", said.blind).classes("soft")
        with ui.element("div"):
            for label, share in ranked[:SHOWN_CLASSES]:
                with ui.element("div").classes("bar"):
                    _text(ui, "span", label).classes("name")
                    with ui.element("div").classes("track"):
                        ui.element("div").classes("fill").style(f"width: {100 * share:.2f}%")
                    _text(ui, "span", f"{100 * share:.1f} %").classes("share")
            if (left := len(ranked) - SHOWN_CLASSES) > 0 and not demo.network.kept.several:
                rest = 100 * sum(share for _, share in ranked[SHOWN_CLASSES:])
                _text(ui, "div", f"{left} more class{'' if left == 1 else 'es'}: {rest:.1f} %").classes("soft")
            if said.none and demo.unknown:
                _text(ui, "h2", "It may show none of these")
                _text(ui, "div", f"It lies farther from all training images than 95 % of known pictures do; {demo.unknown.text}.").classes(
                    "soft"
                )
            if said.in_set and demo.sets:
                _text(ui, "h2", f"{100 * SETS:g} % set: {' or '.join(said.in_set)}")
                _text(ui, "div", demo.sets.short).classes("soft")
    _text(ui, "h2", "Nearest training images")
    if demo.neighbours is None:
        _text(ui, "div", f"Not shown: {demo.missing}").classes("soft")
        return
    among = len(demo.neighbours.names)
    some = "" if among == demo.count else f" (drawn from {demo.count})"
    _text(ui, "div", f"By the cosine of the features the head reads, among {among} training images{some}.").classes("soft")
    with ui.element("div").classes("like"):
        for n in said.near:
            with ui.element("div"):
                _picture(ui, n.image, n.name)
                _text(ui, "div", n.label)
                _text(ui, "div", f"cosine {n.cosine:.2f}").classes("soft")


def _text(ui, tag: str, text: str):  # type: ignore[no-untyped-def]  # a module, and an element of its
    """Add text that is never read as markup: class and file names may hold any characters."""
    element = ui.element(tag)
    with element:
        ui.label(text).style("display: inline")
    return element


def _picture(ui, image: np.ndarray, about: str) -> None:  # type: ignore[no-untyped-def]
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    address = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    element = ui.element("img")
    element.props["src"], element.props["alt"] = address, about


if __name__ == "__main__":
    sys.exit(main())
