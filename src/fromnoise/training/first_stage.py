"""The first stage of a training within a run: its model, its weights, and checks that it fits."""

from pathlib import Path

import torch

from .. import families
from ..core.capabilities import Decodes, Encodes, Quantises, has
from ..core.config import BaseConfig, build
from ..core.errors import FromNoiseError, StorageError, UsageError
from ..core.family import Family
from ..core.output import Say, ignore_message
from ..core.spec import DataSpec
from ..data.dataset import Dataset
from ..families import two_stage
from ..runs import checkpoint
from ..runs.directory import Run
from ..runs.load import LoadedRun, load_run


def load_first_stage(
    path: str | Path,
    trust: families.Trust = families.NO_TRUST,
    warn: Say = ignore_message,
) -> LoadedRun:
    """A run as a first stage, without its data. Raises UsageError, StorageError."""
    loaded = load_run(Run(path), device="cpu", with_data=False, trust=trust, warn=warn)
    check_first_stage(loaded.model, str(path))
    return loaded


def check_first_stage(first: Family, name: str) -> None:
    """Raises UsageError unless the model can be a first stage. name: its run, for the message."""
    if isinstance(first, two_stage.TwoStage):
        raise UsageError(
            f"{name} has two stages already: go --within its first one, {first.config.within}"
        )
    if not has(first, Quantises) and not (has(first, Encodes) and has(first, Decodes)):
        raise UsageError(
            f"{name} has no encoder and decoder: go --within a run of autoencoder, vae, vaegan, "
            "vqvae or classical"
        )


def choose_form(first: Family, second: families.FamilyFile) -> two_stage.Form:
    """The first form of the first stage's code that the second family accepts. Raises UsageError."""
    forms = ("codes", "image", "vector") if has(first, Quantises) else ("vector", "bins")
    for form in forms:
        if form == "image" and not second.FAMILY.latent_images:
            continue
        spec = two_stage.second_spec(first, form)
        preset = second.PRESETS[second.preset_for(spec)]
        values = {name: v for name, v in preset.items() if name in second.Config.model_fields}
        try:
            second.FAMILY(build(second.Config, values), spec)
            return form
        except UsageError as error:
            refusal = error
    raise UsageError(f"{second.name} takes no codes of this first stage: {refusal}")


def check_same_data(first: Run, dataset: Dataset) -> None:
    """Raises UsageError unless the data are those of the first stage, in the same form."""
    recorded = first.record.data
    if (
        recorded.digest == dataset.digest
        and recorded.binarise == dataset.binarise
        and DataSpec(**recorded.spec.model_dump()) == dataset.spec
    ):
        return
    if recorded.name != dataset.name:
        other = f"'{recorded.name}'"
    else:
        other = "the same data in another form or as they were before"
    raise UsageError(
        f"{first.path} was trained on {other}, not on this '{dataset.name}': "
        "leave --data and its options out, they are taken from the run"
    )


def two_stage_config(
    first: LoadedRun, form: str, second: families.FamilyFile, config: BaseConfig
) -> BaseConfig:
    """The configuration of both stages, as run.json keeps it. config: of the second one."""
    return build(
        two_stage.Config,
        {
            "within": str(first.run.path.resolve()),
            "digest": weights_digest(first.run),
            "form": form,
            "first": stage_record(first.family, first.run.info["config"]),
            "second": stage_record(second, config.model_dump(mode="json")),
            "conditional": first.model.conditional or getattr(config, "conditional", False),
        },
    )


def stage_record(family: families.FamilyFile, config: dict) -> dict:
    """A family, by its name or its file, and its configuration."""
    name = family.name if family.is_ours else str(family.path.resolve())
    return {"family": name, "config": config, "sha256": family.sha256}


def weights_digest(run: Run) -> str:
    """sha256 of the averaged weights of the last checkpoint."""
    return checkpoint.find(run).manifest.files["ema.safetensors"].sha256


def warn_if_retrained(run: Run, warn: Say) -> None:
    """Warns when the first stage of a run has changed; the run is unaffected, it has its own copy."""
    within = run.info["config"]["within"]
    try:
        digest = weights_digest(Run(within))
    except FromNoiseError:  # gone, moved or damaged
        return
    if digest != run.info["config"]["digest"]:
        warn(
            f"{within} was trained since {run.path} began, which keeps the first stage that it "
            "began with"
        )


def first_stage_weights(
    run: Run,
    saved: checkpoint.Checkpoint | None,
    trust: families.Trust,
    warn: Say,
) -> dict[str, torch.Tensor]:
    """The run's own copy of the first stage's weights, named "first.".

    saved: its newest checkpoint. Without one they are read from the first run if its digest is
    the recorded one. Raises StorageError where it is not.
    """
    if saved:
        tensors = saved.tensors("model")
        return {name: tensor for name, tensor in tensors.items() if name.startswith("first.")}
    within = run.info["config"]["within"]
    try:
        if weights_digest(Run(within)) == run.info["config"]["digest"]:
            tensors = load_first_stage(within, trust, warn).model.state_dict()
            return {f"first.{name}": tensor for name, tensor in tensors.items()}
        reason = "was trained since"
    except FromNoiseError as error:
        reason = f"cannot be opened: {error}"
    raise StorageError(
        f"{run.path} has no checkpoint yet, and its first stage {within} {reason}: train anew"
    )
