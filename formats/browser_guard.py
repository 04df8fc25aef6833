"""Which HTTP requests a web page of somebody else has sent: none of them is answered.

A server that listens on this machine alone is still reached by every page that its user's browser
shows. What the browser says of a request (`Host`, `Origin`, `Sec-Fetch-Site`) tells such requests
apart; pages cannot change it. Programs that are no browsers send neither of the last two.

Sources: the Fetch standard (https://fetch.spec.whatwg.org/#origin-header), Fetch Metadata
(https://www.w3.org/TR/fetch-metadata/), and on names that are bound anew to this machine
https://en.wikipedia.org/wiki/DNS_rebinding.
"""

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_STANDARD_PORTS = {"http": 80, "https": 443}

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def parse_hosts(text: str) -> list[str]:
    """The names in a text that separates them by commas, as PLATFORM_ALLOWED_HOSTS does.

    Raises:
        ValueError: One of them is no name of a host.
    """
    names = [name for part in text.split(",") if (name := part.strip().lower())]
    for name in names:
        if "/" in name or not _split(name)[0]:
            raise ValueError(
                f"PLATFORM_ALLOWED_HOSTS: {name!r} is no name of a host; write it like "
                "data.example, or data.example:8443 for a port of its own."
            )
    return names


def refusal(scope: Message, allowed_hosts: Collection[str] = (), setting: str = "") -> str | None:
    """Why a request is not answered, in a sentence; None where it is.

    Args:
        scope: Of ASGI 3, of type http or websocket.
        allowed_hosts: Names, in small letters, by which the server may be asked beside those of
            this machine; with a port where it is not the standard one, like `data.example:8443`.
        setting: What these names are set by, for who reads the sentence; empty if by nothing.
    """
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get("host", "")
    names = {_split(allowed)[0] for allowed in allowed_hosts} - {""}
    if _split(host)[0] not in _LOOPBACK | names:
        name = host[:100] or "without a name"
        way = f", or set {setting} to the name"
        return f"This server is not {name}: ask it by a name of its own{way if setting else ''}."
    origin = headers.get("origin")
    if origin is not None and not _is_own(origin, host, allowed_hosts):
        way = f". If a proxy of that name and port is in front of it, add it to {setting}"
        return f"Pages of {origin[:100]} may not ask this server{way if setting else ''}."
    site = headers.get("sec-fetch-site", "none")
    if site not in {"same-origin", "none"} and not _is_navigation(scope, headers):
        return f"Other pages may not ask this server ({site})."
    return None


def _split(host: str, standard_port: int = 0) -> tuple[str, int]:
    """The name in a Host header, without the brackets of IPv6, and the port; or no name."""
    try:
        place = urlsplit(f"//{host}")
        port = place.port
    except ValueError:
        return "", standard_port
    return place.hostname or "", port or standard_port


def _is_own(origin: str, host: str, allowed_hosts: Collection[str]) -> bool:
    """Whether a page is from the name and the port that were asked, or from a proxy's.

    The scheme is not compared: behind a proxy with TLS it is another one.
    """
    scheme, _, page = origin.partition("://")
    port = _STANDARD_PORTS.get(scheme)
    place = _split(page, port or 0)
    if port is None or not place[0]:
        return False
    # A proxy may ask this server by another name than the browser asked the proxy.
    return place in {_split(own, port) for own in (host, *allowed_hosts)}


def _is_navigation(scope: Message, headers: MutableMapping[str, str]) -> bool:
    """Whether somebody follows a link to a page that is shown by itself."""
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )


class BrowserGuard:
    """An ASGI app that hands on to another one what no page of somebody else has sent.

    Args:
        app: The other one.
        allowed_hosts: As `refusal` has them.
        setting: The same.
    """

    def __init__(self, app: App, allowed_hosts: Collection[str] = (), setting: str = "") -> None:
        self._app = app
        self._allowed_hosts = allowed_hosts
        self._setting = setting

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        reason = None
        if scope["type"] in {"http", "websocket"}:
            reason = refusal(scope, self._allowed_hosts, self._setting)
        if reason is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": reason[:120]})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": f"{reason}\n".encode()})
