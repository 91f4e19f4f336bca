"""Evaluators: small feature networks in one file each, named by the hash of that file.

The file is shipped, not retrained: no machine promises the bits of another's training, and a score
is only comparable to one from the same network. Weights are kept in 16 bits; all else that is
needed stands in the header. A labelled set teaches by its classes, an unlabelled one by
reconstruction.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from ..core.errors import DataError, StorageError, UsageError
from ..core.files import make_folder, write_atomic
from ..core.limits import BoundedConstruction
from ..core.rng import Rng
from ..data.dataset import Dataset
from ..data.stream import Stream, default_batch_size, in_order
from ..nets.features import FeatureNet, feature_decoder
from .features import FeatureMap
from .published.networks import load_published

SHIPPED = Path(__file__).with_name("evaluators")
KIND = "fromnoise evaluator 1"
CHUNK = 500  # examples at once, at most


@dataclass(frozen=True)
class Evaluator:
    """A feature map that was trained on data like these.

    name      data and the first eight digits of the file's sha256
    about     the header: data, digest, shape, classes, settings of its training, and its error or
              accuracy on held-out examples
    """

    name: str
    about: dict
    net: FeatureNet

    @property
    def dims(self) -> int:
        return self.net.dims

    @property
    def classes(self) -> int:
        return self.about["classes"]

    @torch.no_grad()
    def _in_chunks(self, function, x: Tensor) -> Tensor:
        return torch.cat([function(part.float().cpu()) for part in x.split(CHUNK)]).double()

    def __call__(self, x: Tensor) -> Tensor:
        """Features (n, dims), float64."""
        return self._in_chunks(self.net.features, x)

    def logits(self, features: Tensor) -> Tensor:
        """Features (n, dims) -> (n, classes), for an evaluator that learned from labels."""
        assert self.classes
        return features @ self.net.head.weight.double().T + self.net.head.bias.double()


def fit(
    dataset: Dataset,
    steps: int = 2000,
    dims: int = 64,
    width: int = 16,
    seed: int = 0,
    name: str = "",
) -> bytes:
    """Trains an evaluator on the train split, deterministically (one thread, fixed steps), and
    returns its file.

    The held-out figure in the header is of the validation split, which nothing was chosen by.
    Raises UsageError.
    """
    spec = dataset.spec
    if spec.kind == "tokens":
        raise UsageError(
            "evaluators are for images and tables: text is measured in bits per character"
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        net, result = _train(dataset, steps, dims, width, Rng(seed, ("evaluator",)))
    finally:
        torch.set_num_threads(threads)
    about = {
        "kind": KIND,
        "data": name or dataset.name,
        "digest": dataset.digest,
        "shape": list(spec.shape),
        "levels": spec.levels,
        "classes": spec.classes,
        "dims": dims,
        "width": width,
        "steps": steps,
        "seed": seed,
        **result,
    }
    tensors = {key: value.half().contiguous() for key, value in net.state_dict().items()}
    return tensor_bytes(tensors, {"about": json.dumps(about, sort_keys=True)})


def _train(
    dataset: Dataset, steps: int, dims: int, width: int, rng: Rng
) -> tuple[FeatureNet, dict]:
    spec = dataset.spec
    rng.at("init").seed_torch()
    net = FeatureNet(spec.shape, spec.classes or 1, dims, width)
    decoder = None if spec.classes else feature_decoder(spec.shape, dims)
    parameters = [*net.parameters(), *(decoder.parameters() if decoder else ())]
    stream = Stream(dataset, 128, rng)
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for step in range(steps):
        batch = stream.batch(step)
        value = _objective(net, decoder, batch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    net.half().float().eval()  # as it will be read back
    right, error, n = 0, 0.0, 0
    with torch.no_grad():
        for batch in in_order(dataset, "validation", default_batch_size(spec, CHUNK)):
            n += len(batch)
            if decoder is None:
                right += int((net(batch.x).argmax(1) == batch.y).sum())
            else:
                error += float(_objective(net, decoder, batch)) * len(batch)
    return net, {"validation_accuracy": right / n} if decoder is None else {
        "validation_mse": error / n
    }


def _objective(net: FeatureNet, decoder, batch) -> Tensor:
    if decoder is None:
        return F.cross_entropy(net(batch.x), batch.y, label_smoothing=0.05)
    return (decoder(net.features(batch.x)).view_as(batch.x) - batch.x).square().mean()


def write(file: bytes, target: Path) -> Path:
    """Writes an evaluator's file; never over another. Raises UsageError, StorageError."""
    if target.exists():
        raise UsageError(
            f"{target} exists already and is never overwritten: name another file with -o"
        )
    make_folder(target.parent)
    write_atomic(target, file)
    return target


def load(path: Path) -> Evaluator:
    """Reads an evaluator. Raises DataError when the file is none, or is damaged."""
    try:
        file = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the evaluator {path}: {error.strerror or error}") from None
    digest = hashlib.sha256(file).hexdigest()
    try:
        size = int.from_bytes(file[:8], "little")
        about = json.loads(json.loads(file[8 : 8 + size])["__metadata__"]["about"])
        if about["kind"] != KIND:
            raise KeyError("kind")
        tensors = parse_tensors(file)
        with BoundedConstruction(str(path), sum(map(Tensor.numel, tensors.values())), len(tensors)):
            net = FeatureNet(
                tuple(about["shape"]), about["classes"] or 1, about["dims"], about["width"]
            )
        net.load_state_dict({key: value.float() for key, value in tensors.items()})
    except (
        SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        MemoryError,
        StorageError,
    ) as error:
        raise DataError(
            f"{path} is no evaluator, or is damaged: make one with `fromnoise evaluator fit`"
        ) from error
    stem = Path(path).stem
    if Path(path).parent == SHIPPED and stem.rpartition("-")[2] != digest[:8]:
        raise DataError(
            f"{path} is damaged: its sha256 begins with {digest[:8]}: install fromnoise again"
        )
    return Evaluator(f"{Path(about['data']).stem}-{digest[:8]}", about, net.eval())


def shipped_for(dataset: Dataset) -> Evaluator | None:
    """The evaluator inside the package that was made for this data, if there is one."""
    for path in sorted(SHIPPED.glob("*.safetensors")):
        if path.stem.rpartition("-")[0] == dataset.name:
            evaluator = load(path)
            # other splits than the evaluator learned from would hold out what it has seen
            as_it_was = (
                not set(dataset.settings) - {"binarise"}
                and tuple(evaluator.about["shape"]) == dataset.spec.shape
            )
            return evaluator if as_it_was else None
    return None


def is_ours(path: Path) -> bool:
    """Whether the header is one that ``fromnoise evaluator fit`` writes."""
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(size, 1 << 20)))
        return "about" in header.get("__metadata__", {})
    except (OSError, ValueError, AttributeError):
        return False


def feature_map(path: Path, digest: str | None = None) -> FeatureMap:
    """An evaluator of ours, or published weights (Inception, DINOv2) with the sha256 that they are
    expected to have.

    Raises UsageError, DataError.
    """
    if digest is not None:
        return load_published(path, digest)
    if Path(path).is_file() and not is_ours(path):
        raise DataError(
            f"{path} is no evaluator of fromnoise: make one with `fromnoise evaluator fit`; "
            "weights of Inception or DINOv2 go with --evaluator-digest"
        )
    return load(path)


def evaluator_for(
    dataset: Dataset, path: Path | None = None, digest: str | None = None
) -> FeatureMap | None:
    """The feature map that the user named, or the shipped one. Raises DataError when it was made
    for other data.
    """
    if path is None:
        return shipped_for(dataset)
    evaluator, spec = feature_map(path, digest), dataset.spec
    if not isinstance(evaluator, Evaluator):
        if spec.kind != "image":
            raise UsageError(
                f"{path} is a network for images, and {dataset.name} holds none: fit an evaluator "
                f"with `fromnoise evaluator fit {dataset.name}`"
            )
        return evaluator
    about = evaluator.about
    if tuple(about["shape"]) != spec.shape:
        raise DataError(
            f"the evaluator {path} takes examples of shape {tuple(about['shape'])}, these have "
            f"{spec.shape}: fit one with `fromnoise evaluator fit {dataset.name}`"
        )
    if about["digest"] != dataset.digest:
        other = "other examples or splits of it" if about["data"] == dataset.name else dataset.name
        raise DataError(
            f"the evaluator {path} was fitted on {about['data']} (digest {about['digest'][:8]}), "
            f"and this is {other}: fit one with `fromnoise evaluator fit {dataset.name}` and the "
            "same data options"
        )
    return evaluator
