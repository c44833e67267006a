"""What to run next, and running it: here or on a Ray cluster."""

from study.errors import EnvironmentProblem


class RayDoesNotStart(EnvironmentProblem):
    """Ray was to be started on this machine, and was not: a study may do without."""
