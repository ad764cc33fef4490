"""What is written to a terminal: names are shown as they are, whatever they contain.

Names of studies, spaces, speakers and files may contain what rich takes for markup, or what a terminal takes for a
command. Everything that a command prints goes through this module; ruff forbids `print` and rich's own console
elsewhere.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from sersearch.errors import printable


class Screen(Console):
    """A console of rich that takes every text for what it says: no markup, no highlighting, no control characters."""

    def __init__(self, **settings: Any) -> None:
        """Create a console with the settings of rich's."""
        super().__init__(**{"markup": False, "highlight": False, "emoji": False} | settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Lay out a text, of a line or of a table's cell; only line breaks at its beginning are obeyed."""
        line = text.lstrip("\n")
        breaks = "\n" * (len(text) - len(line))
        return super().render_str(breaks + printable(line), **settings | {"markup": False, "emoji": False})

    def say(self, text: str, style: str | None = None) -> None:
        """Print a line: wrapped at words on a terminal, whole where it is piped into a file or a program."""
        self.print(text, style=style, soft_wrap=not self.is_terminal)


def say(text: str = "", *, flush: bool = False) -> None:
    """Print lines to standard output."""
    _write(text, sys.stdout, flush)


def say_verbatim(text: str) -> None:
    """Print a file to standard output; its lines stay whole on a terminal too, so that they can be copied."""
    print("\n".join(printable(line) for line in text.split("\n")), end="", flush=True)


def say_on_stderr(text: str) -> None:
    """Print lines to standard error."""
    _write(text, sys.stderr, flush=True)


def say_json(facts: Any) -> None:
    """Print facts to standard output as JSON, in ASCII where it takes nothing else."""
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    say(json_text(facts, ensure_ascii=not is_unicode))


def json_text(facts: Any, ensure_ascii: bool = False) -> str:
    """Write facts as JSON."""
    return json.dumps(facts, indent=1, ensure_ascii=ensure_ascii)


def let_streams_take_anything() -> None:
    """Let standard output and standard error escape what they have no characters for, as an ASCII terminal's do."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _write(text: str, stream: TextIO, flush: bool) -> None:
    if stream.isatty():
        # Wrapped at words; the terminal itself would break them anywhere.
        screen = Screen(file=stream)
        for line in text.split("\n"):
            screen.say(line)
        return
    print("\n".join(printable(line) for line in text.split("\n")), file=stream, flush=flush)
