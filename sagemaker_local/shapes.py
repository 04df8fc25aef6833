"""botocore's own service models: the shapes that requests are held against and answers go through.

No rule of ours lives here; validation.py applies the shapes' constraints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, cast

from botocore.loaders import Loader
from botocore.model import (
    ListShape,
    MapShape,
    OperationModel,
    ServiceModel,
    Shape,
    StructureShape,
)

CONTROL_PREFIX = "SageMaker"
LOGS_PREFIX = "Logs_20140328"
_SERVICES = {CONTROL_PREFIX: "sagemaker", LOGS_PREFIX: "logs", "Runtime": "sagemaker-runtime"}


@cache
def service(prefix: str) -> ServiceModel:
    """The service behind a prefix of `X-Amz-Target`, without its documentation (a third of it)."""
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


def through(shape: Shape | None, value: object) -> Any:
    """Filters a stored document through an output shape: what the shape lacks is left out.

    Absent members and None are left out too, as AWS does.
    """
    if isinstance(shape, StructureShape) and isinstance(value, Mapping):
        return {
            name: through(member, value[name])
            for name, member in shape.members.items()
            if value.get(name) is not None
        }
    if isinstance(shape, ListShape) and isinstance(value, Iterable):
        return [through(shape.member, item) for item in value]
    if isinstance(shape, MapShape) and isinstance(value, Mapping):
        return {key: through(shape.value, item) for key, item in value.items()}
    return value
