"""One HTML file about several runs that needs nothing else: no request, no script, at most two megabytes.

A content security policy in the page itself forbids every request, so that this stays true.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from ...core.capabilities import Encodes, has
from ...core.files import storage_error, write_atomic
from ...evaluate.cost import most_at_once
from ...evaluate.known_defects import Defects
from ...evaluate.protocol import Column, columns_of, has_value
from ...evaluate.report import data_id
from ...evaluate.table import NEAR, explanations, grouped, heading, perfect_of, rate, real_of, told
from ...evaluate.text_copying import COPIED
from ...families import options_of, short_name
from ...runs.load import LoadedRun
from ..style import plain
from .embed import Picture, embed, mark
from .verdict import hedges, shown, spread, value_of, verdict

LIMIT = 2_000_000  # bytes of the page
CSS = Path(__file__).with_name("page.css")
SECTIONS = {
    "trade": ("Quality against cost", "Every model by what its training or its sampling takes."),
    "samples": (
        "Samples of all models",
        "Nothing is picked: the first samples of one seed, each beside the training example that is nearest to it.",
    ),
    "nearest": (
        "Nearest training examples",
        "A model that copies shows the same picture twice; one that invents badly is far from everything.",
    ),
    "planes": (
        "Latent planes",
        "Where the test images land in two numbers, and what the decoder makes of every place between them.",
    ),
    "denoising": (
        "From noise to a sample",
        "What a diffusion model has at each of its steps, and what it takes it for.",
    ),
    "trajectories": (
        "From noise to a sample, as ways",
        "Where each point comes from, and the field that moves them all.",
    ),
    "solver": (
        "The solver and the network",
        "What few evaluations get wrong, beside what the network itself gets wrong.",
    ),
    "steps": (
        "What steps are worth",
        "The same model with few and with many evaluations of its network for a sample.",
    ),
    "completions": ("Completions", "Upper halves that were never seen, and several ways to go on."),
    "surprise": ("Surprise", "How much each character cost, real text beside the model's own."),
    "window": ("The window", "What a longer look back is worth, to counts and to the model."),
    "denoise": ("Denoising", "The network gets the noisy row only."),
    "recon": (
        "Reconstructions beside PCA",
        "The same images through every model; PCA with a code of equal size is the yardstick.",
    ),
    "duel": (
        "The duel",
        "What the discriminator thinks of fakes and of real examples, with the weights that are trained.",
    ),
    "progress": ("In training", "What the same noise became from interval to interval."),
    "worst": ("Worst cases", "The held-out examples that each model reconstructs worst."),
    "kl": (
        "KL by latent dimension",
        "How many nats each latent dimension carries about x; a unit near 0 carries nothing.",
    ),
    "curves": ("Learning curves", ""),
    "more": ("More figures", ""),
}
SMALL = ("worst", "kl", "curves")  # two of these fit beside each other
TEXTS, CHARACTERS = 2, 600  # shown of each model, and of each text
COUNTED = {
    "nats per symbol": "symbols",
    "equally likely symbols": "symbols",
    "bits per character": "characters",
    "bits per byte": "bytes",
}  # what n counts


@dataclass(frozen=True)
class Beside:
    """Models of other data than the page's, in a section of their own: what they are, their numbers, their texts, figures.

    name     of the section; figures as of the page
    reports  with titles
    """

    name: str
    head: str
    intro: str
    runs: list[LoadedRun]
    reports: list[dict]
    figures: dict[str, Path] = field(default_factory=dict)


def write_page(
    target: Path,
    title: str,
    intro: str,
    runs: list[LoadedRun],
    reports: list[dict],
    figures: dict[str, Path],
    commands: list[str],
    defects: Defects | None = None,
    beside: Sequence[Beside] = (),
) -> Path:
    """Writes the page and returns its path.

    reports  one for each model, as evaluate/report.py makes them
    defects  which metric sees which defect, as evaluate/known_defects.py finds out
    figures  PNG or SVG by "figure" or "run name/figure", as gallery.page_figures makes them; the JSON beside
             a file holds its alt text
    Raises StorageError, UsageError for a figure that is neither PNG nor SVG.
    """
    titles = [report.get("title") or report["run"] for report in reports]
    same_data = len({data_id(r.dataset) for r in runs}) <= 1
    body = [
        f"<h1>{_(title)}</h1>",
        *(f"<p>{_(part)}</p>" for part in intro.split("\n\n") if part.strip()),
        _verdict(reports, titles, runs, same_data),
        mark("nav"),
        _section("numbers", "Models and numbers", _table(reports, titles, same_data)),
    ]
    links = [("numbers", "Numbers")]
    images: list[Picture] = []
    if texts := _texts(reports, titles):
        body.append(_section("texts", "Texts", texts))
        links.append(("texts", "Texts"))
    names = {report["run"]: said for report, said in zip(reports, titles)}
    for kind, (head, _text), inner in _figures(figures, names, images):
        body.append(_section(kind, head, inner))
        links.append((kind, head))
    for other in beside:
        body.append(_section(other.name, other.head, _beside(other, images)))
        links.append((other.name, other.head))
    everything = [*reports, *(report for other in beside for report in other.reports)]
    for name, head, inner in (
        ("defects", "Which metric sees which defect", _defects(defects) if defects else ""),
        (
            "health",
            "Health",
            _health(everything, [report.get("title") or report["run"] for report in everything]),
        ),
        ("differences", "What differs in the configurations", _differences(runs, titles)),
        (
            "commands",
            "Commands to reproduce",
            f"<pre tabindex=0>{_(chr(10).join(commands))}</pre>" if commands else "",
        ),
        (
            "environment",
            "Environment",
            _environment([*runs, *(r for other in beside for r in other.runs)]),
        ),
    ):
        if inner:
            body.append(_section(name, head, inner))
            links.append((name, head))
    nav = (
        "<nav aria-label='On this page'>"
        + "".join(f'<a href="#{name}">{_(head)}</a>' for name, head in links)
        + "</nav>"
    )
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
    return escape(
        "".join(
            c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in str(text)
        ),
        quote=True,
    )


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


def _figures(figures: dict[str, Path], names: dict[str, str], images: list[Picture]):
    """(kind, (head, text), HTML) of each kind of figure, in the order of SECTIONS; their pictures go to the end of ``images``."""
    kinds: dict[str, list[tuple[str, Path]]] = {}
    for key, path in figures.items():
        run, _slash, kind = key.rpartition("/")
        kinds.setdefault(kind if kind in SECTIONS else "more", []).append((run, Path(path)))
    for kind, (head, text) in SECTIONS.items():
        if kind in kinds:
            parts = []
            for run, path in kinds[kind]:
                images.append(Picture(path))
                parts.append(_figure(images[-1], len(images) - 1, names.get(run, run)))
            inner = "".join(parts)
            inner = (
                f'<div class="pair">{inner}</div>'
                if len(parts) > (1 if kind in SMALL else 2)
                else inner
            )
            yield kind, (head, text), (f"<p>{_(text)}</p>" if text else "") + inner


def _beside(other: Beside, images: list[Picture]) -> str:
    """A small page inside the page."""
    titles = [report.get("title") or report["run"] for report in other.reports]
    parts = [f"<p>{_(part)}</p>" for part in other.intro.split("\n\n")]
    parts += [
        f"<ul>{''.join(f'<li>{_(sentence)}</li>' for sentence in verdict(other.reports, titles))}</ul>",
        _table(other.reports, titles, True),
    ]
    if texts := _texts(other.reports, titles):
        parts += ["<h3>Texts</h3>", texts]
    names = {report["run"]: said for report, said in zip(other.reports, titles)}
    parts += [
        f"<h3>{_(head)}</h3>{inner}"
        for _kind, (head, _text), inner in _figures(other.figures, names, images)
    ]
    return "\n".join(parts)


def _texts(reports: list[dict], titles: list[str]) -> str:
    """What the models write, and real text, what stands in the training text marked; empty where none writes."""
    there = [
        (title, report["texts"]) for report, title in zip(reports, titles) if report.get("texts")
    ]
    if not there:
        return ""
    real = next((texts["real"] for _title, texts in there if texts.get("real")), [])
    blocks = [("real text, held out", real[:1])] + [
        (title, texts["sampled"][:TEXTS]) for title, texts in there
    ]
    said = (
        "Nothing is picked: the first texts of one seed, each symbol drawn as the model has it. "
        + (
            f"Underlined: runs of {COPIED} characters or more that stand in the training text, letter by letter. Real text repeats itself too."
            if real
            else "Copies were not looked for."
        )
    )
    shown = "".join(
        f"<figure class=text><pre>{_marked(found)}</pre><figcaption><strong>{_(title)}</strong></figcaption></figure>"
        for title, some in blocks
        for found in some
    )
    return f'<p>{_(said)}</p><div class="pair">{shown}</div>'


def _marked(found: dict) -> str:
    """A text as HTML, its copied runs marked."""
    text, parts, done = found["text"][:CHARACTERS], [], 0

    def tidy(part):
        return _(part.replace("\r\n", "\n").replace("\t", "    "))

    for first, end in found["copied"]:
        first, end = min(first, len(text)), min(end, len(text))
        parts += [
            tidy(text[done:first]),
            f"<mark>{tidy(text[first:end])}</mark>" if first < end else "",
        ]
        done = end
    return "".join(parts) + tidy(text[done:]) + ("…" if len(found["text"]) > CHARACTERS else "")


def _verdict(reports: list[dict], titles: list[str], runs: list[LoadedRun], same_data: bool) -> str:
    seeds = {r.run.record.seed for r in runs}
    items = "".join(f"<li>{_(sentence)}</li>" for sentence in verdict(reports, titles, same_data))
    sizes = {r.model.latent_dim for r in runs if has(r.model, Encodes)}
    small = " ".join(hedges(reports, seeds, sizes)) if seeds else ""
    return f'<section class="verdict" id="verdict">\n<h2>In short</h2>\n<ul>{items}</ul>\n<p class="hedge">{_(small)}</p>\n</section>'


def _scroll(table: str, label: str) -> str:
    """A table that scrolls sideways where the page is narrow, also by keyboard."""
    return f'<div class="wide" tabindex=0 role="region" aria-label="{_(label)}">{table}</div>'


def _table(reports: list[dict], titles: list[str], same_data: bool) -> str:
    """One metric a line, one model a column; the last column is what held-out real examples score."""
    notes: list[str] = []
    head = "".join(
        f"<th scope=col>{_(title)}<small>{_(_made(report))}</small></th>"
        for report, title in zip(reports, titles)
    )
    any_real = any(real_of(column) for _words, columns in grouped(reports) for column in columns)
    head += (
        "<th scope=col>real data<small>held out, in the samples' place</small></th>"
        if any_real
        else ""
    )
    lines = []
    for words, columns in _groups(reports):
        lines.append(
            f'<tr class="group"><th scope=rowgroup colspan={len(reports) + 1 + any_real}>{_(words)}</th></tr>'
        )
        for column in columns:
            ranks = (
                column.ranks() if same_data and column.card.get("group") != "memory" else {}
            )  # below chance is not better
            cells = "".join(_cell(column, i, ranks, notes) for i in range(len(reports)))
            real = real_of(column)
            cells += (
                (
                    f'<td class="number soft">{_(value_of(real))}{_between(real)}</td>'
                    if real
                    else "<td></td>"
                )
                if any_real
                else ""
            )
            lines.append(
                f"<tr><th scope=row>{_(heading(column, features=False))}<small>{_(_about(column))}</small></th>{cells}</tr>"
            )
    lines.append(
        f'<tr class="group"><th scope=rowgroup colspan={len(reports) + 1 + any_real}>cost</th></tr>'
    )
    for label, tell in COSTS.items():
        cells = "".join(
            '<td class="none">not recorded</td>'
            if (value := tell(report.get("cost") or {})) is None
            else f'<td class="number">{rate(value)}</td>'
            for report in reports
        )
        lines.append(
            f"<tr><th scope=row>{_(label)}</th>{cells}{'<td></td>' if any_real else ''}</tr>"
        )
    table = f"<table><thead><tr><th scope=col>metric</th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return _scroll(table, "Models and numbers") + (
        '<p class="small">★ no other model of its line is better for sure, its whole 95 % interval on the better side. Under a number: its 95 % interval, over the draw of samples '
        "and examples. Only numbers of one protocol share a line: the same metric, examples, reference, feature map, kind of bound, k and unit.</p>"
        + "".join(
            f'<p class="small">{_(words)}.</p>'
            for words in explanations(columns_of(reports))
            if words != NEAR
        )
        + "".join(
            f'<p class="small"><sup>{i}</sup> {_(note)}</p>' for i, note in enumerate(notes, 1)
        )
    )


COSTS = {
    "parameters": lambda cost: cost.get("parameters"),
    "training seconds": lambda cost: cost.get("train_seconds"),
    "peak memory, MB": lambda cost: cost.get("memory_mb"),
    "samples a second, one at a time": lambda cost: cost.get("samples_per_second", {}).get("1"),
    "samples a second, up to 256 at once": lambda cost: (most_at_once(cost) or (0, None))[1],
    "network calls for a batch of samples": lambda cost: cost.get("network_calls"),
}


def _made(report: dict) -> str:
    return (
        f"{report['run']}, step {report['step']:,}"
        if report.get("step")
        else f"{report['run']}, closed form"
    )


def _groups(reports: list[dict]) -> list[tuple[str, list[Column]]]:
    """The groups of the table; a metric that no model has a number of comes last, with the reasons."""
    found = grouped(reports)
    empty = [column for column in columns_of(reports) if not column.there()]
    return [*found, *([("what none of them has", empty)] if empty else [])]


def _about(column: Column) -> str:
    """The protocol of a line, in words."""
    card = column.card
    direction = {
        "lower": "lower is better",
        "higher": "higher is better",
        "near": "near to a perfect model is best",
    }.get(card["better"] or "", "")
    counted = "samples" if card.get("drawn") else COUNTED.get(card["unit"], "examples")
    over = f"{card['n']:,} {counted}" if card.get("n") else ""
    against = (
        f"against {card['m']:,} of the {card['split']} split"
        if card.get("m")
        else (f"{card['split']} split" if card.get("n") and not card.get("drawn") else "")
    )
    null = perfect_of(column)
    perfect = f"a perfect model: {shown(null)}" if null else ""
    unit = "" if card["unit"] in ("share", "squared feature units") else card["unit"]
    features = f"features {card['evaluator']}" if card.get("evaluator") else ""
    how = "noise over each level's cell" if card.get("dequantisation") else ""
    return "; ".join(
        part
        for part in (
            unit,
            features,
            " ".join(filter(None, (over, against))),
            how,
            perfect,
            direction,
        )
        if part
    )


def _cell(column: Column, i: int, ranks: dict[int, int], notes: list[str]) -> str:
    """A number with its interval and a footnote; or why there is none."""
    found = column.rows.get(i)
    reason = (found or {}).get("reason") or ""
    if not has_value(found):
        reason = reason.removeprefix("none: ") or "this model has no such number"
    if reason and reason not in notes:
        notes.append(reason)
    sup = f"<sup>{notes.index(reason) + 1}</sup>" if reason else ""
    if not has_value(found):
        return f'<td class="none">none{sup}</td>'
    first = len(ranks) > 1 and ranks.get(i) == 1 and max(ranks.values()) > 1
    return f'<td class="number{" best" if first else ""}">{_(value_of(found))}{" ★" if first else ""}{sup}{_between(found)}</td>'


def _between(found: dict) -> str:
    """The interval under a number."""
    return f"<small>{_(spread(found))}</small>" if spread(found) else ""


def _health(reports: list[dict], titles: list[str]) -> str:
    parts, well = [], []
    for report, title in zip(reports, titles):
        if said := report.get("health"):
            parts.append(
                f"<h3>{_(title)}</h3><ul>"
                + "".join(f'<li class="warn">{_(sentence)}</li>' for sentence in said)
                + "</ul>"
            )
        else:
            well.append(title)
    there = [
        (title, report["training"])
        for report, title in zip(reports, titles)
        if report.get("training")
    ]

    def back(found):
        return (
            f"; rolled back {found['rollbacks']} time{'s' * (found['rollbacks'] > 1)}"
            if found["rollbacks"]
            else ""
        )

    ends = "".join(
        f"<li>{_(title)}: last {_(told(found, 'last'))}, best {_(told(found, 'best'))}{back(found)}</li>"
        for title, found in there
    )
    ends = (
        f"<p>The value that training looked at on held-out data (lower is better):</p><ul>{ends}</ul>"
        if ends
        else ""
    )
    return (
        "".join(parts)
        + (
            f"<p>At the end of training nothing wrong was found with: {_('; '.join(well))}.</p>"
            if well
            else ""
        )
        + ends
    )


def _defects(defects: Defects) -> str:
    """One metric a line, one bad model on purpose a column."""
    marks = {
        True: '<td class="number">sees it</td>',
        False: '<td class="none">blind</td>',
        None: '<td class="none">not defined</td>',
    }
    head = "".join(f"<th scope=col>{_(name)}</th>" for name in defects.zoo)
    lines = "".join(
        f"<tr><th scope=row>{_(metric)}</th>{''.join(marks[seen[name]] for name in defects.zoo)}</tr>"
        for metric, seen in defects.seen.items()
    )
    said = (
        f"Bad models on purpose, made from the same data and measured in the same way ({defects.n:,} samples, against one half of the training set; the other half plays the "
        "part of a perfect model). A metric sees a defect when it scores it worse than the perfect model with intervals that do not overlap. With more samples more is seen; no single number sees everything."
    )
    return f"<p>{_(said)}</p>" + _scroll(
        f"<table><thead><tr><th scope=col>metric</th>{head}</tr></thead><tbody>{lines}</tbody></table>",
        "Which metric sees which defect",
    )


def _differences(runs: list[LoadedRun], titles: list[str]) -> str:
    """The options in which the runs differ: one option a line."""
    told = [
        {
            **options_of(r.run.info),
            **r.run.info["train"],
            "preset": r.run.record.preset,
            "family": short_name(r.run.info),
        }
        for r in runs
    ]
    keys = [
        key
        for key in dict.fromkeys(key for options in told for key in options)
        if len({str(options.get(key, "")) for options in told}) > 1
    ]
    if len(runs) < 2 or not keys:
        return ""

    def show(options, key):
        return (
            ""
            if key not in options
            else ",".join(map(str, v))
            if isinstance(v := options[key], list)
            else str(v)
        )

    head = "".join(f"<th scope=col>{_(title)}</th>" for title in titles)
    lines = "".join(
        f"<tr><th scope=row>{_(key)}</th>{''.join(f'<td>{_(show(options, key))}</td>' for options in told)}</tr>"
        for key in sorted(keys)
    )
    return _scroll(
        f"<table><thead><tr><th scope=col>option</th>{head}</tr></thead><tbody>{lines}</tbody></table>",
        "Differences of the configurations",
    )


def _environment(runs: list[LoadedRun]) -> str:
    """One row for each run: what it was trained on, with what."""
    rows = []
    for r in runs:
        record, data = r.run.record, r.run.record.data
        versions = ", ".join(
            f"{name} {version}" for name, version in record.versions.model_dump().items()
        )
        values = (
            r.run.name,
            f"{data.name} ({', '.join(f'{n:,} {s}' for s, n in data.splits.items())})",
            data.digest[:12],
            record.seed,
            f"{record.steps:,}",
            record.threads,
            versions,
            record.machine,
        )
        rows.append(
            f"<tr><th scope=row>{_(values[0])}</th>"
            + "".join(f"<td>{_(value)}</td>" for value in values[1:])
            + "</tr>"
        )
    heads = ("run", "data", "digest", "seed", "steps", "threads", "versions", "machine")
    head = "".join(f"<th scope=col>{name}</th>" for name in heads)
    return (
        _scroll(
            f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>",
            "Environment",
        )
        if rows
        else ""
    )


def _figure(picture: Picture, index: int, run: str) -> str:
    size = ""
    if picture.kind != "image/svg+xml":
        width, height = picture.size()
        size = f' width="{width}" height="{height}"'
    head = f"<strong>{_(run)}.</strong> " if run else ""
    made = "<br>".join(
        f"<code>{_(line)}</code>" for line in picture.about.get("caption", "").split("\n") if line
    )
    return (
        f'<figure><div class="wide" tabindex=0 role="group" aria-label="{_(plain(picture.about.get("title", "figure"), 80))}">'
        f'<img alt="{_(picture.alt)}"{size} src="{mark(index)}"></div>'
        f"<figcaption>{head}{made}</figcaption></figure>"
    )
