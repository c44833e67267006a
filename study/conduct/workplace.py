"""A study at work: the question, its ledger and its places. Every command that opens a begun study uses it, so none forgets a part."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from study.question.study_config import Study, foreign_tasks
from study.question.trial_config import TrialConfig
from study.records import Ask
from study.storage.options import Options
from study.storage.places import Places, find_places
from study.tracking.ledger import Ledger

if TYPE_CHECKING:
    import numpy as np

    from study.datasets import ImageTable


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """A study, its ledger, and its places: data, weights and cache as every worker finds them, the study's other tasks among them."""

    study: Study
    ledger: Ledger
    places: Places

    @classmethod
    def of(
        cls,
        ledger: Ledger,
        data: str | None = None,
        weights: str | None = None,
        *,
        foreign: Sequence[str] = (),
        labelled: str | None = None,
    ) -> Self:
        """Return the workplace of a begun study. `foreign`: tasks beside the study's own other data sets; `labelled`: see `Places`."""
        study = ledger.study()
        assert study is not None, "it was found by its study.json"
        results = ledger.folder.location.rpartition("/")[0]
        return cls(study=study, ledger=ledger, places=_places(study, find_places(results, data, weights, foreign, labelled)))

    @classmethod
    def at(cls, study: Study, options: Options) -> Self:
        """Return the workplace of a study that is to run under these options, begun already or not."""
        places = _places(study, find_places(options.results, options.data, options.weights))
        return cls(study=study, ledger=Ledger(places.folder, study.name), places=places)

    def of_trial(self, trial_id: str) -> Places:
        """Return the places of one of its trials: its own folder, the same data."""
        return self.places.of_trial(self.ledger.trial_folder(trial_id).location)

    def check(self, configs: Iterable[TrialConfig]) -> None:
        """Check that the data sets of these configurations hold the images that the study was begun with, before any is trained or
        measured.

        Raises ConfigError or DataError.
        """
        from study.conduct.same_images import check_begun

        check_begun(self.ledger, {config.cell.dataset for config in configs}, self.places)

    def images(self, ask: Ask) -> "tuple[ImageTable, np.ndarray]":
        """Return the table that a trial was trained on and its pixels, uint8 [N, S, S, C], after checking that they are the study's own.

        Raises ConfigError, DataError or EnvironmentProblem.
        """
        from study.run import open_images

        config = TrialConfig.from_dict(ask.config)
        self.check([config])
        return open_images(config, self.of_trial(ask.trial_id))


def _places(study: Study, places: Places) -> Places:
    return places.with_foreign(foreign_tasks(study))
