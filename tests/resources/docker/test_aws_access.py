"""A module reaches AWS as its run does, however that is configured, and as long as it runs."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resources.docker import DockerResource, TrustMissingError, modules
from resources.docker.aws_access import as_seen_from_container, discover_aws_access, read_bundle
from tests.containers import engine, image_with_module, run_in_dagster
from tests.role_credentials import Role, metadata_service

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither variables nor files of AWS's, and no proxy."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE",
                 "REQUESTS_CA_BUNDLE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
                 "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "HTTP_PROXY", "HTTPS_PROXY",
                 "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
                 "ALL_PROXY"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("PYTHONPATH", str(HERE))


@pytest.fixture(params=["ecs", "ec2"])
def metadata(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Role]:
    """A metadata service that hands out other credentials each time."""
    with metadata_service() as role:
        if request.param == "ecs":
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{role.url}/credentials")
        else:
            monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", role.url)
            monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)
        yield role


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    name = f"numbercruncher-test-access:{uuid.uuid4().hex[:12]}"
    client = engine()
    yield image_with_module(client, HERE / "pipes_faults.py", name)
    client.images.remove(name, force=True)


@pytest.fixture(params=[pytest.param("docker", marks=pytest.mark.docker), "process"])
def fields(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Where a module runs."""
    if request.param == "process":
        return {}
    return {"mode": "docker", "image": request.getfixturevalue("image")}


@pytest.mark.usefixtures("metadata")
def test_credentials_that_expire_are_renewed_inside_a_module_that_lives_on(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    monkeypatch.setattr(modules, "RENEW_SECONDS", 0.1)
    (message,) = run("renewal", **fields).messages
    numbers = [token.removeprefix("token-") for _, _, token in message["sets"]]
    assert message["sets"] == [[f"AKIA{n}", f"secret-{n}", f"token-{n}"] for n in numbers]
    assert len(set(numbers)) == 3
    # Several could be read in the moment when only some of them are changed.
    assert len(message["changed"]) <= 1


def test_endpoint_region_and_trust_of_a_profile_reach_the_module(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(
        "[profile own]\nregion = ap-southeast-2\nca_bundle = /etc/own.pem\nservices = mine\n"
        "[services mine]\ns3 =\n  endpoint_url = http://192.0.2.7:9000\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "own")
    seen = environment()
    assert seen["AWS_ENDPOINT_URL_S3"] == "http://192.0.2.7:9000"
    assert seen["AWS_DEFAULT_REGION"] == "ap-southeast-2"
    assert seen["AWS_CA_BUNDLE"] == "/etc/own.pem"


def test_the_endpoint_of_all_services_reaches_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://192.0.2.8:9000")
    assert environment()["AWS_ENDPOINT_URL_S3"] == "http://192.0.2.8:9000"


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_proxies_reach_the_module_and_loopback_is_left_out(
    monkeypatch: pytest.MonkeyPatch, name: str, fields: dict[str, Any]
) -> None:
    monkeypatch.setenv(name, "http://me:pl4nted@192.0.2.9:3128")
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8")
    (message,) = run("environment", forward_credentials=False, **fields).messages
    assert message["environment"][name] == "http://me:pl4nted@192.0.2.9:3128"
    for variable in ("NO_PROXY", "no_proxy"):
        assert message["environment"][variable] == "10.0.0.0/8,127.0.0.1,localhost,::1"
    # In a container nobody else sees what its processes were started with.
    if not fields:
        assert "pl4nted" not in str([message["initial"], message["command"]])


def test_what_is_on_this_machine_is_found_from_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://me:pw@127.0.0.1:3128")
    monkeypatch.setenv("HTTPS_PROXY", "localhost:3128")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000")
    moved = as_seen_from_container(discover_aws_access(forward_credentials=False))
    assert moved.environment["AWS_ENDPOINT_URL_S3"] == "http://host.docker.internal:9000"
    assert moved.private["HTTP_PROXY"] == "http://me:pw@host.docker.internal:3128"
    assert moved.private["HTTPS_PROXY"] == "http://host.docker.internal:3128"
    assert moved.private["NO_PROXY"] == "127.0.0.1,localhost,::1,host.docker.internal"
    assert "pw" not in repr(moved)


@pytest.mark.parametrize("names", ["[::1]", "[::1],example.com", "localhost"])
def test_names_that_need_no_proxy_are_no_addresses_of_proxies(
    monkeypatch: pytest.MonkeyPatch, names: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.9:3128")
    monkeypatch.setenv("NO_PROXY", names)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://192.0.2.7")
    access = discover_aws_access(forward_credentials=False)
    expected = dict.fromkeys([*names.split(","), "127.0.0.1", "localhost", "::1"])
    assert as_seen_from_container(access).private["NO_PROXY"] == ",".join(expected)


def test_a_bundle_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/no/such.pem")
    access = discover_aws_access(forward_credentials=False)
    with pytest.raises(TrustMissingError, match=r"/no/such\.pem cannot be read"):
        read_bundle(access)


@pytest.mark.docker
def test_a_bundle_of_certificates_is_handed_into_a_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, image: str
) -> None:
    (tmp_path / "own.pem").write_text("trusted")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "own.pem"))
    (message,) = run("trust", mode="docker", image=image).messages
    assert message == {"bundle": "trusted"}


def environment() -> dict[str, str]:
    """What a module finds that gets no credentials."""
    (message,) = run("environment", forward_credentials=False).messages
    return message["environment"]


def run(fault: str, **fields: Any) -> Any:
    settings: dict[str, Any] = {"mode": "process", "memory_mb": 256, **fields}
    resource = DockerResource(deadline_seconds=60, **settings)
    return run_in_dagster(resource, "pipes_faults", arguments=[fault])
