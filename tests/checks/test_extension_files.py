"""`fromnoise new` writes files that pass `fromnoise check`; broken ones are refused with the reason."""

import pytest
from helpers.command_line import call

from fromnoise.checks.files import check_file

KINDS = ("family", "source", "metric", "figure")


@pytest.fixture
def skeleton(tmp_path, capsys):
    """Writes the skeleton of a kind, with changes; returns its path."""

    def write(kind: str, **changes: str):
        path = tmp_path / f"my_{kind}.py"
        assert call(capsys, "new", kind, str(path))[0] == 0
        text = path.read_text()
        for old, new in changes.pop("changes", {}).items():
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
        return path

    return write


def failures(path, example=None) -> list[str]:
    _, results = check_file(str(path), example, lambda result: None)
    return [f"{result['check']}: {result['detail']}" for result in results if not result["ok"]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_file_passes_its_checks(kind, skeleton, capsys):
    path = skeleton(kind)
    code, out, err = call(capsys, "check", str(path))
    assert code == 0 and "FAIL" not in out, out + err


def test_new_does_not_overwrite_and_says_what_is_next(skeleton, tmp_path, capsys):
    path = skeleton("source")
    code, _, err = call(capsys, "new", "source", str(path))
    assert code == 2 and "exists already" in err
    code, out, _ = call(capsys, "new", "figure", str(tmp_path / "other.py"))
    assert code == 0 and f"FROMNOISE_EXTENSIONS={tmp_path}" in out and "fromnoise check" in out
    code, _, err = call(capsys, "new", "sauce", str(tmp_path / "x.py"))
    assert code == 2 and ", ".join(KINDS) in err
    assert call(capsys, "new", "source", str(tmp_path / "x.txt"))[0] == 2
    assert call(capsys, "new", "source", str(tmp_path / "missing" / "x.py"))[0] == 4


@pytest.mark.parametrize(
    "old, new, says",
    [
        (', description="waves: std of the noise on each number"', "", "--wave-noise needs a desc"),
        ("wave_noise", "batch_size", "--batch-size is an option of the training"),
        ("x[part_rows]", "x[:500]", "100% of the examples of validation are training examples"),
        ("options.split_seed", "id(options)", "another digest when it is loaded again"),
        (
            "(LENGTH,)",
            "(LENGTH + 1,)",
            "examples of train have the shape (16,), and their DataSpec says (17,)",
        ),
        ("np.sin(", "np.inf * np.sin(", "not finite"),
        ('"sine curves of 16 numbers (made here)"', '""', "needs one line of help"),
        ('names={"waves": "sine curves of 16 numbers (made here)"}', "", "give an example"),
    ],
)
def test_a_broken_source_fails_with_the_reason(old, new, says, skeleton, monkeypatch):
    monkeypatch.setattr("fromnoise.checks.source_checks.SMALL", {"steps": 1, "threads": 1})
    path = skeleton("source", changes={old: new})
    if "id(options)" in new:
        text = path.read_text().replace("import numpy", "import itertools\n\nimport numpy")
        text = text.replace("COUNT =", "CALLS = itertools.count()\nCOUNT =")
        path.write_text(text.replace("id(options)", "next(CALLS)"))
    assert any(says in line for line in failures(path)), failures(path)


def test_a_split_seed_without_effect_is_a_fault(skeleton, monkeypatch):
    monkeypatch.setattr("fromnoise.checks.source_checks.SMALL", {"steps": 1, "threads": 1})
    without = {"Rng(options.split_seed)": "Rng(0)", "(COUNT, options)": "(COUNT, Options())"}
    path = skeleton("source", changes=without)
    assert any("--split-seed changes nothing" in line for line in failures(path))


@pytest.mark.parametrize(
    "old, new, says",
    [
        ('name="values"', 'name="My values"', "must be lower case letters"),
        (
            "sample(context.loaded, N, context.seed)",
            "__import__('torch').randn(N)",
            "other numbers",
        ),
        ("return sheet.finish", "sheet.finish", "draw must return a Drawing"),
        ('"its data are text" if', '"no" if True or', "no small run can have it"),
        (", N, context.seed)", ", N, context.sead)", "AttributeError"),
    ],
)
def test_a_broken_figure_fails_with_the_reason(old, new, says, skeleton, monkeypatch):
    runs = [("vae", {"data_name": "ring8"})]
    monkeypatch.setattr("fromnoise.checks.small_runs.MODELS", runs)
    path = skeleton("figure", changes={old: new})
    assert any(says in line for line in failures(path)), failures(path)


@pytest.mark.parametrize(
    "kind, old, new, says",
    [
        ("source", 'names={"waves"', 'names={"digits"', "'digits', which"),
        ("source", "wave_noise: float", "context: float", "--context exists already"),
        ("source", "names={", 'suffixes=(".csv",), names={', "reads files '.csv', which"),
        ("source", "SOURCE = Source(", "SOURCE = dict(load=", "make it a fromnoise.data.source"),
        ("source", "SOURCE = ", "METRIC = SOURCE = ", "check them in one file each"),
        ("figure", 'name="values"', 'name="curves"', "'curves', which"),
        ("source", "import numpy", "import numpie", "cannot be imported: line 6: ModuleNotFound"),
    ],
)
def test_a_file_that_cannot_be_added_is_refused_in_one_line(kind, old, new, says, skeleton, capsys):
    path = skeleton(kind, changes={old: new})
    if says.startswith("make it"):
        path.write_text(path.read_text().replace("load=load, Options,", "load=load,"))
    code, _, err = call(capsys, "check", str(path))
    assert code == 2 and says in err, err
