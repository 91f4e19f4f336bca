"""What every family must hold, ours or a stranger's: ``fromnoise check FILE.py`` and the test-suite run this.

Each check trains the family for a few steps on small data that suits it (digits, a 2-D mixture, text) and raises
AssertionError with a sentence when something does not hold. Data of a kind that the family refuses, with a UsageError, are
left out.
"""

import tempfile
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch

from .. import families
from ..core.capabilities import Decodes, Encodes, HasLikelihood, Judges, Predicts, Reconstructs, has
from ..core.errors import FromNoiseError, StoppedError, UsageError
from ..core.rng import Rng
from ..inference.sample import sample
from ..runs import checkpoint
from ..runs.directory import CLOCK_FIELDS, Run
from ..runs.load import load_run
from ..training import launch
from ..training.launch import start_run
from ..training.plan import Plan, make_plan, option_models
from ..training.resume import resume_run
from ..training.loop import fit
from ..training.stop import StopRequest
from ..training.monitor.validation import held_out_terms

DIGITS, POINTS, CAPTIONS = {"data_name": "digits"}, {"data_name": "ring8"}, {"data_name": "shapes"}
TEXT = {"data_name": str(Path(__file__).resolve()), "context": 32}  # any small text: this one
TRUST = families.Trust(recorded=True)  # the user named the file, and the runs are made here
SMALL = {"threads": 1, "steps": 24, "batch_size": 128, "intervals": 3, "validation_examples": 64}


def check_family(
    name: str, on_result: Callable[[dict], None] = lambda r: None, **options
) -> list[dict]:
    """Runs all checks; options go to every training (a preset, a network). Raises UsageError if it cannot load."""
    family = families.load(name)
    suite = Suite(family, options)
    results = []
    for check in (v for k, v in vars(Suite).items() if k.startswith("check_")):
        label = check.__doc__.strip().split("\n")[0]
        try:
            check(suite)
            result = {"check": label, "ok": True, "detail": ""}
        except (AssertionError, FromNoiseError) as error:
            result = {"check": label, "ok": False, "detail": " ".join(str(error).split())}
        except Exception as error:  # a stranger's file may raise anything
            result = {
                "check": label,
                "ok": False,
                "detail": f"{type(error).__name__}: {' '.join(str(error).split())}",
            }
        on_result(result)
        results.append(result)
    return results


class Suite:
    """The checks of one family."""

    def __init__(self, family: families.FamilyFile, options: dict):
        self.family = family
        self.name = family.name if family.path.parent == families.HERE else str(family.path)
        self.options = SMALL | options

    @cached_property
    def data(self) -> list[dict]:
        """The small data sets that the family takes, at least one; text if it predicts symbols. Raises UsageError."""
        found, refusal, predicts = [], None, True
        for data in (DIGITS, POINTS, TEXT):
            if data is TEXT and not predicts:
                continue
            try:
                predicts = has(make_plan(self.name, **data | self.options).build(), Predicts)
                found += [data] if data is not TEXT or predicts else []
            except UsageError as error:
                refusal = refusal or error
        if not found:
            raise refusal
        return found

    def plan(self, **more) -> Plan:
        return make_plan(self.name, **self.data[0] | self.options | more)

    def takes(self, **more) -> bool:
        """Do these options go together with those that are checked?"""
        try:
            self.plan(**more)
        except UsageError:
            return False
        return True

    def check_presets(self):
        """every preset resolves, and no option has two meanings"""
        models = option_models(self.family)
        names = [name for model in models for name in model.model_fields]
        twice = sorted({name for name in names if names.count(name) > 1})
        assert not twice, f"these names are options of the training or the data already: {twice}"
        assert "default" in self.family.PRESETS, "PRESETS has no 'default'"
        for preset, values in self.family.PRESETS.items():
            unknown = sorted(set(values) - set(names))
            assert not unknown, f"preset {preset} sets unknown options {unknown}"

    def check_round_trip(self):
        """the configuration survives JSON, and the constructor stores it unchanged"""
        plan = self.plan()
        again = type(plan.config).model_validate_json(plan.config.model_dump_json())
        assert again == plan.config, f"{plan.config} came back as {again}"
        assert plan.build().config is plan.config, "the model does not keep the config it was given"

    def check_phases(self):
        """the gradients of each phase reach what it trains, and its update changes nothing else"""
        trainer = self.plan().trainer()
        for phase in trainer.model.phases():
            before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
            params = trainer.model.parameters_of(phase)
            for step in range(
                3
            ):  # layers that start at zero hold their inputs' gradients back at first
                loss = trainer.model.loss(
                    trainer.stream.batch(step), phase.name, trainer.rng.at("check", step)
                )
                assert loss.value.ndim == 0, (
                    f"phase {phase.name}: the loss has shape {tuple(loss.value.shape)}, not a scalar"
                )
                assert loss.terms, f"phase {phase.name}: the loss names no terms"
                for p in trainer.model.parameters():
                    p.grad = None
                loss.value.backward(inputs=list(params.values()))
                trainer.optimizers[phase.trains].step(1.0)

            # a loss that compares scores has no gradient in a constant that is added to all of them
            def free(p):
                return has(trainer.model, Judges) and p.numel() == 1

            idle = [
                name
                for name, p in params.items()
                if p.grad is None or not (p.grad.abs().sum() > 0 or free(p))
            ]
            assert not idle, f"phase {phase.name} trains {idle[0]}, but no gradient reaches it"
            changed = [
                k for k, v in trainer.model.state_dict().items() if not torch.equal(v, before[k])
            ]
            strangers = [
                k for k in changed if not k.startswith(tuple(f"{m}." for m in phase.trains))
            ]
            assert not strangers, (
                f"phase {phase.name} changed {strangers[0]}, which it does not train"
            )

    def check_loss_is_pure(self):
        """the loss depends on its arguments only: same batch and key, same number"""
        trainer = self.plan().trainer()
        for phase in trainer.model.phases():
            batch = trainer.stream.batch(0)
            a, b = (
                trainer.model.loss(batch, phase.name, trainer.rng.at("check")).value.item()
                for _ in range(2)
            )
            assert a == b, (
                f"phase {phase.name} gave {a}, then {b}: use the rng it is given, and no other"
            )

    def check_learns(self):
        """the held-out objective falls"""
        trainer = self.plan(steps=60).trainer()
        if not trainer.model.phases():
            return
        batch, rng = trainer.stream.batch(10**6), Rng(0).at("check")
        judges = has(trainer.model, Judges)  # whose losses may well rise: its samples are measured

        def held_out():
            with torch.no_grad():
                return (
                    trainer.validate()["value"]
                    if judges
                    else held_out_terms(trainer.model, batch, rng)["value"]
                )

        before = held_out()
        for _ in range(60):
            trainer.advance(60)
        trainer.model.eval()
        after = held_out()
        assert after < before, (
            f"60 steps took the {'distance of samples' if judges else 'loss'} from {before:.4g} to {after:.4g}"
        )

    def check_samples(self):
        """samples have the right shape and range, are finite, and depend on (seed, i) alone"""
        for data in self.data:
            with tempfile.TemporaryDirectory() as folder:
                run = start_run(self.plan(**data), Path(folder) / "run")
                loaded = load_run(run, trust=TRUST)
                many, few = sample(loaded, 70, seed=1), sample(loaded, 3, seed=1)
                other = sample(loaded, 3, seed=2)
            spec, name = loaded.dataset.spec, Path(loaded.dataset.name).name
            assert many.shape == (70, *spec.shape), (
                f"70 samples of {name} have shape {tuple(many.shape)}, not {(70, *spec.shape)}"
            )
            assert torch.isfinite(many).all(), f"samples of {name} are not finite"
            if spec.kind == "image":
                assert many.abs().max() < 4, (
                    f"samples of {name} reach {float(many.abs().max()):.3g}: images live in [-1, 1]"
                )
            if spec.kind == "tokens":
                assert many.dtype == torch.int64 and 0 <= many.min() and many.max() < spec.levels, (
                    f"samples of text are whole numbers from 0 to {spec.levels - 1}"
                )
            assert torch.equal(many[:3], few), "sample i changes with the number of samples"
            assert not torch.equal(few, other), "another seed gives the same samples"

    def check_capabilities(self):
        """encode, decode, reconstruct and likelihood keep their shapes, and do not depend on batch mates"""
        with tempfile.TemporaryDirectory() as folder:
            loaded = load_run(start_run(self.plan(), Path(folder) / "run"), trust=TRUST)
        model, batch = loaded.model, loaded.dataset.batch("test", slice(0, 8))
        first = loaded.dataset.batch("test", slice(0, 1))
        with torch.no_grad():
            if has(model, Encodes):
                z = model.encode(batch.x, batch.y)
                assert z.shape == (8, model.latent_dim), (
                    f"encode gave {tuple(z.shape)}, not {(8, model.latent_dim)}"
                )
                assert torch.allclose(z[:1], model.encode(first.x, first.y), atol=1e-4), (
                    "a code depends on its batch mates"
                )
                if has(model, Decodes):
                    x = model.decode(z, batch.y)
                    assert x.shape == batch.x.shape, f"decode gave {tuple(x.shape)}"
            if has(model, Reconstructs):
                assert model.reconstruct(batch.x, batch.y).shape == batch.x.shape, (
                    "reconstruct changes the shape"
                )
            if has(model, HasLikelihood) and model.bound != "none":
                rng = Rng(0).at("check")
                nats = model.log_likelihood(batch.x, batch.y, rng.per_row(range(8)))
                alone = model.log_likelihood(first.x, first.y, rng.per_row(range(1)))
                assert nats.shape == (8,) and torch.isfinite(nats).all(), (
                    "log_likelihood must give one finite number an example"
                )
                assert torch.allclose(nats[:1], alone, rtol=1e-4, atol=1e-3), (
                    "a likelihood depends on its batch mates"
                )

    def check_predictions(self):
        """predictions of symbols are a distribution, see nothing ahead, and are the same step by step and all at once"""
        for data in self.data:
            trainer = self.plan(**data).trainer()
            model = trainer.model
            if not has(model, Predicts):
                return
            for _ in range(
                3 if model.phases() else 0
            ):  # layers that start at zero would hide what they see
                trainer.advance(3)
            model.eval()
            batch = trainer.dataset.batch("test", slice(0, 3))
            with torch.no_grad():
                check_predictions(model, batch.x, batch.y if model.conditional else None)

    def check_labels(self):
        """labels are obeyed: a conditional model's samples change with the label and nothing else"""
        if "conditional" not in self.family.Config.model_fields or not self.takes(conditional=True):
            return
        with tempfile.TemporaryDirectory() as folder:
            loaded = load_run(
                start_run(self.plan(conditional=True), Path(folder) / "run"), trust=TRUST
            )
        a, b = sample(loaded, 4, label=1), sample(loaded, 4, label=2)
        assert not torch.equal(a, b), "the label changes nothing"

    def check_captions(self):
        """captions are obeyed: words and their order change a conditional model's samples, by prompts as by rows of words"""
        told = CAPTIONS | {"conditional": True, "steps": 4, "batch_size": 16}
        if "conditional" not in self.family.Config.model_fields or not self.takes(**told):
            return
        with tempfile.TemporaryDirectory() as folder:
            loaded = load_run(start_run(self.plan(**told), Path(folder) / "run"), trust=TRUST)
        said = [
            "a red circle left of a blue square",
            "a blue square left of a red circle",
            "a red circle",
        ]
        a, b, c = (sample(loaded, 2, prompt=caption) for caption in said)
        assert not torch.equal(a, c), "the caption changes nothing"
        assert not torch.equal(a, b), "the order of a caption's words changes nothing"
        first = loaded.dataset.caption_codec.examples[0]
        assert torch.equal(sample(loaded, 1), sample(loaded, 1, prompt=first)), (
            "samples without a prompt do not begin with the first example"
        )

    def check_resume(self):
        """a run stopped at step 1, mid-epoch, at an epoch's end (11) and three times in a row ends bit for bit the same"""
        cuts = [[1], [5], [11], [3, 8, 17]]
        for data, some in (
            (self.data[0], cuts),
            *((data, cuts[-1:]) for data in self.data[1:] if data is TEXT),
        ):
            with tempfile.TemporaryDirectory() as folder:
                whole = start_run(self.plan(**data), Path(folder) / "whole")
                if not whole.record.steps:
                    return
                for stops in some:
                    cut = interrupted(
                        self.plan(**data), Path(folder) / f"cut{'-'.join(map(str, stops))}", stops
                    )
                    difference = first_difference(whole, cut)
                    assert not difference, f"stopped at {stops}: {difference}"


def check_predictions(model: Predicts, x: torch.Tensor, y: torch.Tensor | None) -> None:
    """What every model that predicts symbols must hold, on examples x (B, *shape)."""
    s = model.to_symbols(x)
    B, T, V = len(x), model.length, model.vocabulary
    assert s.shape == (B, T) and 0 <= s.min() and s.max() < V, (
        f"to_symbols gave {tuple(s.shape)}, not {(B, T)} numbers below {V}"
    )
    assert torch.allclose(model.from_symbols(s).float(), x.float(), atol=1e-6), (
        "from_symbols does not undo to_symbols"
    )
    log_p = model.log_probs(s, y)
    assert log_p.shape == (B, T, V), f"log_probs gave {tuple(log_p.shape)}, not {(B, T, V)}"
    assert log_p.logsumexp(2).abs().max() < 1e-3, (
        "the probabilities of the next symbol do not sum to 1"
    )
    alone = model.log_probs(s[:1], None if y is None else y[:1])
    assert torch.allclose(alone, log_p[:1], rtol=1e-5, atol=1e-5), (
        "a prediction depends on its batch mates"
    )

    reach, seen = T if model.context is None else model.context, False
    for j in (0, T // 3, T - 2):
        other = s.clone()
        other[:, j] = (s[:, j] + 1) % V
        same = (model.log_probs(other, y) == log_p).all(2)  # to the bit
        assert same[:, : j + 1].all(), (
            f"a prediction depends on what comes after it: symbol {j} changed an earlier one"
        )
        assert same[:, j + 1 + reach :].all(), (
            f"a prediction depends on more than the {reach} symbols before it"
        )
        seen |= not same.all()
    assert seen or reach == 0, "no prediction depends on what came before it"

    state, symbol = model.begin(B, y), None
    for i in range(T):
        step = model.step(state, symbol)
        far = float((step - log_p[:, i]).abs().max())
        assert torch.allclose(step, log_p[:, i], rtol=1e-5, atol=1e-5), (
            f"step by step, symbol {i} has other log-probabilities than all at once, by {far:.2g}"
        )
        symbol = s[:, i]
    if has(model, HasLikelihood) and model.bound == "exact":
        nats, sums = model.log_likelihood(x, y, Rng(0)), log_p.gather(2, s[:, :, None]).sum((1, 2))
        assert torch.allclose(nats, sums, rtol=1e-4, atol=1e-3), (
            "log_likelihood is not the sum of the predictions of the symbols"
        )


def interrupted(plan: Plan, path: Path, stops: list[int]) -> Run:
    """Trains the plan, stopped by a signal's flag after each of the steps, resumed with other workers each time."""
    pending, stop_class = list(stops), launch.Stop

    class StopAt(StopRequest):
        def __init__(self):
            super().__init__()
            self._signal = 0

        @property
        def signal(self):
            return 15 if pending and trainer_step() == pending[0] else 0

        @signal.setter
        def signal(self, value):
            pass

    current = threading.local()

    def trainer_step():
        return getattr(current, "trainer", None) and current.trainer.state.step

    def progress_options(trainer, *others):
        current.trainer = trainer
        try:
            fit(trainer, *others)
        except StoppedError:
            pending.pop(0)
            raise

    launch.Stop, launch.fit = StopAt, progress_options
    try:
        for i in range(len(stops) + 1):
            try:
                if i == 0:
                    start_run(plan, path)
                else:
                    resume_run(
                        Run(path), {"workers": i % 3}, warn=lambda line: None, trust=TRUST
                    )
            except StoppedError:
                continue
    finally:
        launch.Stop, launch.fit = stop_class, fit
    assert not pending, f"never stopped at {pending}"
    return Run(path)


def first_difference(a: Run, b: Run) -> str:
    """The first thing in which two finished runs differ, clock fields aside; empty when none does."""
    saved = [checkpoint.find(run) for run in (a, b)]
    for part in checkpoint.PARTS:
        left, right = (c.tensors(part) for c in saved)
        if left.keys() != right.keys():
            return f"{part} holds other tensors"
        for name in left:
            if not torch.equal(left[name], right[name]):
                return (
                    f"{part}/{name} differs by {float((left[name] - right[name]).abs().max()):.3g}"
                )

    def strip(event):
        return {k: v for k, v in event.items() if k not in CLOCK_FIELDS}

    left, right = ([strip(e) for e in run.events()] for run in (a, b))
    if len(left) != len(right):
        return f"{len(left)} events against {len(right)}"
    for mine, other in zip(left, right):
        if mine != other:
            return f"the event of step {mine['step']} differs"
    left, right = (one.manifest.state() for one in saved)
    return "" if left | {"files": None} == right | {"files": None} else "the manifests differ"
