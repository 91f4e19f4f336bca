"""The command line. ``main`` is the only place where an error becomes a line and an exit code."""

try:
    import contextlib
    import os
    import signal
    import sys
    import threading

    from ..core.signals import FIRST, SIGNALS
    from ..core.words import escaping_output
except KeyboardInterrupt:  # Ctrl-C before ``run`` can set a handler
    raise SystemExit(130) from None

KEPT = {  # what is still there when a signal ends a verb
    "sample": "the run is as it was, and so is each file of samples that was finished",
    "reconstruct": "the run is as it was",
    "eval": "the run and a report that was there are as they were, and so is each figure that was finished",
    "show": "the run is as it was, and so is each figure that was finished",
    "compare": "the runs are as they were, and so is each report that was finished",
    "tour": "each run and report that was finished is kept; a run in training kept its last checkpoint",
}


class Stopped(KeyboardInterrupt):
    """SIGINT, SIGTERM or SIGHUP, where no training is going on that saves its state first."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit code (0, 2 usage, 3 data, 4 storage, 5 diverged, 128 + signal)."""
    argv = sys.argv[1:] if argv is None else argv
    with Stoppable(argv) as stoppable, escaping_output():
        try:
            code = _main(argv, stoppable)
            stoppable.at_once = True  # within the try: a signal before this line is caught, one after it raises nothing
        except KeyboardInterrupt as error:  # one that came while an error was being printed
            code = _say(*stopped(argv, error))
        return code


def _main(argv: list[str], stoppable: "Stoppable") -> int:
    from ..core.output import Unfailing

    if sys.stdout is None:  # closed by the caller
        sys.stdout = open(os.devnull, "w")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with contextlib.redirect_stderr(Unfailing(sys.stderr)):
        code = _run(argv, stoppable)
        try:
            sys.stdout.flush()
        except OSError as error:
            code = _no_output(error, code)
        return code


def _run(argv: list[str], stoppable: "Stoppable") -> int:
    import click

    from ..core.errors import FromNoiseError
    from .verbs import fromnoise

    try:
        stoppable.at_once = False
        if os.environ.get("_FROMNOISE_COMPLETE"):  # click answers a shell that completes a line
            fromnoise.main(args=argv, prog_name="fromnoise", standalone_mode=False)
        with fromnoise.make_context(
            "fromnoise", list(argv)
        ) as context:  # not .main(), which judges a failing output itself
            fromnoise.invoke(context)
        return 0
    except click.exceptions.Exit as ending:  # after --help
        return ending.exit_code
    except FromNoiseError as error:
        return _say(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.ctx.get_help())
        return 2
    except click.ClickException as error:
        return _say(error.format_message(), 2)
    except (KeyboardInterrupt, click.Abort) as error:
        return _say(*stopped(argv, error))
    except MemoryError:
        return _say("out of memory: choose a smaller --batch-size, --resolution or network", 1)
    except OSError as error:
        return (
            _no_output(error, 0)
            if error.filename is None
            else _say(f"{error.filename}: {error.strerror or error}", 4)
        )
    except Exception as error:
        if isinstance(error, RuntimeError) and "home directory" in str(error):  # of ~ or ~name
            return _say(
                "a path begins with ~, and that user has no home folder: give the whole path", 2
            )
        if (
            type(error).__name__ == "OutOfMemoryError"
            or "not enough memory" in str(error)
            or "can't allocate memory" in str(error)
        ):
            return _say("out of memory: choose a smaller --batch-size, --resolution or network", 1)
        if os.environ.get("FROMNOISE_DEBUG"):
            raise
        text = " ".join(str(error).split())[:300]
        return _say(
            f"{type(error).__name__}: {text} (a bug of fromnoise: run again with FROMNOISE_DEBUG=1 and report it)",
            1,
        )


def _no_output(error: OSError, code: int) -> int:
    """The exit code where stdout does not take what is printed: a reader that has left is no error."""
    with contextlib.suppress(OSError, ValueError):  # so that Python does not try again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return code
    return _say(f"the output cannot be written: {error.strerror or error}", 4) if not code else code


def stopped(argv: list[str], error: BaseException) -> tuple[str, int]:
    """What is said of a command that a signal ended, and its exit code."""
    number = error.number if isinstance(error, Stopped) else signal.SIGINT
    kept = KEPT.get(argv[0] if argv else "", "each file that was finished is kept")
    return f"stopped by {signal.Signals(number).name}: {kept}", 128 + number


class Stoppable:
    """Signals end a verb in the way of Ctrl-C, unless they are ignored (``nohup``). See ``core.signals`` for several.

    at_once: the process ends without an exception, as it does before and after the work of a verb, and while modules
    are imported: Python prints an exception that is raised in a callback of the import system and goes on.
    """

    def __init__(self, argv: list[str]):
        self.argv, self.at_once, self.before = argv, True, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            FIRST.forget()
            for number in SIGNALS:
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self.before[number] = signal.signal(number, self.stop)
        return self

    def stop(self, number, frame):
        if not FIRST.is_first(number):
            return
        if self.at_once or imports(frame):
            message, code = stopped(self.argv, Stopped(number))
            with contextlib.suppress(OSError):
                os.write(2, f"fromnoise: {message}\n".encode())
            os._exit(code)
        raise Stopped(number)

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)


def imports(frame) -> bool:
    """Whether a module is being imported in a frame or in one that called it."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _say(message: str, code: int) -> int:
    print(f"fromnoise: {' '.join(message.split())}", file=sys.stderr)
    return code


def run() -> None:
    """The program. Outside of ``main`` nothing is there to be saved, and Ctrl-C ends it as the other signals do."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main())
