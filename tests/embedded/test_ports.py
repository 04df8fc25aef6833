"""Which ports the stack takes, and what it says when one is taken."""

import os
import socket
from dataclasses import astuple

import pytest

from embedded import ports
from embedded.errors import ConfigurationError, PortInUseError


def test_without_a_base_the_interfaces_have_their_documented_ports() -> None:
    chosen = ports.choose(None)

    assert (chosen.ui, chosen.api) == (3000, 8000)
    assert len(set(astuple(chosen))) == len(astuple(chosen))


def test_a_base_moves_every_port() -> None:
    moved = ports.choose("20000")

    assert not set(astuple(moved)) & set(astuple(ports.choose(None)))
    assert len(set(astuple(moved))) == len(astuple(moved))
    assert moved.ui == 20000


@pytest.mark.parametrize(
    "base",
    ["eighty", "80", "65000", "-1"],
    ids=["not a number", "privileged", "ends beyond 65535", "negative"],
)
def test_an_invalid_base_is_refused_with_a_sentence(base: str) -> None:
    with pytest.raises(ConfigurationError, match=r"PLATFORM_PORT_BASE=.*1024 to 55000"):
        ports.choose(base)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_is_named_with_its_owner_and_the_way_out(address: str) -> None:
    with socket.socket() as listener:
        listener.bind((address, 0))
        listener.listen()
        port = listener.getsockname()[1]

        with pytest.raises(PortInUseError) as caught:
            ports.require_free({"the digit page": port})

    message = str(caught.value)
    assert f"Port {port}, which the digit page needs" in message
    assert f"process {os.getpid()}" in message
    assert "PLATFORM_PORT_BASE" in message
    assert "\n" not in message


def test_a_port_whose_connection_was_just_closed_counts_as_free() -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        listener.bind((ports.HOST, 0))
        listener.listen()
        port = listener.getsockname()[1]
        with socket.create_connection((ports.HOST, port)), listener.accept()[0] as accepted:
            accepted.shutdown(
                socket.SHUT_RDWR
            )  # the server closes first, so its side stays in TIME_WAIT

    ports.require_free({"S3": port})
