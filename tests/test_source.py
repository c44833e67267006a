"""A study written as a Python file is the same study when that file is read, whatever ranges it searches."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from study.question.as_python import as_source
from study.question.cell import grid
from study.question.studies import find_study
from study.question.study_config import Study
from study.space import Choice, Domain, Integer, Log, Steps, Uniform, domains
from study.strategies import EVERY

RANGED = [f"{name}.{field}" for name, cls in EVERY.items() for field in domains(cls)]
NUMBERS = st.floats(1e-6, 0.4, allow_nan=False)


def ranges() -> st.SearchStrategy[Domain]:
    two = st.lists(NUMBERS, min_size=2, max_size=2, unique=True).map(sorted)
    whole = st.tuples(st.integers(1, 3), st.integers(3, 9))
    return st.one_of(
        two.map(lambda v: Log(*v)),
        two.map(lambda v: Uniform(*v)),
        whole.map(lambda v: Integer(*v)),
        whole.map(lambda v: Steps(*v)),
        st.tuples(whole, st.sampled_from(["depth_steps", "of_another"])).map(lambda v: Steps(*v[0], of=v[1])),
        st.lists(NUMBERS, min_size=1, max_size=4, unique=True).map(lambda v: Choice(*v)),
    )


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(domain=ranges())
def test_every_range_is_written_as_it_is(domain: Domain, tmp_path: Path) -> None:
    from study.question.as_python import _shown

    made = eval(_shown(domain), {"Log": Log, "Uniform": Uniform, "Integer": Integer, "Steps": Steps, "Choice": Choice})  # noqa: S307  ours
    assert made == domain and type(made) is type(domain)


@pytest.mark.parametrize("of", ["depth_steps", "unfreeze_depth"])
def test_a_study_that_counts_steps_of_another_field_reads_back(of: str, tmp_path: Path) -> None:
    cells = grid(["digits"], ["resnet18"], ["partial", "full"])
    study = Study(name="own", cells=cells, space={"partial.unfreeze_depth": Steps(1, 3, of=of), "full.lr": Choice(1e-4, 1e-3)})
    path = tmp_path / "own.py"
    path.write_text(as_source(study, "A study."))
    assert find_study(str(path)) == study
