"""What a user of the SageMaker SDK v2 writes for scripts; run by a Python that has the SDK.

Usage: `python sdk_v2_scripts_flow.py BUCKET ROLE SKLEARN_SCRIPT XGBOOST_SCRIPT [IMAGE]`, with the
services' names in the environment. Without an image they are SageMaker's own of both frameworks;
an image is one for XGBoost. The last line printed is a JSON object. It imports nothing of the
project.
"""

import json
import sys
from typing import Any

import boto3
import numpy as np
import sagemaker  # pyright: ignore[reportMissingImports]
from sagemaker.session_settings import SessionSettings  # pyright: ignore[reportMissingImports]
from sagemaker.sklearn import SKLearn, SKLearnModel  # pyright: ignore[reportMissingImports]
from sagemaker.xgboost import XGBoost, XGBoostModel  # pyright: ignore[reportMissingImports]

MACHINE = {"instance_type": "ml.m5.large"}


class Framework:
    """One framework's classes, and how its predictor is asked for 0 and 1."""

    def __init__(self, estimator: Any, model: Any, common: dict[str, Any], question: Any) -> None:
        self.estimator, self.model, self.common, self.question = estimator, model, common, question


def run(framework: Framework, bucket: str) -> dict[str, Any]:
    """Trains, serves, updates, transforms and stops."""
    sm = boto3.client("sagemaker")

    def estimator(**more: Any) -> Any:
        return framework.estimator(
            **framework.common,
            **MACHINE,
            instance_count=1,
            hyperparameters={"max-depth": 1, "criterion": "gini", **more},
            metric_definitions=[{"Name": "depth", "Regex": "depth=(.*);"}],
            output_path=f"s3://{bucket}/sdk-tree/models",
        )

    trained = estimator()
    trained.fit({"train": f"s3://{bucket}/sdk-tree/"}, logs=True)
    # By itself the SDK polls every 30 seconds.
    predictor = trained.deploy(initial_instance_count=1, **MACHINE, wait=False)
    in_service = sm.get_waiter("endpoint_in_service")
    in_service.wait(EndpointName=predictor.endpoint_name, WaiterConfig={"Delay": 1})
    before = predictor.predict(framework.question)
    # Another model of the same artifact, as after another training.
    model = framework.model(model_data=trained.model_data, **framework.common)
    model.create(**MACHINE)
    predictor.update_endpoint(
        model_name=model.name, initial_instance_count=1, **MACHINE, wait=False
    )
    in_service.wait(EndpointName=predictor.endpoint_name, WaiterConfig={"Delay": 1})
    after = predictor.predict(framework.question)
    config = sm.describe_endpoint(EndpointName=predictor.endpoint_name)["EndpointConfigName"]
    variants = sm.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    predictor.delete_model()
    predictor.delete_endpoint()

    transformer = trained.transformer(
        instance_count=1,
        **MACHINE,
        accept="text/csv",
        assemble_with="Line",
        output_path=f"s3://{bucket}/{trained.latest_training_job.name}/answers",
    )
    transformer.transform(
        f"s3://{bucket}/sdk-rows/", content_type="text/csv", split_type="Line", wait=False
    )
    name = transformer.latest_transform_job.name
    sm.get_waiter("transform_job_completed_or_stopped").wait(
        TransformJobName=name, WaiterConfig={"Delay": 1}
    )

    endless = estimator(pause=600)
    endless.fit({"train": f"s3://{bucket}/sdk-tree/"}, wait=False)
    endless.latest_training_job.stop()
    stopped = endless.latest_training_job.name
    sm.get_waiter("training_job_completed_or_stopped").wait(
        TrainingJobName=stopped, WaiterConfig={"Delay": 1}
    )
    return {
        "before": np.ravel(before).astype(float).tolist(),
        "after": np.ravel(after).astype(float).tolist(),
        "model": model.name,
        "served": [variant.get("ModelName") for variant in variants],
        "endpoint": predictor.endpoint_name,
        "answers": transformer.output_path,
        "stopped": sm.describe_training_job(TrainingJobName=stopped)["TrainingJobStatus"],
    }


def main() -> None:
    bucket, role, sklearn_script, xgboost_script, *image = sys.argv[1:]
    maker = sagemaker.Session  # pyright: ignore[reportAttributeAccessIssue]
    # The SDK encrypts its uploads by KMS, which this S3 does not have.
    session = maker(
        boto_session=boto3.session.Session(),
        default_bucket=bucket,
        settings=SessionSettings(encrypt_repacked_artifacts=False),
    )
    s3 = boto3.client("s3")
    s3.put_object(
        Bucket=bucket, Key="sdk-tree/train.csv", Body=b"0,0.1,1\n0,0.2,1\n1,0.8,1\n1,0.9,1\n"
    )
    s3.put_object(Bucket=bucket, Key="sdk-rows/rows.csv", Body=b"0.1,1\n0.9,1\n")
    common = {"role": role, "sagemaker_session": session}
    if image:
        common["image_uri"] = image[0]
    frameworks = {
        "sklearn": Framework(
            SKLearn,
            SKLearnModel,
            {**common, "entry_point": sklearn_script, "framework_version": "1.2-1"},
            np.array([[0.0, 1.0], [1.0, 1.0]]),
        ),
        "xgboost": Framework(
            XGBoost,
            XGBoostModel,
            {**common, "entry_point": xgboost_script, "framework_version": "1.7-1"},
            "0 0:0.1 1:1\n0 0:0.9 1:1\n",
        ),
    }
    wanted = ["xgboost"] if image else ["sklearn", "xgboost"]
    answers = {name: run(frameworks[name], bucket) for name in wanted}
    # The SDK ends its progress dots without a newline.
    print()
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
