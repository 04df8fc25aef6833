"""Requests to SageMaker, held against AWS's own model of them."""

from typing import Any

import botocore.session
from botocore.validate import ParamValidator

from resources.sagemaker import Security

ROLE = "arn:aws:iam::123456789012:role/worker"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/1234"
VPC = {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
SECURITY = Security(
    kms_key_id=KEY, subnets=["subnet-1"], security_groups=["sg-1"], network_isolation=True
)


def complaints(operation: str, request: dict[str, Any]) -> str:
    """What botocore's validator finds wrong with a request."""
    model = botocore.session.get_session().get_service_model("sagemaker")
    shape = model.operation_model(operation).input_shape
    assert shape is not None
    report = ParamValidator().validate(request, shape)
    return report.generate_report()


def leaves(request: object, path: str = "") -> dict[str, object]:
    """Each value of a request by the way to it."""
    if isinstance(request, dict):
        return {
            k: v
            for key, value in request.items()
            for k, v in leaves(value, f"{path}.{key}").items()
        }
    if isinstance(request, list):
        return {k: v for value in request for k, v in leaves(value, f"{path}[]").items()}
    return {path: request}
