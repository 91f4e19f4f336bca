"""Numbers that differ in any part of their protocol never share a column, and overlapping intervals are ties."""

import pytest

from fromnoise.evaluate.cells import format_cell, real_row
from fromnoise.evaluate.protocol import CARD, absent, align_columns, identity, overlap, row
from fromnoise.evaluate.table import explanations, plain_table
from fromnoise.measures.estimate import Estimate, NotFiniteError, share

BASE = dict(
    n=100,
    m=200,
    split="train",
    reference="abc:train[:200]",
    evaluator="e-1",
    bound="lower",
    k=8,
    dequantisation=None,
    seed=0,
    drawn="defaults",
)


def made(value, **more):
    return row("frechet", "Fréchet distance", value, "u", better="lower", **(BASE | more))


def test_a_card_holds_everything_that_a_comparison_needs():
    assert {"n", "split", "seed", "reference", "evaluator", "bound", "dequantisation", "k"} <= set(
        CARD
    )
    found = made(Estimate(1.0, 0.1, (0.8, 1.2), 0.0, 1.5, 100, 200), solver_error=1e-4)
    assert (
        found["se"] == 0.1
        and found["interval"] == [0.8, 1.2]
        and found["null"] == 0.0
        and found["raw"] == 1.5
        and found["solver_error"] == 1e-4
    )
    assert made(1.0, se=0.1)["interval"] == pytest.approx([0.804, 1.196], abs=1e-3)


def test_a_warning_about_an_interval_stands_on_the_row_and_below_the_table():
    found = made(Estimate(1.0, 0.1, (0.8, 1.2), n=100, m=200, note="the interval may be too short"))
    assert found["reason"] == "the interval may be too short" and found["value"] == 1.0
    report = {"title": "a run", "metrics": [found], "cost": {"parameters": 1, "train_seconds": 1.0}}
    assert "a run: Fréchet distance, e-1: the interval may be too short" in " ".join(
        plain_table([report]).split()
    )
    assert "too short" not in plain_table(
        [report | {"metrics": [made(Estimate(1.0, 0.1, (0.8, 1.2)))]}]
    )


@pytest.mark.parametrize(
    "change",
    [
        dict(n=101),
        dict(m=201),
        dict(split="test"),
        dict(reference="abd:train[:200]"),
        dict(evaluator="e-2"),
        dict(bound="exact"),
        dict(k=9),
        dict(dequantisation="uniform"),
        dict(seed=1),
        dict(drawn="black or white"),
        dict(given="labels"),
    ],
)
def test_one_difference_of_protocol_makes_another_column(change):
    reports = [{"metrics": [made(1.0)]}, {"metrics": [made(2.0, **change)]}]
    assert identity(reports[0]["metrics"][0]) != identity(reports[1]["metrics"][0])
    columns = align_columns(reports)
    assert len(columns) == 2 and all(len(column.valued_rows()) == 1 for column in columns)


def test_values_intervals_and_solver_errors_do_not_part_columns():
    reports = [
        {"metrics": [made(1.0, se=0.1)]},
        {"metrics": [made(2.0, se=0.3, solver_error=0.1, real=0.5)]},
    ]
    assert len(align_columns(reports)) == 1


def test_what_real_examples_score_has_its_interval():
    real = Estimate(-0.1, 0.2, (-0.5, 0.3))
    column = align_columns(
        [{"metrics": [made(1.0, se=0.1)]}, {"metrics": [made(2.0, se=0.3, real=real)]}]
    )[0]
    assert column.rows[1]["real"] == -0.1 and column.rows[1]["real_interval"] == [-0.5, 0.3]
    assert (
        real_row(column)["value"] == -0.1
        and real_row(column)["interval"] == [-0.5, 0.3]
        and format_cell(real_row(column)) == "-0.1000 ± 0.4000"
    )
    old = align_columns(
        [
            {
                "metrics": [
                    {
                        key: entry
                        for key, entry in made(1.0, real=0.5).items()
                        if key != "real_interval"
                    }
                ]
            }
        ]
    )[0]
    assert format_cell(real_row(old)) == "0.5000"  # a report of before
    both = align_columns(
        [{"metrics": [made(1.0, real=-0.1)]}, {"metrics": [made(2.0, real=real)]}]
    )[0]
    assert real_row(both)["interval"] == [-0.5, 0.3]


def test_overlapping_intervals_share_a_rank():
    values = [(1.0, 0.1), (1.1, 0.1), (1.5, 0.1), (1.6, None), (5.0, 0.1)]
    column = align_columns([{"metrics": [made(value, se=se)]} for value, se in values])[0]
    assert column.ordered() == [0, 1, 2, 3, 4]
    assert column.ranks() == {0: 1, 1: 1, 2: 3, 3: 3, 4: 5}
    chain = align_columns(
        [
            {"metrics": [made(v, interval=list(i))]}
            for v, i in ((1.0, (0.9, 1.1)), (1.5, (1.4, 1.6)), (1.6, (1.0, 2.2)))
        ]
    )[0]
    assert chain.ranks() == {0: 1, 1: 2, 2: 1}  # the third may be the best, for all that is known
    assert (
        row("x", "x", float("nan"), "u")["value"] is None
        and "diverge" in row("x", "x", float("inf"), "u")["reason"]
    )
    assert overlap(made(1.0, se=0.1), made(1.39, se=0.1)) and not overlap(
        made(1.0, se=0.1), made(1.40, se=0.1)
    )
    assert not overlap(made(1.0), made(1.001)) and overlap(made(1.0), made(1.0))
    assert overlap(made(1.0, interval=[0.0, 5.0]), made(4.0, interval=[4.0, 4.5]))


def test_higher_is_better_turns_the_order():
    column = align_columns(
        [{"metrics": [made(value) | {"better": "higher"}]} for value in (1.0, 3.0, 2.0)]
    )[0]
    assert column.ordered() == [1, 2, 0] and column.ranks() == {1: 1, 2: 2, 0: 3}


def test_what_a_model_does_not_have_is_said_in_every_column_of_its_name():
    reports = [
        {"metrics": [made(1.0)]},
        {"metrics": [made(2.0, k=9)]},
        {"metrics": [absent("frechet", "Fréchet distance", "u", "too few")]},
    ]
    columns = align_columns(reports)
    assert len(columns) == 2 and all(
        column.rows[2]["reason"] == "none: too few" for column in columns
    )


def test_wilson_intervals_hold_at_the_edges():
    none, some = share(0, 100), share(30, 100)
    assert none.interval[0] == 0 and none.interval[1] == pytest.approx(0.0370, abs=1e-4)
    assert some.interval == pytest.approx((0.2189, 0.3958), abs=1e-4)
    with pytest.raises(NotFiniteError):
        Estimate(float("nan"))


def test_repeats_are_best_near_to_what_real_data_have():
    def report(value):
        return {
            "metrics": [
                row(
                    "duplicates",
                    "samples that repeat another sample",
                    Estimate(value, 0.01, (value - 0.02, value + 0.02), 0.96, n=500, m=500),
                    "share",
                    better="near",
                )
            ]
        }

    (column,) = align_columns([report(0.52), report(0.64), report(0.96), report(0.99)])
    assert column.ordered() == [2, 3, 1, 0] and column.ranks() == {2: 1, 3: 1, 1: 3, 0: 4}


@pytest.mark.parametrize(
    "value, half, expected",
    [
        (3.5e71, 6e70, "3.5e+71 ± 6e+70"),
        (2e-9, 1e-9, "2e-09 ± 1e-09"),
        (0.5, 0.01, "0.5000 ± 0.0100"),
        (0.0, None, "0.00000"),
    ],
)
def test_very_large_and_small_numbers_are_short(value, half, expected):
    found = row(
        "kernel_distance",
        "kernel distance",
        Estimate(value, interval=half and (value - half, value + half)),
        "squared mean discrepancy",
    )
    assert format_cell(found) == expected


def test_a_distance_below_zero_is_explained_beside_the_table():
    def made(value):
        return [
            {
                "metrics": [
                    row(
                        "frechet",
                        "Fréchet distance",
                        Estimate(value, 0.1, (value - 0.2, value + 0.2), 0.0),
                        "squared feature units",
                        better="lower",
                    )
                ]
            }
        ]

    assert any("below 0" in text for text in explanations(align_columns(made(-0.05))))
    assert not explanations(align_columns(made(0.05)))
