"""Text: files, folders of them, and two that have a name, as tokens in a memory-mapped store.

The text of a folder is that of its files in the order of their paths, with a newline between two.
The parts follow each other: the first 90 % of the characters are for training, then 5 % for
validation, 5 % for the test.

The key of the store holds each file's path, size and time, and the options that make tokens (not
the context).
"""

import hashlib
import os
import platform
from pathlib import Path

from ...core.errors import DataError, UsageError
from ...core.files import sha256, write_atomic
from ...core.json_files import canonical_json
from ...core.words import shown
from ..codecs.tokenizer import Tokenizer
from ..config import TextOptions
from ..dataset import Dataset, TextSplit
from ..download import FetchError, fetch
from ..formats.encoding import refuse_archive
from ..image_folders import arrange, listing
from ..source import ANY_FILE, Source
from ..store import Store, cache_folder, cache_writes, open_or_build
from ..texts.build import build_store
from ..texts.documents import (
    OTHER_SUFFIXES,
    Document,
    find_documents,
    list_files,
    why_not_text,
)

NAMES = {
    "python-docs": "the language reference that comes with Python, 0.5 MB of text (differs between "
    "versions)",
    "tinyshakespeare": "from Shakespeare's plays, 1.1 MB of text, 65 characters (downloaded)",
}
SHAKESPEARE = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"

VERSION = b"2"  # part of the key: stores of earlier versions are not used
OPTIONS = ("tokens", "vocabulary", "validation", "test")
MAX_LISTED = 3  # files that one note names


def load(name: str, options: TextOptions) -> Dataset:
    """The text with this name, or in the file or folder at this path, as windows of tokens.

    Raises DataError (missing, empty, too short, not text), UsageError, and StorageError if the
    cache cannot be written or a download cannot be kept.
    """
    _refuse_unused_vocabulary(options)
    documents, notes = _documents(name, options)
    key = _store_key(documents, options)

    def build(at: Path) -> dict:
        record = build_store(at, name, documents, options)
        if _store_key(documents, options) != key:
            raise DataError(
                f"data {shown(name)} changed while it was read: try again when nothing writes to it"
            )
        return record

    store = open_or_build(cache_folder("texts", key), build)
    _refuse_short_text(name, store, options)
    tokenizer = Tokenizer.from_json(store.source_record["tokenizer"])
    spec = store.spec(options.context)
    splits = {}
    for part, split in store.splits().items():
        record = store.source_record["parts"][part]
        splits[part] = TextSplit(split.x, window=options.context, **record)
    # Of the store's digest and the alphabet: "abab" and "cdcd" are the same tokens.
    content = f"{spec} {store.digest} {canonical_json(tokenizer.to_json())}"
    return Dataset(
        name,
        spec,
        splits,
        hashlib.sha256(content.encode()).hexdigest(),
        tokenizer=tokenizer,
        notes=(*store.notes, *notes),
    )


def _refuse_unused_vocabulary(options: TextOptions) -> None:
    default = TextOptions.model_fields["vocabulary"].default
    if options.tokens != "bpe" and options.vocabulary != default:
        raise UsageError(
            "--vocabulary goes with --tokens bpe: the other kinds have as many symbols as they need"
        )


def _refuse_short_text(name: str, store: Store, options: TextOptions) -> None:
    """Raises DataError if a part is shorter than one window."""
    shortest = min(store.counts.values())
    if shortest >= options.context:
        return
    mend = "give more text"
    if shortest > 1:
        mend = f"choose --context {shortest} or less, or {mend}"
    raise DataError(
        f"data {shown(name)} is too short: the smallest of its three parts has {shortest} tokens, "
        f"and one window takes {options.context}: {mend}"
    )


def is_text_folder(path: Path) -> bool:
    """Whether a folder holds text and no image.

    Images without the suffix of an image may be few among many texts.
    """
    images = 0
    for file in listing.iterate_images(path):
        if file.name.lower().endswith(listing.SUFFIXES):
            return False
        images += 1
    documents, _ = find_documents(path, list_files(path))
    return len(documents) > 2 * images


def _store_key(documents: list[Document], options: TextOptions) -> str:
    settings = canonical_json(options.model_dump(include=set(OPTIONS)))
    digest = hashlib.sha256(VERSION + settings.encode())
    for document in documents:
        digest.update(document.stamp().encode() + b"\n")
    return digest.hexdigest()[:32]


# -- documents ---------------------------------------------------------------------------------


def _documents(name: str, options: TextOptions) -> tuple[list[Document], list[str]]:
    """The documents of a text, and notes on them. Raises DataError."""
    if name == "python-docs":
        return _python_docs()
    if name == "tinyshakespeare":
        return _tinyshakespeare()
    path = Path(name).expanduser()
    if path.is_dir():
        return _documents_in_folder(path)
    if not path.is_file():
        raise DataError(
            f"data {shown(name)} is no file or folder: name one that can be read more than once"
        )
    if options.tokens != "byte":  # bytes of any file are a text
        refuse_archive(name, path)
    document = Document(shown(name), path)
    reason = "" if options.tokens == "byte" else why_not_text(document.head())
    if reason:
        raise DataError(
            f"data {shown(name)} is not text ({reason}), and its ending is none of "
            f"{', '.join(OTHER_SUFFIXES)}: give text in UTF-8, or --tokens byte for a model of any "
            "file's bytes"
        )
    return [document], []


def _documents_in_folder(folder: Path) -> tuple[list[Document], list[str]]:
    files = list_files(folder)
    documents, others = find_documents(folder, files)
    notes = []
    if others:
        listed = ", ".join(others[:MAX_LISTED]) + " ..." * (len(others) > MAX_LISTED)
        notes.append(f"left out since they are not text: {len(others)} files, {listed}")
    parts = set()
    for file in files:
        first_name = file.relative_to(folder).parts[0].split(".")[0].lower()
        parts.add(arrange.SPLIT_FOLDERS.get(first_name, ""))
    if "train" in parts and len(parts - {""}) > 1:
        notes.append(
            "files or folders named train, validation or test are not taken for splits: all is one "
            "text, divided anew"
        )
    return documents, notes


def _python_docs() -> tuple[list[Document], list[str]]:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataError(
            "python-docs: this Python came without pydoc_data: use one with its whole library"
        ) from error
    documents = [Document(shown(topic), topics[topic].encode()) for topic in sorted(topics)]
    version = platform.python_version()
    return documents, [f"the text is that of Python {version}: other versions have others"]


def _tinyshakespeare() -> tuple[list[Document], list[str]]:
    """The file under $FROMNOISE_DATA, or the cache's, or the download.

    Your own file may differ from the official one; then a note says so.
    """
    place = ("tinyshakespeare", "input.txt")
    root = os.environ.get("FROMNOISE_DATA")
    own = Path(root).expanduser().joinpath(*place) if root else None
    path = own if own and own.is_file() else cache_folder(*place)
    document = Document(shown(path, 200), path)
    if path.is_file():
        with document.opened():
            is_official = sha256(path) == SHAKESPEARE_SHA256
        if is_official:
            return [document], []
        if path == own:
            return [document], [
                f"{document.name} could not be verified: its checksum is not that of the official "
                "file"
            ]
    try:
        raw = fetch([SHAKESPEARE], _is_shakespeare)
    except FetchError as error:
        more = "" if own else f", or as {'/'.join(place)} into a folder that FROMNOISE_DATA names"
        raise DataError(
            f"tinyshakespeare cannot be downloaded ({error}): put its input.txt at "
            f"{shown(own or path, 200)}{more}"
        ) from error
    with cache_writes(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, raw)
    return [document], []


def _is_shakespeare(raw: bytes) -> bool:
    return hashlib.sha256(raw).hexdigest() == SHAKESPEARE_SHA256


SOURCE = Source(
    load,
    TextOptions,
    NAMES,
    suffixes=(ANY_FILE,),
    reads_folder=is_text_folder,
    folder_priority=10,
    title="text",
    about_paths="text or a folder of text",
    place=90,
)
