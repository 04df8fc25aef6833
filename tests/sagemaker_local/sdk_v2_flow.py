"""What a user of the SageMaker SDK v2 writes for k-means; run by an interpreter that has the SDK.

Usage: `python sdk_v2_flow.py BUCKET ROLE`, with the services' names in the environment. The last
line printed is a JSON object. It imports nothing of the project.
"""

import json
import sys

import boto3
import numpy as np
import sagemaker  # pyright: ignore[reportMissingImports]
from sagemaker import KMeans  # pyright: ignore[reportMissingImports]


def main() -> None:
    bucket, role = sys.argv[1:]
    maker = sagemaker.Session  # pyright: ignore[reportAttributeAccessIssue]
    session = maker(boto_session=boto3.session.Session(), default_bucket=bucket)
    rng = np.random.default_rng(3)
    cluster = rng.integers(0, 3, 300)
    points = (10.0 * np.eye(3, 8)[cluster] + rng.normal(0, 0.1, (300, 8))).astype("float32")
    estimator = KMeans(
        role=role,
        instance_count=1,
        instance_type="ml.m5.large",
        k=3,
        output_path=f"s3://{bucket}/sdk",
        data_location=f"s3://{bucket}/sdk-data/",
        sagemaker_session=session,
    )
    records = estimator.record_set(points)
    estimator.fit(records, mini_batch_size=100, logs=True)
    predictor = estimator.deploy(initial_instance_count=1, instance_type="ml.m5.large")
    answers = predictor.predict(points[:20])
    closest = [int(record.label["closest_cluster"].float32_tensor.values[0]) for record in answers]
    distances = [record.label["distance_to_cluster"].float32_tensor.values[0] for record in answers]
    predictor.delete_model()
    predictor.delete_endpoint()
    # Deploying a package approves it. By itself the SDK polls every 30 seconds.
    package = estimator.create_model().register(
        content_types=["application/x-recordio-protobuf"],
        response_types=["application/x-recordio-protobuf"],
        inference_instances=["ml.m5.large"],
        transform_instances=["ml.m5.large"],
        model_package_group_name=f"{bucket}-kmeans",
        approval_status="PendingManualApproval",
    )
    predictor = package.deploy(initial_instance_count=1, instance_type="ml.m5.large", wait=False)
    control = boto3.client("sagemaker")
    control.get_waiter("endpoint_in_service").wait(
        EndpointName=predictor.endpoint_name, WaiterConfig={"Delay": 1}
    )
    registered = [
        int(record.label["closest_cluster"].float32_tensor.values[0])
        for record in predictor.predict(points[:20])
    ]
    version = control.describe_model_package(ModelPackageName=package.model_package_arn)
    predictor.delete_model()
    predictor.delete_endpoint()
    client = boto3.client("s3")
    rows = "\n".join(",".join(map(str, row)) for row in points[:20].tolist())
    client.put_object(Bucket=bucket, Key="sdk-rows/rows.csv", Body=rows.encode())
    transformer = estimator.transformer(
        instance_count=1,
        instance_type="ml.m5.large",
        strategy="SingleRecord",
        assemble_with="Line",
        accept="text/csv",
        output_path=f"s3://{bucket}/sdk-answers",
    )
    transformer.transform(
        f"s3://{bucket}/sdk-rows/", content_type="text/csv", split_type="Line", logs=False
    )
    transformer.delete_model()
    written = client.get_object(Bucket=bucket, Key="sdk-answers/rows.csv.out")["Body"].read()
    # The SDK ends its progress dots without a newline.
    print()
    print(
        json.dumps(
            {
                "closest": closest,
                "registered": registered,
                "version": version["ModelPackageVersion"],
                "approval": version["ModelApprovalStatus"],
                "transformed": [int(float(line.split(b",")[0])) for line in written.splitlines()],
                "cluster": cluster[:20].tolist(),
                "farthest": float(max(distances)),
                "force_dense": estimator.hyperparameters()["force_dense"],
            }
        )
    )


if __name__ == "__main__":
    main()
