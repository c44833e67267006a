"""The choice of the next trials, and running them: here or on a Ray cluster."""

from study.errors import EnvironmentProblem


class RayDoesNotStart(EnvironmentProblem):
    """An error where Ray should be started on this machine and does not start: a study may continue without it."""
