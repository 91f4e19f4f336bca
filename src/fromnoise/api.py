"""The Python interface: ``train`` and ``open`` return a ``TrainedRun`` with a method for each verb."""

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .core.capabilities import Decodes, Encodes, has
from .core.errors import DataError, UsageError
from .core.output import OnEvent, ignore_event
from .core.words import escaped
from .families import Trust
from .inference.edit import Editor
from .inference.guidance import guided_by
from .inference.model_input import to_conditions, to_model_input
from .inference.reconstruct import reconstruct_batch
from .inference.sample import check_takes_labels, labels_of, sample
from .inference.text import continue_texts, score_text
from .inference.write import explain_lost_label, to_data_units
from .runs.directory import Run
from .runs.load import LoadedRun, load_run
from .training.launch import python_call, start_run
from .training.plan import make_plan
from .training.resume import resume_run

Data = np.ndarray | dict | list[str]  # images or points; a table {column: values}; texts
TrustCode = bool | str | Path | Sequence[str | Path] | Trust


class Report(dict):
    """The content of ``report.json``; printed as a table."""

    def __str__(self) -> str:
        from .evaluate.table import plain_table

        return plain_table([self])


class TrainedRun:
    """A run whose model is loaded when it is first needed (averaged weights, checkpoint ``which``).

    Results are in the data's own units: images uint8 (N, H, W[, 3]), points (N, D), tables, texts.
    ``y`` is None, or labels (numbers or names) or captions of a conditional model. Further options
    of sampling and editing are those of ``fromnoise sample``.
    """

    def __init__(
        self, path: str | Path, which="last", device="auto", trust_code: TrustCode = False
    ):
        self.run = Run(path)
        self._which = which
        self._device = device
        self._trust = Trust.of(trust_code)

    def __repr__(self) -> str:
        record = self.run.record
        return escaped(f"<fromnoise run {self.path}: {record.family} on {record.data.name}>")

    @property
    def path(self) -> Path:
        return self.run.path

    @cached_property
    def loaded(self) -> LoadedRun:
        options = {"device": self._device, "warn": _warn, "trust": self._trust}
        try:
            return load_run(self.run, self._which, **options)
        except DataError as error:
            _warn(f"{error}. Sampling and codes work without them")
            return load_run(self.run, self._which, with_data=False, **options)

    @property
    def model(self) -> Any:
        """The family's module, in eval mode: x in [-1, 1] for images."""
        return self.loaded.model

    @property
    def dataset(self):
        return self.loaded.dataset

    def sample(
        self,
        n: int = 64,
        seed: int = 0,
        label: int | str | None = None,
        prompt: str | None = None,
        guide_with: "TrainedRun | None" = None,
        **options,
    ) -> Data:
        """n samples.

        label: one class for all, by name or number (only by name if names are numbers), a column of
            a table; prompt: one caption for all.
        guide_with: a weaker diffusion model of the same data, for ``guidance`` above 1.
        """
        if label is not None and self.dataset.caption_codec is None:
            check_takes_labels(self.loaded)
            label = self.dataset.class_number(label)
        if message := explain_lost_label(self.loaded):
            _warn(message)
        with guided_by(self.loaded, guide_with and guide_with.loaded, options):
            x = sample(self.loaded, n, seed, label, options, prompt)
        return to_data_units(self.dataset, x, labels_of(self.loaded, n, label))

    def generate(
        self,
        prompt: str = "",
        n: int = 1,
        length: int = 500,
        seed: int = 0,
        stop: str | Sequence[str] = (),
        **options,
    ) -> list[str]:
        """n continuations of a prompt (without it), of ``length`` symbols or up to a ``stop`` string.

        Text i depends only on the seed and i. options: of sampling (``temperature=0.8, top_p=0.9``).
        """
        texts = continue_texts(self.loaded, prompt, n, length, seed, stop, options, warn=_warn)
        return [text.text for text in texts]

    def score(self, text: str):
        """A ``TextScore``: nats, bits per character and byte, and the surprise of each symbol."""
        return score_text(self.loaded, text)

    def _inputs(self, x, y, exact: bool = False) -> tuple[Any, Any]:
        x = to_model_input(self.dataset, x, exact).to(self.loaded.device)
        return x, self._conditions(y, len(x))

    def _conditions(self, y, n: int) -> torch.Tensor | None:
        y = to_conditions(self.dataset, y, n)
        return None if y is None else y.to(self.loaded.device)

    def _require(self, capability: type, verb: str) -> None:
        if not has(self.model, capability):
            raise UsageError(f"the family {self.run.record.family} does not {verb}")

    @torch.no_grad()
    def encode(self, x: np.ndarray, y=None) -> np.ndarray:
        """Codes (N, latent_dim); for a VAE the posterior means."""
        self._require(Encodes, "encode")
        return self.model.encode(*self._inputs(x, y)).cpu().numpy()

    @torch.no_grad()
    def decode(self, z: np.ndarray, y=None) -> Data:
        """Codes (N, latent_dim) -> examples."""
        self._require(Decodes, "decode")
        z = torch.as_tensor(np.asarray(z), dtype=torch.float32, device=self.loaded.device)
        if z.ndim != 2 or z.shape[1] != self.model.latent_dim:
            raise UsageError(
                f"codes of shape {tuple(z.shape)} were given, "
                f"this model takes (N, {self.model.latent_dim})"
            )
        y = self._conditions(y, len(z))
        return to_data_units(self.dataset, self.model.decode(z, y), y)

    @torch.no_grad()
    def reconstruct(self, x: np.ndarray, y=None) -> Data:
        """Reconstructions; without an encoder z is found by optimisation (inference/invert.py)."""
        inputs, y = self._inputs(x, y)
        x_hat, _ = reconstruct_batch(self.loaded, inputs, y)
        return to_data_units(self.dataset, x_hat, y)

    def complete(self, x: np.ndarray, fill, y=None, seed: int = 0, **options) -> Data:
        """Examples with the part ``fill`` replaced by a sample of it.

        fill: of images left, right, top, bottom, centre, an image file whose white part is replaced,
        or bool (H, W), True where pixels are replaced; of vectors bool (D,).
        """
        return self._edit("complete", x, fill, y, seed, options)

    def redraw(self, x: np.ndarray, strength=0.5, y=None, seed: int = 0, **options) -> Data:
        """Examples mixed with noise, a share (0, 1], and denoised; 1 leaves nothing of them."""
        return self._edit("redraw", x, strength, y, seed, options)

    def vary(self, x: np.ndarray, amount: float = 0.2, y=None, seed: int = 0, **options) -> Data:
        """Variations: the noise of each example moves by a share, (0, 1], towards other noise."""
        return self._edit("vary", x, amount, y, seed, options)

    def between(self, a: np.ndarray, b: np.ndarray, n=8, y=None, seed=0, **options) -> Data:
        """n examples from each a to its b, (N, ...) each, through noise; pair after pair."""
        start, y = self._inputs(a, y)
        end, _ = self._inputs(b, None)
        paths = Editor(self.loaded, y, 1, seed, options).between(start, end, n)
        return to_data_units(self.dataset, paths.flatten(0, 1))

    def _edit(self, name: str, x, setting, y, seed: int, options: dict):
        x, y = self._inputs(x, y)
        results = getattr(Editor(self.loaded, y, 1, seed, options), name)(x, setting)
        return to_data_units(self.dataset, results[:, 0], y)

    def log_prob(self, x: np.ndarray, y=None, k: int = 100, seed: int = 0) -> np.ndarray:
        """log p(x) in nats, (N,): exact, or the k-sample bound; ``run.model.bound`` tells which."""
        from .evaluate.log_prob import log_prob

        inputs, y = self._inputs(x, y, exact=True)
        return log_prob(self.loaded, inputs, y, k, seed).cpu().numpy()

    def evaluate(
        self,
        k: int = 100,
        n: int | None = None,
        quick: bool = False,
        samples: int | None = None,
        evaluator: str | Path | None = None,
        evaluator_digest: str | None = None,
        seed: int = 0,
        ais: int = 0,
    ) -> Report:
        """Measures the run and writes report.json; see ``fromnoise eval --help``."""
        from .evaluate.report import evaluate

        evaluator = None if evaluator is None else Path(evaluator)
        settings = (k, n, quick, seed, samples, evaluator, evaluator_digest)
        return Report(evaluate(self.loaded, *settings, anneal=ais, warn=_warn))

    def show(self, *names: str, **options) -> list[Path]:
        """Draws figures into the run's ``figures`` folder; without names all that apply."""
        from .show.catalogue import show

        options.setdefault("say", _warn)
        return show(self.loaded, list(names) or None, **options)

    def resume(self, **changes) -> "TrainedRun":
        """Continues the training; see ``fromnoise resume --help``."""
        run = resume_run(self.run, changes, warn=_print, trust=self._trust)
        return TrainedRun(run.path, self._which, self._device, self._trust)


def train(
    family: str,
    data: str | None = None,
    preset: str | None = None,
    out: str | Path | None = None,
    on_event: OnEvent = ignore_event,
    within: "TrainedRun | str | Path | None" = None,
    trust_code: TrustCode = False,
    **options,
) -> TrainedRun:
    """Trains a model and returns its run.

    family: a name, or the path of a family file.
    data: by default digits, or those of ``within``, a run on whose codes it is trained (``open``).
    options: those of ``fromnoise train FAMILY --help`` with underscores (``latent_dim=2, minutes=2``).
    """
    options = {name: value for name, value in options.items() if value is not None}
    if isinstance(within, TrainedRun):
        trust = within._trust
        within = within.path
    else:
        trust = Trust.of(trust_code)
    plan = make_plan(family, data, preset, within, trust, **options)
    for note in plan.dataset.notes:
        _warn(f"data: {note}")
    command = python_call(family, data or plan.dataset.name, preset, within, options)
    run = start_run(plan, out, command, on_event=on_event)
    return TrainedRun(run.path, trust_code=True)


def compare(
    *runs: "TrainedRun | str | Path",
    out: str | Path = "compare.html",
    samples: int | None = None,
    seed: int = 0,
    zoo: bool = True,
    trust_code: TrustCode = False,
) -> Path:
    """Writes one page about runs of the same data; see ``fromnoise compare --help``."""
    from .studies.comparison import compare as write_page

    loaded = []
    for run in runs:
        run = run if isinstance(run, TrainedRun) else TrainedRun(run, trust_code=trust_code)
        loaded.append(run.loaded)
    return write_page(loaded, Path(out), samples, seed=seed, zoo=zoo)[0]


def open(
    path: str | Path, which: str = "last", device: str = "auto", trust_code: TrustCode = False
) -> TrainedRun:  # noqa: A001
    """Opens a trained run. which: "last", "best" or a step.

    trust_code: a run of a family file executes it. True allows the file of the training (by its
    sha256); a path or several allow these files as they are now.
    """
    return TrainedRun(path, which, device, trust_code)


load = open


def _warn(text: str) -> None:
    warnings.warn(escaped(text), stacklevel=3)


def _print(text: str) -> None:
    print(escaped(text))
