"""Twenty losses and the weights of short trainings, for comparing two versions of the code.

``losses`` trains in float64, so that they agree between machines to many digits. ``digest`` trains in float32 and hashes
every tensor of the checkpoint, so that one changed bit is seen; it holds on one kind of machine only.

    python tests/helpers/golden_runs.py --write     replaces tests/frozen/golden.json
    python tests/helpers/golden_runs.py             prints what differs from it
"""

import argparse
import contextlib
import hashlib
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from fromnoise import families
from fromnoise.core.rng import Rng
from fromnoise.data.dataset import Dataset
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan
from fromnoise.training.trainer import Trainer

FROZEN = Path(__file__).parents[1] / "frozen" / "golden.json"
STEPS = 20
DIGEST_STEPS = 4
ROWS = 60
SMALL = {
    "batch_size": 4,
    "validation_examples": 20,
    "intervals": 1,
    "compile": False,
    "threads": 1,
    "precision": "float32",
}
IMAGE_OF = {"captions": "shapes", "progressive": "faces", "residual": "faces", "colour": "faces"}
VECTOR_OF = {"points": "grid25", "table": "table.csv"}
# Families whose presets are not for images, and further settings that the presets do not reach.
DATA_OF = {
    ("autoregressive", name): "text.txt"
    for name in ("text", "lecture", "ngram", "hybrid", "gru", "lstm", "conv")
}
OPTIONS_OF = {
    ("autoregressive", "counts"): {"binarise": "dynamic"},
    ("autoregressive", "gru"): {"width": 32},
    ("autoregressive", "lstm"): {"width": 32},
    ("diffusion", "captions"): {"depth": 2},
    ("gan", "progressive"): {"width": 4, "latent_dim": 16},
    ("gan", "residual"): {"width": 8, "latent_dim": 16},
    ("vqvae", "colour"): {"width": 16},
}
FURTHER = {
    "autoregressive, digits, pixelcnn, conditional": (
        "autoregressive",
        "digits",
        "pixelcnn",
        {"conditional": True},
    ),
    "diffusion, digits, conditional": ("diffusion", "digits", "default", {"conditional": True}),
    "diffusion, digits, jumps": ("diffusion", "digits", "default", {"jumps": 0.5}),
    "diffusion, digits, transformer": (
        "diffusion",
        "digits",
        "default",
        {"network": "transformer", "depth": 2},
    ),
    "gan, digits, conditional": ("gan", "digits", "conv", {"conditional": True}),
    "vae, digits, conditional": ("vae", "digits", "mlp", {"conditional": True}),
    "vaegan, digits, conditional": ("vaegan", "digits", "mlp", {"conditional": True}),
    "classical, table": ("classical", "table.csv", "mixture", {}),
}
# Digests only: a first stage, then a second one in its codes.
TWO_STAGES = {
    "diffusion within autoencoder": (("autoencoder", "mlp"), ("diffusion", "table")),
    "gan within vae": (("vae", "mlp"), ("gan", "table")),
    "autoregressive within vqvae": (("vqvae", "small"), ("autoregressive", "default")),
}


def cases() -> dict[str, tuple[str, str, str, dict]]:
    """name -> (family, data, preset, options)."""
    result = {}
    for family in families.names():
        for preset in families.load(family).PRESETS:
            data = (
                VECTOR_OF.get(preset)
                or IMAGE_OF.get(preset)
                or DATA_OF.get((family, preset))
                or "digits"
            )
            result[f"{family}, {preset}"] = (
                family,
                data,
                preset,
                OPTIONS_OF.get((family, preset), {}),
            )
    return result | FURTHER


def write_data(folder: Path) -> None:
    """A table of numbers, whole numbers, flags and categories, and a text."""
    g = np.random.default_rng(0)
    rows = zip(
        g.normal(size=200),
        g.poisson(2, 200),
        g.integers(0, 2, 200),
        g.choice(["red", "green", "blue"], 200),
    )
    lines = [",".join(map(str, row)) for row in rows]
    (folder / "table.csv").write_text("number,count,flag,colour\n" + "\n".join(lines) + "\n")
    words = g.choice(["the", "noise", "becomes", "data", "and", "nothing", "is", "random"], 4000)
    (folder / "text.txt").write_text(" ".join(words) + ".\n")


@contextlib.contextmanager
def in_float64():
    """Numbers that are float32 elsewhere are float64."""
    batch, draw = Dataset.batch, Rng._draw

    def wide_batch(*args, **kwargs):
        found = batch(*args, **kwargs)
        return replace(found, x=found.x.double()) if found.x.is_floating_point() else found

    def wide_draw(*args, **kwargs):
        found = draw(*args, **kwargs)
        return found.double() if found.is_floating_point() else found

    with (
        mock.patch.object(Dataset, "batch", wide_batch),
        mock.patch.object(Rng, "_draw", wide_draw),
        mock.patch.object(torch.Tensor, "float", torch.Tensor.double),
    ):
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)


def trainer_of(family: str, data: str, preset: str, options: dict, folder: Path, **more) -> Trainer:
    name = str(folder / data) if "." in data else data
    plan = make_plan(family, name, preset, steps=STEPS, **(SMALL | options | more))
    if data in IMAGE_OF.values():
        plan = replace(plan, dataset=first_rows(plan.dataset))
    return plan, plan.trainer()


def first_rows(dataset: Dataset) -> Dataset:
    """ROWS examples of each split: what is fitted to a whole data set takes minutes."""
    splits = {
        name: replace(part, x=part.x[:ROWS], y=part.y if part.y is None else part.y[:ROWS])
        for name, part in dataset.splits.items()
    }
    return replace(dataset, splits=splits)


def losses(case: tuple[str, str, str, dict], folder: Path) -> list[float]:
    """The sum of all terms of the loss at each of STEPS steps; a closed form: the sums of its tensors."""
    family, data, preset, options = case
    plan, _ = trainer_of(
        family, data, preset, options, folder, optimizer="adamw"
    )  # Muon rounds to bfloat16
    with in_float64():
        trainer = Trainer(
            lambda: plan.build().double(), plan.dataset, plan.train, plan.family.progress_options
        )
        values = (
            [sum(trainer.advance(STEPS)[0].values()) for _ in range(STEPS)]
            if trainer.model.phases()
            else []
        )
        trainer.finish()
        trainer.stream.close()
        return values or [float(t.double().sum()) for t in trainer.model.state_dict().values()]


def hashed(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(
            tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        )
    return digest.hexdigest()[:16]


def digest(case: tuple[str, str, str, dict], folder: Path) -> str:
    """Of weights, averages and optimisers after DIGEST_STEPS steps, in float32."""
    _, trainer = trainer_of(*case, folder)
    return digest_of(trainer)


def digest_of(trainer: Trainer) -> str:
    for _ in range(DIGEST_STEPS if trainer.model.phases() else 0):
        trainer.advance(STEPS)
    trainer.finish()
    trainer.stream.close()
    optim = {
        f"{'+'.join(key)}/{name}": t
        for key, o in trainer.optimizers.items()
        for name, t in o.tensors().items()
    }
    parts = {
        "model": trainer.model.state_dict(),
        "ema": trainer.ema.model.state_dict(),
        "optim": optim,
    }
    return hashed(
        {f"{part}/{name}": t for part, tensors in parts.items() for name, t in tensors.items()}
    )


def two_stage_digest(first: tuple[str, str], second: tuple[str, str], folder: Path) -> str:
    """Of a second stage in the codes of a first stage that was trained for DIGEST_STEPS steps."""
    path = folder / "-".join(first + second)
    start_run(make_plan(first[0], "digits", first[1], steps=DIGEST_STEPS, **SMALL), path)
    options = {"network": "mlp"} if second[0] == "gan" else {}
    return digest_of(
        make_plan(
            second[0], None, second[1], within=path, steps=STEPS, **(SMALL | options)
        ).trainer()
    )


def machine() -> str:
    """What the bits of a float32 training depend on."""
    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"


def measured(only: str = "") -> dict:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder)
        found = {"losses": {}, "digests": {}}
        for name, case in cases().items():
            if only in name:
                print(name, file=sys.stderr, flush=True)
                found["losses"][name] = losses(case, folder)
                found["digests"][name] = digest(case, folder)
        for name, (first, second) in TWO_STAGES.items():
            if only in name:
                found["digests"][name] = two_stage_digest(first, second, folder)
    return found


def close(values: list[float], frozen: list[float]) -> bool:
    return len(values) == len(frozen) and np.allclose(values, frozen, rtol=1e-7, atol=1e-12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument(
        "--only", default="", metavar="WORDS", help="cases whose names have these words"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = measured(args.only)
    frozen = json.loads(FROZEN.read_text()) if FROZEN.exists() else {"losses": {}, "digests": {}}
    if args.write:
        digests = frozen["digests"] | {
            machine(): frozen["digests"].get(machine(), {}) | found["digests"]
        }
        FROZEN.write_text(
            json.dumps({"losses": frozen["losses"] | found["losses"], "digests": digests}, indent=1)
            + "\n"
        )
        return
    known = frozen["digests"].get(machine(), {})
    for name, values in found["losses"].items():
        if not close(values, frozen["losses"].get(name, [])):
            print(f"{name}: losses differ")
    for name, value in found["digests"].items():
        if known.get(name) != value:
            print(f"{name}: digest {value}, was {known.get(name)}")


if __name__ == "__main__":
    main()
