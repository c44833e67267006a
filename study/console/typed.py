"""A command's arguments as data, in one spelling for each, so that another command can be made of them."""

import argparse
from collections.abc import Sequence


def typed(parser: argparse.ArgumentParser, argv: Sequence[str]) -> list[list[str]]:
    """Return [option, *values] for each argument, in the order given: options in full, values as they were written; of one that is given
    twice the last, which is the one that counts. What has no option is named by its place: ["study", "pilot"]. `parser` is of no use
    afterwards; it must have taken these arguments once."""
    for action in parser._actions:
        action.default, action.type, action.choices = argparse.SUPPRESS, None, None
    names = {a.dest: a.option_strings[0] if a.option_strings else a.dest for a in parser._actions}
    return [[names[dest], *_values(value)] for dest, value in vars(parser.parse_args(argv)).items()]


def _values(value: object) -> list[str]:
    if isinstance(value, bool):  # an option without a value
        return []
    return list(value) if isinstance(value, list) else [str(value)]
