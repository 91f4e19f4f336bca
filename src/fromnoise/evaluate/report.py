"""From a run to report.json: what was measured, on what, how, and how sure it is."""

from collections.abc import Callable
from pathlib import Path

import torch

from .. import sample as sampling
from ..core.config import build
from ..core.files import canonical_json, write_atomic
from ..training.launch import Restored
from . import codes, likelihood, reconstruction
from .cost import cost
from .evaluator import evaluator_for
from .quality import Samples, Yardstick, quality, reference

K = 100  # z samples of the importance-weighted bound
SAMPLES = 10_000
QUICK_N, QUICK_K, QUICK_SAMPLES = 500, 20, 1000


def evaluate(
    restored: Restored,
    k: int = K,
    n: int | None = None,
    quick: bool = False,
    seed: int = 0,
    samples: int | None = None,
    evaluator: Path | None = None,
    evaluator_digest: str | None = None,
    yardstick: Yardstick | None = None,
    anneal: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> dict:
    """All metrics that this model can have, asked for by capability. Writes report.json (quick: report-quick.json) into the run.

    k          draws of z for the importance-weighted bound
    n          examples of the test split for likelihoods (None: all)
    samples    how many are drawn and measured (None: 10,000; quick: 1,000)
    evaluator  a file from ``fromnoise evaluator fit``, or published weights with their expected sha256 as
               ``evaluator_digest`` (None: the shipped one, where there is one for this data)
    yardstick  the same made before, so that the features of real examples are computed once for many models
    anneal     test examples whose likelihood is also found by annealed importance sampling, which is slow
    Raises UsageError, DataError, StorageError.
    """
    if quick:
        k, n = min(k, QUICK_K), min(n or QUICK_N, QUICK_N)
    samples = samples or (QUICK_SAMPLES if quick else SAMPLES)
    run = restored.run
    yardstick = yardstick or Yardstick(restored.dataset, evaluator_for(restored.dataset, evaluator, evaluator_digest))
    say(f"{samples:,} samples")
    rows = quality(yardstick, drawn(restored, samples, seed), seed)
    say("likelihood and reconstruction")
    rows += likelihood.rows(restored, k, n, seed, anneal)
    rows += reconstruction.rows(restored, seed)
    rows += codes.rows(restored, seed)
    events = run.events("interval")
    for found in rows:
        found["reference"] = found["reference"] or reference(restored.dataset, found["split"], found["n"] or 0)
        found["seed"] = seed
    report = {
        "run": run.name,
        "family": run.info["family"],
        "preset": run.info["preset"],
        "title": title(restored),
        "step": restored.step,
        "weights": "ema",
        "data": {"name": run.info["data"]["name"], "digest": restored.dataset.digest, "binarise": restored.dataset.binarise},
        "evaluator": yardstick.evaluator and {"name": yardstick.evaluator.name, **getattr(yardstick.evaluator, "about", {})},
        "metrics": rows,
        "cost": cost(restored, 0.3 if quick else 1.0),
        "health": events[-1]["health"] if events else [],
        "seeds": {"training": run.info["seed"], "evaluation": seed},
    }
    # a quick look never replaces a measurement
    write_atomic(run.path / ("report-quick.json" if quick else "report.json"), canonical_json(report))
    return report


def drawn(restored: Restored, n: int, seed: int) -> Samples:
    """The samples 0 .. n-1 of a run, as they are measured.

    Where the data are black and white, pixels are drawn and not shown as their mean, since a grey pixel is not one
    of the data's; otherwise samples are what ``fromnoise sample`` gives.
    """
    spec, options = restored.dataset.spec, {}
    if spec.levels == 2 and "draw" in restored.family.Options.model_fields:
        options["draw"] = "sample"
    y = None
    if getattr(restored.model.config, "conditional", False):
        y = torch.arange(n) % spec.classes
    said = ", ".join(f"{key} {value}" for key, value in build(restored.family.Options, options).model_dump(exclude_defaults=True).items())
    return Samples(n, lambda: sampling.blocks(restored, n, seed, None, options), y, said or "defaults")


def title(restored: Restored) -> str:
    """A few words that tell this model from its neighbours: "VAE ladder, 32 latent dimensions"."""
    config, info = restored.run.info["config"], restored.run.info
    words = [info["family"] if info["preset"] == "default" else f"{info['family']} {info['preset']}"]
    if config.get("model") and config["model"] != info["preset"]:
        words[0] = f"{info['family']} {config['model']}"
    if config.get("corruption", "none") != "none" and "denois" not in words[0]:
        words[0] = f"denoising {words[0]}"
    if "latent_dim" in config:
        words.append(f"z of {config['latent_dim']}")
    if config.get("conditional"):
        words.append("conditional")
    return ", ".join(words)
