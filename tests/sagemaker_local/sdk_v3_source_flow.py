"""What a user of the SageMaker SDK v3 writes for their own code; run by a Python that has the SDK.

Usage: `python sdk_v3_source_flow.py BUCKET ROLE_NAME SOURCES [IMAGE]`, with the services' names in
the environment. SOURCES is a folder with `train.py` and `requirements.txt`; without an image it is
SageMaker's own for scikit-learn. The last line printed is a JSON object. It imports nothing of the
project.
"""

import json
import sys

import boto3
from sagemaker.core import image_uris  # pyright: ignore[reportMissingImports]
from sagemaker.core.helper.session_helper import (  # pyright: ignore[reportMissingImports]
    Session,
)
from sagemaker.core.session_settings import (  # pyright: ignore[reportMissingImports]
    SessionSettings,
)
from sagemaker.serve import ModelBuilder  # pyright: ignore[reportMissingImports]
from sagemaker.train import ModelTrainer  # pyright: ignore[reportMissingImports]
from sagemaker.train.configs import (  # pyright: ignore[reportMissingImports]
    Compute,
    InputData,
    OutputDataConfig,
    SourceCode,
)


def main() -> None:
    bucket, role, sources, *own = sys.argv[1:]
    boto = boto3.session.Session()
    # The SDK encrypts what it packs anew by KMS, which this S3 does not have.
    session = Session(
        boto_session=boto,
        default_bucket=bucket,
        settings=SessionSettings(encrypt_repacked_artifacts=False),
    )
    image = own[0] if own else image_uris.retrieve("sklearn", boto.region_name, version="1.2-1")
    boto3.client("s3").put_object(
        Bucket=bucket, Key="v3-tree/train.csv", Body=b"0,0.1\n0,0.2\n1,0.8\n1,0.9\n"
    )
    code = SourceCode(source_dir=sources, entry_script="train.py", requirements="requirements.txt")
    trainer = ModelTrainer(
        sagemaker_session=session,
        training_image=image,
        source_code=code,
        role=role,
        base_job_name="sdk-v3-source",
        compute=Compute(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=5),
        hyperparameters={"max-depth": 1, "criterion": "gini", "uses": "tiny"},
        output_data_config=OutputDataConfig(s3_output_path=f"s3://{bucket}/sdk-v3"),
    )
    train = InputData(channel_name="train", data_source=f"s3://{bucket}/v3-tree/")
    trainer.train(input_data_config=[train], wait=True, logs=True)
    job = trainer._latest_training_job

    builder = ModelBuilder(
        image_uri=image,
        s3_model_data_url=job.model_artifacts.s3_model_artifacts,
        source_code=SourceCode(source_dir=sources, entry_script="train.py"),
        role_arn=role,
        sagemaker_session=session,
    )
    model = builder.build()
    endpoint = builder.deploy(
        endpoint_name=job.training_job_name,
        instance_type="ml.m5.large",
        initial_instance_count=1,
        wait=False,
    )
    # By itself the SDK polls every 30 seconds.
    endpoint.wait_for_status("InService", poll=1)
    answer = endpoint.invoke(
        body=json.dumps([[0.0], [1.0]]), content_type="application/json", accept="application/json"
    )
    predictions = json.loads(answer.body.read())
    endpoint.delete()
    model.delete()
    # The SDK's panels end without a newline.
    print()
    print(json.dumps({"job": job.training_job_name, "predictions": predictions}))


if __name__ == "__main__":
    main()
