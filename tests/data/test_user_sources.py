"""A source of the user: its options are options of the command line, and belong to it alone."""

from pathlib import Path

import pytest
from helpers.command_line import call, fails

from fromnoise.checks import skeletons
from fromnoise.core.errors import UsageError
from fromnoise.data import DataConfig, catalogue, data_config, load


@pytest.fixture
def waves(tmp_path, monkeypatch):
    """The skeleton of a source, in a folder of extensions."""
    text = Path(skeletons.__path__[0], "source.py").read_text()
    (tmp_path / "waves.py").write_text(text)
    monkeypatch.setenv("FROMNOISE_EXTENSIONS", str(tmp_path))


def test_without_the_file_there_is_nothing_of_it():
    assert "waves" not in catalogue() and "wave_noise" not in DataConfig.model_fields
    assert DataConfig is data_config()


def test_its_name_and_option_are_there(waves, capsys):
    assert "waves" in catalogue()
    names = list(data_config().model_fields)
    assert names[0] == "resolution" and names[-1] == "wave_noise"
    assert "--wave-noise" in call(capsys, "train", "vae", "--help")[1]
    quiet = load("waves", data_config()(wave_noise=0.0))
    assert quiet.settings == {"wave_noise": 0.0} and quiet.digest != load("waves").digest


def test_options_are_refused_where_they_have_no_meaning(waves):
    with pytest.raises(UsageError, match="--wave-noise has no meaning for digits: leave it out"):
        load("digits", data_config()(wave_noise=0.5))
    with pytest.raises(UsageError, match="--grey has no meaning for waves: leave it out"):
        load("waves", data_config()(grey=True))


def test_a_run_records_its_options_and_opens_again(waves, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train = ("train", "vae", "--data", "waves", "--wave-noise", "0.2", "--steps", "2", "--quiet")
    assert call(capsys, *train, "--out", "run")[0] == 0
    assert call(capsys, "verify", "run")[0] == 0
    monkeypatch.delenv("FROMNOISE_EXTENSIONS")
    fails(capsys, 3, "resume", "run", "--steps", "3", says=["waves.py", "FROMNOISE_EXTENSIONS"])
