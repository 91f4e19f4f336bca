"""What every family must hold, ours or a user's: ``fromnoise check FILE.py`` and the tests run this.

Each check trains the family for a few steps on small data that suit it (digits, a 2-D mixture,
text) and raises AssertionError with a sentence when something does not hold. Data of a kind that
the family refuses, with a UsageError, are left out.
"""

from collections.abc import Callable, Sequence
from typing import Any

from .. import families
from ..core.errors import FromNoiseError
from ..core.output import OnEvent, ignore_event
from . import capability_checks, density_checks, training_checks
from .suite import Suite

CHECKS = (
    training_checks.check_presets,
    training_checks.check_round_trip,
    training_checks.check_phases,
    training_checks.check_loss_is_pure,
    training_checks.check_learns,
    capability_checks.check_samples,
    capability_checks.check_capabilities,
    density_checks.check_density,
    capability_checks.check_symbol_predictions,
    capability_checks.check_labels,
    capability_checks.check_captions,
    training_checks.check_resume,
)


def check_family(name: str, on_result: OnEvent = ignore_event, **options) -> list[dict]:
    """Runs all checks; options go to every training (a preset, a network).

    Raises UsageError if the family cannot be loaded.
    """
    return run_checks(CHECKS, Suite(families.load(name), options), on_result)


def run_checks(
    checks: Sequence[Callable[[Any], None]], suite: Any, on_result: Callable[[dict], None]
) -> list[dict]:
    """The result of each check of a suite: {"check": its docstring, "ok", "detail"}."""
    results = []
    for check in checks:
        detail = run_check(check, suite)
        result = {
            "check": " ".join((check.__doc__ or "").split()),
            "ok": detail is None,
            "detail": detail or "",
        }
        on_result(result)
        results.append(result)
    return results


def run_check(check: Callable[[Any], None], suite: Any) -> str | None:
    """None if the check passes, else what does not hold."""
    try:
        check(suite)
    except (AssertionError, FromNoiseError) as error:
        return one_line(error)
    except Exception as error:  # a user's file may raise anything
        return f"{type(error).__name__}: {one_line(error)}"
    return None


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())
