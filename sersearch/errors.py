"""The one error that a person's input can cause."""


class InputError(ValueError):
    """What was given is wrong: the message says what was given, the rule and the remedy, on one line.

    The command line prints the message to standard error and exits with code 2.
    """
