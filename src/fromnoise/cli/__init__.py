"""The command line. ``main`` is the only place where an error becomes a line and an exit code."""

try:
    import contextlib
    import os
    import signal
    import sys

    from ..core.words import escaping_output
    from .interrupts import SignalHandler, explain_stop
except KeyboardInterrupt:  # Ctrl-C before ``run`` can set a handler
    raise SystemExit(130) from None

OUT_OF_MEMORY = "out of memory: choose a smaller --batch-size, --resolution or network"


def main(argv: list[str] | None = None, ends_process: bool = False) -> int:
    """Runs one command and returns its exit code. ``ends_process``: see ``SignalHandler``.

    0, 1 bug or memory, 2 usage, 3 data, 4 storage, 5 diverged, 128 + signal.
    """
    argv = sys.argv[1:] if argv is None else argv
    with SignalHandler(argv, ends_process) as handler, escaping_output():
        try:
            code = _run_with_streams(argv, handler)
            # Inside the try: a signal before this line is caught, one after it raises nothing.
            handler.exits_at_once = True
        except KeyboardInterrupt as error:  # while an error was being printed
            code = _print_error(*explain_stop(argv, error))
        return code


def _run_with_streams(argv: list[str], handler: SignalHandler) -> int:
    from ..core.output import Unfailing

    if sys.stdout is None:  # closed by the caller
        sys.stdout = open(os.devnull, "w")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with contextlib.redirect_stderr(Unfailing(sys.stderr)):
        code = _run(argv, handler)
        try:
            sys.stdout.flush()
        except OSError as error:
            code = _handle_closed_output(error, code)
        return code


def _run(argv: list[str], handler: SignalHandler) -> int:
    import click

    from ..core.errors import FromNoiseError
    from .verbs import fromnoise

    try:
        handler.exits_at_once = False
        if os.environ.get("_FROMNOISE_COMPLETE"):  # click answers a shell that completes a line
            fromnoise.main(args=argv, prog_name="fromnoise", standalone_mode=False)
        # not .main(), which has its own handling of a closed output
        with fromnoise.make_context("fromnoise", list(argv)) as context:
            fromnoise.invoke(context)
        return 0
    except click.exceptions.Exit as error:  # after --help
        return error.exit_code
    except FromNoiseError as error:
        return _print_error(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.ctx.get_help())
        return 2
    except click.ClickException as error:
        return _print_error(error.format_message(), 2)
    except (KeyboardInterrupt, click.Abort) as error:
        return _print_error(*explain_stop(argv, error))
    except OSError as error:
        if error.filename is None:
            return _handle_closed_output(error, 0)
        return _print_error(f"{error.filename}: {error.strerror or error}", 4)
    except Exception as error:
        return _handle_unexpected(error)


def _handle_unexpected(error: Exception) -> int:
    """The exit code of an exception that is not a ``FromNoiseError``. Raises it for FROMNOISE_DEBUG."""
    from ..core.extensions import explain_user_error

    name = type(error).__name__
    text = str(error)
    if isinstance(error, RuntimeError) and "home directory" in text:  # of ~ or ~name
        return _print_error(
            "a path begins with ~, and that user has no home folder: give the full path", 2
        )
    if (
        isinstance(error, MemoryError)
        or name == "OutOfMemoryError"
        or "not enough memory" in text
        or "can't allocate memory" in text
    ):
        return _print_error(OUT_OF_MEMORY, 1)
    if os.environ.get("FROMNOISE_DEBUG"):
        raise error
    if explanation := explain_user_error(error):
        return _print_error(explanation, 2)
    text = " ".join(text.split())[:300]
    return _print_error(
        f"{name}: {text} (a bug of fromnoise: run again with FROMNOISE_DEBUG=1 and report it)", 1
    )


def _handle_closed_output(error: OSError, code: int) -> int:
    """The exit code if stdout cannot be written: a reader that has closed it is no error."""
    with contextlib.suppress(OSError, ValueError):  # so that Python does not try again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError) or code:
        return code
    return _print_error(f"the output cannot be written: {error.strerror or error}", 4)


def _print_error(message: str, code: int) -> int:
    """Prints an error as one line to stderr; returns its exit code."""
    print(f"fromnoise: {' '.join(message.split())}", file=sys.stderr)
    return code


def run() -> None:
    """The program. Outside of ``main`` there is nothing to save, and Ctrl-C ends it at once."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main(ends_process=True))
