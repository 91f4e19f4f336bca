"""From a run back to what it was trained on and what it became: ``dataset_of``, ``restore``."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from .. import data, families
from ..core.capabilities import FitsInClosedForm
from ..core.config import BaseConfig, build
from ..core.device import pick_device
from ..core.errors import DataError, StorageError, UsageError
from ..core.family import Family
from ..core.limits import Bounded, check_example
from ..core.rng import Rng
from ..core.spec import DataSpec
from ..data.config import DataConfig
from ..data.dataset import Dataset
from ..data.stream import in_order
from ..training.settings import TrainConfig
from . import checkpoint
from .averages import mixture_shares
from .directory import Run


@dataclass(frozen=True)
class LoadedRun:
    """A trained model with its averaged weights, in eval mode, and the data that it was trained on."""

    run: Run
    family: families.FamilyFile
    model: Family
    dataset: Dataset
    step: int
    trust: families.Trust = families.NO_TRUST

    @property
    def device(self) -> torch.device:
        buffers = [*self.model.parameters(), *self.model.buffers()]
        return buffers[0].device if buffers else torch.device("cpu")


def load_run(
    run: Run,
    which: str = "last",
    weights: str | float = "ema",
    device: str = "auto",
    warn=lambda line: None,
    with_data: bool = True,
    data_name: str | None = None,
    trust: families.Trust = families.NO_TRUST,
) -> LoadedRun:
    """Loads the checkpoint ``which`` ("last", "best" or a step) of a run; weights: "ema" or "model".

    weights may be a width, too, between those of a run's ``averages``: see ``averages.blend``.
    with_data: False makes do without the data, where they are not needed: the data set then has no splits.
    data_name: where the data are now, if they moved. trust: whether code that the run names may be executed.
    """
    record, device = run.record, pick_device(device)
    family = families.of_run(run.info, trust, str(run.path), warn)
    config = build_recorded(family.Config, family.earlier | run.info["config"], run)
    saved = checkpoint.find(run, which, warn)
    events, damage = run.read_events()
    if damage or len(events) < saved.manifest.events:
        reason = (
            damage
            or f"{run.path / 'events.jsonl'} has {len(events)} of the {saved.manifest.events} events of step {saved.step}"
        )
        warn(
            f"{reason}; using the {len(events)} events before that. The weights are not touched; bring the file back from a copy to see the rest"
        )
    unfitted = issubclass(family.trained.FAMILY, FitsInClosedForm) and (
        saved.step < record.steps or not isinstance(weights, str)
    )
    dataset = load_run_data(run, data_name) if with_data or unfitted else dataset_from_record(run)
    check_example(dataset.spec.dims, str(run.path))
    with Bounded(str(run.path), *saved.size()):
        model = family.FAMILY(config, dataset.spec)
    model = model.to(device).eval().requires_grad_(False)
    saved.load_into(
        model, saved.tensors(weights) if isinstance(weights, str) else averaged(run, saved, weights)
    )
    if (
        unfitted
    ):  # stopped before the end, or other weights: what comes after the last step is made up for
        model.fit(
            lambda: in_order(dataset, "train", device=device),
            Rng(record.seed, device=device).at("fit"),
        )
    done = saved.manifest.progress
    model.progress = min(1.0, saved.step / max(1, record.steps)) if done is None else done
    return LoadedRun(run, family, model, dataset, saved.step, trust)


def build_recorded(model: type[BaseConfig], values: dict, run: Run) -> BaseConfig:
    """A configuration that run.json holds. Raises StorageError naming the file and the field."""
    try:
        return build(model, values)
    except UsageError as error:
        raise StorageError(
            f"{run.path / 'run.json'} does not fit this version of fromnoise: {error}"
        ) from None


def averaged(run: Run, saved: checkpoint.Checkpoint, width: float) -> dict[str, torch.Tensor]:
    """The weights of an average that was not kept, out of those that were. Raises UsageError."""
    widths = build_recorded(TrainConfig, run.info["train"], run).averages
    if not widths or not min(widths) <= width <= max(widths):
        kept = (
            f"from {min(widths)} to {max(widths)}"
            if widths
            else "none: it was trained without --averages"
        )
        raise UsageError(f"{run.path} has no average of width {width:g}: {kept}")
    used, others, place = saved.tensors("ema"), saved.tensors("optim"), saved.manifest.average

    def of(i, name):
        return used[name] if i == place else others[f"average {widths[i]}/{name}"]

    names = {
        name.partition("/")[2] for name in others if name.startswith("average ")
    }  # of parameters: buffers are the same for all
    return used | {
        name: sum(share * of(i, name) for i, share in enumerate(mixture_shares(widths, width)))
        for name in names
    }


def dataset_from_record(run: Run) -> Dataset:
    """What a run knows of its data without having them: form, classes, columns, tokens, words; no splits."""
    from ..data.codecs.captions import Captions
    from ..data.codecs.columns import Columns
    from ..data.codecs.tokenizer import Tokenizer

    known, stored = run.record.data, run.info["data"]
    columns, tokenizer, words = (stored.get(name) for name in ("columns", "tokenizer", "words"))
    try:
        return Dataset(
            known.name,
            DataSpec(**known.spec.model_dump()),
            {},
            known.digest,
            class_names=tuple(known.class_names),
            binarise=known.binarise,
            columns=columns and Columns.from_json(columns),
            tokenizer=tokenizer and Tokenizer.from_json(tokenizer),
            caption_codec=words and Captions.from_json(words),
            settings=known.settings,
            class_counts=tuple(known.class_counts),  # runs of before do not have it
        )
    except (KeyError, TypeError, ValueError, AssertionError, StorageError) as error:
        raise StorageError(
            f"{run.path / 'run.json'} is damaged: what it says of the data does not go together: {error}"
        ) from None


def load_run_data(run: Run, name: str | None = None) -> Dataset:
    """The data of a run, proven to be the same by their digest. name: where they are now, which the run then remembers."""
    known = run.record.data
    where, settings = Path(known.name), build_recorded(DataConfig, known.settings, run)
    if name is None and where.is_absolute() and not where.exists():
        raise DataError(
            f"the data of {run.path} were at {where} and are not there any more: bring them back, or say once where they are now: `fromnoise show {run.path} --data PATH`"
        )
    dataset = data.load(name or known.name, settings)
    if dataset.digest != known.digest:
        if modelled := constants_modelled(run.info["data"]):
            raise DataError(
                f"{run.path} is from a version that modelled constant columns too ('{modelled[0]}'), which none does any more: train it anew"
            )
        sizes = {name: len(part) for name, part in dataset.splits.items()}
        difference = (
            f"splits {known.splits} then, {sizes} now"
            if sizes != known.splits
            else "the same sizes, other content"
        )
        raise DataError(
            f"the data '{known.name}' changed since {run.path} was trained ({difference}; digest "
            f"{known.digest[:12]} then, {dataset.digest[:12]} now): bring the old data back, or train anew"
        )
    # of the run, not of these data: cells say what the model's likelihood is, and old runs have none
    dataset = replace(
        dataset, spec=replace(dataset.spec, cells=DataSpec(**known.spec.model_dump()).cells)
    )
    if name is not None:
        run.update(data=run.info["data"] | {"name": absolute_data_name(name)})
    return dataset


def constants_modelled(build_recorded: dict) -> list[str]:
    """Names of columns with one value that an old run has in its vectors."""
    columns = (build_recorded.get("columns") or {}).get("columns", [])
    constant = [
        c["name"]
        for c in columns
        if len(c["values"]) == 1 or (not c["values"] and c["low"] == c["high"])
    ]
    flagged = any("constant" in c for c in columns)
    return [] if flagged or len(constant) == len(columns) else constant


def absolute_data_name(data_name: str) -> str:
    """The name of data as a run keeps it, which is opened from anywhere."""
    if data_name not in data.catalogue() and Path(data_name).expanduser().exists():
        return str(Path(data_name).expanduser().resolve())
    return data_name
