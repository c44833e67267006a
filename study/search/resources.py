"""The resources that a trial takes, and the number of trials that nodes have them for at once."""

from dataclasses import dataclass

from study.errors import EnvironmentProblem

Nodes = list[dict[str, float]]
"""Resources of each living node of a cluster, or of this machine."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """The resources of one trial."""

    workers: int = 1
    cpus_per_worker: float = 1.0
    gpus_per_trial: float = 0.0  # a fraction lets small trials share a GPU
    share_gpus: bool = False  # by the memory that the study's own trials were measured to take
    concurrent: int | None = None

    @property
    def per_worker(self) -> dict[str, float]:
        needs = {"CPU": self.cpus_per_worker}
        return needs | {"GPU": self.gpus_per_trial / self.workers} if self.gpus_per_trial else needs

    def fit(self, nodes: Nodes) -> int:
        """Return the number of trials that run at once. Raises EnvironmentProblem naming need and have: Ray would wait for ever."""
        if self.workers > 1 and 0 < self.gpus_per_trial < self.workers:
            raise EnvironmentProblem(
                f"{self.workers} workers a trial need {self.workers} GPUs, one each (NCCL shares none), not {self.gpus_per_trial:g}; "
                "lower --workers or raise --gpus-per-trial."
            )
        need = self.per_worker
        most = sum(min(int(node.get(k, 0) / v + 1e-6) for k, v in need.items()) for node in nodes) // self.workers
        if most < 1:
            said = ", ".join(f"{v:g} {k}" for k, v in need.items())
            there = "; ".join(", ".join(f"{node.get(k, 0):g} {k}" for k in need) for node in nodes)
            raise EnvironmentProblem(
                f"a trial needs {said}{f' for each of {self.workers} workers' if self.workers > 1 else ''} but the cluster's nodes "
                f"have {there}. Lower --workers, --cpus-per-worker or --gpus-per-trial."
            )
        return min(most, self.concurrent or most)
