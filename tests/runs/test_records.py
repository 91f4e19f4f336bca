"""What is read from the files of a run is checked; damage is an error with a name, and none of it goes unseen."""

import importlib.util
import json
from pathlib import Path

import pytest

from fromnoise.checks.exactness import first_difference
from fromnoise.cli import main
from fromnoise.core.errors import StorageError
from fromnoise.core.files import sha256
from fromnoise.core.json_files import parse_json, read_json, sealed
from fromnoise.runs import checkpoint, checkpoint_writer
from fromnoise.runs.directory import Run
from fromnoise.runs.load import load_run
from fromnoise.runs.records.manifest import PARTS
from fromnoise.runs.records.report import read_report
from fromnoise.runs.verify import verify
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan
from fromnoise.training.resume import resume_run

TINY = dict(
    hidden=(8,),
    latent_dim=2,
    steps=20,
    batch_size=32,
    intervals=4,
    validation_examples=50,
    threads=1,
)


def train(path="run", family="vae", **options):
    return start_run(make_plan(family, **TINY | options), path)


def rewrite(path: Path, change) -> None:
    """Changes a JSON file, with a digest that fits."""
    value = json.loads(path.read_text())
    path.write_text(sealed(change(value)))


# -- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 200_000,
        b'{"a": 1, "a": 2}',
        b"NaN",
        b"1e999",
        b"9" * 5000,
        b'"\\ud800"',
        b"\xff",
        b"",
        b"[" * 100 + b"]" * 100,
        b"[" + b"[],[]," * 2_000_000 + b"1]",
    ],
    ids=[
        "open brackets",
        "twice",
        "nan",
        "infinite",
        "large",
        "surrogate",
        "no utf-8",
        "empty",
        "nested",
        "many",
    ],
)
def test_strict_json_refuses_what_later_code_could_trip_over(text):
    with pytest.raises(StorageError, match="somewhere.json is damaged"):
        parse_json(text, "somewhere.json")


def test_a_file_that_is_too_large_or_no_file_is_not_read(tmp_path):
    with open(tmp_path / "large.json", "wb") as file:
        file.truncate(2**40)
    for path in (tmp_path / "large.json", tmp_path, Path("/dev/zero")):
        with pytest.raises(StorageError):
            read_json(path)


# -- records ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change,word",
    [
        ({"preset": None}, "preset"),
        ({"steps": "20"}, "steps"),
        ({"steps": -1}, "steps"),
        ({"seed": True}, "seed"),
        ({"config": []}, "config"),
        ({"family": 5}, "family"),
        ({"format": "1"}, "record of a run"),
        ({"data": {}}, "data"),
        ({"family": "latent"}, "within"),
        ({"versions": {"torch": 2}}, "versions.torch"),
        ({"extended": [{"from": 1}]}, "extended"),
    ],
)
def test_a_field_of_run_json_that_is_none_is_named(change, word, tmp_path):
    run = train(tmp_path / "run")
    rewrite(run.path / "run.json", lambda info: info | change)
    with pytest.raises(StorageError, match="run.json") as error:
        Run(run.path)
    assert word in str(error.value)


def test_the_form_of_the_data_has_to_go_together(tmp_path):
    run = train(tmp_path / "run")
    for part, value in (
        ("spec", {"kind": "image", "shape": [8]}),
        ("class_names", ["a"]),
        ("splits", {"train": -1}),
    ):
        old = (run.path / "run.json").read_bytes()
        rewrite(
            run.path / "run.json",
            lambda info, part=part, value=value: info | {"data": info["data"] | {part: value}},
        )
        with pytest.raises(StorageError, match="run.json is damaged: data"):
            Run(run.path)
        (run.path / "run.json").write_bytes(old)


def test_a_configuration_in_run_json_that_is_none_names_file_and_field(tmp_path):
    run = train(tmp_path / "run")
    rewrite(
        run.path / "run.json", lambda info: info | {"config": info["config"] | {"latent_dim": -3}}
    )
    with pytest.raises(StorageError, match="run.json.*latent-dim"):
        load_run(Run(run.path), with_data=False)
    rewrite(
        run.path / "run.json",
        lambda info: (
            info | {"config": info["config"] | {"latent_dim": 2}, "train": {"lr_end": "x"}}
        ),
    )
    with pytest.raises(StorageError, match="run.json.*lr-end"):
        resume_run(Run(run.path))


@pytest.mark.parametrize(
    "change",
    [
        {"files": {}},
        {"step": "20"},
        {"best": "x"},
        {"events": None},
        {"history": [None]},
        {"format": "1"},
        {"sums": {"a": 1.0}},
        {"good": 21},
        {"rollbacks": -1},
        {"files": {f"{part}.safetensors": {"bytes": 1, "sha256": 5} for part in PARTS}},
    ],
    ids=str,
)
def test_a_damaged_manifest_falls_back_to_the_checkpoint_before(change, tmp_path):
    run, said = train(tmp_path / "run"), []
    rewrite(
        run.path / "checkpoints" / "step-00000020" / "manifest.json",
        lambda manifest: manifest | change,
    )
    assert checkpoint.find(run, warn=said.append).step == 15 and "manifest.json" in said[0]


def test_runs_of_the_first_format_open_go_on_and_get_digests(tmp_path):
    whole, run = train(tmp_path / "whole"), train(tmp_path / "run")
    events = run.events()
    for path in [run.path / "run.json", *run.path.glob("checkpoints/*/manifest.json")]:
        value = json.loads(path.read_text())
        del value["digest"]
        path.write_text(json.dumps(value | {"format": 1}, sort_keys=True, indent=1))
    for name in ("events.jsonl", "sessions.jsonl"):
        lines = [json.loads(line) for line in (run.path / name).read_text().splitlines()]
        (run.path / name).write_text(
            "".join(
                json.dumps({k: v for k, v in line.items() if k != "digest"}) + "\n"
                for line in lines
            )
        )
    old = Run(run.path)
    assert (
        old.record.format == 1
        and load_run(old).step == 20
        and old.events() == events
        and not verify(old).problems
    )
    checkpoint_writer.remove(run.path / "checkpoints" / "step-00000020")
    resume_run(old, warn=lambda line: None)
    assert not first_difference(whole, run) and Run(run.path).record.format == 2
    assert not verify(Run(run.path)).problems and not verify(Run(run.path)).uncovered


def test_a_run_of_a_later_version_is_not_damaged_but_newer(tmp_path):
    run = train(tmp_path / "run")
    rewrite(run.path / "run.json", lambda info: info | {"format": 99})
    with pytest.raises(StorageError, match="newer fromnoise"):
        Run(run.path)


def test_fields_that_a_later_version_adds_are_kept_when_run_json_is_written_again(tmp_path):
    run = train(tmp_path / "run")
    rewrite(run.path / "run.json", lambda info: info | {"future": {"a": 1}})
    run = Run(run.path)
    run.update(steps=21)
    assert Run(run.path).info["future"] == {"a": 1} and Run(run.path).record.steps == 21


def test_damaged_runs_are_listed_as_damaged_beside_the_others(tmp_path, capsys):
    train("runs/good")
    for name, content in (("bad", "{"), ("deep", "[" * 200_000)):
        Path(f"runs/{name}").mkdir()
        Path(f"runs/{name}/run.json").write_text(content)
    worse = train("runs/worse")
    lines = (worse.path / "events.jsonl").read_text().splitlines()
    (worse.path / "events.jsonl").write_text("\n".join(["x", *lines[1:]]) + "\n")
    assert main(["runs"]) == 0
    out = capsys.readouterr().out
    assert sum("damaged: " in line for line in out.splitlines()) == 3 and "runs/good" in out
    assert main(["runs", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["run"] for row in found["runs"]] == ["runs/good"] and len(found["damaged"]) == 3


def test_a_damaged_event_is_said_on_resume_and_the_file_is_kept_aside(tmp_path):
    whole, run, said = train(tmp_path / "whole"), train(tmp_path / "run"), []
    checkpoint_writer.remove(run.path / "checkpoints" / "step-00000020")
    path = run.path / "events.jsonl"
    damaged = path.read_bytes().replace(b'"step": 5,', b'"step": 4,', 1)
    path.write_bytes(damaged)
    assert run.events() == [] and "line 1 of" in run.read_events()[1]
    resume_run(Run(run.path), warn=said.append)
    assert any("line 1 of" in line and "2 are kept" in line for line in said)
    assert [event["step"] for event in run.events()] == [10, 15, 20] and (
        run.path / "events-damaged-0001.jsonl"
    ).read_bytes() == damaged
    assert all(
        a.equal(b)
        for a, b in zip(
            load_run(whole).model.state_dict().values(), load_run(run).model.state_dict().values()
        )
    )
    assert not verify(run).problems


def test_a_report_that_is_damaged_is_refused_and_a_sound_one_is_read(tmp_path):
    from fromnoise.evaluate.report import evaluate

    run = train(tmp_path / "run")
    report = evaluate(load_run(run), quick=True, samples=200)
    path = run.path / "report-quick.json"
    assert read_report(path)["metrics"] == report["metrics"]
    speeds = {"cost": report["cost"] | {"samples_per_second": {"1x": 2.0}}}
    for change in (
        speeds,
        {"metrics": 5},
        {"metrics": [{"name": "x"}]},
        {"cost": {}},
        {"step": "x"},
        {"texts": {"sampled": [1]}},
    ):
        path.write_text(sealed(report | change))
        with pytest.raises(StorageError, match="report-quick.json is damaged"):
            read_report(path)


def test_a_tensor_of_more_dimensions_than_torch_computes_with_is_an_error_of_its_file(tmp_path):
    import torch
    from safetensors.torch import save

    saved = checkpoint.find(train(tmp_path / "run"))
    path = saved.path / "ema.safetensors"
    path.write_bytes(save({"a": torch.zeros([1] * 65)}))
    manifest = json.loads((saved.path / "manifest.json").read_text())
    manifest["files"][path.name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    (saved.path / "manifest.json").write_text(sealed(manifest))
    with pytest.raises(StorageError, match="more than 64 dimensions"):
        checkpoint.read(saved.path).tensors("ema")


def test_forged_tables_of_counts_are_refused(tmp_path):
    import torch

    (tmp_path / "t.txt").write_text("to be or not to be, that is the question. " * 60)
    plan = make_plan(
        "autoregressive",
        str(tmp_path / "t.txt"),
        "ngram",
        context=8,
        threads=1,
        validation_examples=20,
    )
    model = plan.build()
    model.load_state_dict(checkpoint.find(start_run(plan, tmp_path / "run")).tensors("model"))
    saved = checkpoint.find(Run(tmp_path / "run"))
    for name, change in (
        ("levels", lambda t: t * 2),
        ("nodes", lambda t: t[:, None]),
        ("grams", lambda t: t.flip(0)),
        ("counts", torch.neg),
        ("discounts", lambda t: t[:1]),
    ):
        tensors = saved.tensors("model")
        with pytest.raises(StorageError, match="does not fit"):
            saved.load_into(
                plan.build(),
                tensors | {f"counts.{name}": change(tensors[f"counts.{name}"]).contiguous()},
            )


# -- every file, every bit ------------------------------------------------------------------------------------------------


def fuzz():
    path = Path(__file__).parents[2] / "benchmarks" / "fuzz_runs.py"
    spec = importlib.util.spec_from_file_location("fuzz_runs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory):
    return fuzz().Fuzzer(tmp_path_factory.mktemp("fuzz"), seed=1)


def test_damaged_records_and_tensors_are_errors_of_our_own(fuzzer):
    """A small part of benchmarks/fuzz_runs.py."""
    fuzzer.records(150)
    fuzzer.tensors(50)
    assert not fuzzer.failures and fuzzer.counts["errors of our own"] > 50


def test_verify_sees_a_flipped_bit_in_every_file(fuzzer):
    fuzzer.failures.clear()
    fuzzer.flips(6)
    assert not fuzzer.failures and fuzzer.counts["files with flipped bits"] > 15


def test_verify_names_what_it_does_not_cover(tmp_path, capsys):
    run = train("run")
    Path("run/notes.txt").write_text("mine")
    assert main(["verify", str(run.path)]) == 0
    assert "no digest is kept of notes.txt" in capsys.readouterr().out


def test_a_run_that_learns_where_its_data_went_keeps_a_digest_that_fits(tmp_path):
    run = train(tmp_path / "run")
    load_run(run, data_name="digits")
    assert not verify(Run(run.path)).problems
