"""The Python interface: ``train`` and ``open`` return a ``TrainedRun`` with a method for each verb."""

import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from .core.capabilities import Decodes, Encodes, HasLikelihood, Reconstructs, has
from .core.errors import DataError, UsageError
from .core.rng import Rng
from .core.spec import Batch
from .core.words import escaped
from .families import Trust
from .runs.directory import Run
from .runs.load import LoadedRun, load_run
from .training.launch import start_run
from .training.plan import make_plan
from .training.resume import resume_run

TrustCode = bool | str | Path | Sequence[str | Path] | Trust
LIKELIHOOD_BATCH = 16


class Report(dict):
    """The content of ``report.json``; printed as a table."""

    def __str__(self) -> str:
        from .evaluate.table import plain_table

        return plain_table([self])


class TrainedRun:
    """A run whose model is loaded when it is first needed (averaged weights, checkpoint ``which``).

    Results are in the data's own units: images uint8 (N, H, W[, 3]), points (N, D), tables
    {column: values}, texts. ``y`` is None, or labels (numbers or names) or captions of a conditional
    model. Further options of sampling and editing are those of ``fromnoise sample``.
    """

    def __init__(
        self,
        path: str | Path,
        which: str = "last",
        device: str = "auto",
        trust_code: TrustCode = False,
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
        def load(with_data: bool) -> LoadedRun:
            return load_run(
                self.run,
                self._which,
                device=self._device,
                warn=_warn,
                with_data=with_data,
                trust=self._trust,
            )

        try:
            return load(with_data=True)
        except DataError as error:
            _warn(f"{error}. Sampling and codes work without them")
            return load(with_data=False)

    @property
    def model(self):
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
    ) -> np.ndarray | dict | list[str]:
        """n samples.

        label: one class for all, by name or number (only by name if names are numbers); it is a column
            of a table's samples.
        prompt: one caption for all, for a model that was trained with captions.
        guide_with: a weaker diffusion model of the same data; ``guidance`` above 1 moves away from its
            predictions.
        """
        from .inference.guidance import guided_by
        from .inference.sample import check_takes_labels, labels_of, sample
        from .inference.write import explain_lost_label, to_data_units

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
        """n continuations of a prompt (without the prompt).

        length: symbols of each; stop: a continuation ends before one of these strings. Text i depends
        only on the seed and i. options: of sampling (``temperature=0.8, top_p=0.9``).
        """
        from .inference.text import continue_texts

        texts = continue_texts(self.loaded, prompt, n, length, seed, stop, options, warn=_warn)
        return [text.text for text in texts]

    def score(self, text: str):
        """A ``TextScore``: nats, bits per character and byte, and the surprise of each symbol."""
        from .inference.text import score_text

        return score_text(self.loaded, text)

    def _input(self, x: np.ndarray, exact: bool = False) -> torch.Tensor:
        from .inference.model_input import to_model_input

        return to_model_input(self.dataset, x, exact).to(self.loaded.device)

    def _conditions(self, y, n: int) -> torch.Tensor | None:
        from .inference.model_input import to_conditions

        y = to_conditions(self.dataset, y, n)
        return None if y is None else y.to(self.loaded.device)

    def _to_data_units(self, x: torch.Tensor, y=None) -> np.ndarray | dict:
        from .inference.write import to_data_units

        return to_data_units(self.dataset, x, y)

    def _require(self, capability: type, verb: str) -> None:
        if not has(self.model, capability):
            raise UsageError(f"the family {self.run.record.family} does not {verb}")

    @torch.no_grad()
    def encode(self, x: np.ndarray, y=None) -> np.ndarray:
        """Codes (N, latent_dim); for a VAE the posterior means."""
        self._require(Encodes, "encode")
        return self.model.encode(self._input(x), self._conditions(y, len(x))).cpu().numpy()

    @torch.no_grad()
    def decode(self, z: np.ndarray, y=None) -> np.ndarray | dict:
        """Codes (N, latent_dim) -> examples."""
        self._require(Decodes, "decode")
        z = torch.as_tensor(np.asarray(z), dtype=torch.float32, device=self.loaded.device)
        if z.ndim != 2 or z.shape[1] != self.model.latent_dim:
            raise UsageError(
                f"codes of shape {tuple(z.shape)} were given, "
                f"this model takes (N, {self.model.latent_dim})"
            )
        y = self._conditions(y, len(z))
        return self._to_data_units(self.model.decode(z, y), y)

    @torch.no_grad()
    def reconstruct(self, x: np.ndarray, y=None) -> np.ndarray | dict:
        """Reconstructions; without an encoder z is found by optimisation (inference/invert.py)."""
        from .inference.invert import invert, why_not

        x = self._input(x)
        y = self._conditions(y, len(x))
        if has(self.model, Reconstructs):
            return self._to_data_units(self.model.reconstruct(x, y), y)
        if why_not(self.model):
            self._require(Reconstructs, "reconstruct")
        rng = Rng(0, ("reconstruct",), device=self.loaded.device)
        inversion = invert(self.model, x, y, self.loaded.family.Options(), rng)
        return self._to_data_units(inversion.x_hat, y)

    def complete(self, x: np.ndarray, fill, y=None, seed: int = 0, **options) -> np.ndarray | dict:
        """Examples with one part replaced by a sample of it.

        fill: for images left, right, top, bottom, centre, the path of an image whose white part is
        replaced, or bool (H, W), True where pixels are replaced; for vectors bool (D,).
        """
        from .inference import edit

        return self._edit(edit.complete, x, fill, y, seed, options)

    def redraw(
        self, x: np.ndarray, strength: float = 0.5, y=None, seed: int = 0, **options
    ) -> np.ndarray | dict:
        """Examples mixed with noise and denoised.

        strength: the share of noise, above 0 and up to 1, where nothing of the example is left.
        """
        from .inference import edit

        return self._edit(edit.redraw, x, strength, y, seed, options)

    def vary(
        self, x: np.ndarray, amount: float = 0.2, y=None, seed: int = 0, **options
    ) -> np.ndarray | dict:
        """Variations: the noise of each example moves by a share, (0, 1], towards other noise."""
        from .inference import edit

        return self._edit(edit.vary, x, amount, y, seed, options)

    def between(
        self, a: np.ndarray, b: np.ndarray, n: int = 8, y=None, seed: int = 0, **options
    ) -> np.ndarray | dict:
        """Interpolates through noise from each a to its b, (N, ...) each.

        Returns n examples for each pair, ends included, pair after pair.
        """
        from .inference import edit

        a = self._input(a)
        b = self._input(b)
        if len(a) != len(b):
            raise UsageError(
                f"{len(a)} examples a and {len(b)} examples b were given: give as many of both"
            )
        paths = edit.between(self.loaded, a, b, n, self._conditions(y, len(a)), seed, options)
        return self._to_data_units(paths.flatten(0, 1))

    def _edit(self, edit: Callable, x, setting, y, seed: int, options: dict):
        y = self._conditions(y, len(x))
        results = edit(self.loaded, self._input(x), setting, y, 1, seed, options)
        return self._to_data_units(results[:, 0], y)

    @torch.no_grad()
    def log_prob(self, x: np.ndarray, y=None, k: int = 100, seed: int = 0) -> np.ndarray:
        """log p(x) in nats, (N,): exact, or the k-sample bound; ``run.model.bound`` tells which."""
        from .evaluate.likelihood import log_likelihoods
        from .evaluate.likelihood_checks import why_none

        self._require(HasLikelihood, "have a likelihood")
        if reason := why_none(self.loaded):
            raise UsageError(f"this model has no likelihood: {reason}")
        x = self._input(x, exact=True)
        y = self._conditions(y, len(x))
        rng = Rng(seed, ("log_prob",), device=self.loaded.device)
        parts = []
        for start in range(0, len(x), LIKELIHOOD_BATCH):
            rows = slice(start, start + LIKELIHOOD_BATCH)
            batch = Batch(x[rows], None if y is None else y[rows])
            parts.append(log_likelihoods(self.model, self.dataset.spec, batch, rng.at(start), k))
        return torch.cat(parts).cpu().numpy()

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
        """Measures samples, likelihood, reconstruction and code, and writes report.json.

        See ``fromnoise eval --help``.
        """
        from .evaluate.report import evaluate

        report = evaluate(
            self.loaded,
            k,
            n,
            quick,
            seed,
            samples,
            None if evaluator is None else Path(evaluator),
            evaluator_digest,
            anneal=ais,
            warn=_warn,
        )
        return Report(report)

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
    on_event: Callable[[dict], None] = lambda event: None,
    within: "TrainedRun | str | Path | None" = None,
    trust_code: TrustCode = False,
    **options,
) -> TrainedRun:
    """Trains a model and returns its run.

    family: a name, or the path of a family file.
    data: by default digits, or those of ``within``.
    within: a run on whose codes the family is trained; the new run contains both models.
    trust_code: for ``within``, see ``open``.
    options: those of ``fromnoise train FAMILY --help`` with underscores (``latent_dim=2, minutes=2``).
    Decisions about the data that were made without asking are warnings.
    Raises UsageError, DataError, DivergedError, StorageError.
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
    arguments = {
        "data": data or plan.dataset.name,
        "preset": preset,
        "within": within and str(within),
    }
    arguments = {name: value for name, value in arguments.items() if value} | options
    listed = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    run = start_run(plan, out, f"fn.train({family!r}, {listed})", on_event=on_event)
    return TrainedRun(run.path, trust_code=True)


def compare(
    *runs: "TrainedRun | str | Path",
    out: str | Path = "compare.html",
    samples: int | None = None,
    seed: int = 0,
    zoo: bool = True,
    trust_code: TrustCode = False,
) -> Path:
    """Writes one page about several runs of the same data and returns its path.

    See ``fromnoise compare --help``.
    """
    from .studies.comparison import compare as write_page

    opened = [
        run if isinstance(run, TrainedRun) else TrainedRun(run, trust_code=trust_code)
        for run in runs
    ]
    page, _ = write_page([run.loaded for run in opened], Path(out), samples, seed=seed, zoo=zoo)
    return page


def open(
    path: str | Path, which: str = "last", device: str = "auto", trust_code: TrustCode = False
) -> TrainedRun:  # noqa: A001
    """Opens a trained run. which: "last", "best" or a step.

    trust_code: a run of a family file executes that file. True allows it if the file has not changed
    since training (by its sha256); the path of a file, or several paths, allow these files as they are
    now. Families of the package need no trust.
    """
    return TrainedRun(path, which, device, trust_code)


load = open


def _warn(text: str) -> None:
    warnings.warn(escaped(text), stacklevel=3)


def _print(text: str) -> None:
    print(escaped(text))
