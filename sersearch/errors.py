"""The one error that a person's input can cause, and the words that its messages share."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """What was given is wrong: the message says what was given, the rule and the remedy, on one line.

    The command line prints the message to standard error and exits with code 2.
    """


def unknown(name: str, valid: Iterable[str], noun: str = "key") -> str:
    """Say that a name is not known, with the nearest valid one.

    Example:
        >>> unknown("trainig", ["training", "search"])
        'unknown key trainig; did you mean training?'
    """
    choices = sorted(valid)
    nearest = get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}?" if nearest else f"valid {noun}s are {', '.join(choices)}"
    return f"unknown {noun} {name}; {hint}"
