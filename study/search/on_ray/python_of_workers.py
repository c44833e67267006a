"""A check that workers run in the Python of the shell that started Ray on their node, which the check of nodes compares with this one."""

from collections.abc import Mapping
from typing import Any

from study.errors import EnvironmentProblem

ANOTHER = ("py_executable", "uv", "pip", "conda", "container", "image_uri")
"""Parts of Ray's runtime environment that start workers in another Python, or with other packages, than the node's."""


def check_python(runtime_env: Mapping[str, Any], job: bool) -> None:
    """Raise EnvironmentProblem where a hook has put another Python into the runtime environment of a sweep.

    Such hooks are that of `uv run`, which is on by default where Ray was imported before us, and the one that RAY_RUNTIME_ENV_HOOK names.
    `job`: the environment is a submitted job's, in whose Python the sweep itself runs too.
    """
    if job:
        return
    for name in ANOTHER:
        if runtime_env.get(name):
            raise EnvironmentProblem(
                f"workers would run in another Python than this one: Ray was told {name}={str(runtime_env[name])[:80]!r}, as `uv run` or "
                "RAY_RUNTIME_ENV_HOOK does. Start with RAY_ENABLE_UV_RUN_RUNTIME_ENV=0 and without RAY_RUNTIME_ENV_HOOK, in the "
                "environment that runs Ray."
            )
