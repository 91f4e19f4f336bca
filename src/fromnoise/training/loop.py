"""The training loop: one ``train_step`` for every family, and what surrounds it.

A run is a function of its seed: the batch, the noise and the learning rate of a step are computed from the
step's number. Clock readings decide only how many steps a budget in minutes is, once, before the first step.
"""

import contextlib
import math
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from ..core.errors import DivergedError, StoppedError, UsageError
from ..core.family import Family, FitsInClosedForm, HasLikelihood, Reconstructs
from ..core.rng import Rng
from ..core.run import Run
from ..core.spec import Batch
from ..data.dataset import Dataset
from ..data.stream import Stream, comfortable, in_order
from . import checkpoint, health
from .optim import Ema, callable_modules, lr_factor, make_optimizers
from .settings import TrainConfig


def train_step(model: Family, optimizers: dict, stream: Stream, step: int, rng: Rng, config: TrainConfig, factor: float):
    """One step of all phases: forward, zero_grad, backward, clip, step. Returns its terms and gradient norms.

    Freezing is ``backward(inputs=...)``: parameters outside the phase get no gradient and no update.
    """
    terms, norms, place = {}, {}, step * sum(phase.repeats for phase in model.phases())
    for phase in model.phases():
        optimizer = optimizers[phase.trains]
        for repeat in range(phase.repeats if step % phase.every == 0 else 0):
            batch, key = stream.batch(place + repeat), rng.at("step", step, phase.name, repeat)
            key.seed_torch()
            with torch.autocast(batch.x.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
                loss = model.loss(batch, phase.name, key)
            optimizer.zero_grad()
            loss.value.backward(inputs=optimizer.params)
            norm = clip_gradients(optimizer.params, config.clip)
            terms |= {name: float(value.detach()) for name, value in loss.terms.items()}
            norms[phase.name] = norm
            if not (math.isfinite(norm) and math.isfinite(float(loss.value.detach()))):
                raise DivergedError(health.not_finite(step, terms, norm))
            optimizer.step(factor)
        place += phase.repeats
    return terms, norms


def clip_gradients(params: list[torch.Tensor], longest: float) -> float:
    """Shortens the gradient of all params together to norm ``longest`` if it is longer; returns its norm before."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in params if p.grad is not None])
    if norm > longest:  # the library's clip_grad_norm_ multiplies every gradient, every time
        torch.nn.utils.clip_grads_with_norm_(params, longest, norm)
    return float(norm)


@dataclass
class State:
    """Everything that goes on from one step to the next besides tensors; floats survive JSON exactly."""

    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0
    history: list[float] = field(default_factory=list)
    best: dict | None = None
    events: int = 0

    def add(self, terms: dict[str, float]) -> None:
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def take_means(self) -> dict[str, float]:
        means = {name: value / self.count for name, value in sorted(self.sums.items())}
        self.sums, self.count = {}, 0
        return means


class Trainer:
    """Model, average, optimisers and stream of a run, made from its seed alone."""

    def __init__(self, build: Callable[[], Family], dataset: Dataset, config: TrainConfig):
        self.config, self.dataset = config, dataset
        self.device = pick_device(config.device)
        self.threads = set_threads(config.threads)
        self.rng = Rng(config.seed, device=self.device)
        self.build = build
        self.compile = config.compile and can_compile()
        self.stream = Stream(dataset, config.batch_size, self.rng, device=self.device, workers=config.workers)
        self.start_afresh()

    def start_afresh(self) -> None:
        """Initial weights, as the seed has them."""
        self.rng.at("init").seed_torch()
        self.model = self.build().to(self.device)
        self.ema = Ema(self.model, self.config.ema)
        self.optimizers = make_optimizers(self.model, self.config)
        self.state = State()
        if self.compile:
            for module in callable_modules(self.model):
                module.compile()

    # -- steps -----------------------------------------------------------------------------------------------

    def advance(self, steps: int) -> tuple[dict, dict]:
        """One step of a budget of ``steps``."""
        step = self.state.step
        self.model.progress = step / steps
        factor = lr_factor(step, steps, self.config)
        out = train_step(self.model, self.optimizers, self.stream, step, self.rng, self.config, factor)
        self.ema.update(self.model, step)
        self.state.step += 1
        return out

    @torch.no_grad()
    def finish(self) -> None:
        """What a family computes from the whole training set: a density of the codes, a closed form."""
        if not all(bool(torch.isfinite(p).all()) for p in self.model.parameters()):
            raise DivergedError(f"diverged by step {self.state.step}: a weight is not finite. Lower --lr, or --clip the gradient more")
        for model in (self.model, self.ema.model):
            if isinstance(model, FitsInClosedForm):
                model.fit(lambda: in_order(self.dataset, "train", device=self.device), self.rng.at("fit"))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Means over held-out examples with the averaged weights; ``value`` (lower is better) ranks checkpoints."""
        model, totals, n = self.ema.model, {}, 0
        for batch in in_order(self.dataset, "validation", comfortable(self.dataset.spec, 500), self.config.validation_examples, self.device):
            rng = self.rng.at("validate").per_row(range(n, n + len(batch)))
            for name, value in held_out_terms(model, batch, rng).items():
                totals[name] = totals.get(name, 0.0) + value * len(batch)
            n += len(batch)
        return {name: value / n for name, value in totals.items()}

    # -- state -----------------------------------------------------------------------------------------------

    def save(self, run: Run) -> None:
        optim = {f"{'+'.join(key)}/{name}": t for key, o in self.optimizers.items() for name, t in o.tensors().items()}
        parts = {"model": self.model.state_dict(), "ema": self.ema.model.state_dict(), "optim": optim}
        keep = {self.state.best["step"]} if self.state.best else set()
        checkpoint.save(run, self.state.step, parts, vars(self.state) | {"threads": self.threads}, keep)

    def load(self, saved: checkpoint.Checkpoint) -> None:
        self.model.load_state_dict(saved.tensors("model"))
        self.ema.model.load_state_dict(saved.tensors("ema"))
        optim = saved.tensors("optim")
        for key, optimizer in self.optimizers.items():
            prefix = "+".join(key) + "/"
            optimizer.load({name[len(prefix) :]: t for name, t in optim.items() if name.startswith(prefix)})
        self.state = State(**{name: saved.manifest[name] for name in vars(State())})


def held_out_terms(model: Family, batch: Batch, rng: Rng) -> dict[str, float]:
    """The objective of the first phase; for a model without phases its likelihood and reconstruction error."""
    if model.phases():
        loss = model.loss(batch, model.phases()[0].name, rng)
        return {"value": float(loss.value), **{name: float(value) for name, value in loss.terms.items()}}
    terms = {}
    if isinstance(model, Reconstructs):
        terms["mse"] = float((model.reconstruct(batch.x, batch.y) - batch.x).square().mean())
    if isinstance(model, HasLikelihood) and model.bound != "none":
        terms["nll"] = -float(model.log_likelihood(batch.x, batch.y, rng).mean())
    return {"value": terms.get("nll", terms.get("mse", 0.0)), **terms}


def fit(trainer: Trainer, run: Run, steps: int, on_event: Callable[[dict], None], stop: "Stop") -> None:
    """Trains to ``steps``, with an event, a validation and a checkpoint at each interval.

    Raises DivergedError, StorageError, and StoppedError once the state is saved after a signal.
    """
    state, first = trainer.state, trainer.state.step
    before = run.events("interval")
    started = time.monotonic() - (before[-1]["seconds"] if before else 0.0)  # seconds count all of the training
    resumed = time.monotonic()
    batch = next(in_order(trainer.dataset, "validation", comfortable(trainer.dataset.spec, 500), device=trainer.device))
    every = -(-steps // trainer.config.intervals) or 1
    if state.step == 0 and steps:
        trainer.save(run)
    while state.step < steps:
        terms, norms = trainer.advance(steps)
        state.add(terms | {f"gradient_norm/{name}": norm for name, norm in norms.items()})
        ends = state.step == steps
        if ends or state.step % every == 0:
            if ends:
                trainer.finish()
            _report(trainer, run, steps, batch, on_event, started, (first, resumed))
            trainer.save(run)
        if stop.signal and not ends:
            trainer.save(run)
            raise StoppedError(f"stopped at step {state.step} of {steps}, state saved: `fromnoise resume {run.path}`", stop.signal)
    if not steps:
        trainer.finish()
        _report(trainer, run, steps, batch, on_event, started, (first, resumed))
        trainer.save(run)


def _report(trainer: Trainer, run: Run, steps: int, batch: Batch, on_event, started: float, since: tuple[int, float]) -> None:
    """Writes the event of an interval: everything but the clock fields is a function of the seed."""
    state, held_out = trainer.state, trainer.validate()
    if not all(math.isfinite(value) for value in held_out.values()):
        raise DivergedError(f"diverged by step {state.step}: the held-out metric is not finite. Lower --lr, or --clip the gradient more")
    settled = state.step >= 0.25 * steps  # a model that has only begun is not ill
    state.history.append(held_out["value"])
    if state.best is None or held_out["value"] < state.best["value"]:
        state.best = {"step": state.step, "value": held_out["value"]}
    first, resumed = since
    seconds = time.monotonic() - started
    rate = (state.step - first) / max(time.monotonic() - resumed, 1e-9)
    event = {
        "kind": "interval",
        "step": state.step,
        "steps": steps,
        "epoch": state.step / trainer.stream.batches_per_epoch,
        "train": state.take_means() if state.count else {},
        "validation": held_out,
        "health": health.examine(trainer.ema.model, batch, state.history, trainer.config.intervals) if settled else [],
        "seconds": seconds,
        "items_per_second": rate * trainer.stream.batch_size,
        "eta": (steps - state.step) / rate if state.step > first else 0.0,
        "memory_mb": peak_memory_mb(trainer.device),
    }
    run.append(event)
    state.events += 1
    on_event(event)


def measure(trainer: Trainer, seconds: float, most: int) -> float:
    """Seconds for one step, timed on throw-away steps; the trainer starts afresh afterwards.

    The median: the first steps (allocation, compilation) and moments when the machine was busy do not count.
    """
    times, begin = [], time.monotonic()
    with contextlib.suppress(DivergedError):  # it will diverge again in the run itself, which then says so
        while len(times) < most + 2 and (len(times) < 5 or time.monotonic() - begin < seconds):
            before = time.monotonic()
            trainer.advance(10**9)
            times.append(time.monotonic() - before)
    trainer.start_afresh()
    return statistics.median(times[2:] or times or [0.01])


class Stop:
    """SIGINT and SIGTERM set a flag that the loop reads between steps; a second one ends the process at once."""

    def __init__(self):
        self.signal, self._old = 0, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._on_signal)
        return self

    def _on_signal(self, number, frame):
        if self.signal:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = number

    def __exit__(self, *_):
        for number, handler in self._old.items():
            signal.signal(number, handler)


def pick_device(name: str) -> torch.device:
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name not in ("auto", *there):
        raise UsageError(f"--device takes auto, cpu, cuda or mps, not '{name}'")
    if name != "auto":
        if not there[name]:
            raise UsageError(f"--device {name}: this machine has none that torch can use: leave --device out")
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def can_compile() -> bool:
    """Does torch.compile work here? If not, says why on stderr: training then goes on without it."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(2))
        return True
    except Exception as error:  # whatever is missing: a compiler, its headers, a driver
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        print(f"warning: --compile does not work here ({reason[:120]}): training without it", file=sys.stderr)
        return False


def set_threads(threads: int) -> int:
    if threads:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def peak_memory_mb(device: torch.device) -> float:
    """Highest memory use of this process so far, on the device (CUDA) or resident in RAM."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
