"""The process group of a trial of several workers, as Ray Train makes it, but for one thing: a group that cannot begin gives its place back."""

from ray.train.backend import Backend, BackendConfig
from ray.train.torch import TorchConfig


class Released(TorchConfig):
    """Ray's own configuration, with a backend that lets go of what a failed start holds.

    Ray 2.60 forgets the placement group of workers whose process group could not be made (a network interface that is not there, NCCL
    that finds no way, a worker that dies in it): its CPUs and GPUs stayed reserved until the sweep ended, and the trial's next try
    waited for them.
    """

    @property
    def backend_cls(self) -> type[Backend]:
        made: type[Backend] = super().backend_cls

        class Releasing(made):  # type: ignore[misc, valid-type]
            def on_start(self, worker_group, backend_config: BackendConfig) -> None:  # type: ignore[no-untyped-def]  # Ray's own type is internal
                try:
                    super().on_start(worker_group, backend_config)
                except Exception:
                    worker_group.abort()  # not its shutdown: workers that wait for each other would be waited for
                    raise

        return Releasing
