"""What a user of the SageMaker SDK v3 writes for k-means; run by an interpreter that has the SDK.

Usage: `python sdk_v3_flow.py BUCKET ROLE_NAME`, with the services' names in the environment. The
training data is at `s3://BUCKET/train/`, 16 features of 5 clusters. The last line printed is a JSON
object. It imports nothing of the project.
"""

import json
import sys

import boto3
from sagemaker.core import image_uris  # pyright: ignore[reportMissingImports]
from sagemaker.core.helper.session_helper import (  # pyright: ignore[reportMissingImports]
    Session,
)
from sagemaker.serve import ModelBuilder  # pyright: ignore[reportMissingImports]
from sagemaker.train import ModelTrainer  # pyright: ignore[reportMissingImports]
from sagemaker.train.configs import (  # pyright: ignore[reportMissingImports]
    Compute,
    InputData,
    OutputDataConfig,
)


def main() -> None:
    bucket, role = sys.argv[1:]
    boto = boto3.session.Session()
    session = Session(boto_session=boto, default_bucket=bucket)
    image = image_uris.retrieve("kmeans", boto.region_name)
    trainer = ModelTrainer(
        sagemaker_session=session,
        training_image=image,
        role=role,
        base_job_name="sdk-v3",
        compute=Compute(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=5),
        hyperparameters={"k": 5, "feature_dim": 16, "mini_batch_size": 200},
        output_data_config=OutputDataConfig(s3_output_path=f"s3://{bucket}/sdk-v3"),
    )
    train = InputData(channel_name="train", data_source=f"s3://{bucket}/train/")
    trainer.train(input_data_config=[train], wait=True, logs=True)
    artifact = trainer._latest_training_job.model_artifacts.s3_model_artifacts

    builder = ModelBuilder(
        image_uri=image, s3_model_data_url=artifact, role_arn=role, sagemaker_session=session
    )
    model = builder.build(model_name="sdk-v3")
    endpoint = builder.deploy(
        endpoint_name="sdk-v3",
        instance_type="ml.m5.large",
        initial_instance_count=1,
        wait=False,
    )
    # By itself the SDK polls every 30 seconds.
    endpoint.wait_for_status("InService", poll=1)
    body = json.dumps({"instances": [{"features": [0.0] * 16}, {"features": [9.0] * 16}]})
    answer = endpoint.invoke(body=body, content_type="application/json")
    predictions = json.loads(answer.body.read())["predictions"]
    endpoint.delete()
    model.delete()
    # The SDK's panels end without a newline.
    print()
    print(json.dumps({"artifact": artifact, "predictions": predictions}))


if __name__ == "__main__":
    main()
