"""What stands around containers, and needs no Docker Engine to be tested."""

import io
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sagemaker_local import archives, docker_container, opt_ml, relay
from sagemaker_local.config import ConfigError, from_environment
from tests.local_servers import QuietHandler, serving
from tests.sagemaker_local.rig import Server, refusal
from tests.sagemaker_local.test_local_contract import own_job

KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"EMBEDDED_SAGEMAKER_CONTAINERS": "off"}, "EMBEDDED_SAGEMAKER_CONTAINERS is off"),
        ({"DOCKER_HOST": "tcp://127.0.0.1:9"}, "no Docker Engine answers"),
    ],
)
def test_without_containers_an_image_that_is_not_in_the_table_is_refused(
    own_server: Server, store: str, settings: dict[str, str], words: str
) -> None:
    own_server.extra = {**own_server.extra, **settings}
    own_server.start()
    request = own_job("x", store, "describe")
    message = refusal(lambda: own_server.sagemaker.create_training_job(**request))["Error"][
        "Message"
    ]
    assert message.startswith("Cannot find repository: contract in registry ID: 123456789012")
    assert words in message


def test_the_setting_is_auto_or_off(tmp_path: Path) -> None:
    assert from_environment(tmp_path, KEYS).containers
    with pytest.raises(ConfigError, match="EMBEDDED_SAGEMAKER_CONTAINERS must be auto or off"):
        from_environment(tmp_path, {**KEYS, "EMBEDDED_SAGEMAKER_CONTAINERS": "on"})


def test_a_table_of_images_that_is_not_there_is_named_by_its_whole_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{Path.cwd()}/images.toml: No such file")):
        from_environment(tmp_path, {**KEYS, "EMBEDDED_SAGEMAKER_IMAGES": "images.toml"})


class Echo(QuietHandler):
    """Answers with what it was sent."""

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.reply(body)


@pytest.fixture
def service() -> Iterator[int]:
    """The port of a service on loopback."""
    with serving(Echo) as port:
        yield port


def test_the_relay_carries_large_requests_and_answers(service: int) -> None:
    url = relay.reachable(f"http://127.0.0.1:{service}", "127.0.0.1")
    assert url.startswith("http://127.0.0.1:")
    assert url != f"http://127.0.0.1:{service}"
    assert relay.reachable(f"http://127.0.0.1:{service}", "127.0.0.1") == url, "one is enough"
    body = os.urandom(3_000_000)
    for _ in range(2):
        assert httpx.put(url, content=body, timeout=60).content == body


def test_only_services_on_loopback_need_a_relay() -> None:
    """An address that this machine does not have belongs to an engine in a virtual machine."""
    assert relay.reachable("http://s3.example:9000", "192.0.2.1") == "http://s3.example:9000"
    through_desktop = relay.reachable("http://localhost:9000", "192.0.2.1")
    assert through_desktop == "http://host.docker.internal:9000"


def streamed(*members: tuple[str, bytes, str]) -> io.BytesIO:
    """A tar as an engine sends it: name, type and content or target of each member."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, kind, text in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            content = text.encode() if kind == tarfile.REGTYPE else b""
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                member.linkname = text
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    packed.seek(0)
    return packed


def test_what_a_container_leaves_arrives_with_its_links(tmp_path: Path) -> None:
    stream = streamed(
        ("model", tarfile.DIRTYPE, ""),
        ("model/last", tarfile.SYMTYPE, "one.txt"),
        ("model/one.txt", tarfile.REGTYPE, "one"),
        ("model/two.txt", tarfile.LNKTYPE, "model/one.txt"),
    )
    archives.receive(stream, tmp_path)
    assert (tmp_path / "model" / "last").readlink() == Path("one.txt")
    texts = [(tmp_path / "model" / name).read_text() for name in ("last", "one.txt", "two.txt")]
    assert texts == ["one"] * 3


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (("model", tarfile.SYMTYPE, "/etc"), "both a file and a folder"),
        (("../x", tarfile.REGTYPE, "x"), "would lie outside of the folder"),
        (("../x", tarfile.SYMTYPE, "x"), "would lie outside of the folder"),
        (("model/x", tarfile.LNKTYPE, "/etc/passwd"), "would lie outside of the folder"),
        (("model/x", tarfile.FIFOTYPE, ""), "neither a file nor a folder"),
    ],
)
def test_what_would_lead_out_of_the_folder_is_refused(
    tmp_path: Path, member: tuple[str, bytes, str], words: str
) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(archives.ArchiveError, match=words):
        archives.receive(streamed(member), tmp_path)


def test_no_file_is_written_by_way_of_a_link(tmp_path: Path) -> None:
    """Files come first, so that the link has no place left."""
    (tmp_path / "elsewhere").mkdir()
    base = tmp_path / "base"
    (base / "model").mkdir(parents=True)
    stream = streamed(
        ("model/a", tarfile.SYMTYPE, str(tmp_path / "elsewhere")),
        ("model/a/b", tarfile.REGTYPE, "b"),
    )
    with pytest.raises(archives.ArchiveError):
        archives.receive(stream, base)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_no_file_is_written_below_a_link_that_an_archive_before_left(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    base = tmp_path / "base"
    (base / "model").mkdir(parents=True)
    archives.receive(streamed(("model/a", tarfile.SYMTYPE, str(tmp_path / "elsewhere"))), base)
    with pytest.raises(archives.ArchiveError, match="would lie outside of the folder"):
        archives.receive(streamed(("model/a/b", tarfile.REGTYPE, "b")), base)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_failure_that_is_a_link_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "failure").symlink_to(tmp_path / "secret")
    assert opt_ml.failure(tmp_path) == ""


def test_lines_of_standard_output_and_error_do_not_tear_each_other() -> None:
    """The engine sends pieces of both in any order."""
    pieces = [(b"loss=", None), (None, b"a warn"), (b"0.5;\nnext", None), (None, b"ing\n")]
    assert list(docker_container.by_lines(iter(pieces))) == [
        b"loss=0.5;\n",
        b"a warning\n",
        b"next",
    ]
