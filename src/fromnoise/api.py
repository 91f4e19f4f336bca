"""The Python API: ``train`` and ``open`` return a ``TrainedRun`` with one method for each thing to do with it."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from .core.capabilities import Decodes, Encodes, HasLikelihood, Reconstructs, has
from .core.errors import DataError, UsageError
from .core.rng import Rng
from .core.spec import Batch, check_labels
from .core.words import escaped
from .families import Trust
from .runs.directory import Run
from .runs.load import LoadedRun, load_run
from .training.launch import start_run
from .training.plan import make_plan
from .training.resume import resume_run

TrustCode = bool | str | Path | Sequence[str | Path] | Trust


class Report(dict):
    """What ``report.json`` holds; printed as a table."""

    def __str__(self) -> str:
        from .evaluate.table import plain_table

        return plain_table([self])


class TrainedRun:
    """A run directory with its model loaded when first needed (averaged weights, checkpoint ``which``)."""

    def __init__(
        self,
        path: str | Path,
        which: str = "last",
        device: str = "auto",
        trust_code: TrustCode = False,
    ):
        self.run, self._which, self._device = Run(path), which, device
        self._trust = Trust.of(trust_code)

    def __repr__(self) -> str:
        return escaped(
            f"<fromnoise run {self.path}: {self.run.record.family} on {self.run.record.data.name}>"
        )

    @property
    def path(self) -> Path:
        return self.run.path

    @cached_property
    def loaded(self) -> LoadedRun:
        import warnings

        options = {
            "which": self._which,
            "device": self._device,
            "warn": lambda line: warnings.warn(escaped(line), stacklevel=6),
            "trust": self._trust,
        }
        try:
            return load_run(self.run, **options)
        except DataError as error:
            warnings.warn(f"{error}. Sampling and codes work without them", stacklevel=3)
            return load_run(self.run, **options, with_data=False)

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
        """n samples: images uint8 (n, H, W[, 3]), points (n, D) in the data's units, tables {column: values}, texts as long as in training.

        label: one class for all, by name or number (where names are numbers, by name only); the label is a column of a table's samples; prompt: one caption for all, for a model that was trained with captions; guide_with: a weaker
        diffusion model of the same data, away from which ``guidance`` above 1 leads.
        """
        import warnings

        from .inference.guidance import guided_by
        from .inference.sample import check_takes_labels, labels_of, sample
        from .inference.write import explain_lost_label, to_data_units

        if (
            label is not None and self.dataset.caption_codec is None
        ):  # with captions the sampler says what to give instead
            check_takes_labels(self.loaded)
            label = self.dataset.class_number(label)
        if lost := explain_lost_label(self.loaded):
            warnings.warn(lost, stacklevel=2)
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
        """n continuations of a prompt, each of ``length`` symbols or up to a stop string; the prompt is not in them.

        Text i depends on the seed and i only. options: as of ``fromnoise sample`` (``temperature=0.8, top_p=0.9``).
        """
        import warnings

        from .inference.text import continue_texts

        def warn(text):
            return warnings.warn(escaped(text), stacklevel=3)

        return [
            one.text
            for one in continue_texts(
                self.loaded, prompt, n, length, seed, stop, options, warn=warn
            )
        ]

    def score(self, text: str):
        """How much a text surprises the model: a ``TextScore``, with nats, bits per character and byte, and each symbol's surprise."""
        from .inference.text import score_text

        return score_text(self.loaded, text)

    def _input(self, x: np.ndarray, exact: bool = False) -> torch.Tensor:
        """Images uint8 (N, H, W[, C]) or vectors as the model takes them -> model form.

        exact: only the grey values that the data have, as a likelihood wants them.
        """
        spec, x = self.dataset.spec, np.asarray(x)
        if spec.kind != "image":
            out = torch.as_tensor(x, dtype=torch.float32)
        else:
            if x.dtype != np.uint8:
                raise UsageError("images are given as uint8, 0 .. 255, (N, H, W) or (N, H, W, C)")
            x = x[..., None] if x.ndim == 3 else x
            levels = torch.from_numpy(x).permute(0, 3, 1, 2).float() * ((spec.levels - 1) / 255)
            if exact and (levels - levels.round()).abs().max() > 0.51 * (spec.levels - 1) / 255:
                raise UsageError(
                    f"this model's pixels have {spec.levels} levels: give images with those grey values only"
                )
            out = (levels.round() if exact else levels) * (2 / (spec.levels - 1)) - 1
        if tuple(out.shape[1:]) != spec.shape:
            raise UsageError(
                f"examples of shape {tuple(out.shape[1:])} were given, this model takes {spec.shape}"
            )
        return out.to(self.loaded.device)

    def _labels(self, y, n: int) -> torch.Tensor | None:
        """Labels (n,), or a list of captions, for a conditional model; other models take none. Raises UsageError.

        Whole numbers are positions from 0 on, as in ``run.dataset.split("test").labels``; strings are names of classes.
        """
        if y is None:
            return None
        if self.dataset.caption_codec is not None:
            if len(y) != n or not all(isinstance(caption, str) for caption in y):
                raise UsageError(f"this model's conditions are captions: give {n} strings")
            return self.dataset.caption_codec.encode(y).to(self.loaded.device)
        if any(isinstance(label, str) for label in y):
            y = [
                self.dataset.class_number(label) if isinstance(label, str) else label for label in y
            ]
        check_labels(y, n, self.dataset.spec.classes)
        self.dataset.require_learned_classes(np.asarray(y, np.int64))
        return torch.as_tensor(np.asarray(y), dtype=torch.int64, device=self.loaded.device)

    @torch.no_grad()
    def encode(self, x: np.ndarray, y=None) -> np.ndarray:
        """Codes (N, latent_dim); a VAE gives posterior means. y: labels, for conditional models."""
        self._needs(Encodes, "encode")
        return self.model.encode(self._input(x), self._labels(y, len(x))).cpu().numpy()

    @torch.no_grad()
    def decode(self, z: np.ndarray, y=None) -> np.ndarray | dict:
        """Codes (N, latent_dim) -> examples in the data's own units."""
        from .inference.write import to_data_units

        self._needs(Decodes, "decode")
        z = torch.as_tensor(np.asarray(z), dtype=torch.float32, device=self.loaded.device)
        if z.ndim != 2 or z.shape[1] != self.model.latent_dim:
            raise UsageError(
                f"codes of shape {tuple(z.shape)} were given, this model takes (N, {self.model.latent_dim})"
            )
        y = self._labels(y, len(z))
        return to_data_units(self.dataset, self.model.decode(z, y), y)

    @torch.no_grad()
    def reconstruct(self, x: np.ndarray, y=None) -> np.ndarray | dict:
        """Examples through the bottleneck, or, without an encoder, by a search for their z (invert.py), in the data's own units."""
        from .inference.invert import invert, why_not
        from .inference.write import to_data_units

        x, y = self._input(x), self._labels(y, len(x))
        if has(self.model, Reconstructs):
            return to_data_units(self.dataset, self.model.reconstruct(x, y), y)
        if why_not(self.model):
            self._needs(Reconstructs, "reconstruct")
        rng = Rng(0, ("reconstruct",), device=self.loaded.device)
        return to_data_units(
            self.dataset, invert(self.model, x, y, self.loaded.family.Options(), rng).x_hat, y
        )

    def complete(self, x: np.ndarray, fill, y=None, seed: int = 0, **options) -> np.ndarray | dict:
        """Examples with a part filled in anew, the rest as it was. y: labels, for conditional models; options: of the sampler.

        fill: of images left, right, top, bottom, centre, the path of a picture whose white part it is, or bool (H, W), True
        where it is to be filled in; of vectors bool (D,).
        """
        from .inference import edit

        return self._edited(edit.complete, x, fill, y, seed, options)

    def redraw(
        self, x: np.ndarray, strength: float = 0.5, y=None, seed: int = 0, **options
    ) -> np.ndarray | dict:
        """Examples mixed with a share of noise, above 0 and up to 1, and denoised again: near 0 they stay, at 1 nothing of them is left."""
        from .inference import edit

        return self._edited(edit.redraw, x, strength, y, seed, options)

    def vary(
        self, x: np.ndarray, amount: float = 0.2, y=None, seed: int = 0, **options
    ) -> np.ndarray | dict:
        """Relatives of the examples: their own noise turned by a share, above 0 and up to 1, towards other noise."""
        from .inference import edit

        return self._edited(edit.vary, x, amount, y, seed, options)

    def between(
        self, a: np.ndarray, b: np.ndarray, n: int = 8, y=None, seed: int = 0, **options
    ) -> np.ndarray | dict:
        """From each a to its b, (N, ...) each, through noise: n examples for each pair, ends included, pair after pair."""
        from .inference import edit
        from .inference.write import to_data_units

        a, b = self._input(a), self._input(b)
        if len(a) != len(b):
            raise UsageError(
                f"{len(a)} examples were given to go from, and {len(b)} to go to: as many of both"
            )
        made = edit.between(self.loaded, a, b, n, self._labels(y, len(a)), seed, options)
        return to_data_units(self.dataset, made.flatten(0, 1))

    def _edited(self, change, x, how, y, seed, options):
        from .inference.write import to_data_units

        y = self._labels(y, len(x))
        made = change(self.loaded, self._input(x), how, y, 1, seed, options)
        return to_data_units(self.dataset, made[:, 0], y)

    @torch.no_grad()
    def log_prob(self, x: np.ndarray, y=None, k: int = 100, seed: int = 0) -> np.ndarray:
        """(N,) nats as ``evaluate`` has them: exact, or the k-sample bound; ``run.model.bound`` says which."""
        from .evaluate.likelihood import log_likelihoods
        from .evaluate.likelihood_checks import why_none

        self._needs(HasLikelihood, "have a likelihood")
        if reason := why_none(self.loaded):
            raise UsageError(f"this model has no likelihood: {reason}")
        x, y, rng, out = (
            self._input(x, exact=True),
            self._labels(y, len(x)),
            Rng(seed, ("log_prob",), device=self.loaded.device),
            [],
        )
        for start in range(0, len(x), 16):
            part = slice(start, start + 16)
            batch = Batch(x[part], None if y is None else y[part])
            out.append(log_likelihoods(self.model, self.dataset.spec, batch, rng.at(start), k))
        return torch.cat(out).cpu().numpy()

    def _needs(self, capability, verb: str) -> None:
        if not has(self.model, capability):
            raise UsageError(f"the family {self.run.record.family} does not {verb}")

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
        """Measures samples, likelihood, reconstruction and code, and writes report.json; see ``fromnoise eval --help``."""
        import warnings

        from .evaluate.report import evaluate

        path = None if evaluator is None else Path(evaluator)

        def warn(text):
            return warnings.warn(escaped(text), stacklevel=3)

        return Report(
            evaluate(
                self.loaded,
                k,
                n,
                quick,
                seed,
                samples,
                path,
                evaluator_digest,
                anneal=ais,
                warn=warn,
            )
        )

    def show(self, *names: str, **options) -> list[Path]:
        """Draws figures (all that apply when none is named) into the run's ``figures`` folder."""
        import warnings

        from .show.catalogue import show

        options.setdefault("say", lambda text: warnings.warn(escaped(text), stacklevel=4))
        return show(self.loaded, list(names) or None, **options)

    def resume(self, **changes) -> "TrainedRun":
        """Goes on training; see ``fromnoise resume --help``."""
        return TrainedRun(
            resume_run(
                self.run, changes, warn=lambda line: print(escaped(line)), trust=self._trust
            ).path,
            self._which,
            self._device,
            self._trust,
        )


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

    family: a name or a path to a family file. data: digits, or those of ``within``, a run in whose codes the family is
    trained; the new run then holds both. trust_code: of ``within``, see ``open``. options: those of ``fromnoise train FAMILY --help``, with
    underscores (``latent_dim=2, minutes=2``). What was decided about the data without asking is warned of. Raises UsageError,
    DataError, DivergedError, StorageError.
    """
    import warnings

    options = {name: value for name, value in options.items() if value is not None}
    trust = within._trust if isinstance(within, TrainedRun) else Trust.of(trust_code)
    within = within.path if isinstance(within, TrainedRun) else within
    plan = make_plan(family, data, preset, within, trust, **options)
    for note in plan.dataset.notes:
        warnings.warn(f"data: {note}", stacklevel=2)
    named = {"data": data or plan.dataset.name, "preset": preset, "within": within and str(within)}
    shown = {**{name: value for name, value in named.items() if value}, **options}
    command = f"fn.train({family!r}, {', '.join(f'{k}={v!r}' for k, v in shown.items())})"
    return TrainedRun(start_run(plan, out, command, on_event=on_event).path, trust_code=True)


def compare(
    *runs: "TrainedRun | str | Path",
    out: str | Path = "compare.html",
    samples: int | None = None,
    seed: int = 0,
    zoo: bool = True,
    trust_code: TrustCode = False,
) -> Path:
    """One page about several runs of the same data; see ``fromnoise compare --help``. Returns its path."""
    from .studies.comparison import compare as make

    opened = [
        run if isinstance(run, TrainedRun) else TrainedRun(run, trust_code=trust_code)
        for run in runs
    ]
    return make([run.loaded for run in opened], Path(out), samples, seed=seed, zoo=zoo)[0]


def open(
    path: str | Path, which: str = "last", device: str = "auto", trust_code: TrustCode = False
) -> TrainedRun:  # noqa: A001
    """A run that was trained before. which: "last", "best" or a step.

    trust_code: a run of a family in a file of its own executes that file. True allows it where the file is as it was when the
    run was trained, by its sha256; the path of a file, or several, allows these as they are now. Bundled families need none.
    """
    return TrainedRun(path, which, device, trust_code)


load = open
