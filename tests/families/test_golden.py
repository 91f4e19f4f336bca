"""A change of structure changes no loss and no weight: twenty losses in float64, and hashes of checkpoints.

Where a change is meant, `python tests/helpers/golden_runs.py --write` replaces the frozen values, and docs/log.md says why.
"""

import json

import pytest
from helpers import golden_runs

FROZEN = json.loads(golden_runs.FROZEN.read_text())
CASES = golden_runs.cases()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("golden")
    golden_runs.write_data(path)
    return path


def test_every_preset_has_frozen_losses():
    assert set(FROZEN["losses"]) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_losses_are_as_frozen(name, folder):
    assert golden_runs.losses(CASES[name], folder) == pytest.approx(
        FROZEN["losses"][name], rel=1e-6, abs=1e-9
    )


@pytest.mark.parametrize("name", [*CASES, *golden_runs.TWO_STAGES])
def test_weights_are_as_frozen_to_the_last_bit(name, folder):
    known = FROZEN["digests"].get(golden_runs.machine())
    if known is None:
        pytest.skip(f"no hashes were recorded on {golden_runs.machine()}")
    if name in CASES:
        assert golden_runs.digest(CASES[name], folder) == known[name]
    else:
        assert golden_runs.two_stage_digest(*golden_runs.TWO_STAGES[name], folder) == known[name]
