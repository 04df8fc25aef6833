"""What a user of the SageMaker SDK v2 writes for a processing job; run by a Python with the SDK.

Usage: `python sdk_v2_processing_flow.py BUCKET ROLE SCRIPT [IMAGE]`, with the services' names in
the environment; without an image it is scikit-learn's. The last line printed is a JSON object. It
imports nothing of the project.
"""

import json
import sys

import boto3
import sagemaker  # pyright: ignore[reportMissingImports]
from sagemaker.processing import (  # pyright: ignore[reportMissingImports]
    ProcessingInput,
    ProcessingOutput,
    ScriptProcessor,
)
from sagemaker.sklearn.processing import (  # pyright: ignore[reportMissingImports]
    SKLearnProcessor,
)


def main() -> None:
    bucket, role, script, *image = sys.argv[1:]
    maker = sagemaker.Session  # pyright: ignore[reportAttributeAccessIssue]
    usual = {
        "role": role,
        "instance_type": "ml.m5.large",
        "instance_count": 1,
        "sagemaker_session": maker(boto_session=boto3.session.Session(), default_bucket=bucket),
    }
    processor = (
        ScriptProcessor(image_uri=image[0], command=["python3"], **usual)
        if image
        else SKLearnProcessor(framework_version="1.2-1", **usual)
    )
    boto3.client("s3").put_object(
        Bucket=bucket, Key="sdk-processing/in/rows.csv", Body=b"0,0.1\n1,0.9\n"
    )
    output = f"s3://{bucket}/sdk-processing/out"
    processor.run(
        code=script,
        inputs=[
            ProcessingInput(
                source=f"s3://{bucket}/sdk-processing/in", destination="/opt/ml/processing/input"
            )
        ],
        outputs=[ProcessingOutput(source="/opt/ml/processing/output", destination=output)],
        arguments=["--input", "/opt/ml/processing/input", "--output", "/opt/ml/processing/output"],
        logs=True,
    )
    described = processor.latest_job.describe()
    # The SDK ends its progress dots without a newline.
    print()
    print(json.dumps({"status": described["ProcessingJobStatus"], "output": f"{output}/rows.csv"}))


if __name__ == "__main__":
    main()
