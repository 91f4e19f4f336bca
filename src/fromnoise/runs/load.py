"""From a run to its trained model and its data: ``load_run``, ``load_run_data``."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from .. import data, families
from ..core.capabilities import FitsInClosedForm
from ..core.config import BaseConfig, build
from ..core.device import select_device
from ..core.errors import DataError, StorageError, UsageError
from ..core.family import Family
from ..core.limits import BoundedConstruction, check_example
from ..core.output import Say, ignore_message
from ..core.rng import Rng
from ..core.spec import DataSpec
from ..data.dataset import Dataset
from ..data.registry import require_source
from ..data.stream import in_order
from . import checkpoint
from .averages import mixture_shares
from .directory import Run


@dataclass(frozen=True)
class LoadedRun:
    """A trained model with its averaged weights, in eval mode, and the data it was trained on."""

    run: Run
    family: families.FamilyFile
    model: Family
    dataset: Dataset
    step: int
    trust: families.Trust = families.NO_TRUST

    @property
    def device(self) -> torch.device:
        tensors = [*self.model.parameters(), *self.model.buffers()]
        return tensors[0].device if tensors else torch.device("cpu")


def load_run(
    run: Run,
    which: str = "last",
    weights: str | float = "ema",
    device: str = "auto",
    warn: Say = ignore_message,
    with_data: bool = True,
    data_name: str | None = None,
    trust: families.Trust = families.NO_TRUST,
) -> LoadedRun:
    """Loads a checkpoint of a run.

    which: "last", "best" or a step.
    weights: "ema", "model", or a width between those of the run's ``averages`` (``mixture_shares``).
    with_data: False does not load the data where they are not needed: the data set has no splits then.
    data_name: the new location of the data, if they moved.
    trust: whether code that the run names may be executed.
    """
    device = select_device(device)
    family = families.of_run(run.info, trust, str(run.path), warn)
    config = build_recorded(family.Config, family.earlier | run.info["config"], run)
    saved = checkpoint.find(run, which, warn)
    warn_of_lost_events(run, saved, warn)
    is_complete = saved.step >= run.record.steps and isinstance(weights, str)
    needs_fit = issubclass(family.trained.FAMILY, FitsInClosedForm) and not is_complete
    if with_data or needs_fit:
        dataset = load_run_data(run, data_name)
    else:
        dataset = dataset_from_record(run)
    model = build_model(run, family, config, dataset, saved, weights).to(device)
    if needs_fit:
        # Stopped before the end, or other weights: the fit that follows the last step is missing.
        model.fit(
            lambda: in_order(dataset, "train", device=device),
            Rng(run.record.seed, device=device).at("fit"),
        )
    model.progress = saved.manifest.progress
    if model.progress is None:  # of an earlier version
        model.progress = min(1.0, saved.step / max(1, run.record.steps))
    return LoadedRun(run, family, model, dataset, saved.step, trust)


def build_model(
    run: Run,
    family: families.FamilyFile,
    config: BaseConfig,
    dataset: Dataset,
    saved: checkpoint.Checkpoint,
    weights: str | float,
) -> Family:
    """The model of a run with the weights of a checkpoint, in eval mode, on the CPU."""
    check_example(dataset.spec.dims, str(run.path))
    with BoundedConstruction(str(run.path), *saved.size()):
        model = family.FAMILY(config, dataset.spec)
    model = model.eval().requires_grad_(False)
    if isinstance(weights, str):
        tensors = saved.tensors(weights)
    else:
        tensors = average_weights(run, saved, weights)
    saved.load_into(model, tensors)
    return model


def warn_of_lost_events(run: Run, saved: checkpoint.Checkpoint, warn: Say) -> None:
    """Warns if events up to the checkpoint are damaged or missing."""
    events, damage = run.read_events()
    expected = saved.manifest.events
    if not damage and len(events) >= expected:
        return
    path = run.path / "events.jsonl"
    reason = damage or f"{path} has {len(events)} of the {expected} events of step {saved.step}"
    warn(
        f"{reason}; using the {len(events)} events before that. The weights are not affected; "
        "restore the file from a backup to see the rest"
    )


def build_recorded(model: type[BaseConfig], values: dict, run: Run) -> BaseConfig:
    """A configuration from run.json. Raises StorageError with the file and the field."""
    try:
        return build(model, values)
    except UsageError as error:
        raise StorageError(
            f"{run.path / 'run.json'} does not fit this version of fromnoise: {error}"
        ) from None


def average_weights(run: Run, saved: checkpoint.Checkpoint, width: float) -> dict[str, Tensor]:
    """The weights of an average of any width, as a mixture of the saved ones. Raises UsageError."""
    widths = run.record.train.averages
    if not widths or not min(widths) <= width <= max(widths):
        kept = "none: it was trained without --averages"
        if widths:
            kept = f"from {min(widths)} to {max(widths)}"
        raise UsageError(f"{run.path} has no average of width {width:g}: {kept}")
    used = saved.tensors("ema")
    others = saved.tensors("optim")
    shares = mixture_shares(widths, width)

    def average(index: int, name: str) -> Tensor:
        if index == saved.manifest.average:
            return used[name]
        return others[f"average {widths[index]}/{name}"]

    # of parameters only: buffers are the same in all averages
    names = {name.partition("/")[2] for name in others if name.startswith("average ")}
    mixture = {
        name: sum(share * average(index, name) for index, share in enumerate(shares))
        for name in names
    }
    return used | mixture


# -- data -----------------------------------------------------------------------------------------


def dataset_from_record(run: Run) -> Dataset:
    """The data set as run.json describes it, without loading data: it has no splits.

    Form, classes, columns, tokens and captions are known. Raises StorageError.
    """
    from ..data.codecs.captions import Captions
    from ..data.codecs.columns import Columns
    from ..data.codecs.tokenizer import Tokenizer

    record = run.record.data
    stored = run.info["data"]
    columns = stored.get("columns")
    tokenizer = stored.get("tokenizer")
    words = stored.get("words")
    try:
        return Dataset(
            record.name,
            DataSpec(**record.spec.model_dump()),
            {},
            record.digest,
            class_names=tuple(record.class_names),
            binarise=record.binarise,
            columns=columns and Columns.from_json(columns),
            tokenizer=tokenizer and Tokenizer.from_json(tokenizer),
            caption_codec=words and Captions.from_json(words),
            settings=record.settings,
            class_counts=tuple(record.class_counts),  # earlier versions did not record it
        )
    except (KeyError, TypeError, ValueError, AssertionError, StorageError) as error:
        raise StorageError(
            f"{run.path / 'run.json'} is damaged: its description of the data is inconsistent: "
            f"{error}"
        ) from None


def load_run_data(run: Run, name: str | None = None) -> Dataset:
    """Loads the data of a run and checks them against their digest.

    name: the new location of the data, which is written to run.json. Raises DataError.
    """
    record = run.record.data
    location = Path(record.name)
    if record.source_file:
        require_source(record.source_file, str(run.path))
    settings = build_recorded(data.data_config(), record.settings, run)
    if name is None and location.is_absolute() and not location.exists():
        raise DataError(
            f"the data of {run.path} are not at {location} any more: restore them, or give their "
            f"new location once: `fromnoise show {run.path} --data PATH`"
        )
    dataset = data.load(name or record.name, settings)
    if dataset.digest != record.digest:
        raise DataError(explain_changed_data(run, dataset))
    # The cells of the run define its likelihood; runs of earlier versions have none.
    cells = DataSpec(**record.spec.model_dump()).cells
    dataset = replace(dataset, spec=replace(dataset.spec, cells=cells))
    if name is not None:
        run.update(data=run.info["data"] | {"name": absolute_data_name(name)})
    return dataset


def explain_changed_data(run: Run, dataset: Dataset) -> str:
    """The message for data whose digest differs from that of the run."""
    record = run.record.data
    if columns := constants_modelled(run.info["data"]):
        return (
            f"{run.path} is from a version that also modelled constant columns "
            f"('{columns[0]}'), which this version does not: train again"
        )
    sizes = {name: len(part) for name, part in dataset.splits.items()}
    difference = "the same sizes, other content"
    if sizes != record.splits:
        difference = f"splits {record.splits} then, {sizes} now"
    return (
        f"the data '{record.name}' changed since {run.path} was trained ({difference}; digest "
        f"{record.digest[:12]} then, {dataset.digest[:12]} now): restore the old data, or train "
        "again"
    )


def constants_modelled(recorded: dict) -> list[str]:
    """The names of the columns with a single value that a run of an old version models."""
    columns = (recorded.get("columns") or {}).get("columns", [])
    constant = [
        column["name"]
        for column in columns
        if len(column["values"]) == 1 or (not column["values"] and column["low"] == column["high"])
    ]
    has_flags = any("constant" in column for column in columns)
    return [] if has_flags or len(constant) == len(columns) else constant


def absolute_data_name(name: str) -> str:
    """The name of data as run.json keeps it: a path is absolute, so that it opens from anywhere."""
    path = Path(name).expanduser()
    if name not in data.catalogue() and path.exists():
        return str(path.resolve())
    return name
