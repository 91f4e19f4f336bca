"""The command line. ``main`` is the only place where an error becomes a line and an exit code."""

import os
import sys

from ..core.words import escaping_output


@escaping_output()
def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit code (0, 2 usage, 3 data, 4 storage, 5 diverged, 128 + signal)."""
    import click

    from ..core.errors import FromNoiseError
    from .verbs import fromnoise

    argv = sys.argv[1:] if argv is None else argv
    try:
        fromnoise.main(args=argv, prog_name="fromnoise", standalone_mode=False)
        return 0
    except FromNoiseError as error:
        return _say(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.ctx.get_help())
        return 2
    except click.ClickException as error:
        return _say(error.format_message(), 2)
    except (KeyboardInterrupt, click.Abort):
        return _say("stopped", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        return _say("out of memory: choose a smaller --batch-size, --resolution or network", 1)
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError" or "not enough memory" in str(error) or "can't allocate memory" in str(error):
            return _say("out of memory: choose a smaller --batch-size, --resolution or network", 1)
        if os.environ.get("FROMNOISE_DEBUG"):
            raise
        text = " ".join(str(error).split())[:300]
        return _say(f"{type(error).__name__}: {text} (a bug of fromnoise: run again with FROMNOISE_DEBUG=1 and report it)", 1)


def _say(message: str, code: int) -> int:
    print(f"fromnoise: {' '.join(message.split())}", file=sys.stderr)
    return code


def run() -> None:
    sys.exit(main())
