"""The program: `sersearch`, or `python -m sersearch`."""

from sersearch.interruption import end_on_ctrl_c


def main() -> None:
    """Run a command; Ctrl-C ends it with one line, even while its modules are imported."""
    end_on_ctrl_c()
    from sersearch.cli import main as run_command

    run_command()


if __name__ == "__main__":
    main()
