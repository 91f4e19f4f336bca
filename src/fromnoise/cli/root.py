"""The command itself, and what all verbs share. A verb imports what it needs when it runs: ``--help`` must not wait for torch."""

import json
import sys
from pathlib import Path

import click

from .. import __version__
from ..core.errors import UsageError
from ..core.output import warn  # noqa: F401, for the verbs
from ..core.words import escaped
from .options import SuggestingGroup

PATH = click.Path(path_type=Path)
LOOSE = {"ignore_unknown_options": True, "allow_extra_args": True}

json_flag = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="print one JSON document; everything else goes to stderr",
)
quiet_flag = click.option("--quiet", is_flag=True, help="print only the result")
checkpoint_flag = click.option(
    "--checkpoint", default="last", metavar="last|best|STEP", help="which weights [last]"
)
data_flag = click.option(
    "--data",
    metavar="NAME|PATH",
    help="where the run's data are now, if they moved: proven by their digest, and remembered",
)
device_flag = click.option(
    "--device", default="auto", metavar="auto|cpu|cuda|mps", help="where to compute [auto]"
)


def say(line: str, as_json: bool = False) -> None:
    """Prints one line; what would break it is escaped."""
    print(escaped(line), file=sys.stderr if as_json else sys.stdout)


def finish(document: dict, as_json: bool, *lines: str) -> None:
    """The result of a verb: one JSON document, or lines of words."""
    if as_json:
        print(json.dumps(document, allow_nan=False).replace("\x7f", "\\u007f"))
        return
    for line in lines:
        say(line)


def trust_flags(command):
    """Adds ``trust_options`` to a verb that opens runs."""
    command.__click_params__ = [
        *reversed(trust_options()),
        *getattr(command, "__click_params__", []),
    ]
    return command


def trust_options() -> list[click.Option]:
    """The options that allow the code of a run to be executed; ``trusted`` reads them."""

    def keep(ctx, param, value):
        ctx.meta[f"fromnoise.{param.name}"] = value

    same = {"expose_value": False, "callback": keep}
    return [
        click.Option(
            ["--trust-code"],
            is_flag=True,
            help="execute the family file that a run names, if it is as it was when the run was trained",
            **same,
        ),
        click.Option(
            ["--trust-file"],
            type=PATH,
            multiple=True,
            metavar="FILE.py",
            help="execute this family file, as it is now, for a run that was trained with it",
            **same,
        ),
    ]


def trusted():
    """What the user allowed with ``trust_options``."""
    from ..families import Trust

    meta = click.get_current_context().meta
    return Trust(meta["fromnoise.trust_code"], meta["fromnoise.trust_file"])


def opened(
    run: Path,
    checkpoint: str = "last",
    device: str = "auto",
    with_data: bool = True,
    data: str | None = None,
):
    from ..runs.directory import Run
    from ..runs.load import load_run

    return load_run(
        Run(run),
        checkpoint,
        device=device,
        warn=warn,
        with_data=with_data,
        data_name=data,
        trust=trusted(),
    )


@click.group(
    cls=SuggestingGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="fromnoise")
def fromnoise():
    """Train, sample, measure, compare and show generative models of every family.

    \b
    fromnoise tour                                   every family on real digits, measured, one page
    fromnoise train vae --data mnist --latent-dim 2 --minutes 2
    fromnoise sample runs/mnist-vae-0001 -n 64 -o digits.png
    """


def whole(text: str, name: str, least: int | None = None) -> int:
    try:
        value = int(text)
    except ValueError:
        raise UsageError(f"{name} takes a whole number, not '{text}'") from None
    if least is not None and not least <= value < 2**63:
        raise UsageError(f"{name} takes a number from {least} on, not {text}")
    return value
