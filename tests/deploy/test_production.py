"""The files of a deployment: they load against real services, and hold and show no secret."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.utils import get_environ_proxies, should_bypass_proxies

from deploy.with_settings import FOLDER, read_env_file, read_settings
from embedded.aws import aws_client
from platform_assets.settings import Settings
from tests.aws_requests import Recorder
from tests.conftest import CHECKOUT, Services, clean_environ
from tests.deploy.iam_needs import actions_of
from tests.deploy.iam_policies import named_in_readme
from tests.s3_front import in_front_of

DEPLOY = CHECKOUT / "deploy"
SOCKET = "/var/run/docker.sock:/var/run/docker.sock"
USES_DOCKER = {"code-server", "webserver", "daemon"}

LOOK = """
import json, dagster as dg
with dg.DagsterInstance.get() as instance:
    launcher = instance.run_launcher
    assert instance.get_runs_count() == 0
    parts = [type(instance.compute_log_manager).__name__, type(instance.run_coordinator).__name__]
    print(json.dumps([launcher.networks, *parts]))
"""
# The image's entry point, with another folder.
START = """
import pathlib, sys
from deploy import with_settings
with_settings.FOLDER = pathlib.Path(sys.argv[1])
with_settings.main(sys.argv[2:])
"""
SHOW = [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
IMPORT = """
import sys
for name in sys.argv[1:]:
    sys.modules[name] = None
import dagster_aws.s3.compute_log_manager, dagster_docker, dagster_postgres, dagster_webserver.cli
from platform_assets.definitions import build_defs
build_defs()
"""


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def environment_file() -> dict[str, str]:
    """The variables of env.example."""
    return read_env_file(DEPLOY / "env.example")


def composed(profiles: Sequence[str] = (), part: str = "services") -> Any:
    """The services, or another part, as Compose reads them from outside its folder."""
    compose = Path(sys.executable).with_name("docker-compose")
    profile = [word for name in profiles for word in ("--profile", name)]
    command = [str(compose), "-f", str(DEPLOY / "docker-compose.yaml"), *profile]
    return json.loads(run([*command, "config", "--format", "json"], clean_environ()))[part]


# What a shell, or Compose, would change or refuse.
VALUES = {
    "dollars": "pa$$word$HOME${HOME}$",
    "a hash": "first #second#third",
    "quotes": "\"double' 'single`back",
    "wholly quoted": "'\"all\"'",
    "backslashes": r"\n\\t\$x\\",
    "signs": "%41%s!&*()[]{}<>?|;:,.~^=@/+-_",
    "spaces": "  in front, and behind  ",
    "other letters": "pässwörd-密码-🔑",
}


def settings_files(folder: Path, platform: str, password: str = "x") -> Path:
    """A folder such as deploy/private/platform."""
    (folder / "platform.env").write_text(platform)
    (folder / "records_password").write_text(f"{password}\n")
    return folder


@pytest.mark.parametrize("case", VALUES)
def test_a_generated_password_reaches_programs_unchanged(tmp_path: Path, case: str) -> None:
    value = VALUES[case]
    folder = settings_files(tmp_path, f"PLATFORM_PSEUDONYM_KEY={value}\n", value)
    shown = run([sys.executable, "-c", START, str(folder), *SHOW], clean_environ())
    environment = json.loads(shown)
    assert environment["PLATFORM_PSEUDONYM_KEY"] == environment["POSTGRES_PASSWORD"] == value


def test_a_variable_that_is_left_out_has_the_examples_value(tmp_path: Path) -> None:
    settings = read_settings(settings_files(tmp_path, "PLATFORM_BUCKET=mine\n"))
    assert settings["PLATFORM_BUCKET"] == "mine"
    assert settings["PLATFORM_LISTINGS_TABLE"] == "listings"


def test_whoever_has_made_no_settings_is_told_how(tmp_path: Path) -> None:
    command = [sys.executable, "-c", START, str(tmp_path), *SHOW]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "records_password" in done.stderr
    assert "README.md says how they are made" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_instance_loads_with_its_records_in_postgres(production: dict[str, str]) -> None:
    dagster = Path(sys.executable).with_name("dagster")
    shown = run([str(dagster), "instance", "info"], production)
    for name in ("DockerRunLauncher", "PostgresRunStorage"):
        assert name in shown
    assert production["POSTGRES_PASSWORD"] not in shown
    loaded = run([sys.executable, "-c", LOOK], production)
    for name in ('"data-platform"', "RunLogs", "QueuedRunCoordinator"):
        assert name in loaded


def test_a_run_gets_all_settings_by_the_folder_that_services_have() -> None:
    launcher = read("dagster.yaml")["run_launcher"]["config"]
    assert "env_vars" not in launcher
    name = read("docker-compose.yaml")["volumes"]["settings"]["name"]
    assert f"{name}:{FOLDER}:ro" in launcher["container_kwargs"]["volumes"]
    for service, composition in composed(profiles=["*"]).items():
        mounted = {(one["source"], one["target"]) for one in composition.get("volumes", [])}
        ours = composition["image"] == "data-platform"
        assert (("settings", str(FOLDER)) in mounted) == ours, service
    options = composed(part="volumes")["settings"]["driver_opts"]
    assert options["device"] == str(DEPLOY / "private" / "platform")


def test_the_example_names_every_setting() -> None:
    known = {
        f"PLATFORM_{name.upper()}"
        for name, field in Settings.model_fields.items()
        if field.validation_alias is None
    }
    # Pipelines are in the image.
    assert known - {"PLATFORM_PIPELINES"} <= environment_file().keys()


def test_aws_is_reached_whatever_the_environment_file_leaves_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in environment_file().items():
        monkeypatch.setenv(name, value)
    # boto3 would refuse an empty AWS_CA_BUNDLE.
    client = boto3.client("s3", aws_access_key_id="x", aws_secret_access_key="x")
    assert client.meta.endpoint_url.startswith("https://s3.")
    assert not {"http", "https"} & get_environ_proxies(client.meta.endpoint_url).keys()


def test_addresses_of_this_host_are_not_reached_by_the_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that give EC2 and ECS their roles' credentials, and the webserver's health check."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", environment_file()["NO_PROXY"])
    for host in ("169.254.169.254", "169.254.170.2", "127.0.0.1:3000"):
        assert should_bypass_proxies(f"http://{host}/")
    assert not should_bypass_proxies("https://s3.eu-west-1.amazonaws.com/")


def test_the_environment_file_has_the_defaults_of_the_settings_and_no_secret() -> None:
    given = environment_file()
    for name in (
        "mnist_source",
        "endpoint_name",
        "instance_type",
        "training_instance_type",
        "kms_key_id",
        "snapshot_format",
    ):
        assert given[f"PLATFORM_{name.upper()}"] == Settings.model_fields[name].default
    settings = {
        name: given[f"PLATFORM_{name.upper()}"]
        for name in (
            "first_partition",
            "sagemaker_poll_seconds",
            "listings_connections",
            "training_volume_gb",
            "training_instance_count",
            "network_isolation",
            "cruncher_memory_mb",
            "cruncher_deadline_seconds",
        )
    }
    assert Settings.model_validate(settings) == Settings()
    for name in ("PLATFORM_ALERTS", "PLATFORM_POSTGRES_DSN", "PLATFORM_PSEUDONYM_KEY"):
        assert not given[name]
    assert "POSTGRES_PASSWORD" not in given


def test_compose_has_no_secret_no_public_port_and_a_health_check_for_each_service() -> None:
    compose = read("docker-compose.yaml")
    assert compose["services"].keys() == {
        "postgres",
        "code-server",
        "webserver",
        "webserver-read-only",
        "login",
        "daemon",
        "metrics",
        "records",
    }
    for name, service in compose["services"].items():
        # What has a profile is a command, and no service that stays.
        assert "profiles" in service or service["healthcheck"]["test"], name
        assert "env_file" not in service
        for variable in service.get("environment", {}):
            assert not variable.endswith(("PASSWORD", "KEY", "DSN")), variable
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
        assert (SOCKET in service.get("volumes", [])) == (name in USES_DOCKER)
        assert not service.get("privileged")
    launcher = read("dagster.yaml")["run_launcher"]["config"]
    assert launcher["network"] == compose["networks"]["default"]["name"]
    ignored = (DEPLOY / ".gitignore").read_text().split()
    assert {".env", "private/"} <= set(ignored)
    for secret in compose["secrets"].values():
        assert secret["file"].startswith("private/")


def test_the_login_is_the_only_way_to_the_ui() -> None:
    """Metrics have no login: they are numbers, for Prometheus on the same host."""
    services = read("docker-compose.yaml")["services"]
    assert {name for name, service in services.items() if service.get("ports")} == {
        "login",
        "metrics",
    }
    configuration = (DEPLOY / "login.conf").read_text()
    (port,) = services["login"]["ports"]
    assert f"listen {port.rpartition(':')[2]};" in configuration
    commands = {
        name: service["command"]
        for name, service in services.items()
        if "-m webserver " in str(service.get("command"))
    }
    for role, name in re.findall(r"^    (editor|default) +([\w-]+):3000;$", configuration, re.M):
        assert ("--read-only" in commands[name].split()) == (role == "default")
        del commands[name]
    assert not commands
    for name in services["login"]["secrets"]:
        assert f"/run/secrets/{name};" in configuration


def test_every_container_has_limits() -> None:
    services = composed(profiles=["*"])
    assert services.keys() == read("docker-compose.yaml")["services"].keys()
    for name, service in services.items():
        assert 0 < int(service["mem_limit"]) <= 2 * 2**30, name
        assert 0 < service["pids_limit"] <= 1000, name
        # Docker starts no container that may use more processors than the host has.
        assert 0 < service["cpus"] <= 1, name
    runs = read("dagster.yaml")["run_launcher"]["config"]["container_kwargs"]
    assert {"mem_limit", "pids_limit"} <= runs.keys()


def test_commands_on_the_records_start_with_nothing_but_their_name() -> None:
    assert "records" not in composed()
    service = composed(profiles=["commands"])["records"]
    assert service["entrypoint"][-3:] == ["python", "-m", "deploy.records"]
    # It alone may write there: a new password.
    (folder,) = service["volumes"]
    assert (folder["target"], folder.get("read_only")) == (str(FOLDER), None)


def test_the_workspace_points_to_the_code_server() -> None:
    (server,) = (location["grpc_server"] for location in read("workspace.yaml")["load_from"])
    assert server["host"] in read("docker-compose.yaml")["services"]
    assert f'"{server["port"]}"' in (DEPLOY / "Dockerfile").read_text()


def test_the_platform_runs_without_what_the_image_leaves_out() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    pattern = re.search(r"\^\(([a-z0-9|-]+)\)==", dockerfile)
    assert pattern is not None
    left_out = set(pattern[1].split("|"))
    locked = re.findall(r"^([a-z0-9-]+)==", (CHECKOUT / "requirements.lock").read_text(), re.M)
    assert left_out <= set(locked), "of these, some are not in the lock file any more"
    modules = [
        module
        for module, owners in packages_distributions().items()
        if {owner.lower().replace("_", "-") for owner in owners} & left_out
    ]
    assert {"sklearn", "chalice"} <= set(modules)
    environ = clean_environ(PLATFORM_BUCKET="digits", PLATFORM_AIRBNB_BUCKET="listings")
    run([sys.executable, "-c", IMPORT, *modules], environ)


def test_the_image_does_not_run_as_root_and_its_build_needs_no_registry() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    assert "USER platform" in lines
    assert "ARG BASE_IMAGE=python:3.11-slim" in lines
    assert not [line for line in lines if line.startswith("# syntax")]
    assert any("--require-hashes" in line for line in lines)


def test_the_lifecycle_rule_is_added_to_the_rules_that_a_bucket_has(
    services: Services, bucket: str
) -> None:
    client = aws_client(services.env, "s3")
    embedded = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    own = {
        "ID": "own",
        "Status": "Enabled",
        "Filter": {"Prefix": "dagster/"},
        "Expiration": {"Days": 90},
    }
    client.delete_bucket_lifecycle(Bucket=bucket)
    command = [sys.executable, "deploy/add_lifecycle_rule.py", bucket]
    recorder = Recorder("whoever adds it")
    with in_front_of(services.env["AWS_ENDPOINT_URL_S3"]) as front:
        front.observe = recorder.keep
        run(command, clean_environ(**{**services.env, "AWS_ENDPOINT_URL_S3": front.url}))
    requests = [request for _, request in recorder.requests()]
    assert not any(request.problems() for request in requests)
    assert actions_of(requests) == named_in_readme("to those that they have; it needs")
    assert client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == embedded
    disabled = {**embedded[0], "Status": "Disabled"}
    for present in ([own], [own, disabled]):
        client.put_bucket_lifecycle_configuration(
            Bucket=bucket, LifecycleConfiguration={"Rules": present}
        )
        run(command, clean_environ(**services.env))
        rules = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        assert {rule["ID"]: rule["Status"] for rule in rules} == {
            "own": "Enabled",
            embedded[0]["ID"]: "Enabled",
        }


def run(command: list[str], environ: dict[str, str]) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
