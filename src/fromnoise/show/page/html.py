"""HTML from elements: every text and attribute is escaped unless it is already HTML."""

from collections.abc import Iterable
from html import escape

VOID = {"br", "img", "meta"}  # elements without content


class Html(str):
    """Text that is HTML already."""


def to_html(value: object) -> Html:
    """Any text, escaped; control characters are replaced. HTML stays as it is."""
    if isinstance(value, Html):
        return value
    characters = []
    for c in str(value):
        characters.append(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}")
    return Html(escape("".join(characters), quote=True))


def concat(parts: Iterable[object], separator: str = "") -> Html:
    return Html(separator.join(to_html(part) for part in parts))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """``<tag attributes>children</tag>``.

    Attributes are named as in HTML, with ``_`` for ``-`` and ``class_`` for ``class``; one of value None
    is left out.
    """
    start = [tag]
    for name, value in attributes.items():
        if value is not None:
            start.append(f'{name.rstrip("_").replace("_", "-")}="{to_html(value)}"')
    opening = f"<{' '.join(start)}>"
    return Html(opening if tag in VOID else f"{opening}{concat(children)}</{tag}>")


def paragraphs(text: str) -> Html:
    """A paragraph for each part of the text between empty lines."""
    return concat(element("p", part) for part in text.split("\n\n") if part.strip())


def bullet_list(items: Iterable[object], class_: str | None = None) -> Html:
    return element("ul", *(element("li", item, class_=class_) for item in items))


def table(label: str, head: Iterable[object], rows: Iterable[Html]) -> Html:
    """A table that scrolls sideways on a narrow page, also by keyboard. head: the first row."""
    cells = [element("th", cell, scope="col") for cell in head]
    content = element(
        "table", element("thead", element("tr", *cells)), element("tbody", concat(rows))
    )
    return element("div", content, class_="wide", tabindex=0, role="region", aria_label=label)


def table_row(name: object, cells: Iterable[object]) -> Html:
    """A named row; a cell is an element ``td``, or the content of one."""
    row = [element("th", name, scope="row")]
    for cell in cells:
        is_cell = isinstance(cell, Html) and cell.startswith("<td")
        row.append(cell if is_cell else element("td", cell))
    return element("tr", *row)


def document(title: str, css: str, body: Html) -> Html:
    """A whole page, whose policy forbids every request."""
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = (
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=Html(policy)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content="fromnoise"),
        element("title", title),
        element("style", Html(f"\n{css}")),
    )
    content = element(
        "html",
        Html("\n"),
        element("head", concat(head, "\n")),
        Html("\n"),
        element("body", element("main", body)),
        lang="en",
    )
    return Html(f"<!doctype html>\n{content}\n")
