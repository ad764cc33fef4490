"""The one error that a person's input can cause, and the words that its messages share."""

import re
from collections.abc import Iterable
from concurrent.futures import BrokenExecutor
from difflib import get_close_matches
from pathlib import Path


class InputError(ValueError):
    """What was given is wrong: the message says what was given, the rule and the remedy, on one line.

    The command line prints the message to standard error and exits with code 2. Names in the message may be anything,
    so what a terminal would obey is escaped.
    """

    def __init__(self, message: str) -> None:
        """Keep the message as one printable line."""
        super().__init__(printable(message))


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


_URI = re.compile("([A-Za-z][A-Za-z0-9+.-]+):/")


def refuse_uri(path: Path) -> None:
    """Refuse the address of an object store or the like, which would become a folder of that name.

    Raises:
        InputError: the path begins with a scheme such as s3://, and there is no such folder.
    """
    # A path has one slash where several were given.
    if (found := _URI.match(str(path))) and not path.exists():
        address = str(path).replace(":/", "://", 1)
        raise InputError(f"{address}: {found[1]}:// is not supported; give a folder, which every machine must see")


# Control characters, line and paragraph separators, marks that change the direction of writing, and bytes of file names
# that are not UTF-8.
_UNPRINTABLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")


def printable(text: str) -> str:
    """Escape what a terminal would obey or could not show, so that a text is one line.

    Example:
        >>> printable("s" + chr(27) + "[2J") == "s" + chr(92) + "x1b[2J"
        True
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


# What libraries say, in exceptions of many types, where the system gives them no more memory.
_NO_MEMORY = re.compile(
    "failed to map segment|cannot allocate memory|can't allocate memory|can't start new thread|bad_alloc|out of memory",
    re.IGNORECASE,
)


def machine_fault(error: BaseException) -> str:
    """Say in one line what the machine lacks: memory, room on a disk, a right; "" if the error is of another kind.

    Example:
        >>> machine_fault(OSError(28, "No space left on device", "run/study.toml"))
        'run/study.toml: No space left on device'
    """
    words = printable(str(error))
    if isinstance(error, BrokenExecutor):
        return "a worker process has died, perhaps because memory ran out: free memory, or give fewer --workers"
    is_machines = isinstance(error, MemoryError | ImportError | OSError | RuntimeError)
    if isinstance(error, MemoryError) or (is_machines and _NO_MEMORY.search(words)):
        reason = f" ({words[:200]})" if words else ""
        return f"memory ran out{reason}: free memory, or give fewer --workers"
    if isinstance(error, OSError) and (error.filename is not None or error.errno is not None):
        return printable(f"{error.filename}: {error.strerror}" if error.filename else f"{error.strerror}")
    return ""
