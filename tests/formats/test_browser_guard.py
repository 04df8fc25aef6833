"""Which requests are refused, by what browsers say of them."""

from typing import Any

import pytest

from formats.browser_guard import parse_hosts, refusal

OWN = "127.0.0.1:3000"
# The last one is none, and allows nothing.
ALLOWED = ["data.example", "other.example:8443", "[bad"]
PAGE = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}
LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


def scope(method: str = "POST", kind: str = "http", **headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {
        "type": kind,
        "method": method,
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
    }


@pytest.mark.parametrize(
    "asked",
    [
        scope(host=OWN),  # a program
        scope(host="localhost:8080"),  # through a tunnel
        scope(host="[::1]:3000"),
        scope(host=OWN, origin=f"http://{OWN}", **PAGE),
        scope("GET", host=OWN, **{"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}),
        scope("GET", host=OWN, **LINK),
        scope(kind="websocket", host=OWN, origin=f"http://{OWN}"),
        scope(host="data.example", origin="https://data.example", **PAGE),
        scope(host="data.example:443", origin="https://data.example", **PAGE),
        scope(host="data.example:8080", origin="http://data.example:8080", **PAGE),
        scope(kind="websocket", host="data.example", origin="https://data.example"),
        # A proxy that asks by a name of this machine, for a browser that asked it by its own.
        scope(host=OWN, origin="https://data.example", **PAGE),
        scope(host=OWN, origin="https://other.example:8443", **PAGE),
        # One that leaves the port out.
        scope(host="other.example", origin="https://other.example:8443", **PAGE),
    ],
)
def test_programs_own_pages_and_links_are_answered(asked: dict[str, Any]) -> None:
    assert refusal(asked, ALLOWED) is None


@pytest.mark.parametrize(
    "asked",
    [
        scope(host="evil.example:3000"),  # a name that was bound anew
        scope(host="127.0.0.1.evil.example"),
        scope(host=""),
        scope(),
        scope(host=OWN, origin="http://evil.example"),
        scope(host=OWN, origin="http://127.0.0.1:8000"),  # another program's page on this machine
        scope(host=OWN, origin="http://localhost:3000"),
        scope(host=OWN, origin="http://127.0.0.1"),
        # Other ports of a proxy's machine.
        scope(host="data.example", origin="https://data.example:8443"),
        scope(host="data.example:8443", origin="https://data.example:9443"),
        scope(host=OWN, origin="http://data.example:3000"),
        scope(host=OWN, origin="https://other.example"),
        scope(kind="websocket", host="data.example", origin="https://data.example:8443"),
        scope(host=OWN, origin="null"),
        scope(host=OWN, origin=""),
        scope(host="", origin="http://"),
        scope(host=OWN, origin=f"file://{OWN}"),
        scope(host=OWN, origin="http://[bad"),
        scope("GET", host=OWN, **(LINK | {"sec-fetch-dest": "iframe"})),
        scope("GET", host=OWN, **(LINK | {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"})),
        scope("POST", host=OWN, **LINK),  # a form that sends itself
        scope("POST", host=OWN, **(PAGE | {"sec-fetch-site": "same-site"})),  # of another port
        scope(
            "GET", host=OWN, **(LINK | {"sec-fetch-site": "same-site", "sec-fetch-dest": "image"})
        ),
        scope(kind="websocket", host=OWN, origin="http://evil.example"),
    ],
)
def test_what_other_pages_send_is_refused(asked: dict[str, Any]) -> None:
    assert refusal(asked, ALLOWED)


@pytest.mark.parametrize("asked", [scope(host="evil.example"), scope(host=OWN, origin="null")])
def test_a_refusal_names_the_setting_of_a_server_that_has_one(asked: dict[str, Any]) -> None:
    assert "set" not in (refusal(asked) or "")
    assert "PLATFORM_ALLOWED_HOSTS" in (refusal(asked, setting="PLATFORM_ALLOWED_HOSTS") or "")


def test_names_of_hosts_are_read_with_their_ports() -> None:
    assert parse_hosts(" Data.example , b.example:8443,[::1]:80,") == [
        "data.example",
        "b.example:8443",
        "[::1]:80",
    ]


@pytest.mark.parametrize(
    "text", ["https://data.example", "data.example/ui", "::1", "a:port", ":80"]
)
def test_what_is_no_name_of_a_host_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"data\.example:8443"):
        parse_hosts(f"fine.example,{text}")
