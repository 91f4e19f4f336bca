"""The verbs. Each one imports what it needs when it runs: ``--help`` must not wait for torch."""

import json
import sys
from pathlib import Path

import click

from .. import __version__
from ..core.errors import FromNoiseError, StorageError, UsageError
from .options import SectionedCommand, SuggestingGroup, flags_of, given, loose

PATH = click.Path(path_type=Path)
LOOSE = {"ignore_unknown_options": True, "allow_extra_args": True}

json_flag = click.option("--json", "as_json", is_flag=True, help="print one JSON document; everything else goes to stderr")
quiet_flag = click.option("--quiet", is_flag=True, help="print only the result")
checkpoint_flag = click.option("--checkpoint", default="last", metavar="last|best|STEP", help="which weights [last]")
device_flag = click.option("--device", default="auto", metavar="auto|cpu|cuda|mps", help="where to compute [auto]")


def say(text: str, as_json: bool = False) -> None:
    print(text, file=sys.stderr if as_json else sys.stdout)


def finish(document: dict, as_json: bool, text: str) -> None:
    """The result of a verb: one JSON document, or words."""
    print(json.dumps(document, allow_nan=False) if as_json else text)


def warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)


def opened(run: Path, checkpoint: str = "last", device: str = "auto", with_data: bool = True):
    from ..core.run import Run
    from ..training.launch import restore

    return restore(Run(run), checkpoint, device=device, warn=warn, with_data=with_data)


@click.group(cls=SuggestingGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="fromnoise")
def fromnoise():
    """Train, sample, measure, compare and show generative models of every family.

    \b
    fromnoise tour                                   every family on real digits, measured, one page
    fromnoise train vae --data mnist --latent-dim 2 --minutes 2
    fromnoise sample runs/mnist-vae-0001 -n 64 -o digits.png
    """


class Families(SuggestingGroup):
    """``train`` has one sub-command for each family, made from its configuration."""

    def list_commands(self, ctx):
        from ..families import names

        return names()

    def get_command(self, ctx, name):
        from ..families import names

        if name not in names() and not name.endswith(".py") and "/" not in name:
            return None
        return train_command(name)

    def format_commands(self, ctx, formatter):
        from ..families import names, summary

        with formatter.section("Families (each has its own --help)"):
            formatter.write_dl([(name, summary(name)) for name in names()] + [("FILE.py", "a family file of your own")])


@fromnoise.group("train", cls=Families)
def train_group():
    """Train a model: fromnoise train FAMILY --data DATA --minutes M [options]."""


def train_command(name: str) -> click.Command:
    from .. import families
    from ..data.dataset import DataConfig
    from ..training.settings import TrainConfig

    family = families.load(name)
    params = [
        click.Option(["--data", "data_name"], default="digits", metavar="NAME|PATH", help="a known data set (`fromnoise data list`), a folder of images, .npy, .npz, .csv, .parquet [digits]"),
        click.Option(["--preset"], metavar="|".join(family.PRESETS), help="a set of options to start from; chosen by the data when left out"),
        click.Option(["--out"], type=PATH, metavar="DIR", help="the run's folder [runs/DATA-FAMILY-NNNN]"),
        click.Option(["--dry-run"], is_flag=True, help="print the resolved options, parameters, seconds and memory, then stop"),
        click.Option(["--json", "as_json"], is_flag=True, help="print one JSON document; everything else goes to stderr"),
        click.Option(["--quiet"], is_flag=True, help="print only the result"),
    ]  # fmt: skip
    sections = [("What", {"data_name", "preset", "out", "dry_run", "as_json", "quiet"})]
    for heading, model in (("The model", family.Config), ("Training", TrainConfig), ("Data", DataConfig)):
        params += flags_of(model)
        sections.append((heading, set(model.model_fields)))

    def callback(**values):
        train(family.name if family.path.parent == families.HERE else str(family.path), family.Config, **values)

    command = SectionedCommand(name, params=params, callback=callback, help=families_help(family))
    command.sections = sections
    return command


def families_help(family) -> str:
    import inspect

    text = inspect.getdoc(sys.modules[family.FAMILY.__module__]) or "" if family.FAMILY.__module__ in sys.modules else ""
    presets = "\n".join(f"  {name}: " + (", ".join(f"{k}={v}" for k, v in values.items()) or "the defaults below") for name, values in family.PRESETS.items())
    return f"{text.split(chr(10))[0]}\n\n\b\nPresets:\n{presets}"


def train(family, config_model, data_name, preset, out, dry_run, as_json, quiet, **values):
    from ..data.dataset import DataConfig
    from ..training import launch
    from ..training.settings import TrainConfig
    from .live import Live, plan_line

    options = {}
    for model in (config_model, TrainConfig, DataConfig):
        options |= given(model, values)
    plan = launch.plan(family, data_name, preset, **options)
    stream = sys.stderr if as_json else sys.stdout
    if not quiet:
        for note in plan.dataset.notes:
            print(f"data: {note}", file=stream)
    if dry_run:
        numbers = launch.estimate(plan.trainer(), plan.train)
        document = {"preset": plan.preset, "config": plan.config.model_dump(), "train": plan.train.model_dump(), "data": plan.dataset.settings, **numbers}
        settings = " ".join(f"{k}={v}" for k, v in (plan.config.model_dump() | plan.train.model_dump()).items() if v is not None)
        finish(document, as_json, f"{plan_line(numbers | {'preset': plan.preset})}\n{settings}")
        return
    with Live(quiet, stream) as live:
        run = launch.start(plan, out, launch.command_line(), live.on_plan, live.on_event)
    last = run.events("interval")[-1]
    finish(
        {"run": str(run.path), "step": last["step"], "validation": last["validation"], "seconds": last["seconds"], "health": last["health"]},
        as_json,
        str(run.path) if quiet else f"done: {run.path}\nnext: fromnoise eval {run.path}   fromnoise show {run.path}   fromnoise sample {run.path} -n 64 -o samples.png",
    )


@fromnoise.command(context_settings=LOOSE)
@click.argument("run", type=PATH)
@click.option("--minutes", help="train on for so many minutes")
@click.option("--epochs", help="train on for so many passes over the data")
@click.option("--steps", help="train on for so many steps")
@click.option("--workers", help="threads that prepare batches ahead")
@click.option("--data", help="where the data are now, if they moved")
@json_flag
@quiet_flag
@click.pass_context
def resume(ctx, run, minutes, epochs, steps, workers, data, as_json, quiet):
    """Go on with a stopped run, to the same bits; or train a finished one further."""
    from .. import families
    from ..core.run import Run
    from ..data.dataset import DataConfig
    from ..training import launch
    from ..training.settings import TrainConfig
    from .live import Live

    opened = Run(run)
    changes = given(TrainConfig, {"minutes": minutes, "epochs": epochs, "steps": steps, "workers": workers})
    changes |= {"data": data} if data else {}
    if ctx.args:  # any other option of the training: accepted if it says what the run has anyway
        family = families.load(opened.info["family_file"] or opened.info["family"])
        rest = list(ctx.args)
        for model in (family.Config, TrainConfig, DataConfig):
            mine = [i for i in range(0, len(rest) - 1, 2) if rest[i].removeprefix("--").replace("-", "_") in model.model_fields]
            for i in reversed(mine):
                changes |= loose(model, rest[i : i + 2])
                del rest[i : i + 2]
        if rest:
            loose(TrainConfig, rest)
    with Live(quiet, sys.stderr if as_json else sys.stdout) as live:
        done = launch.resume(opened, changes, live.on_plan, live.on_event, warn)
    last = done.events("interval")[-1]
    finish({"run": str(run), "step": last["step"], "validation": last["validation"]}, as_json, str(run) if quiet else f"done: {run}")


@fromnoise.command(context_settings=LOOSE)
@click.argument("run", type=PATH)
@click.option("-n", default="64", metavar="N", help="how many [64]")
@click.option("--label", metavar="CLASS", help="one class, by number or name (conditional models)")
@click.option("--seed", default="0", metavar="N", help="sample i depends on the seed and i only [0]")
@click.option("-o", "--out", type=PATH, metavar="TARGET", help="a folder of PNGs, .png (one grid), .npy or .csv [the run's samples folder]")
@checkpoint_flag
@device_flag
@json_flag
@quiet_flag
@click.pass_context
def sample(ctx, run, n, label, seed, out, checkpoint, device, as_json, quiet):
    """Draw new examples from a trained model. Options of the family (--temperature ...) may follow."""
    from .. import sample as sampling

    restored = opened(run, checkpoint, device, with_data=False)
    options = loose(restored.family.Options, ctx.args)
    names = list(restored.dataset.class_names)
    if label is not None:
        label = names.index(label) if label in names else whole(label, "--label")
    n, seed = whole(n, "-n", 1), whole(seed, "--seed", 0)
    image = restored.dataset.spec.kind == "image"
    target = out or restored.run.path / "samples" / f"step-{restored.step}-seed-{seed}-n-{n}.{'png' if image else 'csv'}"
    x = sampling.sample(restored, n, seed, label, options)
    files = sampling.write(restored.dataset, x, target)
    text = f"{n} samples: {target}"
    finish({"run": str(run), "n": n, "seed": seed, "files": [str(f) for f in files]}, as_json, str(target) if quiet else text)


def whole(text: str, name: str, least: int | None = None) -> int:
    try:
        value = int(text)
    except ValueError:
        raise UsageError(f"{name} takes a whole number, not '{text}'") from None
    if least is not None and not least <= value < 2**63:
        raise UsageError(f"{name} takes a number from {least} on, not {text}")
    return value


@fromnoise.command()
@click.argument("run", type=PATH)
@click.option("--images", type=PATH, metavar="DIR", help="a folder of images of your own, instead of the test split")
@click.option("-n", default="16", metavar="N", help="how many of them [16]")
@click.option("-o", "--out", type=PATH, metavar="FILE.png", help="[the run's samples folder]")
@checkpoint_flag
@device_flag
@json_flag
@quiet_flag
def reconstruct(run, images, n, out, checkpoint, device, as_json, quiet):
    """Inputs (top) and their reconstructions (below), with the error."""
    from ..reconstruct import reconstruct as draw

    restored = opened(run, checkpoint, device, with_data=images is None)
    target, mse, count = draw(restored, whole(n, "-n", 1), images, out)
    text = f"{count} reconstructions, mean squared error {mse:.5f} per pixel: {target}"
    finish({"run": str(run), "n": count, "mse": mse, "file": str(target)}, as_json, str(target) if quiet else text)


@fromnoise.command("eval")
@click.argument("run", type=PATH)
@click.option("--quick", is_flag=True, help="fewer examples and samples of z; for a first look")
@click.option("-k", default="100", metavar="K", help="samples of z of the importance-weighted bound [100]")
@click.option("-n", metavar="N", help="test examples [all]")
@checkpoint_flag
@device_flag
@json_flag
@quiet_flag
def evaluate(run, quick, k, n, checkpoint, device, as_json, quiet):
    """Measure a run on its test split; writes report.json."""
    from ..evaluate.report import evaluate as measure
    from ..evaluate.table import plain_table, rich_table

    restored = opened(run, checkpoint, device)
    report = measure(restored, whole(k, "-k", 2), None if n is None else whole(n, "-n", 1), quick)
    if as_json:
        return finish(report, True, "")
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(rich_table([report]))
    else:
        print(plain_table([report]))
    if not quiet:
        print(f"written: {run / 'report.json'}")


@fromnoise.command()
@click.argument("run", type=PATH)
@click.argument("names", nargs=-1)
@click.option("--dims", default="0,1", metavar="I,J", help="the two latent dimensions of scatter and grid [0,1]")
@click.option("--sampled", is_flag=True, help="scatter: draw a sampled z instead of the posterior mean")
@click.option("--seed", default="0", metavar="N", help="[0]")
@click.option("--beside", type=PATH, metavar="RUN", help="denoise: the plain autoencoder for the middle row; planes: the other model")
@click.option("-o", "--out", type=PATH, metavar="DIR", help="[the run's figures folder]")
@checkpoint_flag
@device_flag
@json_flag
@quiet_flag
def show(run, names, dims, sampled, seed, beside, out, checkpoint, device, as_json, quiet):
    """Draw figures as PNG and SVG: curves samples recon worst denoise scatter grid traverse interp kl planes."""
    from ..show.figures import show as draw
    from ..training.launch import command_line

    restored = opened(run, checkpoint, device)
    pair = dims.split(",")
    if len(pair) != 2:
        raise UsageError(f"--dims takes two numbers such as 0,1, not '{dims}'")
    plain = None if beside is None else opened(beside, "last", device)
    files = draw(
        restored, list(names) or None, seed=whole(seed, "--seed", 0), dims=tuple(whole(d, "--dims", 0) for d in pair),
        sampled=sampled, plain=plain, command=command_line(), out=out,
    )  # fmt: skip
    finish({"run": str(run), "files": [str(f) for f in files]}, as_json, "\n".join(str(f) for f in files if f.suffix == ".png"))


@fromnoise.command()
@click.option("--root", type=PATH, default=Path("runs"), metavar="DIR", help="where the runs are [runs]")
@json_flag
def runs(root, as_json):
    """List the runs in a folder."""
    from ..core.run import list_runs

    rows = []
    for run in list_runs(root):
        events = run.events("interval")
        last = events[-1] if events else None
        best = min(e["validation"]["value"] for e in events) if events else None
        rows.append({
            "run": str(run.path), "family": run.info["family"], "preset": run.info["preset"], "data": run.info["data"]["name"],
            "step": last["step"] if last else 0, "steps": run.info["steps"], "held_out": last and last["validation"]["value"],
            "best": best, "health": last["health"] if last else [],
        })  # fmt: skip
    if as_json:
        return finish({"runs": rows}, True, "")
    if not rows:
        return print(f"no runs in {root}: `fromnoise train vae` makes one")
    width = max(len(row["run"]) for row in rows)
    print(f"{'run':<{width}}  {'data':<12} {'step':>15}  held-out")
    for row in rows:
        value = "-" if row["held_out"] is None else f"{row['held_out']:.4g}"
        print(f"{row['run']:<{width}}  {row['data'][-12:]:<12} {row['step']:>7}/{row['steps']:<7}  {value}  {'! ' + row['health'][0].split(':')[0] if row['health'] else ''}")


@fromnoise.command()
@click.argument("run", type=PATH)
@click.option("--data/--no-data", "with_data", default=True, help="also compare the data with their recorded digest")
@json_flag
def verify(run, with_data, as_json):
    """Check every checkpoint of a run against its digests, and the data against theirs."""
    from ..core.run import Run
    from ..training import checkpoint
    from ..training.launch import dataset_of

    opened = Run(run)
    valid, damaged = checkpoint.examine(opened)
    problems = list(damaged)
    if not valid and not damaged:
        problems.append(f"{run} has no checkpoint")
    code = StorageError.exit_code
    if with_data:
        try:
            dataset_of(opened)
        except FromNoiseError as error:
            problems.append(str(error))
            code = code if damaged else error.exit_code
    document = {"run": str(run), "ok": not problems, "checkpoints": [c.step for c in valid], "problems": problems}
    finish(document, as_json, "\n".join([f"ok: step {c.step}" for c in valid] + [f"damaged: {p}" for p in problems]))
    if problems:
        error = StorageError(f"{run} does not verify: {problems[0]}")
        error.exit_code = code
        raise error


@fromnoise.group("data", cls=SuggestingGroup)
def data_group():
    """List, describe and fetch data sets."""


@data_group.command("list")
@json_flag
def data_list(as_json):
    """The data sets that have a name."""
    from ..data import catalogue

    known = catalogue()
    lines = [f"{name:<15} {text}" for name, text in known.items()]
    lines.append(f"{'PATH':<15} a folder of images (sub-folders are classes) or of IDX files, .npy, .npz, .csv, .tsv, .parquet")
    finish(known, as_json, "\n".join(lines))


@data_group.command("info", context_settings=LOOSE)
@click.argument("name")
@json_flag
@click.pass_context
def data_info(ctx, name, as_json):
    """Sizes, form, classes and digest. Data options (--resolution 64 ...) may follow."""
    from .. import data
    from ..core.config import build

    dataset = data.load(name, build(data.DataConfig, loose(data.DataConfig, ctx.args)))
    document = {
        "name": name, "spec": dataset.spec.to_json(), "splits": {k: len(v) for k, v in dataset.splits.items()},
        "classes": list(dataset.class_names), "factors": list(dataset.factor_names), "binarise": dataset.binarise,
        "digest": dataset.digest, "notes": list(dataset.notes),
    }  # fmt: skip
    lines = [
        f"{name}: {dataset.spec.kind} {'x'.join(map(str, dataset.spec.shape))}, {dataset.spec.levels or 'continuous'}{' levels' if dataset.spec.levels else ''}",
        "splits: " + ", ".join(f"{k} {v:,}" for k, v in document["splits"].items()),
        *([f"classes: {', '.join(dataset.class_names[:20])}"] if dataset.class_names else []),
        *([f"factors: {', '.join(dataset.factor_names)}"] if dataset.factor_names else []),
        f"digest: {dataset.digest[:16]}",
        *dataset.notes,
    ]  # fmt: skip
    finish(document, as_json, "\n".join(lines))


@data_group.command("get")
@click.argument("name")
@json_flag
def data_get(name, as_json):
    """Fetch a data set into the cache, checked by checksum."""
    from .. import data

    dataset = data.load(name)
    finish({"name": name, "digest": dataset.digest}, as_json, f"{name}: there, digest {dataset.digest[:16]}")


@fromnoise.command()
@click.argument("file", metavar="FILE.py|FAMILY")
@json_flag
def check(file, as_json):
    """Run the conformance suite on a family: shapes, ranges, gradients, seeds, exact resume, learning."""
    from ..conformance import check_family

    results = check_family(file, on_result=lambda r: say(f"{'ok  ' if r['ok'] else 'FAIL'} {r['check']}" + (f": {r['detail']}" if r["detail"] else ""), as_json))
    failed = [r for r in results if not r["ok"]]
    finish({"family": file, "ok": not failed, "results": results}, as_json, f"{len(results) - len(failed)} of {len(results)} checks passed")
    if failed:
        raise UsageError(f"{file} does not conform: {failed[0]['check']}: {failed[0]['detail']}")


@fromnoise.command()
@json_flag
def doctor(as_json):
    """What this machine and installation are, and whether they work."""
    from ..doctor import examine

    findings, ok = examine()
    finish({"ok": ok, **findings}, as_json, "\n".join(f"{name:<12} {value}" for name, value in findings.items()))
    if not ok:
        raise UsageError("this installation has a problem: see the lines above")


@fromnoise.command()
@click.option("--out", type=PATH, default=Path("runs/tour"), metavar="DIR", help="[runs/tour]")
@click.option("--data", "data_name", default="digits", metavar="NAME|PATH", help="images [digits]")
@click.option("--seconds", default="12", metavar="S", help="training seconds for each model [12]")
@click.option("--seed", default="0", metavar="N", help="[0]")
@json_flag
@quiet_flag
def tour(out, data_name, seconds, seed, as_json, quiet):
    """Train a small model of every family on real digits, measure and draw them, write one page."""
    from ..tour import tour as go

    page, reports = go(out, data_name, whole(seconds, "--seconds", 1), whole(seed, "--seed", 0), say=lambda text: None if quiet else say(text, as_json))
    finish({"page": str(page), "reports": reports}, as_json, f"the page: {page}")
