"""Reports as a table for a terminal: a column holds one metric, with one kind of bound and one k."""


def columns(reports: list[dict]) -> list[dict]:
    """The distinct metrics of some reports, in order: rows that differ in name, bound or k never share a column."""
    seen = {}
    for report in reports:
        for row in report["metrics"]:
            if row["value"] is not None:
                seen.setdefault(identity(row), row)
    return list(seen.values())


def identity(row: dict) -> tuple:
    return (row["name"], row["bound"], row["k"], row["split"])


def cell(report: dict, column: dict) -> str:
    """The value with its standard error, or a dash."""
    for row in report["metrics"]:
        if identity(row) == identity(column) and row["value"] is not None:
            of = f" {row['unit']}".removesuffix(" latent dimensions") if row["name"] == "active_units" else ""
            return number(row["value"]) + (f" ± {number(row['se'], row['value'])}" if row["se"] else "") + of
    return "-"


def number(value: float, like: float | None = None) -> str:
    """About four digits; an error is told to the decimals of the value it belongs to."""
    if isinstance(value, int):
        return f"{value:,}"
    size = abs(value if like is None else like)
    return f"{value:.{4 if size < 1 else 3 if size < 10 else 2}f}"


def heading(column: dict) -> str:
    sign = {"lower": " ↓", "higher": " ↑"}.get(column["better"], "")
    many = f", k = {column['k']}" if (column["k"] or 1) > 1 else ""
    return column["label"] + many + sign


def rich_table(reports: list[dict], title: str | None = None):
    """One metric a line and one model a column when there are few models, for narrow terminals."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("test split")
    for report in reports:
        table.add_column(report["title"], justify="right")
    for column in columns(reports):
        bound = " (lower bound)" if column["bound"] == "lower" and "bound" not in column["label"] and column["name"] != "elbo" else ""
        table.add_row(heading(column) + bound, *(cell(report, column) for report in reports))
    likelihoods = ("log_likelihood", "elbo", "importance_weighted")
    missing = set()
    for report in reports:  # why a model has no likelihood of any kind
        rows = [row for row in report["metrics"] if row["name"] in likelihoods]
        missing |= {f"{report['title']}: {row['reason']}" for row in rows} if all(row["value"] is None for row in rows) else set()
    table.add_row("parameters", *(f"{report['cost']['parameters']:,}" for report in reports))
    table.add_row("training seconds", *(f"{report['cost']['train_seconds']:.1f}" for report in reports))
    if missing:
        table.caption = "; ".join(sorted(missing))
    return table


def plain_table(reports: list[dict]) -> str:
    from rich.console import Console

    console = Console(width=max(80, 40 + 22 * len(reports)), no_color=True, force_terminal=False)
    with console.capture() as capture:
        console.print(rich_table(reports))
    return capture.get()


HEADLINES = ("reconstruction_mse", "ratio_to_pca", "elbo", "importance_weighted", "log_likelihood")


def summary(reports: list[dict]) -> str:
    """Many models, one a line, with the few numbers that matter most; fits 100 columns."""
    chosen = [column for column in columns(reports) if column["name"] in HEADLINES]
    short = {"reconstruction_mse": "error", "ratio_to_pca": "/ PCA", "elbo": "ELBO", "importance_weighted": "bound", "log_likelihood": "log p"}
    heads = [short[c["name"]] + (f" k={c['k']}" if (c["k"] or 1) > 1 else "") for c in chosen]
    rows = [[report["title"], *(cell(report, column) for column in chosen), f"{report['cost']['train_seconds']:.0f} s"] for report in reports]
    grid = [["test split", *heads, "trained"], *rows]
    widths = [max(len(row[i]) for row in grid) for i in range(len(grid[0]))]
    line = lambda row: "  ".join([row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:]))])
    ruled = [line(grid[0]), "-" * len(line(grid[0])), *map(line, grid[1:])]
    return "\n".join([*ruled, "error: mean squared, pixels in [0, 1]; / PCA: relative to PCA of equal code size; the others in nats"])
