"""The account on AWS in which the template is, as moto has it, and the containers that run there.

Moto keeps tasks and starts nothing: their commands are run here, in the environments that Fargate
would give them.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from queue import Queue
from typing import Any

import boto3
import requests
from moto.backends import get_backend

from tests.aws_requests import Recorder
from tests.conftest import CHECKOUT, clean_environ
from tests.deploy.conftest import REGION, moto_server
from tests.deploy.ecs_rig import PSEUDO, Template, environment_of, started_by
from tests.local_servers import QuietHandler, serving

BUCKET, SETTINGS_FILE = "digits-bucket", "settings/1.env"
SECRETS = {"ListingsSecret": "postgresql://reader:hush-listings@db:5432/market"}
WAIT = 240


@dataclass
class Ecs:
    """The account, and the containers that run in it.

    Attributes:
        url: Of the front.
        clients: Of whoever has set all of it up.
        template: With the values of this account.
        definitions: Container → its task definition.
        folder: Of files.
        asked: Parameters of each RunTask and StopTask, by operation, as they come.
    """

    url: str
    clients: dict[str, Any]
    template: Template
    definitions: dict[str, dict[str, Any]]
    folder: Path
    asked: Queue[tuple[str, dict[str, Any]]]

    def container(self, name: str) -> dict[str, Any]:
        """A container's definition."""
        (definition,) = self.definitions[name]["containerDefinitions"]
        return definition

    def environment(self, container: str) -> dict[str, str]:
        """What Fargate gives a container."""
        s3, secrets = self.clients["s3"], self.clients["secretsmanager"]
        return environment_of(self.container(container), s3, secrets)

    def here(self, container: str) -> dict[str, str]:
        """The same with this machine's addresses and paths, and keys that name the container."""
        return {
            **self.environment(container),
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": container,
            "AWS_SECRET_ACCESS_KEY": "x",
            "CODE_LOCATION_FILES": str(self.folder),
            "CODE_SERVER_HOST": "127.0.0.1",
            "DAGSTER_HOME": str(self.folder),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(CHECKOUT),
        }

    @contextmanager
    def running(self, container: str, command: list[str], **more: str) -> Iterator[Any]:
        """A command as a container is started with it, in a process group of its own."""
        with (self.folder / f"{container}.log").open("a") as log:
            process = subprocess.Popen(
                started_by(self.container(container), command),
                cwd=CHECKOUT,
                env=clean_environ(**self.here(container), **more),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(WAIT)

    def next(self, operation: str) -> dict[str, Any]:
        """The parameters of the next request, which has to be this one."""
        name, parameters = self.asked.get(timeout=WAIT)
        assert name == operation
        return parameters

    def lose(self, task: str) -> None:
        """ECS has found that a task's host is gone; moto itself says that all has gone well."""
        cluster = self.template.made["Cluster"]
        backend: Any = get_backend("ecs")[PSEUDO["AWS::AccountId"]][REGION]
        backend.tasks[cluster][task].containers[0].exitCode = 137
        reason = "Your Spot Task was interrupted."
        self.clients["ecs"].stop_task(cluster=cluster, task=task, reason=reason)


@contextmanager
def account(folder: Path, records: Mapping[str, str], recorder: Recorder) -> Iterator[Ecs]:
    """All that the template needs and makes, as far as moto has it.

    Args:
        folder: For files.
        records: The database of Dagster's records, by the variables of deploy/.
        recorder: Gets all that is asked.
    """
    asked: Queue[tuple[str, dict[str, Any]]] = Queue()

    def keep(request: BaseHTTPRequestHandler, body: bytes, status: int) -> None:
        recorder.keep(request, body, status)
        operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if operation in {"RunTask", "StopTask"}:
            asked.put((operation, json.loads(body)))

    with moto_server() as front:
        front.observe = keep
        # By itself moto has a task go on to its end with each look.
        slow = {"model_name": "ecs::task", "transition": {"progression": "manual", "times": 10**6}}
        path = f"{front.url}/moto-api/state-manager/set-transition"
        requests.post(path, json=slow, timeout=60).raise_for_status()
        session = boto3.session.Session("owner", "x", region_name=REGION)
        names = ("ec2", "ecs", "s3", "secretsmanager")
        # Past the front.
        clients: dict[str, Any] = {
            name: session.client(name, endpoint_url=front.upstream) for name in names
        }
        template = make_template(clients, records)
        definitions: dict[str, dict[str, Any]] = {}
        # Runs first: the daemon is told of their definition.
        for name in ("RunTask", "CodeServerTask", "WebserverTask", "DaemonTask"):
            definition = template.definition(name)
            (container,) = definition["containerDefinitions"]
            # Moto wants to know the memory of each container, too.
            sized = {**definition, "containerDefinitions": [{**container, "memory": 256}]}
            done = clients["ecs"].register_task_definition(**sized)["taskDefinition"]
            template.made[name] = done["taskDefinitionArn"]
            definitions[container["name"]] = definition
        yield Ecs(front.url, clients, template, definitions, folder, asked)


def make_template(clients: Mapping[str, Any], records: Mapping[str, str]) -> Template:
    """The template's parameters, after what they name is made, and its cluster."""
    vpc = clients["ec2"].create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    clients["ec2"].modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    subnet = clients["ec2"].create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    group = clients["ec2"].create_security_group(GroupName="g", Description="g", VpcId=vpc)
    here = {"LocationConstraint": REGION}
    clients["s3"].create_bucket(Bucket=BUCKET, CreateBucketConfiguration=here)
    settings = (CHECKOUT / "deploy" / "env.example").read_text()
    clients["s3"].put_object(Bucket=BUCKET, Key=SETTINGS_FILE, Body=settings.encode())
    user = {"username": records["POSTGRES_USER"], "password": records["POSTGRES_PASSWORD"]}
    secrets = {"RecordsSecret": json.dumps(user), **SECRETS}
    arns = {
        name: clients["secretsmanager"].create_secret(Name=name, SecretString=text)["ARN"]
        for name, text in secrets.items()
    }
    cluster = clients["ecs"].create_cluster(clusterName="platform-Cluster")["cluster"]
    given = {
        "ImageTag": "1",
        "VpcId": vpc,
        "Subnets": [subnet],
        "Bucket": BUCKET,
        "SettingsFile": SETTINGS_FILE,
        "PlatformPolicy": "arn:aws:iam::123456789012:policy/data-platform",
        "RecordsHost": records["DAGSTER_POSTGRES_HOST"],
        "RecordsPort": records["DAGSTER_POSTGRES_PORT"],
        "RecordsDatabase": records["POSTGRES_DB"],
        "UiClients": group["GroupId"],
        **arns,
    }
    made = {
        "Cluster": cluster["clusterName"],
        "SecurityGroup": group["GroupId"],
        "LogGroup": "/ecs/platform",
    }
    return Template(given, made)


@contextmanager
def metadata_of(task: str, cluster: str) -> Iterator[str]:
    """What a container may ask about its own task.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-fargate.html
    """

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            body = json.dumps({"Cluster": cluster, "TaskARN": task}).encode()
            self.reply(body, 200 if self.path == "/task" else 404)

    with serving(Handler) as port:
        yield f"http://127.0.0.1:{port}"
