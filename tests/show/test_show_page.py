"""The report page: self-contained, small, escaped, and a verdict that compares only what may be compared."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fromnoise.core.errors import UsageError
from fromnoise.evaluate.protocol import align_columns
from fromnoise.runs.load import load_run
from fromnoise.show.page.gallery import page_figures
from fromnoise.show.page.page import LIMIT, write_page
from fromnoise.show.page.verdict import hedges, number, shown, verdict
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan


def metric(name, value, **more):
    base = dict(
        name=name,
        label=name.replace("_", " "),
        value=value,
        se=None,
        unit="",
        bound=None,
        k=None,
        n=180,
        split="test",
        better="lower",
        null=None,
        reason="",
    )
    return base | more


def report(run, *metrics, title=None, health=()):
    cost = {"parameters": 1234567, "train_seconds": 12.4, "memory_mb": 456.7}
    return {
        "run": run,
        "family": "f",
        "preset": "p",
        "title": title or run,
        "step": 10,
        "metrics": list(metrics),
        "cost": cost,
        "health": list(health),
    }


class Page(HTMLParser):
    """Tags, attributes and text of a page; complains about tags that do not close."""

    VOID = {"meta", "img", "br", "link", "input"}

    def __init__(self, html):
        super().__init__()
        self.tags, self.stack, self.words = [], [], []
        self.feed(html)
        assert not self.stack, self.stack

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    made = []
    for name, family, options in (
        ("<b>x", "vae", dict(preset="lecture", steps=20, hidden=(16,))),
        ("ae", "autoencoder", dict(preset="lecture", steps=20, hidden=(16,))),
        ("dae", "autoencoder", dict(preset="denoising", steps=20, hidden=(16,), latent_dim=4)),
    ):
        run = start_run(make_plan(family, "digits", threads=1, intervals=2, **options), root / name)
        made.append(load_run(run, device="cpu"))
    return made


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    figures = page_figures(
        runs, folder / "figures", ["VAE", "AE", "denoiser"], command="fromnoise tour <&>"
    )
    reports = [
        report(
            "<b>x",
            metric("reconstruction_mse", 0.0396, se=0.0014),
            metric("elbo", -37.4, se=1.0, bound="lower", k=1, better="higher"),
            title="<i>VAE",
        ),
        report(
            "ae",
            metric("reconstruction_mse", 0.0332, se=0.0015),
            metric("elbo", None, reason="none: defines no <density>"),
        ),
        report("dae", health=["no progress: <sad> & slow"]),
    ]
    target = write_page(
        folder / "deep" / "p.html",
        "Digits & <script>alert(1)</script>",
        "One.\n\nTwo <b>.",
        runs,
        reports,
        figures,
        ["fromnoise train vae --out '<b>x'"],
    )
    return figures, target.read_text("utf-8"), target


def test_page_has_all_sections(page):
    figures, html, _ = page
    ids = {attrs.get("id") for tag, attrs in Page(html).tags if tag == "section"}
    assert ids == {
        "verdict",
        "numbers",
        "samples",
        "nearest",
        "planes",
        "denoise",
        "recon",
        "worst",
        "kl",
        "curves",
        "health",
        "differences",
        "commands",
        "environment",
    }
    assert {"planes", "recon", "samples", "dae/denoise", "<b>x/kl", "ae/curves"} <= set(figures)
    links = [attrs["href"] for tag, attrs in Page(html).tags if tag == "a"]
    assert links and all(link[1:] in ids for link in links)


def test_page_asks_nothing_of_anybody(page):
    _, html, target = page
    tags = Page(html).tags
    assert not [
        tag for tag, _ in tags if tag in ("script", "link", "iframe", "object", "base", "form")
    ]
    for tag, attrs in tags:
        for name in ("src", "href", "srcset", "action", "poster", "background"):
            assert name not in attrs or attrs[name].startswith(("data:image/", "#")), (tag, name)
        assert not [name for name in attrs if name.startswith("on")]
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style and "@import" not in style and "http" not in style
    assert "default-src 'none'" in html
    assert target.stat().st_size < LIMIT


def test_every_image_has_words_and_decodes(page):
    _, html, _ = page
    images = [attrs for tag, attrs in Page(html).tags if tag == "img"]
    assert len(images) == len(page[0])
    for attrs in images:
        assert len(attrs["alt"]) > 20 and int(attrs["width"]) > 300
        Image.open(io.BytesIO(base64.b64decode(attrs["src"].partition(",")[2]))).load()


def test_text_from_outside_is_escaped(page):
    _, html, _ = page
    parsed = Page(html)
    assert not {"b", "i", "script", "density", "sad"} & {tag for tag, _ in parsed.tags}
    assert (
        "<b>x" in parsed.text
        and "<i>VAE" in parsed.text
        and "no progress: <sad> & slow" in parsed.text
    )
    assert "&lt;b&gt;x" in html


def test_missing_numbers_have_a_reason(page):
    text = Page(page[1]).text
    assert (
        "defines no <density>" in text
        and "this model has no such number" in text
        and "none 1" in text
    )
    assert "1,234,567" in text


def test_control_characters_and_placeholders_cannot_break_in(runs, tmp_path):
    html = write_page(
        tmp_path / "p.html", "\0nav\0 \x1b[31m", "\0" + "0\0", runs[:1], [report("\0nav\0")], {}, []
    ).read_text()
    assert "\0" not in html and "\x1b" not in html
    assert html.count("<nav") == 1


def noise(path: Path, width: int, height: int, seed: int) -> Path:
    Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    ).save(path)
    return path


def test_large_figures_are_made_to_fit(tmp_path):
    figures = {f"run{i}/samples": noise(tmp_path / f"{i}.png", 900, 700, i) for i in range(6)}
    target = write_page(tmp_path / "p.html", "t", "", [], [report("a"), report("b")], figures, [])
    assert sum(path.stat().st_size for path in figures.values()) > 5 * LIMIT / 1.2
    assert target.stat().st_size <= LIMIT
    assert target.read_text().count("<img") == 6


def test_wrong_figures_are_refused(tmp_path):
    (tmp_path / "x.gif").write_bytes(b"GIF89a")
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        write_page(
            tmp_path / "p.html", "t", "", [], [report("a")], {"recon": tmp_path / "x.gif"}, []
        )


# -- the verdict ---------------------------------------------------------------------------------------------


def test_only_numbers_of_one_kind_share_a_column():
    reports = [
        report("a", metric("log_p", -1.0, bound="exact")),
        report("b", metric("log_p", -2.0, bound="lower", k=1)),
        report("c", metric("log_p", -3.0, bound="lower", k=100)),
        report(
            "d", metric("log_p", -4.0, bound="lower", k=100), metric("log_p", None, reason="no")
        ),
        report("e", metric("log_p", None, reason="none: no density")),
    ]
    columns = align_columns(reports)
    assert [(c.card["bound"], c.card["k"]) for c in columns] == [
        ("exact", None),
        ("lower", 1),
        ("lower", 100),
    ]
    assert set(columns[2].valued_rows()) == {2, 3}
    assert all(c.rows[4]["reason"] == "none: no density" for c in columns)
    assert len(verdict(reports, list("abcde"))) == 1  # only the pair with k = 100 is ranked


def test_verdict_ranks_in_the_right_direction_and_calls_ties():
    down = [
        report("a", metric("error", 0.20, se=0.01)),
        report("b", metric("error", 0.10, se=0.01)),
    ]
    assert verdict(down, ["A", "B"]) == [
        "Best error: B with 0.100 (95 %: 0.080 to 0.120); next is A with 0.200 (95 %: 0.180 to 0.220)."
    ]
    up = [
        report("a", metric("bound", -5.0, se=1.0, better="higher")),
        report("b", metric("bound", -6.0, se=1.0, better="higher")),
    ]
    assert "A with" in verdict(up, ["A", "B"])[0] and "tie" in verdict(up, ["A", "B"])[0]
    assert (
        "chance"
        in verdict([report("a", metric("e", 1.0)), report("b", metric("e", 2.0))], ["A", "B"])[0]
    )
    assert verdict(
        [report("a", metric("e", 1.0, better=None)), report("b", metric("e", 2.0, better=None))],
        ["A", "B"],
    )[0].startswith("There is no")


def test_verdict_about_pca():
    reports = [
        report(name, metric("ratio_to_pca", value, se=se))
        for name, value, se in (("a", 0.6, 0.1), ("b", 1.7, 0.1), ("c", 0.9, 0.2))
    ]
    said = verdict(reports, ["A", "B", "C"])
    assert said == [
        "Reconstructs better than PCA with a code of the same size: A.",
        "Reconstructs worse than PCA with a code of the same size: B.",
    ]


def test_hedges_say_what_is_not_covered():
    said = " ".join(hedges([report("a", metric("elbo", 1.0, bound="lower", k=1))], {0, 3}, {2, 16}))
    assert (
        "another training run" in said
        and "lower bound" in said
        and "seeds 0, 3" in said
        and "2, 16 numbers" in said
    )


@pytest.mark.parametrize(
    "value, se, text",
    [
        (0.03962, 0.0014, "0.0396 ± 0.0014"),
        (-101.123, 0.73, "-101.12 ± 0.73"),
        (1234567, None, "1,234,567"),
        (0.123456, None, "0.1235"),
        (0.5, 0.0, "0.5"),
        (12345.678, 120.0, "12,346 ± 120"),
        (2.6e30, None, "2.6e+30"),
        (5.1e-33, 2e-34, "5.1e-33 ± 2e-34"),
    ],
)
def test_numbers_have_the_digits_that_their_error_supports(value, se, text):
    assert number(value, se) == text


def test_counts_are_whole_numbers_also_where_a_report_was_read_from_disk():
    assert shown({"value": 2.0, "of": 10.0}) == shown({"value": 2, "of": 10}) == "2 of 10"


def test_page_prints_and_is_dark_where_wanted():
    css = (Path(__file__).parents[2] / "src/fromnoise/show/page/templates/page.css").read_text()
    assert "prefers-color-scheme: dark" in css and "@media print" in css
    assert not re.search(r"https?:", css)
