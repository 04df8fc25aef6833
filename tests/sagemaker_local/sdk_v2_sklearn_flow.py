"""What a user of the SageMaker SDK v2 writes for scikit-learn; run by a Python that has the SDK.

Usage: `python sdk_v2_sklearn_flow.py BUCKET ROLE SCRIPT`, with the services' names in the
environment. The last line printed is a JSON object. It imports nothing of the project.
"""

import json
import sys

import boto3
import numpy as np
import sagemaker  # pyright: ignore[reportMissingImports]
from sagemaker.session_settings import SessionSettings  # pyright: ignore[reportMissingImports]
from sagemaker.sklearn import SKLearn, SKLearnModel  # pyright: ignore[reportMissingImports]


def main() -> None:
    bucket, role, script = sys.argv[1:]
    maker = sagemaker.Session  # pyright: ignore[reportAttributeAccessIssue]
    # The SDK encrypts its uploads by KMS, which this S3 does not have.
    session = maker(
        boto_session=boto3.session.Session(),
        default_bucket=bucket,
        settings=SessionSettings(encrypt_repacked_artifacts=False),
    )
    boto3.client("s3").put_object(
        Bucket=bucket, Key="sdk-tree/train.csv", Body=b"0,0.1\n0,0.2\n1,0.8\n1,0.9\n"
    )
    estimator = SKLearn(
        entry_point=script,
        role=role,
        instance_type="ml.m5.large",
        framework_version="1.2-1",
        hyperparameters={"max-depth": 1, "criterion": "gini"},
        metric_definitions=[{"Name": "depth", "Regex": "depth=(.*);"}],
        output_path=f"s3://{bucket}/sdk-tree/models",
        sagemaker_session=session,
    )
    estimator.fit({"train": f"s3://{bucket}/sdk-tree/"}, logs=True)
    # By itself the SDK polls every 30 seconds.
    predictor = estimator.deploy(initial_instance_count=1, instance_type="ml.m5.large", wait=False)
    in_service = boto3.client("sagemaker").get_waiter("endpoint_in_service")
    in_service.wait(EndpointName=predictor.endpoint_name, WaiterConfig={"Delay": 1})
    points = np.array([[0.0], [1.0]])
    before = predictor.predict(points)
    # Another model of the same artifact, as after another training.
    model = SKLearnModel(
        model_data=estimator.model_data,
        role=role,
        entry_point=script,
        framework_version="1.2-1",
        sagemaker_session=session,
    )
    model.create(instance_type="ml.m5.large")
    predictor.update_endpoint(
        model_name=model.name, initial_instance_count=1, instance_type="ml.m5.large", wait=False
    )
    in_service.wait(EndpointName=predictor.endpoint_name, WaiterConfig={"Delay": 1})
    after = predictor.predict(points)
    client = boto3.client("sagemaker")
    config = client.describe_endpoint(EndpointName=predictor.endpoint_name)["EndpointConfigName"]
    variants = client.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    predictor.delete_model()
    predictor.delete_endpoint()
    # The SDK ends its progress dots without a newline.
    print()
    print(
        json.dumps(
            {
                "before": before.tolist(),
                "after": after.tolist(),
                "model": model.name,
                "served": [variant.get("ModelName") for variant in variants],
                "endpoint": predictor.endpoint_name,
            }
        )
    )


if __name__ == "__main__":
    main()
