"""The page, and what a browser lets it do: its own script, its own style, its own server."""

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
def content_security_policy() -> str:
    """Only the script and style that stand in the page, by their hashes."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hashes('script')}",
            f"style-src {_hashes('style')}",
            "connect-src 'self'",
            "img-src 'self' data: blob:",
            "media-src 'self' blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _hashes(element: str) -> str:
    bodies = re.findall(rf"<{element}>(.*?)</{element}>", html(), re.DOTALL)
    digests = [hashlib.sha256(body.encode()).digest() for body in bodies]
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
