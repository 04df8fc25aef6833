"""deploy/ecs/: Dagster's own launcher starts runs as tasks of the template, and no other tasks."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.aws_requests import AwsRequest, Recorder
from tests.conftest import CHECKOUT, Services, clean_environ, fresh_database
from tests.deploy.conftest import variables_of
from tests.deploy.ecs_account import BUCKET, SECRETS, account
from tests.deploy.ecs_history import History, happen, network_of
from tests.deploy.ecs_rig import TEMPLATE, Template, filled_in, of_image, started_by
from tests.deploy.iam_needs import Account, needs_of, needs_to_run, needs_to_start
from tests.deploy.iam_policies import (
    PLATFORM,
    Need,
    permissions,
    permissions_of,
)

ECS = CHECKOUT / "deploy" / "ecs"
ROLES = {"daemon": "DaemonRole", "webserver": "WebserverRole"}
ACCOUNT = Account("aws", "eu-west-1", "123456789012")


@pytest.fixture(scope="module")
def history(services: Services, tmp_path_factory: pytest.TempPathFactory) -> History:
    recorder = Recorder(by_key=True)
    with (
        fresh_database(services) as database,
        account(tmp_path_factory.mktemp("ecs"), variables_of(database), recorder) as ecs,
    ):
        return happen(ecs, recorder)


def test_runs_are_tasks_of_the_one_definition_in_the_daemons_network(history: History) -> None:
    (stopped,) = history.started["stopped"]
    for task in (stopped, *history.started["interrupted"]):
        assert task["taskDefinition"] == history.template.made["RunTask"]
        assert task["cluster"] == history.template.made["Cluster"]
        assert task["launchType"] == "FARGATE"
        assert task["networkConfiguration"] == network_of(history.template)
        (container,) = task["overrides"]["containerOverrides"]
        assert container["name"] == "run"
        # https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_TaskOverride.html
        assert len(json.dumps(task["overrides"])) < 8192
    assert {request.operation for sender, request in history.requests if sender == "daemon"} == {
        "DescribeNetworkInterfaces",
        "DescribeTaskDefinition",
        "DescribeTasks",
        "GetLogEvents",
        "RunTask",
    }


def test_a_run_whose_task_is_lost_is_tried_again(history: History) -> None:
    lost, again = history.interrupted
    assert lost.status.value == "FAILURE"
    assert "exit code 137" in history.lost
    assert "Your Spot Task was interrupted" in history.lost
    assert again.status.value == "SUCCESS"
    assert again.parent_run_id == lost.run_id


def test_a_run_that_is_stopped_ends_canceled(history: History) -> None:
    assert history.stopped.status.value == "CANCELED"
    asked = {request.operation for sender, request in history.requests if sender == "webserver"}
    assert "StopTask" in asked


def test_each_container_has_its_settings_and_no_secret_of_others(history: History) -> None:
    environments = history.environments
    for environment in environments.values():
        assert environment["PLATFORM_BUCKET"] == BUCKET
        assert environment["PLATFORM_LISTINGS_TABLE"] == "listings"
    # Over what the file of settings says.
    assert environments["run"]["PLATFORM_CRUNCHER"] == "process"
    knowing = {name for name, one in environments.items() if "PLATFORM_POSTGRES_DSN" in one}
    assert knowing == {"code-server", "run"}


def test_no_secret_is_in_a_task_definition_or_a_request(history: History) -> None:
    password = history.environments["daemon"]["POSTGRES_PASSWORD"]
    names = ("RunTask", "CodeServerTask", "WebserverTask", "DaemonTask")
    shown = json.dumps([history.template.definition(name) for name in names])
    shown += json.dumps([dict(request.parameters) for _, request in history.requests])
    for secret in (password, SECRETS["ListingsSecret"], "hush-listings"):
        assert secret not in shown


def test_every_variable_that_the_files_take_is_set(history: History) -> None:
    """Fargate sets none that is empty, and without one of them Dagster does not start."""
    taken = {name for file in ("dagster.yaml", "workspace.yaml") for name in variables(ECS / file)}
    for name in ("daemon", "webserver"):
        assert taken <= history.environments[name].keys()
    # Those of launcher and workspace are for daemon and webserver alone.
    others = taken - {"RUN_TASK_DEFINITION", "CODE_SERVER_HOST"}
    for name in ("code-server", "run"):
        assert others <= history.environments[name].keys()


def test_the_image_has_the_files_where_the_containers_look(history: History) -> None:
    copied = (ECS.parent / "Dockerfile").read_text()
    assert "COPY deploy/ecs/dagster.yaml deploy/ecs/workspace.yaml /dagster/ecs/\n" in copied
    assert {one["DAGSTER_HOME"] for one in history.environments.values()} == {"/dagster/ecs"}


def test_containers_start_as_on_one_host_without_files_of_settings() -> None:
    """The image's entry point wants such files, and ECS mounts none."""
    containers = filled_in().containers()
    assert containers["code-server"]["command"] == of_image("CMD")
    for container in containers.values():
        show = [sys.executable, "-c", "import os; print(os.environ['GIVEN'])"]
        done = subprocess.run(
            started_by(container, show),
            cwd=CHECKOUT,
            env=clean_environ(GIVEN="by ECS"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout, done.stderr) == ("by ECS\n", "")
        # A command of its own, since the image's goes with its entry point.
        assert container["command"]


def test_the_cluster_has_the_capacity_that_runs_may_be_given() -> None:
    """ECS refuses a strategy with a provider that is not the cluster's."""
    offered = re.findall(r"capacityProvider: (\w+)", (ECS / "dagster.yaml").read_text())
    (cluster,) = filled_in().of_type("AWS::ECS::Cluster").values()
    assert offered == ["FARGATE_SPOT"]
    assert {*offered, "FARGATE"} == set(cluster["CapacityProviders"])


def test_health_is_checked_as_on_one_host() -> None:
    """The daemon's check there asks the webserver, whose address is not known here."""
    services = yaml.safe_load((ECS.parent / "docker-compose.yaml").read_text())["services"]
    containers = filled_in().containers()
    for name in ("code-server", "webserver"):
        assert containers[name]["healthCheck"]["command"] == services[name]["healthcheck"]["test"]


def variables(file: Path) -> set[str]:
    """The variables that a file of Dagster's takes values from."""

    def find(value: Any) -> set[str]:
        if isinstance(value, dict) and set(value) == {"env"}:
            return {value["env"]}
        inside = value.values() if isinstance(value, dict) else value
        return set().union(*map(find, inside)) if isinstance(value, dict | list) else set()

    return find(yaml.safe_load(file.read_text()))


def test_every_request_is_valid_by_botocores_model(history: History) -> None:
    sent = [request for _, request in history.requests]
    names = ("RunTask", "CodeServerTask", "WebserverTask", "DaemonTask")
    definitions = (history.template.definition(name) for name in names)
    sent += [AwsRequest("ecs", "RegisterTaskDefinition", one, 200) for one in definitions]
    assert not [problem for request in sent if (problem := request.problems())]


def needs_of_roles(history: History) -> list[tuple[str, Need]]:
    """Role of the template → what was needed in it."""
    needs = [
        (ROLES[sender], need)
        for sender, request in history.requests
        if sender in ROLES
        for need in needs_of(request, ACCOUNT)
    ]
    for name in ("RunTask", "CodeServerTask", "WebserverTask", "DaemonTask"):
        definition = history.template.definition(name)
        role = definition["executionRoleArn"].rpartition("/")[2]
        needs += [(role, need) for need in needs_to_start(definition, ACCOUNT)]
    needs += [("DaemonRole", need) for need in needs_to_run(history.template.definition("RunTask"))]
    # What runs have printed is shown, which needs no more than to read it.
    needs.append(("WebserverRole", Need("s3:GetObject", f"arn:aws:s3:::{BUCKET}/dagster/logs")))
    return needs


def test_all_that_is_asked_is_allowed_and_nothing_else(history: History) -> None:
    roles = {*ROLES.values(), "RunExecutionRole", "ServiceExecutionRole"}
    uses = {
        role: Counter(dict.fromkeys(permissions_of(history.template.statements(role)), 0))
        for role in roles
    }
    refused = []
    for role, need in needs_of_roles(history):
        allowing = [one for one in uses[role] if one.allows(need)]
        refused += [] if allowing else [(role, need)]
        uses[role].update(allowing)
    assert not refused
    unused = [(role, one.action) for role, all_ in uses.items() for one, n in all_.items() if not n]
    # The daemon also stops what takes longer than `max_runtime_seconds`.
    assert unused == [("DaemonRole", "ecs:StopTask")]


def test_during_an_update_runs_of_the_older_definition_still_start() -> None:
    """The daemon that starts them is the last service to be replaced, the roles are the first."""
    old, new = (filled_in(SettingsFile=f"settings/{number}.env") for number in (1, 2))
    allowed = permissions_of(new.statements("RunExecutionRole"))
    needs = [*needs_to_start(old.definition("RunTask"), ACCOUNT)]
    reads = [need for need in needs if need.action == "s3:GetObject"]
    assert [need.resource for need in reads] == ["arn:aws:s3:::given/settings/1.env"]
    assert all(any(one.allows(need) for one in allowed) for need in reads)
    pattern = new.parameters["SettingsFile"]["AllowedPattern"]
    for key, matches in {"settings/1.env": True, "1.env": False, "settings/1": False}.items():
        assert bool(re.fullmatch(pattern, key)) == matches


def test_runs_need_no_more_than_the_platform_does(history: History) -> None:
    values = dict.fromkeys(("airbnb_bucket", "mnist_source", "endpoint", "endpoint_name"), "x")
    values |= {"partition": "aws", "account": "123456789012", "region": "eu-west-1"}
    values |= {"bucket": BUCKET, "sagemaker_role": "x", "algorithm_registry": "x"}
    allowed = permissions(PLATFORM, values)
    needs = [
        need
        for sender, request in history.requests
        if sender in {"run", "code-server"}
        for need in needs_of(request, ACCOUNT)
    ]
    assert needs
    assert not [need for need in needs if not any(one.allows(need) for one in allowed)]


def test_with_a_key_all_are_allowed_to_use_it(history: History) -> None:
    key = "arn:aws:kms:eu-west-1:123456789012:key/k"
    template = Template({**history.template.given, "KmsKey": key}, history.template.made)
    allowed = {
        role: {
            one.action for one in permissions_of(template.statements(role)) if one.resource == key
        }
        for role in template.of_type("AWS::IAM::Role")
    }
    readme = (ECS.parent / "README.md").read_text()
    (row,) = (line for line in readme.splitlines() if line.startswith("| a key |"))
    assert allowed.pop("RunRole") == set(re.findall(r"`(kms:\w+)`", row.split("|")[2]))
    assert allowed.pop("DaemonRole") == set()
    assert set(map(frozenset, allowed.values())) == {frozenset({"kms:Decrypt"})}
    for name in ("RunTask", "CodeServerTask"):
        (container,) = template.definition(name)["containerDefinitions"]
        assert {"name": "PLATFORM_KMS_KEY_ID", "value": key} in container["environment"]


def test_the_instance_is_that_of_one_host_but_for_where_runs_are() -> None:
    """What is said in deploy/dagster.yaml of retries, logs, pools and retention holds here, too."""
    one, other = (yaml.safe_load((path / "dagster.yaml").read_text()) for path in (ECS, ECS.parent))
    for settings in (one, other):
        del settings["run_launcher"], settings["concurrency"]["runs"]["max_concurrent_runs"]
        for name in ("start_timeout_seconds", "cancel_timeout_seconds"):
            del settings["run_monitoring"][name]
    assert one == other


def test_a_task_has_less_time_to_stop_than_its_run_has(history: History) -> None:
    (container,) = history.template.definition("RunTask")["containerDefinitions"]
    monitoring = yaml.safe_load((ECS / "dagster.yaml").read_text())["run_monitoring"]
    assert container["stopTimeout"] < monitoring["cancel_timeout_seconds"]


def test_linters_find_nothing(history: History, linters_of_aws: str) -> None:
    command = [Path(linters_of_aws).with_name("cfn-lint"), TEMPLATE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    requests: dict[str, list[tuple[str, str]]] = {}
    for role, need in needs_of_roles(history):
        requests.setdefault(role, []).append((need.action, need.resource))
    policies = {
        role: {"Version": "2012-10-17", "Statement": history.template.statements(role)}
        for role in requests
    }
    done = subprocess.run(
        [linters_of_aws, Path(__file__).with_name("lint_policies.py")],
        input=json.dumps({"policies": policies, "requests": requests}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stdout.strip()
