"""Reports as a table for a terminal: one metric a line, one model a column, by groups."""

from ..core.words import escaped
from .cost import most_at_once
from .protocol import Column, columns_of, has_value, interval

GROUPS = {
    "text": "prediction of held-out text",
    "baselines": "what counts and a compressor make of the same text",
    "samples": "the samples",
    "referees": "the samples again: other feature maps, and held-out examples as the reference",
    "labels": "the samples' classes and modes",
    "captions": "what samples show of their captions",
    "memory": "memory of the training set",
    "likelihood": "likelihood of held-out data",
    "reconstruction": "reconstruction of held-out data",
    "latents": "the code",
    "": "others",
}


LARGE, SMALL = 1e7, 1e-5  # numbers from here on, or below it, are written as 3.5e+71


def number(value: float, like: float | None = None) -> str:
    """About four digits; an error is told to the decimals of the value it belongs to. Very large
    and very small numbers are short: 3.5e+71.
    """
    if isinstance(value, int) and abs(value) < LARGE:
        return f"{value:,}"
    size = abs(value if like is None else like)
    if max(size, abs(value)) >= LARGE or 0 < max(size, abs(value)) < SMALL:
        return f"{value:.2g}" if value else "0"
    return f"{value:.{5 if size < 0.1 else 4 if size < 1 else 3 if size < 10 else 2}f}"


def rate(per_second: float) -> str:
    """Whole numbers, and two digits below 10: what is slow is not 0."""
    return (
        f"{per_second:,.0f}"
        if isinstance(per_second, int) or per_second >= 10
        else f"{per_second:.2g}"
    )


def cell(found: dict | None) -> str:
    """The value with its 95 % interval, as half its width where it is even, or a dash."""
    if not has_value(found):
        return "-"
    value, known = found["value"], interval(found)
    half = (known[1] - known[0]) / 2 if known else None
    if found["unit"] == "share":
        return f"{100 * value:.1f} %" + (
            f" ({100 * known[0]:.1f} to {100 * known[1]:.1f})" if half else ""
        )
    if found.get("of"):
        return f"{value:,} of {found['of']:,}"
    if half and abs(known[0] + known[1] - 2 * value) > 0.1 * half:
        return f"{number(value)} ({number(known[0], value)} to {number(known[1], value)})"
    return number(value) + (f" ± {number(half, value)}" if half else "")


def heading(column: Column, features: bool = True) -> str:
    """The name of a line; features: with the feature map, which tells lines of one metric apart."""
    card = column.card
    sign = {"lower": " ↓", "higher": " ↑", "near": " ≈"}.get(card["better"], "")
    words = [card["label"]]
    if (card["k"] or 1) > 1:
        words.append(f"k = {card['k']}")
    if card["bound"] == "lower" and "bound" not in card["label"] and card["name"] != "elbo":
        words.append("lower bound")
    if card["bound"] == "ode" and "flow" not in card["label"]:
        words.append("by the flow")
    if card.get("given"):
        words.append(f"given the {card['given']}")
    if card.get("evaluator") and features:
        words.append(card["evaluator"].partition("/")[0])
    return ", ".join(words) + sign


def grouped(reports: list[dict]) -> list[tuple[str, list[Column]]]:
    """Columns with a number, by group, in the order of GROUPS."""
    there = [column for column in columns_of(reports) if column.there()]

    def by_group(key):
        return [column for column in there if column.card.get("group", "") == key]

    return [(words, by_group(key)) for key, words in GROUPS.items() if by_group(key)]


def real_of(column: Column) -> dict | None:
    """What held-out real examples score, as a row of its own."""
    known = [found for found in column.there().values() if found.get("real") is not None]
    known.sort(key=lambda found: not found.get("real_interval"))  # reports of before have none
    return (
        {
            **column.card,
            "value": known[0]["real"],
            "interval": known[0].get("real_interval"),
            "se": None,
        }
        if known
        else None
    )


def perfect_of(column: Column) -> dict | None:
    """What a perfect model would score, as a row of its own."""
    known = [found["null"] for found in column.there().values() if found.get("null") is not None]
    alone = {"interval": None, "se": None, "of": None}  # "of" is for whole numbers
    return {**column.card, "value": known[0]} | alone if known else None


def told(training: dict, which: str) -> str:
    """The held-out value of the "last" or the "best" checkpoint, with its step."""
    return f"{number(training[which]['value'])} at step {training[which]['step']:,}"


def rich_table(reports: list[dict], title: str | None = None):
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def plain(words) -> Text:  # no markup is read in it: [link=...] would write control characters
        return Text(escaped(words))

    table = Table(title=title and plain(title), box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("±, ( to ): 95 % interval")
    for report in reports:
        table.add_column(plain(report["title"]), justify="right")
    table.add_column("a perfect model", justify="right", style="dim")
    table.add_column("real data", justify="right", style="dim")
    for words, columns in grouped(reports):
        table.add_section()
        table.add_row(f"[bold]{words}[/bold]")
        for column in columns:
            beside = [
                cell(found) if found else "" for found in (perfect_of(column), real_of(column))
            ]
            table.add_row(
                *map(
                    plain,
                    (
                        heading(column),
                        *(cell(column.rows.get(i)) for i in range(len(reports))),
                        *beside,
                    ),
                )
            )
    table.add_section()
    table.add_row("[bold]cost[/bold]")
    table.add_row("parameters", *(f"{report['cost']['parameters']:,}" for report in reports))
    table.add_row(
        "training seconds", *(f"{report['cost']['train_seconds']:.1f}" for report in reports)
    )
    for which in ("last", "best"):
        if any(report.get("training") for report in reports):
            table.add_row(
                f"held-out value of the {which} checkpoint ↓",
                *(
                    told(report["training"], which) if report.get("training") else "-"
                    for report in reports
                ),
            )
    sizes = [most_at_once(report["cost"]) for report in reports]
    if all(sizes):
        alone = [report["cost"]["samples_per_second"]["1"] for report in reports]
        table.add_row("samples a second, 1 at once", *map(rate, alone))
        most = max(size for size, _ in sizes)

        def fewer(size):
            return "" if size == most else f" ({size} at once)"

        table.add_row(
            f"samples a second, {most} at once",
            *(rate(speed) + fewer(size) for size, speed in sizes),
        )
    likelihoods = ("log_likelihood", "elbo", "importance_weighted", "bits_per_character")
    missing = set()
    for report in reports:  # why a model has no likelihood of any kind
        rows = [found for found in report["metrics"] if found["name"] in likelihoods]
        missing |= (
            {f"{report['title']}: {found['reason']}" for found in rows}
            if rows and not any(map(has_value, rows))
            else set()
        )
    others = {
        (f["label"], f["reason"])
        for r in reports
        for f in r["metrics"]
        if f.get("group") in ("samples", "memory", "baselines") and not has_value(f)
    }
    notes = [
        *(["likelihood: " + "; ".join(sorted(missing))] if missing else []),
        *(f"{label}: {reason}" for label, reason in sorted(others)),
    ]
    notes += doubts(reports)
    notes += explanations(columns_of(reports))
    if notes:
        table.caption = plain("; ".join(notes))
    return table


DOUBTED = ("frechet", "frechet_held_out", "kernel_distance")
BELOW_ZERO = (
    "a distance below 0: its bias is taken off, so that chance takes it below 0 where the laws are "
    "nearly the same"
)
NEAR = "≈: near to a perfect model is best"


def explanations(columns: list[Column]) -> list[str]:
    """What a reader may wonder about in these columns, a sentence each."""
    distances = [
        c
        for c in columns
        if c.card.get("better") == "lower" and any(f["null"] == 0 for f in c.there().values())
    ]
    below = any(found["value"] < 0 for column in distances for found in column.there().values())
    near = any(column.card.get("better") == "near" and column.there() for column in columns)
    return [text for text, needed in ((BELOW_ZERO, below), (NEAR, near)) if needed]


def doubts(reports: list[dict]) -> list[str]:
    """One sentence for each number whose interval may be too short: model, metric, feature map,
    what is the matter.
    """
    return [
        (
            f"{report['title']}: {found['label']}, {found['evaluator'].partition('/')[0]}: "
            f"{found['reason']}"
        )
        for report in reports
        for found in report["metrics"]
        if found["name"] in DOUBTED and has_value(found) and found.get("reason")
    ]


def plain_table(reports: list[dict]) -> str:
    from rich.console import Console

    console = Console(width=max(110, 64 + 24 * len(reports)), no_color=True, force_terminal=False)
    with console.capture() as capture:
        console.print(rich_table(reports))
    return capture.get()


HEADLINES = {
    "frechet": "Fréchet",
    "near_copies": "copies",
    "reconstruction_mse": "error",
    "importance_weighted": "bound",
    "log_likelihood": "log p",
    "bits_per_character": "bits/character",
    "kneser_ney": "counts, bits/byte",
    "copied_share": "copied text",
}
LIKELIHOODS = ("importance_weighted", "log_likelihood")


def summary(reports: list[dict]) -> str:
    """Many models, one a line, with the few numbers that matter most; fits 110 columns."""
    columns, chosen = [column for column in columns_of(reports) if column.there()], []
    for name in HEADLINES:  # the first column of a name is the one with the main feature map
        chosen += [column for column in columns if column.name == name][
            : None if name in LIKELIHOODS else 1
        ]

    def cells(card):
        return (
            ", cells"
            if card["dequantisation"] and sum(c.name == card["name"] for c in chosen) > 1
            else ""
        )

    def given(card):
        return f", given {card['given']}" if card.get("given") else ""

    heads = [
        HEADLINES[c.name]
        + (f" k={c.card['k']}" if (c.card["k"] or 1) > 1 else "")
        + cells(c.card)
        + given(c.card)
        for c in chosen
    ]

    def brief(found):
        return cell(found).partition(" ±")[0].partition(" (")[0]

    rows = [
        [
            escaped(report["title"]),
            *(brief(column.rows.get(i)) for column in chosen),
            f"{report['cost']['train_seconds']:.0f} s",
        ]
        for i, report in enumerate(reports)
    ]
    grid = [["", *heads, "trained"], *rows]
    widths = [max(len(line[i]) for line in grid) for i in range(len(grid[0]))]

    def line(row):
        return "  ".join(
            [
                row[0].ljust(widths[0]),
                *(text.rjust(width) for text, width in zip(row[1:], widths[1:])),
            ]
        )

    ruled = [line(grid[0]), "-" * len(line(grid[0])), *map(line, grid[1:])]
    maps = {
        column.card["evaluator"].partition("/")[0] for column in chosen if column.name == "frechet"
    }
    said = (
        [
            (
                "Fréchet: debiased distance of samples from the training set (features "
                f"{', '.join(sorted(maps))})"
            )
        ]
        if maps
        else []
    )
    there = {column.name for column in chosen}
    if there & {"near_copies", "reconstruction_mse"}:
        null = next((perfect_of(column) for column in chosen if column.name == "near_copies"), None)
        said.append(
            "copies: as close to training examples as 1 % of real ones are; error: of "
            "reconstructions; others in nats"
        )
        if null:
            said.append(f"a perfect model has {brief(null)} copies on this data")
    if "bits_per_character" in there:
        said.append(
            "bits/character, of held-out text; counts: Kneser-Ney, the same text; copied text: in "
            "long runs that stand in the training text"
        )
    if any("cells" in head for head in heads):
        said.append("cells: a density, made comparable by noise over each grey level's cell")
    return "\n".join([*ruled, *said])
