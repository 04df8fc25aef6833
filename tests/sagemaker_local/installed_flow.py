"""A test of another project that uses the installed package's fixture; run by its own pytest.

It imports nothing of the project.
"""

import importlib.util
import io
import json
from collections.abc import Mapping
from typing import Any

import boto3
import numpy as np

IMAGE = "438346466558.dkr.ecr.eu-west-1.amazonaws.com/kmeans:1"
ROLE = "arn:aws:iam::123456789012:role/training"
BUCKET = "installed-flow"
SOON = {"Delay": 0.1, "MaxAttempts": 1200}


def client(environment: Mapping[str, str], service: str) -> Any:
    name = service.upper().replace("-", "_")
    maker: Any = boto3.client
    return maker(
        service,
        endpoint_url=environment[f"AWS_ENDPOINT_URL_{name}"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )


def test_kmeans_is_trained_and_served(embedded_sagemaker: dict[str, str]) -> None:
    assert importlib.util.find_spec("dagster") is None
    s3 = client(embedded_sagemaker, "s3")
    sagemaker = client(embedded_sagemaker, "sagemaker")
    s3.create_bucket(Bucket=BUCKET)
    text = io.StringIO()
    np.savetxt(text, np.repeat([[0.0, 0.0], [9.0, 9.0]], 50, axis=0), delimiter=",")
    s3.put_object(Bucket=BUCKET, Key="train/points.csv", Body=text.getvalue().encode())
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/train/"}
    sagemaker.create_training_job(
        TrainingJobName="installed",
        RoleArn=ROLE,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        HyperParameters={"k": "2", "feature_dim": "2"},
        InputDataConfig=[
            {
                "ChannelName": "train",
                "ContentType": "text/csv;label_size=0",
                "DataSource": {"S3DataSource": source},
            }
        ],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 5},
        StoppingCondition={"MaxRuntimeInSeconds": 300},
    )
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(
        TrainingJobName="installed", WaiterConfig=SOON
    )
    job = sagemaker.describe_training_job(TrainingJobName="installed")
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    model = {"Image": IMAGE, "ModelDataUrl": job["ModelArtifacts"]["S3ModelArtifacts"]}
    sagemaker.create_model(ModelName="installed", PrimaryContainer=model, ExecutionRoleArn=ROLE)
    variant = {"VariantName": "all", "ModelName": "installed", "InstanceType": "ml.m5.large"}
    sagemaker.create_endpoint_config(
        EndpointConfigName="installed", ProductionVariants=[variant | {"InitialInstanceCount": 1}]
    )
    sagemaker.create_endpoint(EndpointName="installed", EndpointConfigName="installed")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="installed", WaiterConfig=SOON)
    answer = client(embedded_sagemaker, "sagemaker-runtime").invoke_endpoint(
        EndpointName="installed",
        ContentType="text/csv",
        Accept="application/json",
        Body=b"0.5,0\n9,8.5\n0,0",
    )
    rows = json.loads(answer["Body"].read())["predictions"]
    near, far, origin = (row["closest_cluster"] for row in rows)
    assert near == origin != far
    assert rows[2]["distance_to_cluster"] < 0.001
