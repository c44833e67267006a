"""The sentence about the roles of a table's columns, and about columns that were not taken although their names suggest a role."""

import re
from collections.abc import Iterable, Mapping

from study.datasets.spec import some

LIKE = {
    "label": {"breed", "kind", "type", "disease", "diagnosis", "taxon", "genus", "family", "emotion", "variety", "cultivar"},
    "split": {"split", "fold", "train", "training", "valid", "val", "validation", "test", "testing", "holdout", "phase", "stage"},
    "group": {
        *("group", "patient", "subject", "session", "plant", "tree", "animal", "individual", "specimen", "person"),
        *("user", "owner", "author"),
        *("site", "location", "place", "plot", "field", "station", "camera", "device", "scanner", "hospital", "centre", "center", "batch"),
        *("video", "clip", "sequence", "burst", "series", "slide", "scan", "case", "study", "lesion", "day"),
        *("date", "trap", "participant"),
    },
    "weight": {"weight", "weights", "importance"},
}  # fmt: skip
"""Words in a column's name by the role that it may have."""


def roles_said(header: Iterable[str], column: Mapping[str, str], names: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return the sentences. `column`: by role, the column taken; `names`: the usual names of a role's columns."""
    taken = "; ".join(f"{what} {called}" for what, called in column.items()) + ("" if "split" in column else "; split own")
    likely = [f"{h} ({role}?)" for h in header if h not in column.values() and (role := _like(h, names))]
    return [taken, *([f"not taken: {some(likely, 5)}"] if likely else [])]


def _like(column: str, names: Mapping[str, tuple[str, ...]]) -> str | None:
    name = column.strip()
    words = set(re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()))
    by_name = next((role for role, known in names.items() if role not in ("image", "names") and name.lower() in known), None)
    return by_name or next((role for role, like in LIKE.items() if words & like), None)
