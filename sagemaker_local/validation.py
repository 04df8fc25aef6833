"""Holds a request against its shape: required, types, ranges, lengths, patterns, enums, members.

The words are those of AWS's front end, which knows the same constraints from the same model. What
needs to know state (does it exist, may it be changed) is not here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import regex
from botocore.model import ListShape, MapShape, Shape, StringShape, StructureShape

from sagemaker_local.errors import AwsError, validation

_NUMBERS = frozenset({"integer", "long", "float", "double"})


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
    elif kind in _NUMBERS or kind == "timestamp":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _serialization(f"{_token(value)} can not be converted to a number", path)
        if kind in ("integer", "long") and not float(value).is_integer():
            raise _serialization(f"{_token(value)} can not be converted to an Integer", path)


def _violations(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if isinstance(shape, StructureShape):
        for name in shape.required_members:
            if value.get(name) is None:
                yield _say("null", _join(path, name), "Member must not be null")
        for name, member in shape.members.items():
            if value.get(name) is not None:
                yield from _violations(member, value[name], _join(path, name))
    elif isinstance(shape, MapShape):
        yield from _length(shape, value, path, str(value))
        yield from _map_violations(shape, value, path)
    elif isinstance(shape, ListShape):
        yield from _length(shape, value, path, str(value))
        for number, item in enumerate(value, 1):
            yield from _violations(shape.member, item, f"{path}.{number}.member")
    elif isinstance(shape, StringShape):
        for rule in _string_rules(shape, value):
            yield _say(f"'{_shown(shape, value)}'", path, rule)
    elif shape.type_name in _NUMBERS:
        low, high = shape.metadata.get("min"), shape.metadata.get("max")
        if low is not None and value < low:
            yield _say(f"'{value}'", path, f"Member must have value greater than or equal to {low}")
        if high is not None and value > high:
            yield _say(f"'{value}'", path, f"Member must have value less than or equal to {high}")


def _map_violations(shape: MapShape, value: Mapping[str, Any], path: str) -> Iterator[str]:
    for key, item in value.items():
        if isinstance(shape.key, StringShape):
            rules = list(_string_rules(shape.key, key))
            if rules:
                rule = f"Map keys must satisfy constraint: [{', '.join(rules)}]"
                yield _say(f"'{value}'", path, rule)
        if isinstance(shape.value, StringShape):
            rules = list(_string_rules(shape.value, item))
            if rules:
                rule = f"Map value must satisfy constraint: [{', '.join(rules)}]"
                yield _say(f"'{value}'", path, rule)
        else:
            yield from _violations(shape.value, item, f"{path}.{key}.member")


def _string_rules(shape: StringShape, value: str) -> Iterator[str]:
    meta = shape.metadata
    if "max" in meta and len(value) > meta["max"]:
        yield f"Member must have length less than or equal to {meta['max']}"
    if "min" in meta and len(value) < meta["min"]:
        yield f"Member must have length greater than or equal to {meta['min']}"
    if "enum" in meta and value not in meta["enum"]:
        yield f"Member must satisfy enum value set: [{', '.join(meta['enum'])}]"
    if "pattern" in meta and not _compiled(meta["pattern"]).fullmatch(value):
        yield f"Member must satisfy regular expression pattern: {meta['pattern']}"


def _length(shape: Shape, value: Any, path: str, shown: str) -> Iterator[str]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and len(value) < low:
        rule = f"Member must have length greater than or equal to {low}"
        yield _say(f"'{shown}'", path, rule)
    if high is not None and len(value) > high:
        yield _say(f"'{shown}'", path, f"Member must have length less than or equal to {high}")


@cache
def _compiled(pattern: str) -> regex.Pattern[str]:
    """A pattern of the service model: Java's dialect, of which `regex` knows `\\p{…}` and `\\z`."""
    return regex.compile(pattern.replace(r"\p{ASCII}", r"[\x00-\x7F]"))


def _say(shown: str, path: str, rule: str) -> str:
    return f"Value {shown} at '{path}' failed to satisfy constraint: {rule}"


def _shown(shape: Shape, value: str) -> str:
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
