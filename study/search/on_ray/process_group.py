"""The process group of a trial of several workers, made as Ray Train does, except that a group that cannot begin frees its resources."""

from ray.train.backend import Backend, BackendConfig
from ray.train.torch import TorchConfig


class Released(TorchConfig):
    """Ray's own configuration, with a backend that releases the resources of a failed start.

    Ray 2.60 forgets the placement group of workers whose process group could not be made (a missing network interface, NCCL without a
    connection, a worker that dies meanwhile). Its CPUs and GPUs would stay reserved until the sweep ends, and the trial's next try would
    wait for them.
    """

    @property
    def backend_cls(self) -> type[Backend]:
        made: type[Backend] = super().backend_cls

        class Releasing(made):  # type: ignore[misc, valid-type]
            # the type of worker_group is internal to Ray
            def on_start(self, worker_group, backend_config: BackendConfig) -> None:  # type: ignore[no-untyped-def]
                try:
                    super().on_start(worker_group, backend_config)
                except Exception:
                    worker_group.abort()  # not its shutdown: workers that wait for each other would be waited for
                    raise

        return Releasing
