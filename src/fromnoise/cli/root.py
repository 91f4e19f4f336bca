"""The command itself and what all verbs share.

A verb imports what it needs when it runs, so that ``--help`` does not import torch.
"""

import json
import sys
from pathlib import Path

import click

from .. import __version__
from ..core.errors import UsageError
from ..core.output import warn
from ..core.words import escaped
from .options import SuggestingGroup

__all__ = ["warn"]

PATH = click.Path(path_type=Path)
EXTRA_OPTIONS = {"ignore_unknown_options": True, "allow_extra_args": True}

json_flag = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="print one JSON document; everything else goes to stderr",
)
quiet_flag = click.option("--quiet", is_flag=True, help="print only the result")
checkpoint_flag = click.option(
    "--checkpoint",
    default="last",
    metavar="last|best|STEP",
    help="the checkpoint to load [last]",
)
data_flag = click.option(
    "--data",
    metavar="NAME|PATH",
    help="the new location of the run's data, if they moved: checked by digest, and recorded",
)
device_flag = click.option(
    "--device",
    default="auto",
    metavar="auto|cpu|cuda|mps",
    help="the device that computes [auto]",
)
seed_flag = click.option("--seed", default="0", metavar="N", help="[0]")
evaluator_flag = click.option(
    "--evaluator",
    type=PATH,
    metavar="FILE",
    help="a feature network of your own (`fromnoise evaluator fit`), or weights of Inception or "
    "DINOv2 [the one in the package, if there is one for the data]",
)
digest_flag = click.option(
    "--evaluator-digest",
    metavar="SHA256",
    help="the expected sha256 of published weights",
)


def print_line(line: str, as_json: bool = False) -> None:
    """Prints one line, escaped; with ``as_json`` to stderr."""
    print(escaped(line), file=sys.stderr if as_json else sys.stdout)


def print_result(document: dict, as_json: bool, *lines: str) -> None:
    """Prints the result of a verb: one JSON document, or lines of text."""
    if as_json:
        print(json.dumps(document, allow_nan=False).replace("\x7f", "\\u007f"))
        return
    for line in lines:
        print_line(line)


def add_trust_flags(command):
    """Adds ``trust_options`` to a verb that opens runs."""
    params = getattr(command, "__click_params__", [])
    command.__click_params__ = [*reversed(trust_options()), *params]
    return command


def add_run_flags(with_checkpoint: bool = True, with_data: bool = True):
    """A decorator that adds the flags of verbs that open runs: checkpoint, data, device, trust, output."""
    flags = [device_flag, add_trust_flags, json_flag, quiet_flag]
    if with_data:
        flags.insert(0, data_flag)
    if with_checkpoint:
        flags.insert(0, checkpoint_flag)

    def decorate(command):
        for flag in reversed(flags):
            command = flag(command)
        return command

    return decorate


def trust_options() -> list[click.Option]:
    """The options that allow code of a run to be executed; ``read_trust`` reads them."""
    return [
        click.Option(
            ["--trust-code"],
            is_flag=True,
            help="execute the family file that a run names, if it has not changed since training",
            expose_value=False,
            callback=_store_in_context,
        ),
        click.Option(
            ["--trust-file"],
            type=PATH,
            multiple=True,
            metavar="FILE.py",
            help="execute this family file, as it is now, for a run that was trained with it",
            expose_value=False,
            callback=_store_in_context,
        ),
    ]


def _store_in_context(context, param, value) -> None:
    context.meta[f"fromnoise.{param.name}"] = value


def read_trust():
    """The ``families.Trust`` that the user granted with ``trust_options``."""
    from ..families import Trust

    meta = click.get_current_context().meta
    return Trust(meta["fromnoise.trust_code"], meta["fromnoise.trust_file"])


def open_run(
    run: Path,
    checkpoint: str = "last",
    device: str = "auto",
    with_data: bool = True,
    data: str | None = None,
):
    """Loads a run, with warnings on stderr; see ``runs.load.load_run``."""
    from ..runs.directory import Run
    from ..runs.load import load_run

    return load_run(
        Run(run),
        checkpoint,
        device=device,
        warn=warn,
        with_data=with_data,
        data_name=data,
        trust=read_trust(),
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


def parse_whole(text: str, name: str, least: int | None = None) -> int:
    """The whole number in the text of an option. Raises UsageError, also if it is below ``least``."""
    try:
        value = int(text)
    except ValueError:
        raise UsageError(f"{name} takes a whole number, not '{text}'") from None
    if least is not None and not least <= value < 2**63:
        raise UsageError(f"{name} takes a whole number of at least {least}, not {text}")
    return value


def parse_optional_whole(text: str | None, name: str, least: int | None = None) -> int | None:
    """``parse_whole`` of an option that may be missing."""
    return None if text is None else parse_whole(text, name, least)
