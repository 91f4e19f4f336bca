"""Strict JSON, and records that carry a digest of themselves."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from .errors import StorageError
from .files import read_limited

MAX_BYTES = 64 * 2**20  # a larger file is not read
MAX_PARTS = 2_000_000  # commas and brackets in a file: a value takes up to 100 bytes of memory
MAX_DEPTH = 64


def canonical_json(value) -> str:
    """The same value always gives the same text; NaN and infinity are refused."""
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False)


def read_json(path: Path) -> Any:
    """The strict JSON in a file, see ``parse_json``. Raises StorageError with the file."""
    return parse_json(read_limited(path, MAX_BYTES), path)


def parse_json(data: bytes, source: Path | str) -> Any:
    """Strict JSON: UTF-8, unique keys, finite numbers of 64 bits, encodable text, limited nesting.

    source: the name of the file or line, for the error. Raises StorageError.
    """
    try:
        if count_parts(data) > MAX_PARTS:
            raise ValueError(f"it has more than {MAX_PARTS} parts")
        text = data.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_int=_parse_int,
            parse_float=_parse_float,
        )
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # refuses half of a surrogate pair
        if nesting_depth(value) > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        return value
    except RecursionError:
        raise StorageError(
            f"{source} is damaged: it is nested more than {MAX_DEPTH} deep"
        ) from None
    except ValueError as error:
        raise StorageError(f"{source} is damaged: {str(error)[:200]}") from None


def count_parts(data: bytes) -> int:
    """Commas and opening brackets: an upper bound of the number of values, before parsing."""
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _refuse_constant(text: str):
    raise ValueError(f"{text} is not a number")


def _parse_int(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise ValueError("a number has more than 64 bits")
    return int(text)


def _parse_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


def nesting_depth(value) -> int:
    """How deep lists and dictionaries are nested; 0 for a plain value."""
    depth = 0
    level = [value]
    while containers := [part for part in level if isinstance(part, dict | list)]:
        depth += 1
        level = []
        for part in containers:
            level += part.values() if isinstance(part, dict) else part
    return depth


# -- records with a digest ----------------------------------------------------------------


def sealed(value: dict) -> str:
    """Canonical JSON of a record with a ``digest``: the sha256 of the canonical JSON of the rest."""
    rest = without_digest(value)
    return canonical_json(rest | {"digest": text_digest(canonical_json(rest))})


def check_seal(value: dict, path: Path, required: bool) -> dict:
    """The record without its digest.

    Raises StorageError if the digest does not match, or is missing although it is required.
    """
    rest = without_digest(value)
    if "digest" not in value:
        if required:
            raise StorageError(f"{path} is damaged: it has no digest")
    elif value["digest"] != text_digest(canonical_json(rest)):
        raise StorageError(f"{path} is damaged or was edited: its content and its digest differ")
    return rest


def check_sealed_bytes(path: Path) -> None:
    """Raises StorageError unless a sealed file holds exactly the bytes that were written."""
    data = read_limited(path, MAX_BYTES)
    value = parse_json(data, path)
    if not isinstance(value, dict) or "digest" not in value or data != sealed(value).encode():
        raise StorageError(f"{path} is damaged: its bytes are not those that were written")


def without_digest(value: dict) -> dict:
    return {key: part for key, part in value.items() if key != "digest"}


def text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
