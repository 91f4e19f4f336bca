"""``sample``: new examples from a trained model."""

import re
from types import SimpleNamespace

import click

from ..core.errors import UsageError
from ..core.output import warn
from .options import parse_extra_options
from .root import (
    EXTRA_OPTIONS,
    PATH,
    add_run_flags,
    fromnoise,
    open_run,
    parse_whole,
    print_result,
)
from .text import continue_text

PRODUCTS = {"image": "images", "vector": "tables or points", "tokens": "sequences of symbols"}
ENDINGS = {"image": "png", "vector": "csv", "tokens": "npy"}


@fromnoise.command(context_settings=EXTRA_OPTIONS)
@click.argument("run", type=PATH)
@click.option("-n", metavar="N", help="the number of samples [64; of texts 1]")
@click.option("--label", metavar="CLASS", help="one class, by name or number (conditional models)")
@click.option(
    "--seed", default="0", metavar="N", help="sample i depends only on the seed and i [0]"
)
@click.option(
    "-o",
    "--out",
    type=PATH,
    metavar="TARGET",
    help="a folder, .png (one grid), .npy, .csv or .txt "
    "[the run's samples folder; texts are printed]",
)
@click.option(
    "--raw-csv",
    is_flag=True,
    help=".csv: do not put an apostrophe before text that a spreadsheet would execute "
    "(=, +, -, @ first)",
)
@click.option(
    "--guide-with",
    type=PATH,
    metavar="RUN",
    help="diffusion: a weaker model of the same data; --guidance above 1 moves away from its "
    "predictions",
)
@click.option(
    "--prompt",
    metavar="TEXT",
    help="captions: the caption of the image; text: the text to continue, - reads it from stdin "
    "[nothing]",
)
@click.option("--prompt-file", type=PATH, metavar="FILE", help="text: the prompt from a file")
@click.option("--length", metavar="N", help="text: the number of symbols to generate [500]")
@click.option(
    "--stop",
    multiple=True,
    metavar="TEXT",
    help="text: end just before this text; may be given several times",
)
@click.option("--stream", is_flag=True, help="text: print each symbol when it is generated")
@add_run_flags(with_data=False)
@click.pass_context
def sample(ctx, **values):
    """Draw new examples from a trained model.

    Options of its family may follow; `fromnoise train FAMILY --help` explains them:

    \b
    autoencoder     --temperature
    autoregressive  --temperature --top-k --top-p --min-p --repetition-penalty
    classical       --temperature --draw
    diffusion       --steps --sampler --spacing --guidance --guidance-from --guidance-to --churn
    gan             --truncation --candidates --temperature
    vae             --temperature --draw
    vaegan          --temperature
    """
    from ..inference.text import is_text_model

    flags = SimpleNamespace(**values)
    loaded = open_run(flags.run, flags.checkpoint, flags.device, with_data=False)
    if is_text_model(loaded):
        if flags.label is not None:
            raise UsageError("a model of text has no classes: leave --label out")
        continue_text(loaded, ctx.args, flags)
    else:
        draw_samples(loaded, ctx.args, flags)


def draw_samples(loaded, args: list[str], flags: SimpleNamespace) -> None:
    from ..inference import write as writing
    from ..inference.guidance import guided_by
    from ..inference.sample import check_takes_labels

    has_captions = loaded.dataset.caption_codec is not None
    kind = loaded.dataset.spec.kind
    refuse_text_options(flags, has_captions, kind)
    options = parse_extra_options(loaded.family.Options, args)
    label = flags.label
    if label is not None and not has_captions:  # with captions the sampler explains --prompt
        check_takes_labels(loaded)
        label = loaded.dataset.class_number(label)
    n = parse_whole("64" if flags.n is None else flags.n, "-n", 1)
    seed = parse_whole(flags.seed, "--seed", 0)
    weak = None
    if flags.guide_with is not None:
        weak = open_run(flags.guide_with, "last", flags.device, with_data=False)
    stem = file_stem(loaded.step, seed, n, label, flags, options)
    target = flags.out or loaded.run.path / "samples" / f"{stem}.{ENDINGS[kind]}"
    with guided_by(loaded, weak, options):
        if message := writing.explain_lost_label(loaded):
            warn(message)
        files = writing.sample_to(
            loaded, n, target, seed, label, options, flags.prompt, flags.raw_csv, warn
        )
    loaded.run.record_outputs(files)
    document = {
        "run": str(flags.run),
        "n": n,
        "seed": seed,
        "files": list(map(str, files)),
    }
    line = str(target) if flags.quiet else f"{n} samples: {target}"
    print_result(document, flags.as_json, line)


def refuse_text_options(flags: SimpleNamespace, has_captions: bool, kind: str) -> None:
    """Raises UsageError for an option of text models, which this model is not."""
    values = {
        "--prompt": None if has_captions else flags.prompt,
        "--prompt-file": flags.prompt_file,
        "--length": flags.length,
        "--stop": flags.stop or None,
        "--stream": flags.stream or None,
    }
    name = next((name for name, value in values.items() if value is not None), None)
    if name is None:
        return
    models = "models of text"
    if name == "--prompt":
        models += ", or of captions (data that have them, --conditional)"
    raise UsageError(f"{name} is for {models}, and this one makes {PRODUCTS[kind]}: leave it out")


def file_stem(
    step: int, seed: int, n: int, label: int | None, flags: SimpleNamespace, options: dict
) -> str:
    """The default name of the file of samples, without its ending: all settings of the samples."""
    settings = {"step": step, "seed": seed, "n": n}
    if label is not None:
        settings["label"] = label
    if flags.prompt is not None:
        settings["prompt"] = "-".join(re.findall(r"\w+", flags.prompt))
    settings |= options
    if flags.guide_with is not None:
        settings["with"] = flags.guide_with.name
    return "-".join(f"{key}-{value}" for key, value in settings.items())
