"""From a run to report.json: what was measured, on what, how, and how sure it is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..core.capabilities import ChoosesSamples, Predicts, has
from ..core.errors import StorageError, UsageError
from ..core.files import storage_error, write_atomic
from ..core.json_files import sealed
from ..core.limits import check_memory
from ..core.rng import Rng
from ..data.dataset import Dataset
from ..families import short_name
from ..inference import sample as sampling
from ..measures.evaluator import evaluator_for
from ..runs.directory import Run
from ..runs.load import LoadedRun
from ..runs.records.report import read_report
from . import attributes, codes, likelihood_rows, reconstruction, text
from .cost import cost
from .quality import QualityReference, Samples, quality, reference
from .text_reference import TextReference, text_id

FORMAT = 6  # of reports; another one when a number means something else than before
K = 100  # z samples of the importance-weighted bound
SAMPLES = 10_000
FEATURES = 2048  # numbers that the largest feature map sees in an example
MOST_K = 10**6  # draws of z for each example
QUICK_N, QUICK_K, QUICK_SAMPLES = 500, 20, 1000
QUICK_COST = dict(seconds=0.3, limit=3.0)  # of drawing, to find the speed


def evaluate(
    loaded: LoadedRun,
    k: int = K,
    n: int | None = None,
    quick: bool = False,
    seed: int = 0,
    samples: int | None = None,
    evaluator: Path | None = None,
    evaluator_digest: str | None = None,
    quality_reference: QualityReference | TextReference | None = None,
    anneal: int = 0,
    say: Callable[[str], None] = lambda text: None,
    warn: Callable[[str], None] = lambda text: None,
) -> dict:
    """All metrics that this model can have, asked for by capability. Writes report.json (quick:
    report-quick.json) into the run.

    k          draws of z for the importance-weighted bound
    n          examples of the test split for likelihoods (None: all)
    samples    how many are drawn and measured (None: 10,000, quick 1,000; of texts 20, quick 4)
    evaluator  a file from ``fromnoise evaluator fit``, or published weights with their expected
               sha256 as ``evaluator_digest`` (None: the shipped one, where there is one for this
               data)
    yardstick  the same made before, so that the features of real examples are computed once for
               many models
    anneal     test examples whose likelihood is also found by annealed importance sampling, which
               is slow
    Raises UsageError, DataError, StorageError.
    """
    if k > MOST_K:
        raise UsageError(
            f"-k takes at most {MOST_K:,} draws, not {k}: the bound hardly moves beyond"
        )
    if quick:
        k, n = min(k, QUICK_K), min(n or QUICK_N, QUICK_N)
    dataset = loaded.dataset
    samples = samples or usual_samples(dataset, quick)
    quality_reference = quality_reference or reference_for(
        dataset, evaluator, evaluator_digest, quick
    )
    if dataset.spec.kind == "tokens":
        say(f"prediction of held-out text, and {samples} texts")
        rows, texts = text.measure_text(loaded, quality_reference, n, samples, seed)
    else:
        if quality_reference.evaluator is None and dataset.spec.kind == "image":
            say(
                f"no evaluator of this data is known: `fromnoise evaluator fit {dataset.name}` "
                "makes one, which sees more than pixels"
            )
        say(f"{samples:,} samples")
        rows, texts = quality(quality_reference, drawn(loaded, samples, seed), seed), {}
        rows += attributes.rows(loaded, quick, seed)
        say("likelihood and reconstruction")
        rows += likelihood_rows.rows(loaded, k, n, seed, anneal)
        rows += reconstruction.rows(loaded, seed)
        rows += codes.rows(loaded, seed)
    for found in rows:
        found["reference"] = found["reference"] or reference(
            dataset, found["split"], found["n"] or 0
        )
        found["seed"] = seed
    asked = settings(samples, k, n, seed, quality_reference, anneal)
    report = describe(loaded, quality_reference) | {
        "metrics": rows,
        "cost": cost(loaded, **(QUICK_COST if quick else {})),
        "settings": asked,
    }
    report["seeds"] = {"training": loaded.run.record.seed, "evaluation": seed}
    if texts:
        report["texts"] = texts
    # a quick look never replaces a measurement
    target = loaded.run.path / ("report-quick.json" if quick else "report.json")
    keep_other(target, report, warn)
    write_atomic(target, sealed(report))
    return report


def usual_samples(dataset: Dataset, quick: bool = False) -> int:
    """How many samples are measured where nobody says."""
    if dataset.spec.kind == "tokens":
        return text.QUICK_TEXTS if quick else text.TEXTS
    return QUICK_SAMPLES if quick else SAMPLES


def reference_for(
    dataset: Dataset, evaluator: Path | None = None, digest: str | None = None, quick: bool = False
) -> QualityReference | TextReference:
    """What models of this data are measured with. Raises UsageError, DataError (an evaluator of
    other data).
    """
    if dataset.spec.kind != "tokens":
        return QualityReference(dataset, evaluator_for(dataset, evaluator, digest), quick)
    if evaluator is not None:
        raise UsageError(
            "text is measured in bits for each character, without a feature network: leave "
            "--evaluator out"
        )
    return TextReference(dataset, quick)


def data_id(dataset: Dataset) -> tuple[str, str]:
    """Equal for data whose numbers may stand beside each other: the same examples; the same text,
    whatever its tokens.
    """
    return (
        text_id(dataset) if dataset.spec.kind == "tokens" else dataset.digest,
        dataset.binarise,
    )


def describe(loaded: LoadedRun, quality_reference: QualityReference | TextReference) -> dict:
    """What was measured, and with what."""
    run, found = loaded.run, quality_reference.evaluator
    events = run.events("interval")
    untrained = (
        ["untrained: these are the weights of step 0, before any training: train anew"]
        if run.record.steps and not loaded.step
        else []
    )
    unlearned = unlearned_in_words(loaded.dataset) if loaded.model.conditional else []
    return {
        "run": run.name,
        "family": run.record.family,
        "preset": run.record.preset,
        "title": title(loaded),
        "step": loaded.step,
        "weights": "ema",
        "data": {
            "name": run.record.data.name,
            "digest": loaded.dataset.digest,
            "binarise": loaded.dataset.binarise,
            **tokens(loaded.dataset),
        },
        "evaluator": found and {"name": found.name, **getattr(found, "about", {})},
        "health": untrained + unlearned + (events[-1]["health"] if events else []),
        "training": training(run),
    }


def unlearned_in_words(dataset: Dataset) -> list[str]:
    """One line where test examples are of classes that have no training example, else none."""
    labels = dataset.split("test").labels
    if labels is None or not dataset.spec.classes:
        return []
    strange = ~np.isin(labels, dataset.learned_classes)
    if not strange.any():
        return []
    names = ", ".join(dataset.describe_class(int(y)) for y in np.unique(labels[strange])[:20])
    return [
        f"{strange.sum():,} of {len(labels):,} test examples are of classes without a training example ({names}): the model "
        "was never told these labels, so what it says of those examples means little; no sample is drawn of these classes"
    ]


def tokens(dataset: Dataset) -> dict:
    """What a text is cut into."""
    found = dataset.tokenizer
    return {} if found is None else {"tokens": {"kind": found.kind, "vocabulary": found.vocabulary}}


def training(run: Run) -> dict | None:
    """The held-out value (lower is better) of the last and of the best checkpoint, and how often
    weights were rolled back.
    """
    values = [
        {"step": event["step"], "value": event["validation"]["value"]}
        for event in run.events("interval")
    ]
    if not values:
        return None
    return {
        "last": values[-1],
        "best": min(values, key=lambda found: found["value"]),
        "rollbacks": len(run.events("rollback")),
    }


def keep_other(target: Path, report: dict, warn: Callable[[str], None]) -> None:
    """A report that was measured in another way is put aside and not lost."""
    if not target.is_file():
        return
    try:
        before = read_report(target)
        if all(before[key] == report[key] for key in ("settings", "step", "data")):
            return
    except StorageError:
        pass
    for i in range(1, 10_000):
        if not (aside := target.with_name(f"{target.stem}-{i:04d}.json")).exists():
            try:
                target.rename(aside)
            except OSError as error:
                raise storage_error(error, target) from error
            warn(f"the report that was there, measured in another way, is kept in {aside}")
            return


def settings(
    samples: int,
    k: int,
    n: int | None,
    seed: int,
    quality_reference: QualityReference | TextReference,
    anneal: int = 0,
) -> dict:
    """What a report was asked for: two reports of one run with the same settings hold the same
    numbers.
    """
    name = quality_reference.evaluator and quality_reference.evaluator.name
    return {
        "format": FORMAT,
        "samples": samples,
        "k": k,
        "n": n,
        "seed": seed,
        "evaluator": name,
        "ais": anneal,
    }


def drawn(loaded: LoadedRun, n: int, seed: int) -> Samples:
    """The samples 0 .. n-1 of a run, as they are measured: with default options.

    Classes of a conditional model come as often as in the training set; captions are those of the
    test examples. Where the data are black and white, so are the samples of every family, each
    pixel by chance of its grey: a mean is not an example.
    """
    spec, rng, y = loaded.dataset.spec, Rng(seed, ("drawn",)), None
    check_memory(
        n * 8 * (spec.dims + FEATURES),
        f"--samples {n}: so many samples and their features",
        "ask for fewer",
    )
    conditional = loaded.model.conditional
    if conditional and spec.caption:
        test = torch.from_numpy(loaded.dataset.split("test").y)
        y = test[torch.arange(n) % len(test)]
    elif conditional:
        counts = np.bincount(loaded.dataset.split("train").y, minlength=spec.classes)
        y = rng.categories("classes", counts / counts.sum(), n)

    def blocks():
        done = 0
        for x in sampling.sample_blocks(loaded, n, seed, labels=y):
            if spec.levels == 2:
                x = (rng.at(done).uniform("pixels", x.shape) < (x.cpu() + 1) / 2).float() * 2 - 1
            done += len(x)
            yield x

    how = (
        "black or white"
        if spec.levels == 2
        else "as written"
        if loaded.dataset.columns is not None
        else "as sampled"
    )
    return Samples(n, blocks, y, how)


def title(loaded: LoadedRun) -> str:
    """A few words that tell this model from its neighbours: "vae ladder, z of 32"."""
    record, config = loaded.run.record, loaded.run.record.config
    named = record.preset == "default" or record.has_two_stages
    words = [short_name(loaded.run.info) if named else f"{record.family} {record.preset}"]
    if has(loaded.model, Predicts) and config.get("network"):
        words[0] = f"{record.family} {config['network']}" + (
            " beside counts" if config.get("prior") else ""
        )
        words += [f"context {loaded.model.context}"] if loaded.model.context is not None else []
    if config.get("model") and config["model"] != record.preset:
        words[0] = f"{record.family} {config['model']}"
    if config.get("corruption", "none") != "none" and "denois" not in words[0]:
        words[0] = f"denoising {words[0]}"
    if "latent_dim" in config:
        words.append(f"z of {getattr(loaded.model, 'latent_dim', config['latent_dim'])}")
    if config.get("conditional"):
        words.append("conditional")
    if has(loaded.model, ChoosesSamples) and loaded.model.candidates() > 1:
        words.append(f"D chooses one of {loaded.model.candidates()}")
    return ", ".join(words)
