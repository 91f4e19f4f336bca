"""The head of a report: which run was measured, and with what."""

import numpy as np

from ..core.capabilities import ChoosesSamples, Predicts, has
from ..data.dataset import Dataset
from ..families import short_name
from ..runs.directory import Run
from ..runs.load import LoadedRun
from .quality_reference import QualityReference
from .text_reference import TextReference


def describe_run(loaded: LoadedRun, quality_reference: QualityReference | TextReference) -> dict:
    """The entries of a report about the run, the data and the evaluator."""
    run = loaded.run
    dataset = loaded.dataset
    evaluator = quality_reference.evaluator
    data = {
        "name": run.record.data.name,
        "digest": dataset.digest,
        "binarise": dataset.binarise,
    }
    tokenizer = dataset.tokenizer
    if tokenizer is not None:
        data["tokens"] = {"kind": tokenizer.kind, "vocabulary": tokenizer.vocabulary}
    return {
        "run": run.name,
        "family": run.record.family,
        "preset": run.record.preset,
        "title": describe_model(loaded),
        "step": loaded.step,
        "weights": "ema",
        "data": data,
        "evaluator": evaluator and {"name": evaluator.name, **getattr(evaluator, "about", {})},
        "health": describe_health(loaded),
        "training": training_values(run),
    }


def describe_health(loaded: LoadedRun) -> list[str]:
    """Warnings about the run, and those of the last interval of its training."""
    warnings = []
    if loaded.run.record.steps and not loaded.step:
        warnings.append(
            "untrained: these are the weights of step 0, before any training: train anew"
        )
    if loaded.model.conditional:
        warnings += describe_unlearned(loaded.dataset)
    events = loaded.run.events("interval")
    if events:
        warnings += events[-1]["health"]
    return warnings


def describe_unlearned(dataset: Dataset) -> list[str]:
    """A warning where test examples are of classes without a training example."""
    labels = dataset.split("test").labels
    if labels is None or not dataset.spec.classes:
        return []
    unlearned = ~np.isin(labels, dataset.learned_classes)
    if not unlearned.any():
        return []
    classes = np.unique(labels[unlearned])[:20]
    names = ", ".join(dataset.describe_class(int(y)) for y in classes)
    return [
        f"{unlearned.sum():,} of {len(labels):,} test examples are of classes without a training "
        f"example ({names}): the model was not trained with these labels, so that its numbers for "
        "those examples mean little; no sample is drawn of these classes"
    ]


def training_values(run: Run) -> dict | None:
    """The validation value of the last and of the best checkpoint, and the number of rollbacks.

    Lower values are better.
    """
    values = [
        {"step": event["step"], "value": event["validation"]["value"]}
        for event in run.events("interval")
    ]
    if not values:
        return None
    return {
        "last": values[-1],
        "best": min(values, key=lambda checkpoint: checkpoint["value"]),
        "rollbacks": len(run.events("rollback")),
    }


def describe_model(loaded: LoadedRun) -> str:
    """A short title of the model, with what differs between models: "vae ladder, z of 32"."""
    record = loaded.run.record
    config = record.config
    model = loaded.model
    if record.preset == "default" or record.has_two_stages:
        name = short_name(loaded.run.info)
    else:
        name = f"{record.family} {record.preset}"
    words = []
    if has(model, Predicts) and config.get("network"):
        name = f"{record.family} {config['network']}"
        if config.get("prior"):
            name += " beside counts"
        if model.context is not None:
            words.append(f"context {model.context}")
    if config.get("model") and config["model"] != record.preset:
        name = f"{record.family} {config['model']}"
    if config.get("corruption", "none") != "none" and "denois" not in name:
        name = f"denoising {name}"
    if "latent_dim" in config:
        words.append(f"z of {getattr(model, 'latent_dim', config['latent_dim'])}")
    if config.get("conditional"):
        words.append("conditional")
    if has(model, ChoosesSamples) and model.choice.count() > 1:
        words.append(f"D chooses one of {model.choice.count()}")
    return ", ".join([name, *words])
