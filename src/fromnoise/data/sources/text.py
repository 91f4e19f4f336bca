"""Text: files, folders of them, and two that have a name, as tokens in a memory-mapped store.

Unusual: everything works on blocks of a few MB, so that neither the size of a text nor the length of a line
matters. A text is read as bytes: line ends stay as they are, and so do bytes that are no UTF-8.

The text of a folder is that of its files in the order of their paths, with a newline between two. The three parts
follow each other: the first 90 % of the characters are for training, then 5 % for validation, 5 % for the test. The
cuts depend on the text and not on the tokens, so that all kinds of tokens are measured on the same characters.

The store's key holds each file's path, size and time, and the options that make tokens (not the context).
"""

import codecs
import hashlib
import io
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, groupby, pairwise, takewhile
from operator import itemgetter
from pathlib import Path

import numpy as np

from ...core.errors import DataError, UsageError
from ...core.files import sha256, write_atomic
from ...core.json_files import canonical_json
from ...core.words import shown
from ..codecs.byte_pairs import learn_merges
from ..codecs.tokenizer import (
    CODE_POINTS,
    BytePairs,
    Bytes,
    Characters,
    Tokenizer,
    code_points,
    decode_blocks,
)
from ..config import DataConfig, refuse_options
from ..dataset import Dataset, TextSplit
from ..download import FetchError, fetch
from ..formats.encoding import encoding_note, encoding_of, wide_encoding
from ..image_folders import arrange, listing
from ..splits import SPLITS
from ..store import cache_folder, cache_writes, open_or_build

NAMES = {
    "python-docs": "the language reference that comes with Python, 0.5 MB of text (differs between versions)",
    "tinyshakespeare": "from Shakespeare's plays, 1.1 MB of text, 65 characters (downloaded)",
}
SHAKESPEARE = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
OTHER_FORMS = (".npy", ".npz", ".csv", ".tsv", ".parquet")  # that another source reads

WAY = b"2"  # of reading text: part of the key, so that a store of an earlier version is not taken
BLOCK = 2**21  # bytes that are read at once
HEAD = 2**16  # bytes by which a file is told to be text
MERGES_FROM = 2**24  # bytes, the first of the training part, that pairs are counted in
LARGEST_ALPHABET = (
    256  # characters of the training part up to which they, and not bytes, are the tokens
)
SHARE = 0.05  # of the characters for validation, and again for the test: together nanoGPT's 10 %

BOM = codecs.BOM_UTF8
CONTROLS = [
    *range(9),
    *range(14, 27),
    *range(28, 32),
    127,
]  # all but tab, line and page feeds, and escape
MOST_CONTROLS = 0.02  # share of a text that is no UTF-8; bytes by chance have 0.11


@dataclass(frozen=True)
class Document:
    """A file, or bytes in memory; ``name`` is what messages call it, already fit for a line; ``encoding``: if not UTF-8."""

    name: str
    content: Path | bytes
    encoding: str = ""

    @contextmanager
    def opened(self):
        """The document as a file of bytes. Raises DataError where that fails, also while it is read."""
        try:
            with (
                io.BytesIO(self.content)
                if isinstance(self.content, bytes)
                else open(self.content, "rb") as file
            ):
                yield file
        except OSError as error:
            raise DataError(
                f"{self.name} cannot be read ({error.strerror or error}): mend its permissions"
            ) from error

    def head(self) -> bytes:
        with self.opened() as file:
            return file.read(HEAD)

    def blocks(self) -> Iterator[bytes]:
        """Its bytes without a byte order mark, as UTF-8 if its encoding is known to be another one."""
        decoder = codecs.getincrementaldecoder(self.encoding)("replace") if self.encoding else None
        with self.opened() as file:
            if file.read(len(BOM)) != BOM:
                file.seek(0)
            while block := file.read(BLOCK):
                yield decoder.decode(block).encode() if decoder else block
        if decoder and (rest := decoder.decode(b"", final=True)):
            yield rest.encode()

    def stamp(self) -> str:
        """Differs when the content does."""
        if isinstance(self.content, bytes):
            return hashlib.sha256(self.content).hexdigest()
        with self.opened() as file:
            status = os.fstat(file.fileno())
        return f"{os.fsencode(self.content.resolve())} {status.st_size} {status.st_mtime_ns}"


def load(name: str, config: DataConfig) -> Dataset:
    """The text of that name, or in the file or folder at that path, as windows of ``context`` tokens.

    Raises DataError (missing, empty, too short, no text), UsageError, and StorageError when the cache cannot be
    written or a download cannot be kept.
    """
    refuse_options(config, "text", "tokens", "vocabulary", "context", "validation", "test")
    if (
        config.tokens != "bpe"
        and config.vocabulary != DataConfig.model_fields["vocabulary"].default
    ):
        raise UsageError(
            "--vocabulary goes with --tokens bpe: the other kinds have as many symbols as they need"
        )
    documents, notes = _documents(name, config)
    key = _key(documents, config)

    def build(at: Path) -> dict:
        about = _build(at, name, documents, config)
        if _key(documents, config) != key:
            raise DataError(
                f"data {shown(name)} changed while it was read: try again when nothing writes to it"
            )
        return about

    store = open_or_build(cache_folder("texts", key), build)
    fewest = min(store.counts.values())
    if fewest < config.context:
        mend = (
            f"choose --context {fewest} or less, or give more text"
            if fewest > 1
            else "give more text"
        )
        raise DataError(
            f"data {shown(name)} is too short: the smallest of its three parts has {fewest} tokens, "
            f"and one window takes {config.context}: {mend}"
        )
    tokenizer, spec = Tokenizer.from_json(store.source_record["tokenizer"]), store.spec(config.context)
    splits = {
        part: TextSplit(split.x, window=config.context, **store.source_record["parts"][part])
        for part, split in store.splits().items()
    }
    # Of the store's digest and the alphabet: "abab" and "cdcd" are the same tokens.
    digest = hashlib.sha256(
        f"{spec} {store.digest} {canonical_json(tokenizer.to_json())}".encode()
    ).hexdigest()
    return Dataset(
        name,
        spec,
        splits,
        digest,
        tokenizer=tokenizer,
        settings=config.model_dump(exclude_defaults=True),
        notes=(*store.notes, *notes),
    )


def is_text_folder(path: Path) -> bool:
    """Whether the folder holds text and no image; pictures that only their content tells may be few among many texts."""
    pictures = 0
    for file in listing.iterate_images(path):
        if file.name.lower().endswith(listing.SUFFIXES):
            return False
        pictures += 1
    return len(_sorted_out(path, _files(path))[0]) > 2 * pictures


# -- what to read ----------------------------------------------------------------------------------------------


def _documents(name: str, config: DataConfig) -> tuple[list[Document], list[str]]:
    """The documents of a text, and notes on them. Raises DataError."""
    if name == "python-docs":
        return _python_docs()
    if name == "tinyshakespeare":
        return _tinyshakespeare()
    path = Path(name).expanduser()
    if path.is_dir():
        documents, others = _sorted_out(path, _files(path))
        shortened = f"{', '.join(others[:3])}{' ...' * (len(others) > 3)}"
        notes = (
            [f"left out since they are no text: {len(others)} files, {shortened}"] if others else []
        )
        parts = {
            arrange.SPLIT_FOLDERS.get(file.relative_to(path).parts[0].split(".")[0].lower(), "")
            for file in _files(path)
        }
        if "train" in parts and len(parts - {""}) > 1:
            notes.append(
                "files or folders named train, validation or test are not taken for splits: all is one text, divided anew"
            )
        return documents, notes
    if not path.is_file():
        raise DataError(
            f"data {shown(name)} is no file or folder: name one that can be read more than once"
        )
    document = Document(shown(name), path)
    if config.tokens != "byte" and (reason := _no_text(document.head())):
        raise DataError(
            f"data {shown(name)} is no text ({reason}), and its ending is none of {', '.join(OTHER_FORMS)}: "
            "give text in UTF-8, or --tokens byte for a model of any file's bytes"
        )
    return [document], []


def _python_docs() -> tuple[list[Document], list[str]]:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataError(
            "python-docs: this Python came without pydoc_data: use one with its whole library"
        ) from error
    documents = [Document(shown(topic), topics[topic].encode()) for topic in sorted(topics)]
    return documents, [
        f"the text is that of Python {platform.python_version()}: other versions have others"
    ]


def _tinyshakespeare() -> tuple[list[Document], list[str]]:
    """The file under $FROMNOISE_DATA, or the cache's, or the download; yours may differ, which is then told."""
    place = ("tinyshakespeare", "input.txt")
    own = (
        Path(os.environ["FROMNOISE_DATA"]).expanduser().joinpath(*place)
        if os.environ.get("FROMNOISE_DATA")
        else None
    )
    path = own if own and own.is_file() else cache_folder(*place)
    document = Document(shown(path, 200), path)
    if path.is_file():
        with document.opened():
            official = sha256(path) == SHAKESPEARE_SHA256
        if official or path == own:
            other = f"{document.name} could not be verified: its checksum is not that of the official file"
            return [document], [] if official else [other]
    try:
        raw = fetch(
            [SHAKESPEARE], lambda raw: hashlib.sha256(raw).hexdigest() == SHAKESPEARE_SHA256
        )
    except FetchError as error:
        more = "" if own else f", or as {'/'.join(place)} into a folder that FROMNOISE_DATA names"
        raise DataError(
            f"tinyshakespeare cannot be downloaded ({error}): put its input.txt at {shown(own or path, 200)}{more}"
        ) from error
    with cache_writes(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, raw)
    return [document], []


def _files(path: Path) -> list[Path]:
    """Every file at any depth, by path; what is hidden is left out, and links to folders are not followed."""

    def unreadable(error: OSError):
        raise DataError(
            f"cannot read the folder {shown(error.filename, 200)} ({error.strerror}): mend its permissions"
        )

    found = []
    for at, folders, names in os.walk(path, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(at, name) for name in names if not name.startswith(".")]
    return sorted((file for file in found if file.is_file()), key=os.fsencode)


def _sorted_out(path: Path, files: list[Path]) -> tuple[list[Document], list[str]]:
    """The documents among the files, and the names of those that are none; empty files are neither."""
    documents, others = [], []
    for file in files:
        document = Document(shown(file.relative_to(path)), file)
        if file.suffix.lower() in OTHER_FORMS or _no_text(head := document.head()):
            others.append(document.name)
        elif head:
            documents.append(document)
    return documents, others


def _no_text(head: bytes) -> str:
    """Why the file that begins so is plainly no text, in words; or "". What is valid UTF-8, or UTF-16, is text, NUL or not."""
    if wide_encoding(head):
        return ""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
        return ""
    except UnicodeDecodeError:
        share = np.isin(np.frombuffer(head, np.uint8), CONTROLS).mean()
        return "it is binary" if share > MOST_CONTROLS else ""


# -- from documents to tokens ----------------------------------------------------------------------------------


def _key(documents: list[Document], config: DataConfig) -> str:
    h = hashlib.sha256(
        WAY
        + canonical_json(
            config.model_dump(include={"tokens", "vocabulary", "validation", "test"})
        ).encode()
    )
    for document in documents:
        h.update(document.stamp().encode() + b"\n")
    return h.hexdigest()[:32]


def _build(at: Path, name: str, documents: list[Document], config: DataConfig) -> dict:
    """Writes x.npy, the tokens of the three parts, into the folder ``at``; returns what the store records."""
    documents, notes = _in_utf8(documents, config)
    size, characters, invalid = _scan(documents)
    if not size:
        raise DataError(f"data {shown(name)} is empty: give a text of some thousand characters")
    if any(document.head().startswith(BOM) for document in documents):
        notes.append("a byte order mark at its beginning was left out")
    if not invalid:
        cuts = _offsets(_blocks(documents), _cuts(characters, config))
    elif config.tokens == "char":
        raise DataError(
            f"data {shown(name)}: no UTF-8 at {invalid}, so that it has no characters: "
            "save it as UTF-8, or give --tokens byte, which takes any bytes"
        )
    else:
        notes.append(
            f"no UTF-8 at {invalid}: {'the tokens are bytes' if config.tokens == 'auto' else 'kept as it is'}"
        )
        cuts = _cuts(size, config)

    def training(end):
        return (
            block
            for _, block in takewhile(lambda found: not found[0], _parts(_blocks(documents), [end]))
        )

    tokenizer = _tokenizer(config, training, cuts[0], not invalid, notes)

    parts = {part: {"characters": 0, "raw_bytes": 0, "unknown": 0} for part in SPLITS}
    counts = dict.fromkeys(SPLITS, 0)
    with open(at / "x.npy", "wb") as out:
        _header(out, tokenizer.dtype, 0)  # its room is the same for every length
        for index, blocks in groupby(_parts(_blocks(documents), cuts), itemgetter(0)):
            about = parts[SPLITS[index]]
            for tokens in tokenizer.encode_blocks(_counted(map(itemgetter(1), blocks), about)):
                out.write(tokens)
                counts[SPLITS[index]] += len(tokens)
                about["unknown"] += tokenizer.count_unknown(tokens)
        out.seek(0)
        _header(out, tokenizer.dtype, sum(counts.values()))
    for part, about in parts.items():
        if about["unknown"]:
            notes.append(
                f"{part}: {about['unknown']:,} characters do not occur in training; all are the unknown symbol"
            )
    return {
        "counts": counts,
        "class_names": (),
        "notes": notes,
        "about": {
            "vocabulary": tokenizer.vocabulary,
            "tokenizer": tokenizer.to_json(),
            "parts": parts,
        },
    }


def _tokenizer(
    config: DataConfig,
    training: Callable[[int], Iterator[bytes]],
    end: int,
    valid: bool,
    notes: list[str],
) -> Tokenizer:
    """Made from training(end), the blocks of the training part; valid: whether they are UTF-8."""
    if config.tokens == "bpe":
        tokenizer = BytePairs(learn_merges(training(min(end, MERGES_FROM)), config.vocabulary))
        if tokenizer.vocabulary < config.vocabulary:
            notes.append(
                f"{tokenizer.vocabulary} symbols instead of {config.vocabulary}: no other pair occurs twice"
            )
        return tokenizer
    if config.tokens == "byte" or not valid:
        return Bytes()
    alphabet = _alphabet(training(end))
    if config.tokens == "auto" and len(alphabet) > LARGEST_ALPHABET:
        notes.append(
            f"{len(alphabet):,} different characters: the tokens are bytes (--tokens char for characters)"
        )
        return Bytes()
    return Characters(alphabet)


def _alphabet(blocks: Iterable[bytes]) -> str:
    """Every character that occurs, once, by code point."""
    seen = np.zeros(CODE_POINTS, bool)
    for text in decode_blocks(blocks):
        seen[code_points(text)] = True
    return "".join(map(chr, np.flatnonzero(seen).tolist()))


def _blocks(documents: list[Document]) -> Iterator[bytes]:
    """The text: the documents, a newline between two."""
    for i, document in enumerate(documents):
        yield from chain([b"\n"] if i else [], document.blocks())


def _in_utf8(documents: list[Document], config: DataConfig) -> tuple[list[Document], list[str]]:
    """The documents with the encodings of those that are not UTF-8, and notes about them; bytes as tokens stay as they are."""
    if config.tokens == "byte":
        return documents, []
    known = []
    for document in documents:
        encoding = wide_encoding(document.head())
        if not encoding and _scan([document])[2]:
            encoding = encoding_of(document.head(), document.blocks())
        known.append(replace(document, encoding=encoding))
    notes = []
    for encoding in sorted({document.encoding for document in known} - {""}):
        names = [document.name for document in known if document.encoding == encoding]
        notes.append(
            encoding_note(
                names[0] if len(names) == 1 else f"each of {len(names)} files, such as {names[0]},",
                encoding,
            )
        )
    return known, notes


def _scan(documents: list[Document]) -> tuple[int, int, str]:
    """(bytes, characters, place of the first byte that is no UTF-8, in words, or ""); characters count if all is UTF-8."""
    size = characters = max(0, len(documents) - 1)  # the newlines
    invalid = ""
    for document in documents:
        decoder, place = (
            codecs.getincrementaldecoder("utf-8")(),
            len(BOM) * document.head().startswith(BOM),
        )
        for block in chain(document.blocks(), [b""]):
            size += len(block)
            if invalid:
                continue
            held = len(decoder.getstate()[0])  # bytes of a character that goes on in this block
            try:
                characters += len(decoder.decode(block, final=not block))
            except UnicodeDecodeError as error:
                invalid = f"byte {place - held + error.start:,} of {document.name}"
            place += len(block)
    return size, characters, invalid


def _cuts(n: int, config: DataConfig) -> tuple[int, int]:
    """Where validation and test begin, of n characters."""
    validation, test = config.validation or SHARE, config.test or SHARE
    train = int(n * (1 - (validation + test)))  # as nanoGPT rounds
    return train, train + round((n - train) * validation / (validation + test))


def _offsets(blocks: Iterable[bytes], characters: Sequence[int]) -> list[int]:
    """The bytes of a valid UTF-8 text at which these characters begin, all counted from 0, in rising order."""
    offsets, byte, character = [], 0, 0
    for block in blocks:
        begins = (np.frombuffer(block, np.uint8) & 0xC0) != 0x80
        count = int(np.count_nonzero(begins))
        while len(offsets) < len(characters) and characters[len(offsets)] < character + count:
            offsets.append(byte + int(np.flatnonzero(begins)[characters[len(offsets)] - character]))
        byte, character = byte + len(block), character + count
    return offsets + [byte] * (len(characters) - len(offsets))


def _parts(blocks: Iterable[bytes], cuts: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """(number of the part, block): the blocks, those that hold a cut divided there. Empty ones are left out."""
    start = 0
    for block in blocks:
        edges = [0, *(min(max(cut - start, 0), len(block)) for cut in cuts), len(block)]
        for part, (low, high) in enumerate(pairwise(edges)):
            if low < high:
                yield part, block[low:high]
        start += len(block)


def _counted(blocks: Iterable[bytes], about: dict) -> Iterator[bytes]:
    """The blocks; adds their bytes and characters to ``about`` as they go by."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for block in blocks:
        about["raw_bytes"] += len(block)
        about["characters"] += len(decoder.decode(block))
        yield block
    about["characters"] += len(decoder.decode(b"", final=True))


def _header(out, dtype: np.dtype, n: int) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (n,)}
    np.lib.format.write_array_header_1_0(out, header)
