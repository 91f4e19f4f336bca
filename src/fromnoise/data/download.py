"""Downloads that are checked before anyone sees them, from the first of several mirrors that has the file."""

import http.client
import sys
import urllib.request
from collections.abc import Callable, Sequence

from ..core.words import unescaped

LARGEST = 2**26  # bytes: what a broken or hostile server may make us hold
ALLOWED = ("https://",)  # how addresses begin, those of redirections too
TIMEOUT = 20  # seconds of silence from a server


class FetchError(Exception):
    """No mirror had a sound file; the message is the last one's reason, in a few words."""


def fetch(urls: Sequence[str], sound: Callable[[bytes], bool]) -> bytes:
    """The first body that is ``sound``; progress goes to stderr. Raises FetchError."""
    reason = "no mirror is known"
    for url in urls:
        try:
            body = _body(url)
            if sound(body):
                return body
            reason = "wrong checksum"
        except (
            OSError,
            http.client.HTTPException,
            ValueError,
        ) as error:  # ValueError: DataError from ``sound``
            reason = " ".join(str(getattr(error, "reason", None) or error).split())[:100]
    raise FetchError(reason)


def _body(url: str) -> bytes:
    """The body at an address, at most LARGEST bytes; progress goes to stderr."""
    body = bytearray()
    if not url.startswith(ALLOWED):
        raise ValueError("the address is not https")
    live = sys.stderr.isatty()
    print(f"downloading {url}", file=sys.stderr)
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        if not answer.geturl().startswith(ALLOWED):
            raise ValueError("the server leads to an address that is not https")
        total = int(answer.headers.get("Content-Length") or 0)
        while block := answer.read(2**18):
            body += block
            if len(body) > LARGEST:
                raise ValueError("the file is far larger than it should be")
            if live:
                print(
                    f"\r  {len(body) / 1e6:.1f} of {total / 1e6:.1f} MB",
                    end="",
                    file=unescaped(sys.stderr),
                )
    if live:
        print(file=sys.stderr)
    if total and len(body) != total:
        raise ValueError(f"the connection broke after {len(body)} of {total} bytes")
    return bytes(body)
