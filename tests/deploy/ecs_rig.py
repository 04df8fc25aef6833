"""deploy/ecs/template.yaml with its references resolved, and what ECS makes of it.

Moto keeps clusters and tasks and starts nothing. What Fargate does as it starts a container is done
here: the environment is put together, of settings and secrets, and the command runs in it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml

from tests.conftest import CHECKOUT

TEMPLATE = CHECKOUT / "deploy" / "ecs" / "template.yaml"
DOCKERFILE = CHECKOUT / "deploy" / "Dockerfile"
PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::StackName": "platform",
    "AWS::URLSuffix": "amazonaws.com",
}
_NOTHING = object()


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms: `!Ref x` as {"Ref": x}."""


def _short_form(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> dict[str, Any]:
    name = tag if tag == "Ref" else f"Fn::{tag}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    assert isinstance(node, yaml.SequenceNode)
    return {name: loader.construct_sequence(node, deep=True)}


_Loader.add_multi_constructor("!", _short_form)


@dataclass(frozen=True)
class Template:
    """The template with values for its parameters.

    Attributes:
        given: Parameter → value.
        made: What `!Ref` gives of some resources, by their names there; the name itself of others.
    """

    given: Mapping[str, Any]
    made: dict[str, str]

    @cached_property
    def _document(self) -> dict[str, Any]:
        return yaml.load(TEMPLATE.read_text(), _Loader)

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """Name → what is said of a parameter."""
        return self._document["Parameters"]

    @cached_property
    def _values(self) -> dict[str, Any]:
        parameters = self.parameters.items()
        defaults = {name: one["Default"] for name, one in parameters if "Default" in one}
        return {"AWS::NoValue": _NOTHING, **PSEUDO, **defaults, **self.given}

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Name → properties of the resources of a type that there are."""
        return {
            name: self._resolve(one["Properties"])
            for name, one in self._document["Resources"].items()
            if one["Type"] == kind
            if "Condition" not in one or self._holds(one["Condition"])
        }

    def statements(self, role: str) -> list[dict[str, Any]]:
        """What a role of the template is allowed by the template itself."""
        policies = self.of_type("AWS::IAM::ManagedPolicy")
        properties = self.of_type("AWS::IAM::Role")[role]
        documents = [one["PolicyDocument"] for one in properties.get("Policies", [])]
        documents += [
            one["PolicyDocument"]
            for name, one in policies.items()
            if self._ref(name) in properties["ManagedPolicyArns"]
            or self._ref(role) in one.get("Roles", [])
        ]
        return [statement for document in documents for statement in document["Statement"]]

    def definition(self, name: str) -> dict[str, Any]:
        """What CloudFormation sends to ECS for a task definition."""
        properties = _as_sent(self.of_type("AWS::ECS::TaskDefinition")[name])
        return {**properties, "cpu": str(properties["cpu"]), "memory": str(properties["memory"])}

    def containers(self) -> dict[str, dict[str, Any]]:
        """Name → definition of each container."""
        definitions = map(self.definition, self.of_type("AWS::ECS::TaskDefinition"))
        containers = (one for each in definitions for one in each["containerDefinitions"])
        return {one["name"]: one for one in containers}

    def _resolve(self, value: Any) -> Any:
        match value:
            case {"Ref": str(name)}:
                return self._ref(name)
            case {"Fn::GetAtt": str(path)}:
                return self._attribute(*path.split("."))
            case {"Fn::Sub": str(text)}:
                return re.sub(r"\$\{([\w:.]+)\}", lambda one: str(self._ref(one[1])), text)
            case {"Fn::If": [condition, yes, no]}:
                return self._resolve(yes if self._holds(condition) else no)
            case dict():
                items = ((name, self._resolve(one)) for name, one in value.items())
                return {name: one for name, one in items if one is not _NOTHING}
            case list():
                return [one for one in map(self._resolve, value) if one is not _NOTHING]
        return value

    def _ref(self, name: str) -> Any:
        known = {**self._values, **self.made}
        assert name in known or name in self._document["Resources"], name
        return known.get(name, name)

    def _attribute(self, name: str, attribute: str) -> str:
        kind = self._document["Resources"][name]["Type"]
        account = PSEUDO["AWS::AccountId"]
        arns = {
            "AWS::IAM::Role": f"arn:aws:iam::{account}:role/{self._ref(name)}",
            "AWS::ECS::Cluster": f"arn:aws:ecs:eu-west-1:{account}:cluster/{self._ref(name)}",
        }
        return arns[kind] if attribute == "Arn" and kind in arns else self._ref(name)

    def _holds(self, condition: str) -> bool:
        ((one, other),) = (
            one["Fn::Not"][0]["Fn::Equals"] for one in [self._document["Conditions"][condition]]
        )
        return self._resolve(one) != other


def filled_in(**given: str) -> Template:
    """The template with these values for its parameters, and some value for each other one."""
    return Template({**dict.fromkeys(Template({}, {}).parameters, "given"), **given}, {})


def _as_sent(value: Any) -> Any:
    """Names as ECS has them; those of the log driver's options stay."""
    if isinstance(value, list):
        return [_as_sent(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {name[0].lower() + name[1:]: _as_sent(one) for name, one in value.items()}


def of_image(instruction: str) -> list[str]:
    """ENTRYPOINT or CMD of the platform's image."""
    lines = DOCKERFILE.read_text().replace("\\\n", "").splitlines()
    (given,) = (line for line in lines if line.startswith(f"{instruction} "))
    return json.loads(given.removeprefix(instruction))


def started_by(container: Mapping[str, Any], command: list[str]) -> list[str]:
    """What is executed for a command: it follows the entry point, the image's if there is no other.

    https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html
    """
    return [*(container.get("entryPoint") or of_image("ENTRYPOINT")), *command]


def environment_of(container: Mapping[str, Any], s3: Any, secrets: Any) -> dict[str, str]:
    """What Fargate puts into a container's environment, which has no variable that is empty.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/use-environment-file.html
    https://github.com/aws/containers-roadmap/issues/1354
    """
    environment: dict[str, str] = {}
    for file in container["environmentFiles"]:
        bucket, key = file["value"].rpartition(":")[2].split("/", 1)
        text = s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
        lines = (line for line in text.splitlines() if not line.startswith("#"))
        environment |= dict(line.split("=", 1) for line in lines if "=" in line)
    environment |= {one["name"]: str(one["value"]) for one in container["environment"]}
    for one in container["secrets"]:
        arn, field = secret_and_field(one["valueFrom"])
        text = secrets.get_secret_value(SecretId=arn)["SecretString"]
        environment[one["name"]] = json.loads(text)[field] if field else text
    return {name: value for name, value in environment.items() if value}


def secret_and_field(reference: str) -> tuple[str, str]:
    """ARN of a secret and, where it is JSON, the field that is taken: `arn…:name:field::`."""
    parts = reference.split(":")
    return ":".join(parts[:7]), parts[7] if len(parts) > 7 else ""
