"""One HTML file about several runs that needs nothing else: no request, no script, at most two megabytes.

A content security policy in the page itself forbids every request, so that this stays true.
"""

from html import escape
from pathlib import Path

from ..core.family import Encodes
from ..core.files import storage_error, write_atomic
from ..training.launch import Restored
from .embed import Picture, embed, mark
from .style import plain
from .verdict import columns_of, has_value, hedges, shown, verdict

LIMIT = 2_000_000  # bytes of the page
CSS = Path(__file__).with_name("page.css")
SECTIONS = {
    "planes": ("Latent planes", "Where the test images land in two numbers, and what the decoder makes of every place between them."),
    "denoise": ("Denoising", "The network gets the noisy row only."),
    "recon": ("Reconstructions beside PCA", "The same images through every model; PCA with a code of equal size is the yardstick."),
    "samples": ("Samples of all models", "Nothing is picked: the first samples of one seed."),
    "kl": ("KL by latent dimension", "How many nats each latent dimension carries about x; a unit near 0 carries nothing."),
    "curves": ("Learning curves", ""),
    "more": ("More figures", ""),
}
SMALL = ("kl", "curves")  # two of these fit beside each other


def write_page(
    target: Path, title: str, intro: str, runs: list[Restored], reports: list[dict], figures: dict[str, Path], commands: list[str]
) -> Path:
    """Writes the page and returns its path.

    reports  one for each model, as evaluate/report.py makes them
    figures  PNG or SVG by "figure" or "run name/figure", as gallery.page_figures makes them; the JSON beside
             a file holds its alt text
    Raises StorageError, UsageError for a figure that is neither PNG nor SVG.
    """
    titles = [report.get("title") or report["run"] for report in reports]
    same_data = len({r.dataset.digest for r in runs}) <= 1
    body = [
        f"<h1>{_(title)}</h1>", *(f"<p>{_(part)}</p>" for part in intro.split("\n\n") if part.strip()),
        _verdict(reports, titles, runs, same_data), mark("nav"),
        _section("numbers", "Models and numbers", _table(reports, titles, same_data)),
    ]  # fmt: skip
    grouped: dict[str, list[tuple[str, Path]]] = {}
    for key, path in figures.items():
        run, _slash, kind = key.rpartition("/")
        grouped.setdefault(kind if kind in SECTIONS else "more", []).append((run, Path(path)))
    names = {report["run"]: said for report, said in zip(reports, titles)}
    links = [("numbers", "Numbers")]
    images: list[Picture] = []
    for kind, (head, text) in SECTIONS.items():
        if kind in grouped:
            parts = []
            for run, path in grouped[kind]:
                images.append(Picture(path))
                parts.append(_figure(images[-1], len(images) - 1, names.get(run, run)))
            inner = "".join(parts)
            inner = f'<div class="pair">{inner}</div>' if len(parts) > (1 if kind in SMALL else 2) else inner
            body.append(_section(kind, head, (f"<p>{_(text)}</p>" if text else "") + inner))
            links.append((kind, head))
    for name, head, inner in (
        ("health", "Health", _health(reports, titles)),
        ("commands", "Commands to reproduce", f"<pre tabindex=0>{_(chr(10).join(commands))}</pre>" if commands else ""),
        ("environment", "Environment", _environment(runs)),
    ):
        if inner:
            body.append(_section(name, head, inner))
            links.append((name, head))
    nav = "<nav aria-label='On this page'>" + "".join(f'<a href="#{name}">{_(head)}</a>' for name, head in links) + "</nav>"
    html = _document(title, "\n".join(body).replace(mark("nav"), nav))
    html = embed(html, images, LIMIT)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, target.parent) from error
    write_atomic(target, html)
    return target


def _(text) -> str:
    """Any text from outside, fit for HTML text and attributes."""
    return escape("".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in str(text)), quote=True)


def _document(title: str, body: str) -> str:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="generator" content="fromnoise">\n'
        f"<title>{_(title)}</title>\n<style>\n{CSS.read_text('utf-8')}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _section(name: str, head: str, inner: str) -> str:
    return f'<section id="{name}">\n<h2>{_(head)}</h2>\n{inner}\n</section>'


# -- words and tables ----------------------------------------------------------------------------------------


def _verdict(reports: list[dict], titles: list[str], runs: list[Restored], same_data: bool) -> str:
    seeds = {int(r.run.info["seed"]) for r in runs}
    items = "".join(f"<li>{_(sentence)}</li>" for sentence in verdict(reports, titles, same_data))
    sizes = {r.model.latent_dim for r in runs if isinstance(r.model, Encodes)}
    small = " ".join(hedges(reports, seeds, sizes)) if seeds else ""
    return f'<section class="verdict" id="verdict">\n<h2>In short</h2>\n<ul>{items}</ul>\n<p class="hedge">{_(small)}</p>\n</section>'


def _scroll(table: str, label: str) -> str:
    """A table that scrolls sideways where the page is narrow, also by keyboard."""
    return f'<div class="wide" tabindex=0 role="region" aria-label="{_(label)}">{table}</div>'


def _table(reports: list[dict], titles: list[str], same_data: bool) -> str:
    columns = columns_of(reports)
    head = "".join(f"<th scope=col>{_(c.head)}<small>{_(_about(c))}</small></th>" for c in columns)
    head += "<th scope=col>parameters</th><th scope=col>training<small>seconds</small></th><th scope=col>memory<small>MB</small></th>"
    marks = [_marks(c) if same_data else {} for c in columns]
    rows, notes = [], []
    for i, (report, title) in enumerate(zip(reports, titles)):
        step = report.get("step")
        name = f"{_(title)}<small>{_(report['run'])}{f', step {step:,}' if step else ', closed form'}</small>"
        cells = "".join(_cell(c, i, mark.get(i, ""), notes) for c, mark in zip(columns, marks))
        cost = report.get("cost") or {}
        for key in ("parameters", "train_seconds", "memory_mb"):
            value = cost.get(key)
            cells += '<td class="none">none (not recorded)</td>' if value is None else f'<td class="number">{value:,.0f}</td>'
        rows.append(f"<tr><th scope=row>{name}</th>{cells}</tr>")
    table = f"<table><thead><tr><th scope=col>model</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return _scroll(table, "Models and numbers") + (
        '<p class="small">★ best of its column; ≈ within two standard errors of the best. Only numbers of one kind share a column: '
        "the same metric, kind of bound, k and unit.</p>"
        + "".join(f'<p class="small"><sup>{i}</sup> {_(note)}</p>' for i, note in enumerate(notes, 1))
    )


def _about(column) -> str:
    direction = {"lower": "lower is better", "higher": "higher is better"}.get(column.better or "", "")
    counts = {(c.get("n"), c.get("split")) for c in column.cells.values() if has_value(c)}
    over = f"{counts.copy().pop()[0]:,} {counts.copy().pop()[1]} examples" if len(counts) == 1 and None not in next(iter(counts)) else ""
    return "; ".join(part for part in (column.kind, column.unit, over, direction) if part)


def _marks(column) -> dict[int, str]:
    order = column.ranked()
    if len(order) < 2:
        return {}
    return {order[0]: " best"} | {i: " near" for i in order[1:] if column.clearly_apart(order[0], i) is False}


def _cell(column, row: int, mark: str, notes: list[str]) -> str:
    """A number, with its own label where the labels of a column differ, and a footnote; or why there is none."""
    metric = column.cells.get(row)
    reason = (metric or {}).get("reason") or ""
    if not has_value(metric):
        reason = reason.removeprefix("none: ") or "this model has no such number"
        return f'<td class="none">none ({_(reason)})</td>'
    if reason and reason not in notes:
        notes.append(reason)
    sup = f"<sup>{notes.index(reason) + 1}</sup>" if reason else ""
    own = f"<small>{_(metric['label'])}</small>" if column.mixed else ""
    return f'<td class="number{mark}">{_(shown(metric))}{sup}{own}</td>'


def _health(reports: list[dict], titles: list[str]) -> str:
    parts, well = [], []
    for report, title in zip(reports, titles):
        if said := report.get("health"):
            parts.append(f"<h3>{_(title)}</h3><ul>" + "".join(f'<li class="warn">{_(sentence)}</li>' for sentence in said) + "</ul>")
        else:
            well.append(title)
    return "".join(parts) + (f"<p>Nothing wrong was found with: {_('; '.join(well))}.</p>" if well else "")


def _environment(runs: list[Restored]) -> str:
    """One row for each run: what it was trained on, with what."""
    rows = []
    for r in runs:
        info = r.run.info
        versions = ", ".join(f"{name} {version}" for name, version in info.get("versions", {}).items())
        data = info["data"]
        values = (
            r.run.name, f"{data['name']} ({', '.join(f'{n:,} {s}' for s, n in data['splits'].items())})", data["digest"][:12],
            info["seed"], f"{info['steps']:,}", info.get("threads", ""), versions, info.get("machine", ""),
        )  # fmt: skip
        rows.append(f"<tr><th scope=row>{_(values[0])}</th>" + "".join(f"<td>{_(value)}</td>" for value in values[1:]) + "</tr>")
    heads = ("run", "data", "digest", "seed", "steps", "threads", "versions", "machine")
    head = "".join(f"<th scope=col>{name}</th>" for name in heads)
    return _scroll(f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>", "Environment") if rows else ""


def _figure(picture: Picture, index: int, run: str) -> str:
    size = ""
    if picture.kind != "image/svg+xml":
        width, height = picture.size()
        size = f' width="{width}" height="{height}"'
    head = f"<strong>{_(run)}.</strong> " if run else ""
    made = "<br>".join(f"<code>{_(line)}</code>" for line in picture.about.get("caption", "").split("\n") if line)
    return (
        f'<figure><div class="wide" tabindex=0 role="group" aria-label="{_(plain(picture.about.get("title", "figure"), 80))}">'
        f'<img alt="{_(picture.alt)}"{size} src="{mark(index)}"></div>'
        f"<figcaption>{head}{made}</figcaption></figure>"
    )
