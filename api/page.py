"""The page, and what a browser lets pages do: run their own script, ask their own server."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from importlib import resources


@functools.cache
def html() -> str:
    """The page: one file, which fetches nothing but answers from where it came from."""
    return resources.files("api").joinpath("page.html").read_text("utf-8")


@functools.cache
def content_security_policy(page: str) -> str:
    """Only the script and style that stand in a page, by their hashes."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hashes('script', page)}",
            f"style-src {_hashes('style', page)}",
            "connect-src 'self'",
            "img-src 'self' data: blob:",
            "media-src 'self' blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _hashes(element: str, page: str) -> str:
    bodies = re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
    digests = [hashlib.sha256(body.encode()).digest() for body in bodies]
    hashes = (f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return " ".join(hashes) or "'none'"
