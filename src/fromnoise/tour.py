"""The main job: small models of every family on real data, trained for equal seconds, measured, drawn on one page."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .comparison import compare
from .core.errors import UsageError
from .core.files import storage_error
from .core.run import next_folder
from .evaluate.table import summary
from .training import launch


@dataclass(frozen=True)
class Stop:
    """One model of the tour. title: how the page calls it."""

    name: str
    family: str
    preset: str
    title: str
    options: dict


SAMPLES = 2000  # drawn of each model and measured

# The first three share one bottleneck of two numbers, and the last two of the first three one network: what
# differs between their latent planes is the objective.
STOPS = (
    Stop("pca", "classical", "lecture", "PCA, 2 numbers", {}),
    Stop("autoencoder", "autoencoder", "lecture", "autoencoder, 2 numbers", {}),
    Stop("vae", "vae", "lecture", "VAE, 2 numbers", {}),
    Stop("mixture", "classical", "mixture", "Gaussian mixture", {}),
    Stop("plain", "autoencoder", "denoising", "autoencoder, 16 numbers", {"corruption": "none", "latent_dim": 16}),
    Stop("denoising", "autoencoder", "denoising", "denoising autoencoder, 16 numbers", {"latent_dim": 16}),
    Stop("vae-16", "vae", "mlp", "VAE, 16 numbers", {"latent_dim": 16}),
    Stop("ladder", "vae", "ladder", "hierarchical VAE", {}),
    Stop("vaegan", "vaegan", "conv", "VAE-GAN, 16 numbers", {"latent_dim": 16}),
    Stop("gan", "gan", "conv", "GAN", {}),
)


def tour(out: Path, data: str, seconds: int, seed: int, say: Callable[[str], None]) -> tuple[Path, list[dict]]:
    """Trains, measures and draws all stops; returns the page and the reports. Raises as training does."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file: name a folder")
    options = {stop.name: {"seed": seed, "intervals": 8, **stop.options} for stop in STOPS}
    plans = {s.name: launch.plan(s.family, data, s.preset, minutes=seconds / 60, **options[s.name]) for s in STOPS}
    if out.exists() and any(out.iterdir()):
        kept = next_folder(out.parent, out.name)
        try:
            out.rename(kept)
        except OSError as error:
            raise storage_error(error, out) from error
        say(f"the tour that was in {out} is kept in {kept}")
    runs, commands = {}, []
    for stop in STOPS:
        run = launch.start(plans[stop.name], out / stop.name, "fromnoise tour")
        exact = options[stop.name] | ({"steps": run.info["steps"]} if run.info["steps"] else {})  # minutes depend on the machine
        flags = [part for key, value in exact.items() for part in (f"--{key.replace('_', '-')}", str(value))]
        commands.append(launch.command_line(["train", stop.family, "--data", data, "--preset", stop.preset, *flags]))
        runs[stop.name] = launch.restore(run)
        say(f"trained {stop.title}")
    say("")
    page, reports = compare(
        list(runs.values()), out / "report.html", samples=SAMPLES, seed=seed, say=say, titles=[stop.title for stop in STOPS],
        head=("fromnoise tour", _intro(runs, seconds)), commands=commands, figures=out / "figures",
    )  # fmt: skip
    say("")
    say(summary(reports))
    return page, reports


def _intro(runs: dict, seconds: int) -> str:
    restored = runs["vae"]
    train, test = (len(restored.dataset.split(name)) for name in ("train", "test"))
    return (
        f"{len(runs)} models of {restored.dataset.name}, the networks trained for about {seconds} seconds each on {train:,} examples and measured on "
        f"{test:,} that they never saw. PCA and the mixture are fitted in closed form: the baselines that a network has to beat."
    )

