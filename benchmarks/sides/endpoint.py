"""An endpoint of the services' SageMaker, made for one run of a side."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import numpy as np
from numpy.typing import NDArray

from formats import ndarray_file

_IMAGE = "438346466558.dkr.ecr.eu-west-1.amazonaws.com/kmeans:1"


@contextmanager
def endpoint(centroids: NDArray[np.float32]) -> Iterator[str]:
    """The name of an endpoint in service that answers by these centroids, (k, 784) float32."""
    name = f"bench-{secrets.token_hex(4)}"
    bucket, key = os.environ["PLATFORM_BUCKET"], f"{name}/model.tar.gz"
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=ndarray_file.pack_model(centroids))
    sagemaker: Any = boto3.client("sagemaker")
    sagemaker.create_model(
        ModelName=name,
        PrimaryContainer={"Image": _IMAGE, "ModelDataUrl": f"s3://{bucket}/{key}"},
        ExecutionRoleArn=os.environ["PLATFORM_SAGEMAKER_ROLE_ARN"],
    )
    instance = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[{"VariantName": "AllTraffic", "ModelName": name, **instance}],
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    sagemaker.get_waiter("endpoint_in_service").wait(
        EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    try:
        yield name
    finally:
        sagemaker.delete_endpoint(EndpointName=name)
