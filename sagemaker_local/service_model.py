"""botocore's own service models: requests are checked against them, answers are filtered by them.

The words of a refusal are those of AWS's front end, which knows the same constraints from the same
model. What depends on the state (does it exist, may it be changed) is checked by the operations.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sized
from functools import cache
from typing import Any, cast

import regex
from botocore.loaders import Loader
from botocore.model import (
    ListShape,
    MapShape,
    OperationModel,
    ServiceModel,
    Shape,
    StringShape,
    StructureShape,
)

from sagemaker_local.aws_errors import AwsError, validation

CONTROL_PREFIX = "SageMaker"
LOGS_PREFIX = "Logs_20140328"
CLOUDWATCH_PREFIX = "GraniteServiceVersion20100801"
_SERVICES = {
    CONTROL_PREFIX: "sagemaker",
    LOGS_PREFIX: "logs",
    CLOUDWATCH_PREFIX: "cloudwatch",
    "iam": "iam",
    "sts": "sts",
}
_WHOLE_NUMBERS = frozenset({"integer", "long"})
_NUMBERS = _WHOLE_NUMBERS | {"float", "double"}
# The largest whole number that each type takes; the smallest one of "integer" and "long" is one
# further from zero.
_LARGEST: dict[str, float] = {
    "integer": 2**31 - 1,
    "long": 2**63 - 1,
    "timestamp": 2**63 - 1,
    "float": sys.float_info.max,
    "double": sys.float_info.max,
}


@cache
def service(prefix: str) -> ServiceModel:
    """The model of a service: of a prefix of `X-Amz-Target`, of `iam`, or of `sts`.

    It has no documentation, which would be a third of it in memory.
    """
    model = cast(dict[str, Any], Loader().load_service_model(_SERVICES[prefix], "service-2"))
    _drop_documentation(model)
    return ServiceModel(model)


@cache
def operation(prefix: str, name: str) -> OperationModel:
    """One operation's model."""
    return service(prefix).operation_model(name)


def _drop_documentation(node: object) -> None:
    if isinstance(node, dict):
        if isinstance(node.get("documentation"), str):
            del node["documentation"]
        for value in node.values():
            _drop_documentation(value)
    elif isinstance(node, list):
        for value in node:
            _drop_documentation(value)


def filter_output(shape: Shape | None, value: object) -> Any:
    """A stored document as an answer: members that the output shape does not have are left out.

    Absent members and None are left out too, as AWS does.
    """
    if isinstance(shape, StructureShape) and isinstance(value, Mapping):
        return {
            name: filter_output(member, value[name])
            for name, member in shape.members.items()
            if value.get(name) is not None
        }
    if isinstance(shape, ListShape) and isinstance(value, Iterable):
        return [filter_output(shape.member, item) for item in value]
    if isinstance(shape, MapShape) and isinstance(value, Mapping):
        return {key: filter_output(shape.value, item) for key, item in value.items()}
    return value


def check(shape: StructureShape | None, document: object) -> dict[str, Any]:
    """Returns the document if it keeps every constraint of its shape.

    Raises:
        AwsError: `SerializationException` for a wrong JSON type, else `ValidationException`
            naming every violation, in AWS's words.
    """
    if not isinstance(document, dict):
        raise AwsError("SerializationException", "Start of structure or map expected.")
    if shape is None:
        return document
    _check_types(shape, document, "")
    problems = list(_violations(shape, document, ""))
    if problems:
        count = len(problems)
        noun = "error" if count == 1 else "errors"
        raise validation(f"{count} validation {noun} detected: " + "; ".join(problems))
    return document


def _check_types(shape: Shape, value: object, path: str) -> None:
    """Refuses JSON of the wrong type, which AWS does before it looks at any constraint."""
    if value is None:
        return
    kind = shape.type_name
    if isinstance(shape, StructureShape):
        if not isinstance(value, Mapping):
            raise _serialization("Expected null or start of structure", path)
        for name in value:
            if name not in shape.members:
                known = ", ".join(shape.members)
                raise validation(
                    f'Unknown parameter in input: "{_join(path, str(name))}", '
                    f"must be one of: {known}"
                )
        for name, member in shape.members.items():
            _check_types(member, value.get(name), _join(path, name))
    elif isinstance(shape, MapShape):
        if not isinstance(value, Mapping):
            raise _serialization("Expected null or start of map", path)
        for key, item in value.items():
            _check_types(shape.value, item, _join(path, str(key)))
    elif isinstance(shape, ListShape):
        if not isinstance(value, list):
            raise _serialization("Expected list or null", path)
        for number, item in enumerate(value, 1):
            _check_types(shape.member, item, f"{path}.{number}.member")
    elif kind == "string":
        if not isinstance(value, str):
            raise _serialization(f"{_token(value)} can not be converted to a String", path)
    elif kind == "boolean":
        if not isinstance(value, bool):
            raise _serialization(f"{_token(value)} can not be converted to a Boolean", path)
    elif kind in _LARGEST:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _serialization(f"{_token(value)} can not be converted to a number", path)
        if not _fits(kind, value):
            wanted = "an Integer" if kind in _WHOLE_NUMBERS else "a number"
            raise _serialization(f"{_token(value)} can not be converted to {wanted}", path)


def _fits(kind: str, value: float) -> bool:
    """Whether a type takes a number; those of fractions take what is infinite or no number, too."""
    if kind in _WHOLE_NUMBERS:
        return value % 1 == 0 and -_LARGEST[kind] - 1 <= value <= _LARGEST[kind]
    return isinstance(value, float) or abs(value) <= _LARGEST[kind]


def _violations(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if value is None:
        yield _problem("null", path, "Member must not be null")
    elif isinstance(shape, StructureShape):
        for name, member in shape.members.items():
            if value.get(name) is not None or name in shape.required_members:
                yield from _violations(member, value.get(name), _join(path, name))
    elif isinstance(shape, MapShape):
        for rule in _length_rules(shape, value):
            yield _problem(f"'{value}'", path, rule)
        yield from _map_violations(shape, value, path)
    elif isinstance(shape, ListShape):
        for rule in _length_rules(shape, value):
            yield _problem(f"'{value}'", path, rule)
        for number, item in enumerate(value, 1):
            yield from _violations(shape.member, item, f"{path}.{number}.member")
    elif isinstance(shape, StringShape):
        for rule in _string_rules(shape, value):
            yield _problem(f"'{_printable(shape, value)}'", path, rule)
    elif shape.type_name in _NUMBERS:
        low, high = shape.metadata.get("min"), shape.metadata.get("max")
        if low is not None and value < low:
            rule = f"Member must have value greater than or equal to {low}"
            yield _problem(f"'{value}'", path, rule)
        if high is not None and value > high:
            rule = f"Member must have value less than or equal to {high}"
            yield _problem(f"'{value}'", path, rule)


def _map_violations(shape: MapShape, value: Mapping[str, Any], path: str) -> Iterator[str]:
    for key, item in value.items():
        if isinstance(shape.key, StringShape):
            rules = list(_string_rules(shape.key, key))
            if rules:
                rule = f"Map keys must satisfy constraint: [{', '.join(rules)}]"
                yield _problem(f"'{value}'", path, rule)
        if isinstance(shape.value, StringShape) and item is not None:
            rules = list(_string_rules(shape.value, item))
            if rules:
                rule = f"Map value must satisfy constraint: [{', '.join(rules)}]"
                yield _problem(f"'{value}'", path, rule)
        else:
            yield from _violations(shape.value, item, f"{path}.{key}.member")


def _string_rules(shape: StringShape, value: str) -> Iterator[str]:
    meta = shape.metadata
    yield from _length_rules(shape, value)
    if "enum" in meta and value not in meta["enum"]:
        yield f"Member must satisfy enum value set: [{', '.join(meta['enum'])}]"
    if "pattern" in meta and not _compiled(meta["pattern"]).fullmatch(value):
        yield f"Member must satisfy regular expression pattern: {meta['pattern']}"


def _length_rules(shape: Shape, value: Sized) -> Iterator[str]:
    meta = shape.metadata
    if "max" in meta and len(value) > meta["max"]:
        yield f"Member must have length less than or equal to {meta['max']}"
    if "min" in meta and len(value) < meta["min"]:
        yield f"Member must have length greater than or equal to {meta['min']}"


@cache
def _compiled(pattern: str) -> regex.Pattern[str]:
    """A pattern of the service model: Java's dialect, of which `regex` knows `\\p{…}` and `\\z`."""
    return regex.compile(pattern.replace(r"\p{ASCII}", r"[\x00-\x7F]"))


def _problem(text: str, path: str, rule: str) -> str:
    return f"Value {text} at '{path}' failed to satisfy constraint: {rule}"


def _printable(shape: Shape, value: str) -> str:
    return "***" if shape.metadata.get("sensitive") else value


def _join(path: str, name: str) -> str:
    """AWS writes paths in lower camel case: `resourceConfig.instanceType`."""
    name = name[:1].lower() + name[1:]
    return f"{path}.{name}" if path else name


def _token(value: object) -> str:
    if isinstance(value, bool):
        return "TRUE_VALUE" if value else "FALSE_VALUE"
    if isinstance(value, str):
        return "STRING_VALUE"
    return "NUMBER_VALUE" if isinstance(value, int | float) else "START_OF_STRUCTURE"


def _serialization(what: str, path: str) -> AwsError:
    return AwsError("SerializationException", f"{what} (at '{path}')")
