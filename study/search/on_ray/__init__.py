"""The search on a Ray cluster: Ray Tune runs the plan, Ray Train wraps trials of several workers. No other package imports Ray.

There is one Tuner for all cells, so that the cluster never idles. Tune's own state files are not used: the ledger is the state. This file
imports nothing of the package, since every process of a trial reads it.

- `cluster.py` connects.
- `nodes.py` asks each node (by `node_report.py`) whether it is fit.
- `tuner.py` drives Tune.
- `workers.py` runs on the nodes.
- `process_group.py` releases the resources of DDP workers that cannot begin.
- `gpu_share.py` computes the part of a GPU that a trial needs.
- `notice.py` asks whether a node will be taken away.
- `python_of_workers.py` refuses another Python for workers.
- `slices.py` names parts of GPUs.
"""

import os

SETTINGS = {  # read by Ray when it is imported or started
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # every report waits for a poll; the default of 2 s is felt
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "60",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "120",
    "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": "120",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # its state files are never read
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # a stopped trial may end slowly on a busy machine: after 2 s Tune drops the next one, and waits for it for ever
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "3600",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the sweep has its own
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` Ray would make workers an environment of their own, with another Python
    "RAY_memory_usage_threshold": "0.95",
    "RAY_worker_niceness": "0",  # 15 by default: beside any other program a trial took many times as long as it was measured to take
}
for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)
