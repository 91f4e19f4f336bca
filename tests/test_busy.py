"""On a machine that others use too: threads that wait do not spin, and a budget in minutes is timed again."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fromnoise

NAMES = ("OMP_WAIT_POLICY", "KMP_LIBRARY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.mark.parametrize("name,value", [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "7"), ("KMP_BLOCKTIME", "200")])
def test_what_the_user_says_of_waiting_threads_stays(name, value):
    environment = {"HOME": "/root", name: value}
    fromnoise._spin_less(environment)
    assert environment == {"HOME": "/root", name: value}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems load other libraries of OpenMP")
def test_the_library_that_torch_loads_is_told_in_time_to_spin_less():
    library = Path(importlib.util.find_spec("torch").origin).parent / "lib" / "libgomp.so.1"
    if not library.exists():
        pytest.skip("this torch brings no libgomp of its own")
    script = f"import sys, fromnoise, ctypes; assert 'torch' not in sys.modules; ctypes.CDLL({str(library)!r})"
    environment = {key: value for key, value in os.environ.items() if key not in NAMES} | {"OMP_DISPLAY_ENV": "VERBOSE"}

    def spins(**more) -> str:
        shown = subprocess.run([sys.executable, "-c", script], env=environment | more, capture_output=True, text=True, check=True).stderr
        (line,) = [line for line in shown.splitlines() if "GOMP_SPINCOUNT" in line]
        return line.split("=")[1].strip(" '")

    assert spins() == fromnoise.SPINS["GOMP_SPINCOUNT"] and int(spins()) <= 10_000
    assert int(spins(OMP_WAIT_POLICY="ACTIVE")) > 10**6
