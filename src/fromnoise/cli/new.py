"""``new``: writes a working file to begin an addition with."""

import shlex
from pathlib import Path

import click

from ..core.errors import StorageError, UsageError
from ..core.words import shown
from .root import PATH, fromnoise, json_flag, print_result

NEXT = {
    "family": (
        "check it:    fromnoise check {file}",
        "its options: fromnoise train {file} --help",
        "train it:    fromnoise train {file} --data digits --minutes 1",
    ),
    "source": (
        "check it:    fromnoise check {file}",
        "add it:      export FROMNOISE_EXTENSIONS={folder}",
        "it appears:  fromnoise data list",
        "train on it: fromnoise train vae --data waves --minutes 1",
    ),
    "metric": (
        "check it:    fromnoise check {file}",
        "add it:      export FROMNOISE_EXTENSIONS={folder}",
        "measure it:  fromnoise eval RUN; it is a row of the report, and of the page of `compare`",
    ),
    "figure": (
        "check it:    fromnoise check {file}",
        "add it:      export FROMNOISE_EXTENSIONS={folder}",
        "it appears:  fromnoise show --help",
        "draw it:     fromnoise show RUN values; the page of `fromnoise compare` has it, too",
    ),
}


@fromnoise.command()
@click.argument("kind", metavar="|".join(NEXT))
@click.argument("file", type=PATH, metavar="FILE.py")
@json_flag
def new(kind, file, as_json):
    """Write a short, working file to begin with: a family, source, metric or figure of your own.

    See docs/extending.md.
    """
    if kind not in NEXT:
        raise UsageError(f"{shown(kind)} cannot be added: choose from {', '.join(NEXT)}")
    if file.suffix != ".py":
        raise UsageError(f"{shown(file, 200)}: the file is Python: give a name that ends in .py")
    write_skeleton(kind, file)
    words = {"file": shlex.quote(str(file)), "folder": shlex.quote(str(file.resolve().parent))}
    lines = [line.format(**words) for line in NEXT[kind]]
    print_result({"kind": kind, "file": str(file)}, as_json, f"{file}: a {kind}", *lines)


def write_skeleton(kind: str, file: Path) -> None:
    """Raises UsageError if the file exists, StorageError if it cannot be written."""
    from ..checks import skeletons

    text = Path(skeletons.__path__[0], f"{kind}.py").read_text("utf-8")
    try:
        with open(file, "x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise UsageError(f"{shown(file, 200)} exists already: choose another name") from None
    except OSError as error:
        raise StorageError(
            f"{shown(file, 200)} cannot be written ({error.strerror or error}): create its folder, "
            "or choose another place"
        ) from None
