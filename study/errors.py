"""Errors a user can act on: one line that names the value, the rule and the way out.

Exit codes: 0 done, 2 usage or configuration, 3 data, 4 environment (disk, permission, server, Ray),
5 finished but too many trials failed, 130/143 ended by SIGINT/SIGTERM, 141 by a reader of stdout that went away, 1 a bug of ours.
"""


class StudyError(Exception):
    """A problem the user can mend; shown as one line, never as a traceback."""

    exit_code = 1


class ConfigError(StudyError, ValueError):
    """Wrong usage or configuration: unknown names, values outside their range."""

    exit_code = 2


class DataError(StudyError):
    """Something is wrong with the data: missing, unreadable, inconsistent."""

    exit_code = 3


class EnvironmentProblem(StudyError):
    """Something is wrong outside this program: disk, permissions, a server, the Ray cluster."""

    exit_code = 4


def require(condition: bool, message: str) -> None:
    """Raise ConfigError with this message where the condition does not hold."""
    if not condition:
        raise ConfigError(message)


def nearest(name: str, known: list[str]) -> str:
    """Return `known` as text, nearest spellings first: the end of every "unknown name" message."""
    import difflib

    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    rest = [k for k in sorted(known) if k not in close]
    return ", ".join(close + rest)
