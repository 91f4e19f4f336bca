"""Two stages as one model: scales, forms of codes, capabilities, the likelihood bound, and what may happen to the first run."""

import shutil
from pathlib import Path

import pytest
import torch

import fromnoise as fn
from fromnoise import families
from fromnoise.checks.conformance import check_family
from fromnoise.cli import main
from fromnoise.core import capabilities as can
from fromnoise.core.capabilities import has
from fromnoise.core.errors import UsageError
from fromnoise.core.rng import Rng
from fromnoise.core.spec import Batch
from fromnoise.families import load, two_stage
from fromnoise.inference.sample import sample
from fromnoise.nets import codes
from fromnoise.probability.gaussian import importance_weighted_bound
from fromnoise.runs.directory import Run
from fromnoise.runs.load import LoadedRun, load_run
from fromnoise.training.first_stage import choose_form
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan
from fromnoise.training.resume import recorded_plan, resume_run

SMALL = {"threads": 1, "steps": 12, "batch_size": 64, "intervals": 2, "validation_examples": 40}
FIRST = {
    "vae": dict(
        hidden=(16,), latent_dim=3, steps=300
    ),  # the samples of a second stage show what it learned
    "autoencoder": dict(hidden=(16,), latent_dim=3, components=2),
    "vqvae": dict(preset="mlp", hidden=(16,), places=8, codes=16, code_dim=3, steps=200),
    "gan": dict(preset="mlp", hidden=(8,), latent_dim=2),
    "classical": dict(latent_dim=3),
}
SECOND = {
    "classical": dict(preset="mixture", latent_dim=12, components=2),
    "gan": dict(preset="table", hidden=(32, 32), latent_dim=4),
    "autoregressive": dict(
        width=16, depth=1, heads=2, batch_size=64, zero_init=False
    ),  # a label counts from the start
    "vae": dict(preset="table", hidden=(8,), latent_dim=2),
}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """name -> the folder of a small first stage on digits, made once."""
    root, made = tmp_path_factory.mktemp("first"), {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = start_run(make_plan(name, **SMALL | FIRST[name]), root / name).path
        return made[name]

    return get


def trained(first, second: str, within: str, out="run", **more) -> LoadedRun:
    return load_run(
        start_run(
            make_plan(second, within=first(within), **SMALL | SECOND[second] | more), Path(out)
        )
    )


@pytest.mark.parametrize(
    "second,within",
    [
        ("classical", "autoencoder"),
        ("gan", "vae"),
        ("autoregressive", "vqvae"),
        ("vae", "classical"),
    ],
)
def test_conformance(second, within, first):
    failed = [
        f"{r['check']}: {r['detail']}"
        for r in check_family(second, within=first(within), **SECOND[second])
        if not r["ok"]
    ]
    assert not failed, failed


# -- what the second stage sees -----------------------------------------------------------------------------------


def test_codes_are_standardised_and_what_never_varies_stays_at_its_mean():
    scale = codes.Standardised((3,), flat=True)
    z = Rng(0).normal("z", (500, 3)) * torch.tensor([5.0, 0.01, 1e-6]) + torch.tensor(
        [1.0, -2.0, 7.0]
    )  # the last: what rounding leaves
    scale.fit(z)
    v = scale(z)
    assert torch.allclose(v.mean(0), torch.zeros(3), atol=1e-4) and torch.allclose(
        v.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-4
    )
    assert torch.allclose(scale.inverse(v), z, atol=1e-5)
    assert scale.inverse(torch.full((1, 3), 9e3))[0, 2].item() == pytest.approx(7.0, abs=1e-4)


@pytest.mark.parametrize("flat", [True, False])
def test_a_grid_is_standardised_by_channel(flat):
    scale, z = codes.Standardised((2, 3, 4), flat), Rng(0).normal("z", (200, 2, 3, 4)) * 4 + 3
    z[:, 1] *= 10
    scale.fit(z)
    v = scale(z)
    assert v.shape == ((200, 24) if flat else z.shape) and torch.allclose(
        scale.inverse(v), z, atol=1e-4
    )
    channels = v.view(200, 2, 12).transpose(0, 1).flatten(1)
    assert torch.allclose(
        channels.std(1, correction=0), torch.ones(2), atol=1e-4
    ) and scale.std.shape == (2, 1, 1)


def test_bins_are_equally_frequent_and_keep_the_order():
    scale, z = codes.Binned(2), Rng(0).normal("z", (6400, 2)) * torch.tensor([1.0, 30.0])
    scale.fit(z)
    s = scale(z)
    assert torch.bincount(s[:, 0], minlength=codes.BINS).tolist() == [100] * codes.BINS
    assert ((scale.inverse(s) - z).abs().mean(0) < 0.03 * z.std(0)).all()
    assert torch.equal(scale(scale.inverse(s)), s)


@pytest.mark.parametrize(
    "second,within,form",
    [
        ("autoregressive", "vqvae", "codes"),
        ("gan", "vqvae", "vector"),
        ("gan", "vae", "vector"),
        ("autoregressive", "vae", "bins"),
    ],
)
def test_the_form_suits_the_second_stage_and_nothing_is_lost_on_the_way(
    second, within, form, first
):
    plan = make_plan(second, within=first(within), **SMALL | SECOND[second])
    model = plan.trainer().model
    assert plan.config.form == form
    x = plan.dataset.batch("test", slice(0, 9)).x
    with torch.no_grad():
        v = model.to_latents(x, None)
        assert v.shape == (9, *model.second.spec.shape)
        there_and_back = model.from_latents(v, None)
    assert torch.allclose(
        there_and_back, model.first.reconstruct(x), atol=0.35 if form == "bins" else 1e-5
    )


def test_a_family_that_takes_latent_images_gets_the_grid(first, monkeypatch):
    monkeypatch.setattr(families.load("gan").FAMILY, "latent_images", True)
    found = load_run(Run(first("vqvae")), with_data=False).model
    assert choose_form(found, families.load("gan")) == "image"
    assert (
        two_stage.second_spec(found, "image").shape == (3, 1, 8)
        and two_stage.second_spec(found, "image").levels == 0
    )


# -- one model ----------------------------------------------------------------------------------------------------


def test_the_first_stage_is_copied_frozen_and_no_more_needed(first, tmp_path):
    own = tmp_path / "first"
    shutil.copytree(first("vae"), own)
    before = load_run(Run(own)).model.state_dict()
    run = start_run(make_plan("gan", within=own, **SMALL | SECOND["gan"]), Path("run"))
    one = sample(load_run(run), 5, seed=3)
    shutil.rmtree(own)
    again = load_run(Run("run"))
    assert torch.equal(sample(again, 5, seed=3), one)
    assert again.run.info["family"] == "latent" and again.run.info["data"]["name"] == "digits"
    for weights in ("model", "ema"):
        held = load_run(Run("run"), weights=weights).model.first.state_dict()
        assert held.keys() == before.keys() and all(
            torch.equal(held[name], before[name]) for name in before
        )
    anew = (
        recorded_plan(Run("run")).trainer().model.state_dict()
    )  # begins where the run began, scale of the codes included
    assert all(
        torch.equal(anew[name], value)
        for name, value in again.model.state_dict().items()
        if not name.startswith("second.")
    )
    told = []
    resume_run(Run("run"), {"steps": 3}, warn=told.append)
    assert not told and load_run(Run("run")).step == 15


def test_a_retrained_first_stage_is_told_of_and_not_taken(first, tmp_path):
    own = tmp_path / "first"
    shutil.copytree(first("vae"), own)
    run = start_run(make_plan("gan", within=own, **SMALL | SECOND["gan"]), Path("run"))
    held = load_run(run).model.first.state_dict()
    resume_run(Run(own), {"steps": 5})
    told = []
    resume_run(Run("run"), {"steps": 3}, warn=told.append)
    assert (
        len(told) == 1
        and str(own) in told[0]
        and "keeps the first stage that it began with" in told[0]
    )
    now = load_run(Run("run")).model.first.state_dict()
    assert all(torch.equal(now[name], held[name]) for name in held)


def test_the_first_stage_is_never_in_training(first):
    model = make_plan("vae", within=first("vae"), **SMALL | SECOND["vae"]).build().train()
    assert model.second.training and not any(module.training for module in model.first.modules())
    model.progress = 0.25
    assert model.second.progress == 0.25 and all(
        name.startswith("second.") for phase in model.phases() for name in phase.trains
    )


@pytest.mark.parametrize(
    "second,within,capable,lacking",
    [
        (
            "gan",
            "vae",
            "Judges HasFeatures Encodes Decodes DrawsLatents Reconstructs FitsBefore",
            "FitsInClosedForm Traces EncodesDistribution HasPosterior Predicts",
        ),
        (
            "classical",
            "autoencoder",
            "FitsInClosedForm Encodes Decodes DrawsLatents Reconstructs",
            "Judges HasFeatures Corrupts",
        ),
        (
            "autoregressive",
            "vqvae",
            "Reconstructs FitsBefore",
            "Encodes Decodes DrawsLatents Predicts Completes FitsInClosedForm Judges",
        ),
    ],
)
def test_it_can_what_its_stages_can(second, within, capable, lacking, first):
    model = make_plan(second, within=first(within), **SMALL | SECOND[second]).build()
    assert [name for name in capable.split() if not has(model, getattr(can, name))] == []
    assert [name for name in lacking.split() if has(model, getattr(can, name))] == []
    assert has(model, can.HasLikelihood) and (model.bound == "none") == bool(model.reason)


def test_latents_are_what_sample_decodes_and_labels_go_through(first):
    loaded = trained(first, "gan", "vae")
    rng = Rng(0).per_row(range(4))
    options = loaded.family.Options(truncation=1.0)
    z = loaded.model.draw_latents(4, options, rng)
    assert z.shape == (4, 3) and torch.equal(
        loaded.model.decode(z), loaded.model.sample(4, None, options, rng)
    )
    given = trained(first, "gan", "vae", out="given", conditional=True)
    assert given.model.config.conditional and not has(given.model, can.DrawsLatents)
    assert not torch.equal(sample(given, 4, label=1), sample(given, 4, label=2))


def test_the_steps_between_noise_and_sample_are_decoded(first):
    """Whatever second stage has them: here one made up."""

    class Walks(families.load("vae").FAMILY):
        def trace(self, n, y, options, rng):
            z = rng.normal("z", (n, *self.spec.shape))
            return [can.Moment(1.0, z, 0 * z), can.Moment(0.0, z, z)]

    model = make_plan("vae", within=first("vae"), **SMALL | SECOND["vae"]).build()
    assert not has(model, can.Traces)
    model.second.__class__ = Walks
    assert has(model, can.Traces)
    start, end = model.trace(2, None, None, Rng(0))
    assert start.level == 1 and start.x.shape == (2, 1, 8, 8) and torch.equal(end.x, start.x)
    assert torch.equal(start.x_hat, model.first.decode(model.scale.mean.expand(2, -1)))


def test_a_gan_of_codes_samples_by_g_alone(first):
    """Its discriminator is calibrated on samples that are decoded and encoded again, not on the codes that it would choose among."""
    model = make_plan("gan", within=first("vae"), **SMALL | SECOND["gan"]).trainer().model.eval()
    options = load("gan").Options
    assert torch.equal(
        model.sample(4, None, options(), Rng(0)),
        model.sample(4, None, options(candidates=1), Rng(0)),
    )
    with pytest.raises(UsageError, match="not measured"):
        model.sample(4, None, options(candidates=2), Rng(0))


# -- likelihood ---------------------------------------------------------------------------------------------------


def test_with_the_first_stages_own_prior_the_bound_is_the_first_stages_own(first):
    """A second stage that is N(0, I) of z in v's units, mean (0 - m) / s and deviation 1 / s: log p_second is log p_first."""
    plan = make_plan(
        "classical", within=first("vae"), **SMALL | SECOND["classical"] | {"components": 1}
    )
    model = plan.trainer().model.eval()
    assert model.bound == "lower" and not model.reason
    (
        model.scale.mean.copy_(torch.tensor([1.0, -2.0, 0.5])),
        model.scale.std.copy_(torch.tensor([2.0, 0.5, 3.0])),
    )
    second = model.second
    second.basis.copy_(torch.eye(3)), second.mean.zero_()
    (
        second.density.means.copy_(-model.scale.mean / model.scale.std),
        second.density.factors.copy_(torch.diag(1 / model.scale.std)[None]),
    )
    x, rng = plan.dataset.batch("test", slice(0, 6)).x, Rng(5)
    with torch.no_grad():
        log_weights = model.first.log_weights(x, None, rng, 4)
        assert torch.allclose(
            model.log_likelihood(x, None, rng, 4), importance_weighted_bound(log_weights), atol=1e-3
        )
        assert torch.allclose(
            model.log_likelihood(x, None, rng, 1),
            model.first.log_weights(x, None, rng, 1)[:, 0],
            atol=1e-3,
        )


@pytest.mark.parametrize(
    "second,within,why",
    [
        ("classical", "autoencoder", "one code for each x"),
        ("gan", "vae", "no density of z"),
        ("autoregressive", "vae", "rounded"),
        ("vae", "vae", "bound only"),
    ],
)
def test_without_a_density_it_says_what_is_missing(second, within, why, first):
    model = make_plan(second, within=first(within), **SMALL | SECOND[second]).build()
    assert model.bound == "none" and why in model.reason


# -- the command line ---------------------------------------------------------------------------------------------

QUICK = [
    "--threads",
    "1",
    "--steps",
    "8",
    "--intervals",
    "2",
    "--batch-size",
    "32",
    "--validation-examples",
    "20",
    "--quiet",
]


def test_every_verb_takes_such_a_run(first, capsys):
    path = str(first("vqvae"))
    assert (
        main(
            [
                "train",
                "autoregressive",
                "--within",
                path,
                "--width",
                "16",
                "--depth",
                "1",
                "--heads",
                "2",
                *QUICK,
                "--out",
                "two",
            ]
        )
        == 0
    )
    assert main(["sample", "two", "-n", "4", "--temperature", "0.5", "-o", "s.png"]) == 0
    assert main(["eval", "two", "--quick", "--samples", "100"]) == 0
    assert main(["show", "two", "samples", "recon", "curves"]) == 0
    assert main(["resume", "two", "--width", "16", "--steps", "2", "--quiet"]) == 0
    assert main(["verify", "two"]) == 0 and main(["reconstruct", "two"]) == 0
    out = capsys.readouterr().out
    assert "autoregressive within vqvae" in out
    run = fn.train(
        "classical", within=fn.open(path), preset="mixture", components=2, threads=1, out="api"
    )
    assert (
        run.sample(3).shape == (3, 8, 8)
        and "within=" in run.run.info["command"]
        and run.run.info["data"]["name"] == "digits"
    )
    assert (
        main(["compare", "two", "api", "-o", "page.html", "--samples", "100"]) == 0
        and "mixture within vqvae" in Path("page.html").read_text()
    )


def fails(capsys, *args, says):
    capsys.readouterr()
    code, err = main([str(a) for a in args]), capsys.readouterr().err
    lines = [line for line in err.splitlines() if not line.startswith("warning")]
    assert code == 2 and len(lines) == 1 and "Traceback" not in err, err
    for word in says:
        assert word in lines[0], (word, lines[0])


def test_mistakes(first, capsys):
    start_run(
        make_plan("classical", within=first("autoencoder"), **SMALL | SECOND["classical"]),
        Path("two"),
    )
    text = start_run(
        make_plan("autoregressive", str(Path(__file__).resolve()), "ngram", threads=1),
        Path("text"),
    ).path
    vae = first("vae")
    fails(capsys, "train", "latent", says=["--within"])
    fails(capsys, "train", "latent", "--help", says=["--within"])
    fails(capsys, "train", "gan", "--within", "gone", says=["gone", "no run"])
    fails(
        capsys,
        "train",
        "gan",
        "--within",
        vae,
        "--data",
        "ring8",
        says=["trained on 'digits'", "ring8"],
    )
    fails(capsys, "train", "gan", "--within", vae, "--split-seed", "3", says=["another form"])
    fails(capsys, "train", "gan", "--within", first("gan"), says=["no encoder"])
    fails(capsys, "train", "gan", "--within", text, says=["no encoder"])
    fails(
        capsys,
        "train",
        "gan",
        "--within",
        "two",
        says=["two stages already", str(first("autoencoder"))],
    )
    fails(
        capsys,
        "train",
        "gan",
        "--within",
        vae,
        "--network",
        "conv",
        says=["--network conv is for images"],
    )
    fails(capsys, "train", "gan", "--within", vae, "--temperature", "1", says=["--temperature"])
    fails(
        capsys,
        "resume",
        "two",
        "--components",
        "7",
        "--steps",
        "2",
        says=["--components", "2", "7"],
    )
    assert not Path("runs").exists()


def test_the_options_of_the_data_are_the_first_stages(capsys):
    own = ["--split-seed", "3", "--hidden", "8", "--latent-dim", "2"]
    assert main(["train", "autoencoder", *own, *QUICK, "--out", "other"]) == 0
    assert main(["train", "gan", "--within", "other", "--hidden", "8", *QUICK, "--out", "two"]) == 0
    assert (
        Run("two").info["data"]["digest"] == Run("other").info["data"]["digest"]
        and Run("two").info["data"]["settings"]["split_seed"] == 3
    )
    capsys.readouterr()
    assert (
        main(
            [
                "train",
                "gan",
                "--within",
                "other",
                "--hidden",
                "8",
                "--steps",
                "5",
                "--threads",
                "1",
                "--dry-run",
            ]
        )
        == 0
    )
    assert "lr_d=0.001" in capsys.readouterr().out and not Path("runs").exists()


def test_a_second_stage_that_takes_no_such_codes(first):
    class Refuses(families.load("gan").FAMILY):
        def __init__(self, config, spec):
            raise UsageError("only for spheres")

    model = load_run(Run(first("vae")), with_data=False).model
    gan = families.load("gan")
    with pytest.raises(
        UsageError, match="sphere.* takes no codes of this first stage: only for spheres"
    ):
        choose_form(
            model,
            families.FamilyFile(
                "spheres", gan.path, gan.Config, gan.Options, gan.PRESETS, Refuses, gan.preset_for
            ),
        )


def test_codes_are_drawn_from_the_posterior_anew_at_each_key(first):
    model = make_plan("gan", within=first("vae"), **SMALL | SECOND["gan"]).trainer().model
    x = Batch(torch.zeros(2000, 1, 8, 8)).x
    with torch.no_grad():
        z = model.draw_code(x, None, Rng(0))
        mean, std = model.first.posterior(x[:1])
        assert torch.allclose(z.mean(0), mean[0], atol=0.15) and torch.allclose(
            z.std(0), std[0], rtol=0.1
        )
        assert torch.equal(z, model.draw_code(x, None, Rng(0))) and not torch.equal(
            z, model.draw_code(x, None, Rng(1))
        )
        assert torch.equal(model.draw_code(x[:1], None, None), mean)


def test_codes_are_counted_as_sequences_not_as_one_text():
    """Each image's codes begin anew: the first code is predicted by what images begin with."""
    from fromnoise.core.rng import Rng
    from fromnoise.core.spec import Batch, DataSpec
    from fromnoise.families.autoregressive import AutoRegressive, Config

    s = torch.tensor([[0, 1, 2, 2]]).expand(200, -1)
    nats = {}
    for separate in (False, True):
        model = AutoRegressive(
            Config(network="ngram", order=2), DataSpec("tokens", (4,), levels=3, separate=separate)
        )
        model.fit_before(lambda: iter([Batch(s)]), Rng(0))
        nats[separate] = float(-model.log_likelihood(s[:1], None, Rng(0)))
    assert nats[True] < 0.1 < nats[False]
