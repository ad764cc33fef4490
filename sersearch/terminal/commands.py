"""The form of every command: each option that takes one value may be given once."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption

from sersearch.errors import InputError


class Command(TyperCommand):
    """A command that refuses an option that is given twice; otherwise the last one would win without a word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the command.

        Raises:
            InputError: an option that takes one value is given more than once.
        """
        _, _, given = self.make_parser(ctx).parse_args(list(args))  # one entry each time that an option is given
        for parameter, times in Counter(given).items():
            takes_one = isinstance(parameter, TyperOption) and not (parameter.multiple or parameter.is_flag)
            if takes_one and times > 1:
                name = max(parameter.opts, key=len)
                raise InputError(f"{name} was given {times} times, but takes one value; keep one of them")
        return super().parse_args(ctx, args)


class App(typer.Typer):
    """The program: all its commands are of the class `Command`."""

    def command(self, *names: Any, **settings: Any) -> Callable[..., Any]:
        """Register a command, as `typer.Typer.command` does."""
        return super().command(*names, cls=Command, **settings)
