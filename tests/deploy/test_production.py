"""The files of a deployment: they load against real services, and hold and show no secret."""

import json
import os
import re
import shutil
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

from embedded import s3
from platform_assets.settings import Settings
from tests.aws_requests import Recorder
from tests.conftest import CHECKOUT, Services, clean_environ
from tests.deploy.iam_needs import actions_of
from tests.deploy.iam_policies import named_in_readme
from tests.s3_front import in_front_of

DEPLOY = CHECKOUT / "deploy"
SOCKET = "/var/run/docker.sock:/var/run/docker.sock"
USES_DOCKER = {"code-server", "webserver", "daemon"}
# Variables of the environment file that runs do not need: the sensor and web server do.
# Pipelines are in the image.
NOT_FOR_RUNS = {"PLATFORM_ALERTS", "PLATFORM_ALLOWED_HOSTS", "PLATFORM_PIPELINES"}

LOOK = """
import json, dagster as dg
with dg.DagsterInstance.get() as instance:
    launcher = instance.run_launcher
    assert instance.get_runs_count() == 0
    parts = [type(instance.compute_log_manager).__name__, type(instance.run_coordinator).__name__]
    print(json.dumps([launcher.networks, sorted(launcher.env_vars), *parts]))
"""
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
    """The variables of env.example and of records.env.example."""
    lines = [
        line
        for name in ("env.example", "records.env.example")
        for line in (DEPLOY / name).read_text().splitlines()
    ]
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def composed(
    folder: Path,
    platform: str,
    records: str = "POSTGRES_PASSWORD=x\n",
    profiles: Sequence[str] = (),
) -> Any:
    """The services as Compose reads them, with these contents of its two environment files."""
    for name in ("docker-compose.yaml", "env.example"):
        shutil.copy(DEPLOY / name, folder)
    (folder / "platform.env").write_text(platform)
    (folder / "records.env").write_text(records)
    compose = Path(sys.executable).with_name("docker-compose")
    files = ["--project-directory", str(folder), "-f", str(folder / "docker-compose.yaml")]
    profile = [word for name in profiles for word in ("--profile", name)]
    command = [str(compose), *files, *profile, "config", "--format", "json"]
    configuration = run(command, clean_environ())
    return json.loads(configuration)["services"]


# What Compose's own reading of an environment file would change or refuse.
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


@pytest.mark.parametrize("case", VALUES)
def test_a_generated_password_reaches_the_containers_unchanged(tmp_path: Path, case: str) -> None:
    value = VALUES[case]
    services = composed(
        tmp_path, f"PLATFORM_PSEUDONYM_KEY={value}\n", f"POSTGRES_PASSWORD={value}\n"
    )
    # Compose prints each dollar sign twice.
    doubled = value.replace("$", "$$")
    assert services["postgres"]["environment"] == {"POSTGRES_PASSWORD": doubled}
    for name in ("code-server", "webserver", "daemon", "metrics"):
        environment = services[name]["environment"]
        assert environment["PLATFORM_PSEUDONYM_KEY"] == doubled
        assert environment["POSTGRES_PASSWORD"] == doubled


def test_a_variable_that_is_left_out_has_the_examples_value(tmp_path: Path) -> None:
    environment = composed(tmp_path, "PLATFORM_BUCKET=mine\n")["daemon"]["environment"]
    assert environment["PLATFORM_BUCKET"] == "mine"
    assert environment["PLATFORM_LISTINGS_TABLE"] == "listings"


def test_the_instance_loads_with_its_records_in_postgres(production: dict[str, str]) -> None:
    dagster = Path(sys.executable).with_name("dagster")
    shown = run([str(dagster), "instance", "info"], production)
    for name in ("DockerRunLauncher", "PostgresRunStorage"):
        assert name in shown
    assert production["POSTGRES_PASSWORD"] not in shown
    loaded = run([sys.executable, "-c", LOOK], production)
    for name in ('"data-platform"', "RunLogs", "QueuedRunCoordinator"):
        assert name in loaded


def test_a_run_gets_every_setting() -> None:
    """A setting that the launcher does not name would have its default in a run."""
    launcher = read("dagster.yaml")["run_launcher"]["config"]
    known = {
        f"PLATFORM_{name.upper()}"
        for name, field in Settings.model_fields.items()
        if field.validation_alias is None
    }
    assert known - NOT_FOR_RUNS <= set(launcher["env_vars"])
    assert set(launcher["env_vars"]) == environment_file().keys() - NOT_FOR_RUNS


def test_runs_start_and_reach_aws_whatever_the_environment_file_leaves_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dagster does not start a run if a variable that the launcher names is not set."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in environment_file().items():
        monkeypatch.setenv(name, value)
    launcher = read("dagster.yaml")["run_launcher"]["config"]
    reaching = {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "AWS_CA_BUNDLE"}
    assert reaching <= set(launcher["env_vars"]) <= os.environ.keys()
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
    for name in ("POSTGRES_PASSWORD", "PLATFORM_POSTGRES_DSN", "PLATFORM_PSEUDONYM_KEY"):
        assert not given[name]


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
        for variable, value in service.get("environment", {}).items():
            assert "${" in value, variable
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
        assert (SOCKET in service.get("volumes", [])) == (name in USES_DOCKER)
        assert not service.get("privileged")
    launcher = read("dagster.yaml")["run_launcher"]["config"]
    assert launcher["network"] == compose["networks"]["default"]["name"]
    ignored = (DEPLOY / ".gitignore").read_text().split()
    secrets = [Path(secret["file"]).name for secret in compose["secrets"].values()]
    assert {".env", "*.env", *secrets} <= set(ignored)


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


def test_every_container_has_limits(tmp_path: Path) -> None:
    services = composed(tmp_path, "", profiles=["*"])
    assert services.keys() == read("docker-compose.yaml")["services"].keys()
    for name, service in services.items():
        assert 0 < int(service["mem_limit"]) <= 2 * 2**30, name
        assert 0 < service["pids_limit"] <= 1000, name
        # Docker starts no container that may use more processors than the host has.
        assert 0 < service["cpus"] <= 1, name
    runs = read("dagster.yaml")["run_launcher"]["config"]["container_kwargs"]
    assert {"mem_limit", "pids_limit"} <= runs.keys()


def test_commands_on_the_records_start_with_nothing_but_their_name(tmp_path: Path) -> None:
    assert "records" not in composed(tmp_path, "")
    service = composed(tmp_path, "PLATFORM_BUCKET=mine\n", profiles=["commands"])["records"]
    assert service["entrypoint"] == ["python", "-m", "deploy.records"]
    assert service["environment"]["PLATFORM_BUCKET"] == "mine"
    assert service["environment"]["POSTGRES_PASSWORD"] == "x"
    (folder,) = service["volumes"]
    assert (folder["source"], folder["target"]) == (str(tmp_path), "/deploy")
    copied = (DEPLOY / "Dockerfile").read_text()
    for needed in ("deploy/env_file.py", "deploy/records", "${POSTGRES_CLIENT}"):
        assert needed in copied


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
    client = s3.client(services.env)
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
