"""What is done with trained runs: ``sample``, ``reconstruct``, ``eval``, ``compare``, ``show``."""

import re
import sys
from pathlib import Path

import click

from ..core.errors import UsageError
from ..core.words import unescaped
from .options import loose
from .root import (
    LOOSE,
    PATH,
    checkpoint_flag,
    data_flag,
    device_flag,
    finish,
    fromnoise,
    json_flag,
    opened,
    quiet_flag,
    say,
    trust_flags,
    warn,
    whole,
)
from .text import continue_text

THINGS = {"image": "images", "vector": "tables or points", "tokens": "sequences of symbols"}
ENDING = {"image": "png", "vector": "csv", "tokens": "npy"}

evaluator_flag = click.option(
    "--evaluator",
    type=PATH,
    metavar="FILE",
    help="a feature network of your own, from `fromnoise evaluator fit`, or weights of Inception or DINOv2 [the shipped one, where there is one]",
)
digest_flag = click.option(
    "--evaluator-digest", metavar="SHA256", help="what published weights must hash to"
)


@fromnoise.command(context_settings=LOOSE)
@click.argument("run", type=PATH)
@click.option("-n", metavar="N", help="how many [64; of texts 1]")
@click.option("--label", metavar="CLASS", help="one class, by name or number (conditional models)")
@click.option(
    "--seed", default="0", metavar="N", help="sample i depends on the seed and i only [0]"
)
@click.option(
    "-o",
    "--out",
    type=PATH,
    metavar="TARGET",
    help="a folder, .png (one grid), .npy, .csv or .txt [the run's samples folder; texts are printed]",
)
@click.option(
    "--raw-csv",
    is_flag=True,
    help=".csv: leave text that a spreadsheet would execute (=, +, -, @ first) as it is, without an apostrophe before it",
)
@click.option(
    "--guide-with",
    type=PATH,
    metavar="RUN",
    help="diffusion: --guidance above 1 leads away from what this weaker run of the same data sees",
)
@click.option(
    "--prompt",
    metavar="TEXT",
    help="captions: what to draw; text: what to go on with, - reads it from stdin [nothing]",
)
@click.option("--prompt-file", type=PATH, metavar="FILE", help="text: the same from a file")
@click.option("--length", metavar="N", help="text: symbols to write [500]")
@click.option(
    "--stop",
    multiple=True,
    metavar="TEXT",
    help="text: end right before this; may be given several times",
)
@click.option("--stream", is_flag=True, help="text: print it as it comes")
@checkpoint_flag
@device_flag
@trust_flags
@json_flag
@quiet_flag
@click.pass_context
def sample(
    ctx,
    run,
    n,
    label,
    seed,
    out,
    raw_csv,
    guide_with,
    prompt,
    prompt_file,
    length,
    stop,
    stream,
    checkpoint,
    device,
    as_json,
    quiet,
):
    """Draw new examples from a trained model. Options of its family may follow (`fromnoise train FAMILY --help` says what they mean):

    \b
    autoencoder     --temperature
    autoregressive  --temperature --top-k --top-p --min-p --repetition-penalty
    classical       --temperature --draw
    diffusion       --steps --sampler --spacing --guidance --guidance-from --guidance-to --churn
    gan             --truncation --candidates --temperature
    vae             --temperature --draw
    vaegan          --temperature
    """
    from ..inference import sample as sampling
    from ..inference import write as writing
    from ..inference.guidance import guided_by
    from ..inference.text import is_text_model

    loaded = opened(run, checkpoint, device, with_data=False)
    if is_text_model(loaded):
        if label is not None:
            raise UsageError("a model of text has no classes: leave --label out")
        n, length, seed = (
            whole("1" if n is None else n, "-n", 1),
            whole("500" if length is None else length, "--length"),
            whole(seed, "--seed", 0),
        )
        return continue_text(
            loaded,
            ctx.args,
            n,
            length,
            seed,
            prompt,
            prompt_file,
            stop,
            stream,
            out,
            as_json,
            quiet,
        )
    captions = loaded.dataset.caption_codec is not None
    asked = {
        "--prompt": None if captions else prompt,
        "--prompt-file": prompt_file,
        "--length": length,
        "--stop": stop or None,
        "--stream": stream or None,
    }
    if given := [name for name, value in asked.items() if value is not None]:
        whom = (
            "models of text, or of captions (data that has them, --conditional)"
            if given[0] == "--prompt"
            else "models of text"
        )
        raise UsageError(
            f"{given[0]} is for {whom}, and this one makes {THINGS[loaded.dataset.spec.kind]}: leave it out"
        )
    options = loose(loaded.family.Options, ctx.args)
    if label is not None and not captions:  # with captions the sampler says what to give instead
        sampling.check_takes_labels(loaded)
        label = loaded.dataset.class_number(label)
    n, seed = whole("64" if n is None else n, "-n", 1), whole(seed, "--seed", 0)
    kind = loaded.dataset.spec.kind
    told = {
        "step": loaded.step,
        "seed": seed,
        "n": n,
        **({} if label is None else {"label": label}),
        **({} if prompt is None else {"prompt": "-".join(re.findall(r"\w+", prompt))}),
        **options,
    }
    weak = None if guide_with is None else opened(guide_with, "last", device, with_data=False)
    told |= {} if weak is None else {"with": guide_with.name}
    stem = "-".join(f"{key}-{value}" for key, value in told.items())
    target = out or loaded.run.path / "samples" / f"{stem}.{ENDING[kind]}"
    with guided_by(loaded, weak, options):
        if lost := writing.explain_lost_label(loaded):
            warn(lost)
        files = writing.sample_to(loaded, n, target, seed, label, options, prompt, raw_csv, warn)
    loaded.run.record_outputs(files)
    finish(
        {"run": str(run), "n": n, "seed": seed, "files": [str(f) for f in files]},
        as_json,
        str(target) if quiet else f"{n} samples: {target}",
    )


@fromnoise.command()
@click.argument("run", type=PATH)
@click.option(
    "--images",
    type=PATH,
    metavar="DIR",
    help="a folder of images of your own, instead of the test split",
)
@click.option("-n", default="16", metavar="N", help="how many of them [16]")
@click.option("-o", "--out", type=PATH, metavar="FILE.png", help="[the run's samples folder]")
@checkpoint_flag
@data_flag
@device_flag
@trust_flags
@json_flag
@quiet_flag
def reconstruct(run, images, n, out, checkpoint, data, device, as_json, quiet):
    """Inputs (top) and their reconstructions (below), with the error. Without an encoder z is searched for."""
    from ..inference.reconstruct import reconstruct as draw

    loaded = opened(run, checkpoint, device, images is None, data)
    target, mse, count, how = draw(loaded, whole(n, "-n", 1), images, out)
    text = f"{count} reconstructions ({how}), mean squared error {mse:.5f} per pixel: {target}"
    finish(
        {"run": str(run), "n": count, "mse": mse, "how": how, "file": str(target)},
        as_json,
        str(target) if quiet else text,
    )


@fromnoise.command("eval")
@click.argument("run", type=PATH)
@click.option(
    "--quick", is_flag=True, help="fewer samples, examples and draws of z; for a first look"
)
@click.option("--samples", metavar="N", help="samples that are drawn and measured [10000]")
@click.option(
    "-k", default="100", metavar="K", help="draws of z for the importance-weighted bound [100]"
)
@click.option("-n", metavar="N", help="test examples for likelihoods [all]")
@click.option(
    "--ais",
    default="0",
    metavar="N",
    help="test examples whose likelihood is also found by annealed importance sampling (slow) [0]",
)
@evaluator_flag
@digest_flag
@click.option(
    "--seed", default="0", metavar="N", help="of the samples and the noise of the evaluation [0]"
)
@click.option(
    "--figures/--no-figures",
    default=True,
    help="also draw figures into the run; --quick draws none [yes]",
)
@checkpoint_flag
@data_flag
@device_flag
@trust_flags
@json_flag
@quiet_flag
def evaluate(
    run,
    quick,
    samples,
    k,
    n,
    ais,
    evaluator,
    evaluator_digest,
    seed,
    figures,
    checkpoint,
    data,
    device,
    as_json,
    quiet,
):
    """Measure a run: its samples, its likelihood, its reconstructions, its code. Writes report.json and figures."""
    from ..evaluate.report import evaluate as measure
    from ..evaluate.table import plain_table, rich_table
    from ..show.figures.catalogue import show as draw

    loaded = opened(run, checkpoint, device, data=data)
    report = measure(
        loaded,
        whole(k, "-k", 2),
        None if n is None else whole(n, "-n", 1),
        quick,
        whole(seed, "--seed", 0),
        None if samples is None else whole(samples, "--samples", 1),
        evaluator,
        evaluator_digest,
        anneal=whole(ais, "--ais", 0),
        say=lambda text: None if quiet or as_json else say(text, True),
        warn=warn,
    )
    if figures and not quick:
        draw(loaded, seed=whole(seed, "--seed", 0), say=warn)
    if as_json:
        return finish(report, True, "")
    if sys.stdout.isatty():
        from rich.console import Console

        Console(file=unescaped(sys.stdout)).print(rich_table([report]))
    else:
        print(plain_table([report]))
    if not quiet:
        say(f"written: {run / ('report-quick.json' if quick else 'report.json')}")


@fromnoise.command()
@click.argument("runs", type=PATH, nargs=-1, required=True)
@click.option(
    "-o",
    "--out",
    type=PATH,
    default=Path("compare.html"),
    metavar="PAGE.html",
    help="[compare.html]",
)
@click.option(
    "--samples",
    metavar="N",
    help="samples that are drawn and measured, unless the run has a report of so many [10000]",
)
@evaluator_flag
@digest_flag
@click.option("--seed", default="0", metavar="N", help="[0]")
@click.option("--zoo/--no-zoo", default=True, help="also show which metric sees which defect [yes]")
@device_flag
@trust_flags
@json_flag
@quiet_flag
def compare(runs, out, samples, evaluator, evaluator_digest, seed, zoo, device, as_json, quiet):
    """One page about several runs of the same data: verdicts, numbers with intervals, samples, neighbours, differences."""
    from ..studies.comparison import compare as make

    restoreds = [opened(run, "last", device) for run in runs]
    page, reports = make(
        restoreds,
        out,
        None if samples is None else whole(samples, "--samples", 1),
        evaluator,
        whole(seed, "--seed", 0),
        zoo,
        lambda text: None if quiet else say(text, True),
        evaluator_digest=evaluator_digest,
    )
    finish(
        {"page": str(page), "reports": reports},
        as_json,
        str(page) if quiet else f"the page: {page}",
    )


@fromnoise.command()
@click.argument("run", type=PATH)
@click.argument("names", nargs=-1)
@click.option(
    "--dims",
    default="0,1",
    metavar="I,J",
    help="the two latent dimensions of scatter and grid [0,1]",
)
@click.option(
    "--sampled", is_flag=True, help="scatter: draw a sampled z instead of the posterior mean"
)
@click.option("--seed", default="0", metavar="N", help="[0]")
@click.option(
    "--beside",
    type=PATH,
    metavar="RUN",
    help="denoise: the plain autoencoder for the middle row; planes: the other model; window: another model of the text",
)
@click.option("-o", "--out", type=PATH, metavar="DIR", help="[the run's figures folder]")
@checkpoint_flag
@data_flag
@device_flag
@trust_flags
@json_flag
@quiet_flag
def show(run, names, dims, sampled, seed, beside, out, checkpoint, data, device, as_json, quiet):
    """Draw figures as PNG and SVG. Without names, all that the model can have.

    \b
    training     curves progress
    samples      samples captions nearest film truncation
    latents      scatter grid planes traverse interp kl
    symbols      window surprise next bigrams completions order
    noise        forward denoising trajectories steps
    images back  recon worst denoise invert
    adversaries  duel
    """
    from ..show.figures.catalogue import show as draw
    from ..training.launch import command_line

    loaded = opened(run, checkpoint, device, data=data)
    pair = dims.split(",")
    if len(pair) != 2:
        raise UsageError(f"--dims takes two numbers such as 0,1, not '{dims}'")
    plain = None if beside is None else opened(beside, "last", device)
    files = draw(
        loaded,
        list(names) or None,
        seed=whole(seed, "--seed", 0),
        dims=tuple(whole(d, "--dims", 0) for d in pair),
        sampled=sampled,
        plain=plain,
        command=command_line(),
        out=out,
        say=warn,
    )
    finish(
        {"run": str(run), "files": [str(f) for f in files]},
        as_json,
        *(str(f) for f in files if f.suffix == ".png"),
    )
