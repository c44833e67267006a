"""The required contents of each file of a study.

Parts that nothing reads are not checked. It is loaded with pydantic, when a file is read.
"""

from dataclasses import fields, make_dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from study.bounds import BOUNDS, bound_of
from study.question.budget_decision import State
from study.question.cell import QUESTION, Cell
from study.question.study_config import Study
from study.question.training_settings import Protocol

Object, Texts = dict[str, Any], list[str]
TrialId = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
Counted = Annotated[int, Field(ge=1)]


class Maybe:
    """A field that may be missing."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind


def shape(**kinds: Any) -> Any:
    """Return a type that reads an object with fields of these kinds, by name. Other fields are passed over.

    A text is no number, and numbers are finite.
    """
    made = [(name, kind.kind, None) if isinstance(kind, Maybe) else (name, kind) for name, kind in kinds.items()]
    config = {"strict": True, "allow_inf_nan": False}
    return make_dataclass("Shape", made, kw_only=True, namespace={"__pydantic_config__": config})


def several(kind: Any) -> Any:
    """A list of them."""
    return list[kind]


def named(kind: Any) -> Any:
    """An object of them."""
    return dict[str, kind]


def _has_one(winners: list[str]) -> list[str]:
    if not any(winners):
        raise ValueError("it names no trial")
    return winners


Winners = named(Annotated[several(Annotated[str, Field(pattern="^([0-9a-f]{16})?$")]), AfterValidator(_has_one)])
"""The winner of each search by cell. An empty id stands for a search that found none, and a cell has one that did."""


def numbers_of(cls: type) -> dict[str, Maybe]:
    """The fields of a dataclass that are numbers; null is infinity."""
    return {f.name: Maybe(float | None) for f in fields(cls) if bound_of(cls.__name__, f.name) in BOUNDS}


QUESTIONS = {f.name: Maybe(f.type) if "since" in f.metadata else f.type for f in fields(Cell) if f.name in QUESTION}
"""The fields of a cell that make its question; those that came late may be missing."""

Facts = shape(started_at=Maybe(float), finished_at=Maybe(float), answers=Maybe(Texts), verdicts=Maybe(Texts), scores=Maybe(Object),
    arguments=Maybe(several(Annotated[Texts, Field(min_length=1)])))  # fmt: skip
Amendment = shape(at=float, changes=Texts, test_open=bool, beside=Maybe(bool))

AsStudy = shape(
    **numbers_of(Study), cells=several(Object), protocol=shape(**numbers_of(Protocol)), space=Maybe(Object), published=Maybe(Object),
    **dict.fromkeys(("measure", "explain", "search"), Maybe(Texts)),
)  # fmt: skip
"""The study's fields. A word where a number belongs is damage, but `Study` itself refuses impossible numbers and unknown names."""
StudyFile = shape(study=AsStudy, asked=Maybe(AsStudy), facts=Maybe(Facts), amendments=Maybe(several(Amendment)))

Selection = shape(rule=str, chosen=named(TrialId), by_search=Maybe(Winners), earlier=Maybe(several(Object)))

Gain = shape(state=State, **dict.fromkeys(("gain", "se", "low", "high", "longer", "shorter"), Maybe(float)))
Round = shape(factor=Counted, against=Counted, strategies=named(Gain))
Budgets = shape(questions=several(shape(**QUESTIONS, factor=Counted, on=Winners, rounds=several(Round))))

Openings = shape(openings=several(shape(hash=str, trials=Texts, at=float)))

Length = shape(epochs=int, validation=several(float))
Entry = shape(
    trial=TrialId, cell=str, reason=str, epochs=Counted, images=Counted, at=float, validation=float,
    temperature=Annotated[float, Field(gt=0)],
    lengths=several(Length), earlier=Maybe(several(Object)), calibration=Maybe(named(float | None)),
    threshold=Maybe(shape(at=Annotated[float, Field(ge=0, le=1)], of=Literal[0, 1]) | None),
)  # fmt: skip
Delivered = shape(delivered=named(Entry))

Drawn = shape(image=str, sha256=str, probability=Annotated[float, Field(gt=0, le=1)], label=str | None)
Counts = several(Annotated[int, Field(ge=0)])


def _is_whole(draw: Any) -> Any:
    if draw.filled is not None and any(image.label is None for image in draw.images):
        raise ValueError("a picture of a draw that is filled in has no label")
    if any(len(own) != len(draw.images) for own in (draw.fold, *draw.said.values())):
        raise ValueError(f"'fold' or 'said' is not {len(draw.images)} whole numbers, one an image")
    return draw


Draw = shape(
    **QUESTIONS, at=float, worth=float, filled=float | None, corrected=Maybe(several(float)), folder=str, asked=Texts, pictures=Counted,
    images=several(Drawn), fold=Counts, said=named(Counts),
)  # fmt: skip
Labelled = shape(draws=several(Annotated[Draw, AfterValidator(_is_whole)]))

DataReports = named(shape(form=str, image_marks=Maybe(named(str)), contents=Maybe(shape(decoder=Maybe(str), digests=Maybe(str)))))

Config = shape(cell=shape(**QUESTIONS, strategy=str), strategy=Object, recipe=Object, protocol=Object, seed=int)
AskFile = shape(config=Config)
Written = shape(schema=int)
