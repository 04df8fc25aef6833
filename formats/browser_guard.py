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

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def parse_hosts(text: str) -> list[str]:
    """The names in a text that separates them by commas, as PLATFORM_ALLOWED_HOSTS does."""
    return [name for part in text.split(",") if (name := part.strip().lower())]


def refusal(scope: Message, allowed_hosts: Collection[str]) -> str | None:
    """Why a request is not answered, in a sentence; None where it is.

    Args:
        scope: Of ASGI 3, of type http or websocket.
        allowed_hosts: Names, without ports, by which the server may be asked.
    """
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get("host", "")
    if _name(host) not in allowed_hosts:
        return f"This server is not {host[:100] or 'without a name'}: ask it by a name of its own."
    origin = headers.get("origin")
    if origin is not None and not _is_own(origin, host, allowed_hosts):
        return f"Pages of {origin[:100]} may not ask this server."
    site = headers.get("sec-fetch-site", "none")
    if site not in {"same-origin", "none"} and not _is_navigation(scope, headers):
        return f"Other pages may not ask this server ({site})."
    return None


def _name(host: str) -> str:
    """The name in a Host header: without its port, and without the brackets of IPv6."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_own(origin: str, host: str, allowed_hosts: Collection[str]) -> bool:
    try:
        place = urlsplit(origin)
    except ValueError:
        return False
    # Behind a proxy the server may be asked by another name than the browser asked the proxy.
    # Ports of this machine are not one another's pages, though.
    return place.netloc == host or place.hostname in set(allowed_hosts) - LOOPBACK


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
        allowed_hosts: Names, in small letters, by which it may be asked beside those of this
            machine.
    """

    def __init__(self, app: App, allowed_hosts: Collection[str] = ()) -> None:
        self._app = app
        self._allowed_hosts = LOOPBACK | set(allowed_hosts)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        reason = None
        if scope["type"] in {"http", "websocket"}:
            reason = refusal(scope, self._allowed_hosts)
        if reason is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": reason[:120]})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": f"{reason}\n".encode()})
