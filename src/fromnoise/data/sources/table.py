"""Tables (.csv, .tsv, .parquet): numbers and categories become one vector of floats, and back.

Unusual: nothing is guessed in silence. A cell that does not fit its column is refused with its line and the
option that mends it; what was decided without asking is in ``Dataset.notes``.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path

import numpy as np

from ...core.errors import DataError, UsageError, did_you_mean
from ...core.limits import check_unpacked
from ...core.spec import DataSpec
from ...core.words import shown
from ..codecs.columns import Columns, as_number, sorted_values
from ..config import DataConfig, refuse_options
from ..dataset import Dataset, Split, compute_digest
from ..formats.cells import calendar_form, first_code, is_year_and_month, text_form
from ..formats.encoding import decoded_text
from ..splits import split_rows

MISSING = frozenset(
    ("", "na", "nan", "null")
)  # compared in lower case; in columns that the user names, "" alone
SEPARATORS = ",;\t"
HEAD_LINES = 1000  # that the separator is told by
SEPARATOR_LINE = re.compile(
    r'"?sep=([^\r\n]*?)"?(?:\r\n|\r|\n|\Z)', re.IGNORECASE
)  # as Excel writes and reads it
DECIMAL_COMMA = re.compile(r"[-+]?\d[\d.]*,\d+|[-+]?,\d+")
MOSTLY = 0.8  # share of cells that must be numbers to make a number column
MOST_CLASSES = 10_000


def load(name: str, config: DataConfig) -> Dataset:
    """The table in that file. Raises DataError (what is in it) and UsageError (what was asked of it)."""
    refuse_options(
        config,
        "a table",
        "label",
        "learn_label",
        "drop",
        "categorical",
        "missing",
        "validation",
        "test",
    )
    path, notes = Path(name).expanduser(), []
    try:
        read = _read_parquet if path.suffix.lower() == ".parquet" else _read_csv
        table, lines = read(path, notes)
    except OSError as error:
        raise DataError(
            f"{shown(name)} cannot be read ({error.strerror or error}): mend the path or its permissions"
        ) from error
    return dataset(name, table, lines, config, notes)


def dataset(
    name: str,
    table: dict[str, np.ndarray],
    lines: Sequence[int],
    config: DataConfig,
    notes: list[str],
    y=None,
) -> Dataset:
    """Columns of text, or float64 with NaN for gaps, each (N,) -> Dataset.

    lines: where in the file each row stands. y: labels 0 .. K-1 that came apart from the table, or None; they are a column y.

    With ``learn_label`` the label is a column to learn besides being the class.
    """
    _check_names(table, config)
    label_name = config.label or ""
    if y is not None:
        label_name = next(
            f"y{'_' * i}" for i in range(len(table) + 1) if f"y{'_' * i}" not in table
        )
        table = table | {label_name: np.array(list(map(str, y.tolist())), object)}
    table = {column: cells for column, cells in table.items() if column not in config.drop}
    table, lines, left_out = _without_gaps(name, table, np.asarray(lines), config, notes)
    place, label = list(table).index(label_name) if label_name else 0, table.pop(label_name, None)
    if not table:
        raise UsageError(f"{shown(name)}: {_why_nothing_is_left(label_name, config)}")
    table = {
        column: _typed(name, column, cells, lines, config, notes) for column, cells in table.items()
    }
    for column, cells in table.items():
        if cells.dtype == object:
            _note_lost(
                f"of column {shown(column)} ",
                ("category", "categories"),
                left_out.get(column),
                cells,
                notes,
            )
    class_names = ()
    if label is not None:
        label = _as_text(label)
        _note_lost("", ("class", "classes"), left_out.get(label_name), label, notes)
        class_names = (
            tuple(map(str, range(int(y.max()) + 1))) if y is not None else sorted_values(label)
        )
        if y is None and len(class_names) > min(MOST_CLASSES, max(50, len(lines) // 10)):
            raise DataError(
                f"{shown(name)}: --label {shown(label_name)} has {len(class_names)} different values in "
                f"{len(lines)} rows, too many for classes: name another column"
            )
        index = {value: i for i, value in enumerate(class_names)}
        y = np.array([index[cell] for cell in label], np.int64)
        if config.learn_label:
            pairs = list(table.items())
            pairs.insert(place, (label_name, label))
            table = dict(pairs)
    rows = split_rows(len(lines), config, y, notes, class_names)
    codec = Columns.fit(table, rows["train"], label_name, place)
    x = codec.encode(table)
    splits = {part: Split(x[at], None if y is None else y[at]) for part, at in rows.items()}
    spec = DataSpec("vector", (codec.dims,), 0, len(class_names), codec.blocks, cells=codec.cells)
    return Dataset(
        name,
        spec,
        splits,
        compute_digest(spec, splits),
        class_names=class_names,
        columns=codec,
        settings=config.model_dump(exclude_defaults=True),
        notes=tuple(notes),
    )


def _check_names(table: dict[str, np.ndarray], config: DataConfig) -> None:
    """Raises UsageError if an option names a column that is not there."""
    label = (config.label,) if config.label is not None else ()
    for option, names in (
        ("label", label),
        ("drop", config.drop),
        ("categorical", config.categorical),
    ):
        for wanted in names:
            if wanted not in table:
                columns = ", ".join(shown(column) for column in list(table)[:20])
                hint = did_you_mean(wanted, table)
                raise UsageError(
                    f"--{option}: there is no column {shown(wanted)}.{hint} Columns: {columns}"
                )
    if config.label is not None and config.label in config.drop:
        raise UsageError(f"--label and --drop both name {shown(config.label)}: leave one out")


def _why_nothing_is_left(label: str, config: DataConfig) -> str:
    """Why a table has no column to learn from, and what mends it."""
    if config.drop:
        return "no column is left to learn from: drop fewer"
    if config.label is not None:
        return f"the label {shown(label)} is the only column: leave --label out to learn it, or add columns to the file"
    return "there is no column to learn from: add some"


def _without_gaps(
    name: str, table: dict[str, np.ndarray], lines: np.ndarray, config: DataConfig, notes: list[str]
):
    """Refuses or drops the rows with a missing cell: (table, lines, cells of dropped rows by column, gaps aside).

    Text such as NA is a gap, but not in the label and in the columns of --categorical: there only empty cells are.
    """
    gaps = {
        column: _gaps(cells, column == config.label or column in config.categorical)
        for column, cells in table.items()
    }
    _note_kept_words(table, gaps, config, notes)
    rows = np.any(list(gaps.values()), axis=0) if gaps else np.zeros(len(lines), bool)
    if not rows.any():
        return table, lines, {}
    words = _missing_words(table, gaps)
    if empty := next((column for column, gap in gaps.items() if gap.all()), None):
        if empty in words:
            raise DataError(
                f"{shown(name)}: every cell of column {shown(empty)} is missing, since {_listed(words[empty])} "
                f"count{'s' * (len(words[empty]) == 1)} as missing: leave it out with --drop {shown(empty)}, "
                f"or keep that text with --categorical {shown(empty)}"
            )
        raise DataError(
            f"{shown(name)}: column {shown(empty)} is empty: leave it out with --drop {shown(empty)}"
        )
    places = ", ".join(
        f"{_listed(texts)} in column {shown(column)}" for column, texts in list(words.items())[:5]
    )
    places += " ..." * (len(words) > 5)
    if config.missing == "refuse":
        row = int(rows.argmax())
        column = next(column for column, gap in gaps.items() if gap[row])
        count = sum(int(gap.sum()) for gap in gaps.values())
        text = table[column][row] if table[column].dtype == object else ""
        keep = (
            f". To keep such text ({places}) as a category, name its column in --categorical or --label"
            if words
            else ""
        )
        raise DataError(
            f"{shown(name)}: {count} missing cell{'s' * (count != 1)} in {rows.sum()} of "
            f"{len(rows)} rows, first in line {lines[row]}, column {shown(column)}"
            f"{f' ({shown(text)} counts as missing)' if text else ''}: "
            f"fill them, or leave those rows out with --missing drop{keep}"
        )
    if rows.all():
        raise DataError(
            f"{shown(name)}: every row has a missing cell: fill them, or --drop the columns with most gaps"
            + (f" (as missing counts {places}; --categorical keeps it)" if words else "")
        )
    why = f"; as missing counts {places}: --categorical keeps it as a category" if words else ""
    notes.append(f"{rows.sum()} of {len(rows)} rows left out: a cell is missing{why}")
    left_out = {column: cells[rows & ~gaps[column]] for column, cells in table.items()}
    return {column: cells[~rows] for column, cells in table.items()}, lines[~rows], left_out


def _gaps(cells: np.ndarray, only_empty: bool) -> np.ndarray:
    """Which cells (N,) are missing, bool (N,)."""
    if cells.dtype != object:
        return np.isnan(cells)
    return np.array([not cell if only_empty else cell.lower() in MISSING for cell in cells], bool)


def _missing_words(
    table: Mapping[str, np.ndarray], gaps: Mapping[str, np.ndarray]
) -> dict[str, list[str]]:
    """Column -> the different texts in it that are gaps, for columns with such text."""
    texts = {
        column: {cell for cell in cells[gaps[column]] if cell}
        for column, cells in table.items()
        if cells.dtype == object
    }
    return {column: sorted(words) for column, words in texts.items() if words}


def _note_kept_words(
    table: Mapping[str, np.ndarray],
    gaps: Mapping[str, np.ndarray],
    config: DataConfig,
    notes: list[str],
) -> None:
    """A line about each column that the user named and that holds text which is a gap elsewhere."""
    for column, cells in table.items():
        if cells.dtype != object or not (column == config.label or column in config.categorical):
            continue
        counts = Counter(cell for cell in cells[~gaps[column]] if cell.lower() in MISSING)
        if not counts:
            continue
        is_label = column == config.label
        kind = (
            ("a class" if is_label else "a category")
            if len(counts) == 1
            else "classes"
            if is_label
            else "categories"
        )
        named = ", ".join(
            f"{shown(cell)} in {count} row{'s' * (count != 1)}"
            for cell, count in sorted(counts.items())
        )
        notes.append(
            f"column {shown(column)}: {named} {'is' if len(counts) == 1 else 'are'} {kind}, since --{'label' if is_label else 'categorical'} "
            "names the column: only empty cells count as missing in it"
        )


def _note_lost(
    where: str,
    words: tuple[str, str],
    left_out: np.ndarray | None,
    kept: np.ndarray,
    notes: list[str],
) -> None:
    """A line about the categories or classes that only rows with a gap have. words: what one and several are called."""
    if left_out is None:
        return
    lost = Counter(_as_text(left_out).tolist())
    for value in set(kept.tolist()):
        lost.pop(value, None)
    if not lost:
        return
    named = [
        f"{shown(value)} ({count} row{'s' * (count != 1)})" for value, count in lost.most_common(5)
    ]
    notes.append(
        f"{words[len(lost) > 1]} {where}lost with the rows left out, since no other row has {'them' if len(lost) > 1 else 'it'}: "
        f"{', '.join(named)}{f' and {len(lost) - 5} more' if len(lost) > 5 else ''}"
    )


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(map(shown, texts))


def _typed(
    name: str,
    column: str,
    cells: np.ndarray,
    lines: np.ndarray,
    config: DataConfig,
    notes: list[str],
) -> np.ndarray:
    """Text that is numbers -> float64, or int64 or uint64 beyond 2^53; categories stay text. Raises DataError on what is neither."""
    where, drop = f"{shown(name)}: column {shown(column)}", f"--drop {shown(column)}"
    if column in config.categorical:
        return _as_text(cells)
    numbers = cells if cells.dtype != object else np.array([as_number(cell) for cell in cells])
    finite = np.isfinite(numbers)
    code = first_code(cells) if cells.dtype == object and finite.mean() >= MOSTLY else None
    if finite.mean() >= MOSTLY and code is None:
        if not finite.all():
            first = int((~finite).argmax())
            raise DataError(
                f"{where} holds numbers, but line {lines[first]} has {shown(cells[first])}: "
                f"fix the cell, or use --categorical {shown(column)} or {drop}"
            )
        return _exact(where, column, cells, numbers.astype(np.float64), notes)
    different = len(set(cells))
    if code is not None:
        words = f"codes, such as {shown(cells[code])} in line {lines[code]}"
        mend = f"make each a category with --categorical {shown(column)}, or, if they are quantities, write them without leading zeros or plus"
    elif form := text_form(cells):
        words, mend = form
    else:
        words, mend = "", ""
    if different > max(
        50, min(len(cells) // 10, 1000)
    ):  # above 1,000 the one-hot table outgrows a laptop
        what = (
            f"holds {words}: {different} different ones"
            if words
            else f"has {different} different texts"
        )
        likely = "" if words else ", as free text or ids have"
        raise DataError(
            f"{where} {what} in {len(cells)} rows{likely}: {f'{mend}, or ' if mend else ''}leave it out with {drop}"
        )
    if words:
        quantity = "" if code is not None else f" To have them learned as quantities, {mend}"
        notes.append(
            f"column {shown(column)} holds {words}: each of the {different} is a category, written back as it is, "
            f"and no others are made.{quantity}"
        )
    elif finite.any():
        notes.append(
            f"column {shown(column)} holds text, and numbers in {finite.sum()} of {len(cells)} rows: each of the {different} "
            "different cells is a category"
        )
    return _as_text(cells)


def _exact(
    where: str, column: str, cells: np.ndarray, numbers: np.ndarray, notes: list[str]
) -> np.ndarray:
    """Numbers, all finite -> float64; whole ones beyond 2^53, where float64 would round, int64 or uint64. Notes on what they seem to be.

    Raises DataError where neither form tells different cells apart.
    """
    drop = f"leave it out with --drop {shown(column)}, or make each a category with --categorical {shown(column)}"
    text = cells.dtype == object
    if text and np.abs(numbers).max() >= 2**53:
        try:
            whole = list(map(int, cells))
        except ValueError:
            whole = []
        if whole:
            if max(whole) - min(whole) >= 2**53 or min(whole) < -(2**63) or max(whole) >= 2**64:
                raise DataError(
                    f"{where} holds whole numbers that float64 cannot tell apart, as ids and times in nanoseconds are: {drop}"
                )
            notes.append(
                f"column {shown(column)} holds numbers beyond 2^53, as ids are: they are learned as quantities, exact to the last digit; "
                f"--drop {shown(column)} leaves it out"
            )
            return np.array(whole, np.int64 if max(whole) < 2**63 else np.uint64)
    if (
        text
        and max(map(len, cells)) > 15
        and len(set(numbers.tolist())) < len(set(map(Decimal, cells)))
    ):
        raise DataError(
            f"{where} holds numbers of more digits than float64 has (about 16), which differ in the last ones: {drop}"
        )
    if text and (twins := _twins(cells, numbers)):
        notes.append(
            f"column {shown(column)} writes one number in different ways, such as {shown(twins[0])} and {shown(twins[1])}: they are the same "
            f"to the model; --categorical {shown(column)} keeps them apart"
        )
    if form := calendar_form(numbers):
        notes.append(
            f"column {shown(column)} looks like {form}: it is learned as a plain number, so that samples hold dates or times that do "
            f"not exist. Write it as days or seconds since a fixed day, or give --drop {shown(column)}"
        )
    elif text and is_year_and_month(cells):
        notes.append(
            f"column {shown(column)} looks like dates written as year.month: it is learned as a decimal number. Write it as months "
            f"since a fixed one, or give --categorical {shown(column)} or --drop {shown(column)}"
        )
    elif len(numbers) > 2 and (np.diff(numbers) == 1).all():
        notes.append(
            f"column {shown(column)} counts the rows, and is learned as a quantity: --drop {shown(column)} leaves it out"
        )
    if text and (signed := sum(cell[0] == "+" for cell in cells)):
        notes.append(
            f"column {shown(column)} has a plus sign in {signed} rows: samples are written without it"
        )
    return numbers


def _twins(cells: np.ndarray, numbers: np.ndarray) -> tuple[str, str] | None:
    """Two texts with a fraction each that are the same number, as versions 1.1 and 1.10 are; or None."""
    seen: dict[float, str] = {}
    for cell, number in zip(cells, numbers.tolist()):
        if "." in cell and seen.setdefault(number, cell) != cell:
            return seen[number], cell
    return None


def _as_text(cells: np.ndarray) -> np.ndarray:
    if cells.dtype == object:
        return cells
    return np.array(
        [str(int(v)) if v == np.rint(v) and abs(v) < 2**53 else repr(float(v)) for v in cells],
        object,
    )


def _read_csv(path: Path, notes: list[str]) -> tuple[dict[str, np.ndarray], list[int]]:
    raw = path.read_bytes()
    text, note = decoded_text(raw)
    notes += [note] if note else []
    if "\0" in text:
        raise DataError(f"{shown(path, 200)} is not a text table: save it as CSV in UTF-8")
    text, delimiter = _separator_line(path, text)
    skipped = delimiter is not None
    delimiter = delimiter or _delimiter(text, notes)
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        strict=True,
        skipinitialspace=delimiter != " ",
    )
    rows, lines = [], []
    try:
        for row in reader:
            if row:
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num + skipped)
    except csv.Error as error:
        raise DataError(
            f"{shown(path, 200)}, line {reader.line_num + skipped}: {error}: mend the quotes there"
        ) from error
    if not rows:
        raise DataError(f"{shown(path, 200)} is empty: give a header and rows")
    header = rows[0]
    if ragged := next((i for i, row in enumerate(rows) if len(row) != len(header)), None):
        raise DataError(
            f"{shown(path, 200)}, line {lines[ragged]}: {len(rows[ragged])} cells where line {lines[0]} has "
            f"{len(header)}: add or remove cells, or quote a cell that holds the separator"
        )
    if all(np.isfinite(as_number(cell)) for cell in header):
        notes.append(
            f"the first line holds numbers: no header, columns are named c0 to c{len(header) - 1}"
        )
        header = [f"c{i}" for i in range(len(header))]
    elif _is_row(header, rows[1:]):
        notes.append(
            f"the first line has the form of the rows below it: no header, columns are named c0 to c{len(header) - 1}"
        )
        header = [f"c{i}" for i in range(len(header))]
    else:
        if numbers := [cell for cell in header if np.isfinite(as_number(cell))]:
            more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
            notes.append(
                f"the first line is taken for the names of the columns, and {_listed(numbers[:5])}{more} in it "
                f"{'are numbers' if len(numbers) > 1 else 'is a number'}: if it is a row, put a line of names above it"
            )
        for i, cell in enumerate(header):
            if not cell:
                notes.append(
                    f"column {i + 1} has no name: it is named 'c{i}' and learned; --drop c{i} leaves it out"
                )
        header, rows, lines = (
            [cell or f"c{i}" for i, cell in enumerate(header)],
            rows[1:],
            lines[1:],
        )
    if twice := [column for i, column in enumerate(header) if column in header[:i]]:
        raise DataError(f"{shown(path, 200)}: two columns are named {shown(twice[0])}: rename one")
    if not rows:
        raise DataError(f"{shown(path, 200)} has a header but no rows: add rows")
    return {column: np.array(cells, object) for column, cells in zip(header, zip(*rows))}, lines


def _is_row(first: Sequence[str], rest: Sequence[Sequence[str]]) -> bool:
    """Whether each cell of the first line has the form of those below: a number, a date or an amount as they are, or a text that is there again."""
    return bool(rest) and all(
        _is_among(cell, [row[i] for row in rest]) for i, cell in enumerate(first)
    )


def _is_among(cell: str, below: list[str]) -> bool:
    given = [other for other in below if other.lower() not in MISSING]
    if not given or cell.lower() in MISSING:
        return False
    if np.isfinite([as_number(other) for other in given]).mean() >= MOSTLY:
        return bool(np.isfinite(as_number(cell)))
    form = text_form([cell])
    return cell in given or (form is not None and text_form(given) == form)


def _separator_line(path: Path, text: str) -> tuple[str, str | None]:
    """The text without a first line such as ``sep=;``, and the separator that it names, or None. Raises DataError on more than one character.

    Excel writes that line, and takes the separator from it.
    """
    match = SEPARATOR_LINE.match(text)
    if match is None:
        return text, None
    separator = "\t" if match[1] == "\\t" else match[1]
    if len(separator) != 1 or separator in '"\0':
        raise DataError(
            f"{shown(path, 200)}: the first line, {shown(match[0].strip())}, should name the separator by one character: "
            "mend it, such as sep=; or remove it"
        )
    return text[match.end() :], separator


def _delimiter(text: str, notes: list[str]) -> str:
    """The separator that gives the same number of columns, and most of them, in each of the first lines.

    A semicolon or tab goes before a comma that stands in the decimals of a column. Notes on a choice between several.
    """
    head = list(islice(io.StringIO(text, newline=""), HEAD_LINES))
    merits = {}
    for separator in SEPARATORS:
        try:
            rows = [
                row for row in csv.reader(head, delimiter=separator, skipinitialspace=True) if row
            ]
        except csv.Error:
            rows = []
        if len(head) == HEAD_LINES:
            rows = rows[:-1]  # a quoted cell may have been cut in two
        widths = {len(row) for row in rows}
        width = len(rows[0]) if rows else 0
        even = len(widths) == 1 and width > 1
        merits[separator] = (
            even,
            separator != "," and min(widths, default=0) > 1 and _has_decimal_commas(rows),
            width,
        )
    best = max(SEPARATORS, key=merits.__getitem__)
    others = [other for other in SEPARATORS if other != best and merits[other][0]]
    if others and merits[best][0]:
        names = {",": "comma", ";": "semicolon", "\t": "tab"}
        why = ", since numbers are written with a decimal comma" if merits[best][1] else ""
        rest = " or ".join(f"a {names[other]} ({merits[other][2]} columns)" for other in others)
        notes.append(
            f"cells are separated by a {names[best]} ({merits[best][2]} columns), not by {rest}{why}"
        )
    return best


def _has_decimal_commas(rows: list[list[str]]) -> bool:
    """Whether a column below the first row holds numbers alone, some of them with a decimal comma."""
    below = rows[1:] or rows
    for i in range(min(map(len, rows))):
        cells = [cell for row in below if (cell := row[i].strip()).lower() not in MISSING]
        commas = sum(DECIMAL_COMMA.fullmatch(cell) is not None for cell in cells)
        if commas and commas + sum(
            bool(np.isfinite(as_number(cell))) for cell in cells
        ) >= MOSTLY * len(cells):
            return True
    return False


def _read_parquet(path: Path, notes: list[str]) -> tuple[dict[str, np.ndarray], Sequence[int]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError(
            "reading .parquet needs pyarrow: pip install 'fromnoise[parquet]'"
        ) from None
    try:
        about, types = pyarrow.parquet.ParquetFile(path), pyarrow.types
        groups = [about.metadata.row_group(i) for i in range(about.metadata.num_row_groups)]
        declared = max(
            8 * about.metadata.num_rows * about.metadata.num_columns,
            sum(group.total_byte_size for group in groups),
        )
        check_unpacked(
            path, declared, path.stat().st_size, factor=8
        )  # cells are Python objects on their way
        texts = [
            field.name
            for field in about.schema_arrow
            if types.is_string(field.type) or types.is_large_string(field.type)
        ]
        table = pyarrow.parquet.read_table(path, read_dictionary=texts)
        _check_texts(table, path)
        done = _columns_of(table, types, path)
    except DataError:
        raise
    except (pyarrow.ArrowException, ValueError, OverflowError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the file cannot be opened; without a number it is pyarrow's word for damage
        reason = " ".join(str(error).split())[:60]
        raise DataError(
            f"{shown(path, 200)} is no sound parquet file ({reason}): save it again"
        ) from error
    n = len(next(iter(done.values()), ()))
    if not n:
        raise DataError(f"{shown(path, 200)} has no {'rows' if done else 'columns'}: add some")
    return done, range(1, n + 1)


def _check_texts(table, path: Path) -> None:
    """Raises DataError if texts that stand in the file once become too much where each row has its own."""
    from pyarrow import compute, types

    for cells in table.columns:
        if types.is_dictionary(cells.type):
            lengths = [
                compute.sum(compute.binary_length(part.dictionary).take(part.indices)).as_py() or 0
                for part in cells.chunks
            ]
            check_unpacked(path, sum(lengths), path.stat().st_size)


def _columns_of(table, types, path: Path) -> dict[str, np.ndarray]:
    """A pyarrow table -> float64 with NaN for gaps, or text with "" for gaps."""
    done = {}
    for column, cells in zip(table.column_names, table.columns):
        if types.is_nested(cells.type) or types.is_binary(cells.type):
            kind = f"{shown(path, 200)}: column {shown(column)} holds {shown(str(cells.type))}"
            raise DataError(f"{kind}: keep numbers and text only")
        if column in done:
            raise DataError(
                f"{shown(path, 200)}: two columns are named {shown(column)}: rename one"
            )
        if types.is_timestamp(cells.type) and cells.type.unit == "ns":
            cells = cells.cast("string")  # Python's own times end at microseconds
        values = cells.to_pylist()
        number = (
            types.is_integer(cells.type)
            or types.is_floating(cells.type)
            or types.is_decimal(cells.type)
        )
        if number and not (
            not types.is_floating(cells.type)
            and any(v is not None and abs(v) >= 2**53 for v in values)
        ):
            done[column] = np.array([np.nan if v is None else float(v) for v in values], np.float64)
        else:  # also whole numbers that float64 would round: text is exact
            done[column] = np.array(["" if v is None else str(v).strip() for v in values], object)
    return done
