"""From names and options to a resolved ``Plan`` of a training."""

import contextlib
import copy
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from .. import data, families
from ..core.config import BaseConfig, build, flag
from ..core.device import best_precision, select_device
from ..core.errors import UsageError, did_you_mean
from ..core.family import Family
from ..core.limits import BoundedConstruction
from ..core.output import Say, ignore_message
from ..core.rng import Rng
from ..core.spec import DataSpec
from ..data.dataset import Dataset
from ..families import two_stage
from ..runs.load import LoadedRun, absolute_data_name
from ..runs.paths import check_file_name
from . import budget
from .first_stage import check_same_data, choose_form, load_first_stage, two_stage_config
from .settings import BUDGETS, TrainConfig
from .trainer import Trainer


@dataclass(frozen=True)
class Plan:
    """A resolved training: no option is left open.

    initial_weights  of a first stage, copied into the model
    bound            of a plan that was read from a run, what building its model may take
    """

    family: families.FamilyFile
    preset: str
    config: BaseConfig
    train: TrainConfig
    dataset: Dataset
    initial_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    bound: BoundedConstruction | None = None
    _checked_models: list[Family] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    @property
    def options(self) -> BaseConfig:
        """The family's configuration as the command line sets it; of two stages the second one's."""
        return self.config.second_config() if self.family.second else self.config

    def build(self) -> Family:
        """A new model. Raises UsageError for options that do not go together."""
        with copy.copy(self.bound) or contextlib.nullcontext():
            model = self.family.FAMILY(self.config, self.dataset.spec)
        if self.initial_weights:
            model.load_state_dict(model.state_dict() | self.initial_weights)
        return model

    def check_options(self) -> None:
        """Builds the model with the initial weights of the seed; the first trainer gets this one.

        Raises UsageError for options that do not go together.
        """
        Rng(self.train.seed).at("init").seed_torch()
        self._checked_models.append(self.build())

    def initial_model(self) -> Family:
        """The model that ``check_options`` built; a new one if that was taken already."""
        return self._checked_models.pop() if self._checked_models else self.build()

    def trainer(self) -> Trainer:
        return Trainer(self.initial_model, self.dataset, self.train, self.family.progress_options)


def option_models(family: families.FamilyFile) -> tuple[type[BaseConfig], ...]:
    """The configurations whose fields are the options of a training; no name stands in two."""
    return (family.trained.Config, TrainConfig, data.data_config())


def make_plan(
    family_name: str,
    data_name: str | None = None,
    preset: str | None = None,
    within: str | Path | None = None,
    trust: families.Trust = families.NO_TRUST,
    warn: Say = ignore_message,
    **options,
) -> Plan:
    """Resolves a preset and options into configurations and loads the data (None: digits).

    An option belongs to the family, the training or the data, by its name.
    within: a run, in whose codes the family is trained; its data and their options are used.
    trust: whether code that this run names may be executed, besides that of ``family_name``.
    Raises UsageError, DataError, StorageError.
    """
    family = families.load(family_name)
    check_options(family, options)
    if family.sha256:
        trust = replace(trust, files=(*trust.files, family.path))
    first = load_first_stage(within, trust, warn) if within else None
    data_name, dataset = load_data(data_name, options, first)
    form = choose_form(first.model, family) if first else None
    spec = two_stage.second_spec(first.model, form) if first else dataset.spec
    preset = resolve_preset(family, preset, spec)
    values = family.PRESETS[preset] | options
    train = resolve_training(values, options)
    config = build(family.Config, fields_of(family.Config, values))
    initial_weights = {}
    if first:
        config = two_stage_config(first, form, family, config)
        family = two_stage.two_stage_family(config)
        for name, tensor in first.model.state_dict().items():
            initial_weights[f"first.{name}"] = tensor
    else:
        dataset = with_label_learned(dataset, data_name, config)
    plan = Plan(family, preset, config, train, dataset, initial_weights)
    plan.check_options()
    return plan


def check_options(family: families.FamilyFile, options: dict) -> None:
    """Raises UsageError for an unknown option, a value out of range, or two budgets.

    Done before any data are loaded.
    """
    models = option_models(family)
    known = [name for model in models for name in model.model_fields]
    for name in options:
        if name not in known:
            hint = did_you_mean(name, [*known, "data", "preset", "out", "within"])
            raise UsageError(f"{family.name} has no option {flag(name)}.{hint.replace('_', '-')}")
    if sum(options.get(name) not in (None, ()) for name in (*BUDGETS, "plan")) > 1:
        raise UsageError("give one budget: --minutes, --epochs or --steps (or --plan)")
    for model in models:
        build(model, fields_of(model, options))


def fields_of(model: type[BaseConfig], values: dict) -> dict:
    """The values that belong to this configuration."""
    return {name: value for name, value in values.items() if name in model.model_fields}


def load_data(name: str | None, options: dict, first: LoadedRun | None) -> tuple[str, Dataset]:
    """The name of the data and the data: those of the first stage unless named. Raises UsageError,
    DataError."""
    settings = {}
    default_name = "digits"
    if first:
        settings = first.run.record.data.settings
        default_name = first.run.record.data.name
    name = name or default_name
    check_file_name(name, "--data")
    name = absolute_data_name(name)
    model = data.data_config()
    dataset = data.load(name, build(model, settings | fields_of(model, options)))
    if first:
        check_same_data(first.run, dataset)
    return name, dataset


def resolve_preset(family: families.FamilyFile, preset: str | None, spec: DataSpec) -> str:
    """The preset, or the family's choice for these data. Raises UsageError for an unknown one."""
    preset = preset or family.preset_for(spec)
    if preset not in family.PRESETS:
        hint = did_you_mean(preset, family.PRESETS)
        raise UsageError(
            f"{family.name} has no preset '{preset}'.{hint} Known: {', '.join(family.PRESETS)}"
        )
    return preset


def resolve_training(values: dict, options: dict) -> TrainConfig:
    """values: of the preset and the options; options: those that were given. Raises UsageError."""
    if "ema" in options:  # replaces the averages of a preset
        if options.get("averages"):
            raise UsageError("--averages take the place of --ema: give one of them")
        values = values | {"averages": ()}
    train = build(TrainConfig, fields_of(TrainConfig, values))
    if train.plan:
        budget.parse_plan(train.plan)
    if train.precision == "auto":  # decided once: a resume elsewhere computes in the same way
        precision = best_precision(select_device(train.device))
        train = train.model_copy(update={"precision": precision})
    return train


def with_label_learned(dataset: Dataset, data_name: str, config: BaseConfig) -> Dataset:
    """Adds the label column of a table to what is learned, unless the model is conditional or
    --no-learn-label is given; a note says so. Raises UsageError if --learn-label cannot be done.
    """
    is_asked = dataset.settings.get("learn_label")
    label = dataset.columns is not None and dataset.columns.label
    conditional = getattr(config, "conditional", False)
    if is_asked and conditional:
        raise UsageError(
            "--learn-label: a conditional model is told the label: leave the option out"
        )
    if is_asked and not label:
        raise UsageError(
            "--learn-label: it goes with --label, which names the column: leave it out"
        )
    if conditional or not label:
        return dataset
    if is_asked is False:
        note = (
            f"the label column '{label}' is not learned and will not be in samples: "
            "leave --no-learn-label out"
        )
    else:
        note = (
            f"the label column '{label}' is learned as one more column; "
            "--conditional tells the model the label instead"
        )
    if is_asked is None:
        settings = dataset.settings | {"learn_label": True}
        dataset = data.load(data_name, build(data.data_config(), settings))
    return replace(dataset, notes=(*dataset.notes, note))
