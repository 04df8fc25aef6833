"""Specs of transform and processing jobs: their requests, checked against AWS's own model."""

from typing import Any

import pytest

from resources.sagemaker import (
    ModelContainer,
    ProcessingInput,
    ProcessingJobSpec,
    ProcessingOutput,
    SpecError,
    TransformInput,
    TransformJobSpec,
)
from tests.resources.sagemaker.request_checks import KEY, ROLE, SECURITY, complaints, leaves


@pytest.mark.parametrize(
    "config",
    [TransformJobSpec, TransformInput, ProcessingJobSpec, ProcessingInput, ProcessingOutput],
)
def test_every_field_is_described(config: Any) -> None:
    assert [name for name, field in config.model_fields.items() if not field.description] == []


def test_all_that_can_be_set_of_a_transform_job_arrives_in_a_valid_request() -> None:
    spec = TransformJobSpec(
        name="job",
        container=ModelContainer(image="image", model_data_url="s3://b/model.tar.gz"),
        input=TransformInput(
            s3_uri="s3://b/in/manifest",
            content_type="text/csv",
            s3_data_type="ManifestFile",
            split_type="Line",
            compression="Gzip",
        ),
        output_s3_uri="s3://b/out",
        accept="application/jsonlines",
        assemble_with="Line",
        strategy="SingleRecord",
        max_payload_mb=1,
        instance_type="ml.c5.large",
        instance_count=3,
        tags={"team": "data"},
        extra_request={
            "MaxConcurrentTransforms": 2,
            "DataProcessing": {"JoinSource": "Input"},
            "TransformOutput": {"KmsKeyId": KEY},
        },
    )
    request = SECURITY.transform_job(spec.to_request("job-2", ROLE, {"run": "1"}))

    assert complaints("CreateTransformJob", request) == ""
    assert leaves({key: value for key, value in request.items() if key != "Tags"}) == {
        ".TransformJobName": "job-2",
        ".ModelName": spec.model_name(ROLE),
        ".TransformInput.DataSource.S3DataSource.S3DataType": "ManifestFile",
        ".TransformInput.DataSource.S3DataSource.S3Uri": "s3://b/in/manifest",
        ".TransformInput.ContentType": "text/csv",
        ".TransformInput.SplitType": "Line",
        ".TransformInput.CompressionType": "Gzip",
        ".TransformOutput.S3OutputPath": "s3://b/out",
        ".TransformOutput.Accept": "application/jsonlines",
        ".TransformOutput.AssembleWith": "Line",
        ".TransformOutput.KmsKeyId": KEY,
        ".TransformResources.InstanceType": "ml.c5.large",
        ".TransformResources.InstanceCount": 3,
        ".TransformResources.VolumeKmsKeyId": KEY,
        ".BatchStrategy": "SingleRecord",
        ".MaxPayloadInMB": 1,
        ".MaxConcurrentTransforms": 2,
        ".DataProcessing.JoinSource": "Input",
    }
    assert request["Tags"] == [{"Key": "run", "Value": "1"}, {"Key": "team", "Value": "data"}]


SOURCE = ProcessingInput(
    name="rows",
    s3_uri="s3://b/in",
    local_path="/opt/ml/processing/rows",
    extra_request={"S3Input": {"S3DataDistributionType": "ShardedByS3Key"}},
)
TARGET = ProcessingOutput(name="sums", local_path="/opt/ml/processing/sums", s3_uri="s3://b/out")


def transform_spec(**changes: Any) -> TransformJobSpec:
    fields: dict[str, Any] = {
        "name": "job",
        "container": ModelContainer(image="image"),
        "input": TransformInput(s3_uri="s3://b/in"),
        "output_s3_uri": "s3://b/out",
    }
    return TransformJobSpec(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ({}, []),
        ({"instance_count": 2, "tags": {"a": "b"}, "output_s3_uri": "s3://b/out/"}, []),
        ({"accept": "text/csv"}, ["TransformOutput.Accept"]),
        ({"assemble_with": "Line"}, ["TransformOutput.AssembleWith"]),
        (
            {"input": TransformInput(s3_uri="s3://b/in", content_type="text/csv")},
            ["TransformInput.ContentType"],
        ),
        ({"extra_request": {"Environment": {"A": "1"}}}, ["Environment.A"]),
        (
            {"extra_request": {"DataProcessing": {"JoinSource": "Input"}}},
            ["DataProcessing.JoinSource"],
        ),
        ({"container": ModelContainer(image="other")}, ["ModelName"]),
    ],
)
def test_a_transform_job_does_the_same_work_or_not(
    changes: dict[str, Any], places: list[str]
) -> None:
    one, other = transform_spec(), transform_spec(**changes)
    described = other.to_request("job", ROLE, {})
    # What AWS adds.
    described["TransformOutput"].setdefault("KmsKeyId", "")
    described.setdefault("MaxPayloadInMB", 6)
    described.setdefault(
        "DataProcessing", {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}
    )
    assert one.differences(one.to_request("job", ROLE, {}), described) == places
    # What was taken out of the spec since is noticed as well.
    back = other.differences(other.to_request("job", ROLE, {}), one.to_request("job", ROLE, {}))
    assert {place.split(".")[0] for place in back} == {place.split(".")[0] for place in places}


def processing_spec(**changes: Any) -> ProcessingJobSpec:
    fields: dict[str, Any] = {
        "name": "job",
        "image": "image",
        "entrypoint": ["python3", "sum.py"],
        "arguments": ["--all"],
        "environment": {"SEED": "1"},
        "inputs": [SOURCE],
        "outputs": [TARGET],
        "instance_type": "ml.c5.large",
        "instance_count": 2,
        "volume_gb": 50,
        "max_runtime_seconds": 600,
        "extra_request": {
            "NetworkConfig": {"EnableInterContainerTrafficEncryption": True},
        },
    }
    return ProcessingJobSpec(**(fields | changes))


def test_all_that_can_be_set_of_a_processing_job_arrives_in_a_valid_request() -> None:
    request = SECURITY.processing_job(processing_spec().to_request("job-2", ROLE, {}))

    assert complaints("CreateProcessingJob", request) == ""
    assert leaves(request) == {
        ".ProcessingJobName": "job-2",
        ".RoleArn": ROLE,
        ".AppSpecification.ImageUri": "image",
        ".AppSpecification.ContainerEntrypoint[]": "sum.py",
        ".AppSpecification.ContainerArguments[]": "--all",
        ".Environment.SEED": "1",
        ".ProcessingInputs[].InputName": "rows",
        ".ProcessingInputs[].S3Input.S3Uri": "s3://b/in",
        ".ProcessingInputs[].S3Input.LocalPath": "/opt/ml/processing/rows",
        ".ProcessingInputs[].S3Input.S3DataType": "S3Prefix",
        ".ProcessingInputs[].S3Input.S3InputMode": "File",
        ".ProcessingInputs[].S3Input.S3DataDistributionType": "ShardedByS3Key",
        ".ProcessingOutputConfig.Outputs[].OutputName": "sums",
        ".ProcessingOutputConfig.Outputs[].S3Output.S3Uri": "s3://b/out",
        ".ProcessingOutputConfig.Outputs[].S3Output.LocalPath": "/opt/ml/processing/sums",
        ".ProcessingOutputConfig.Outputs[].S3Output.S3UploadMode": "EndOfJob",
        ".ProcessingOutputConfig.KmsKeyId": KEY,
        ".ProcessingResources.ClusterConfig.InstanceType": "ml.c5.large",
        ".ProcessingResources.ClusterConfig.InstanceCount": 2,
        ".ProcessingResources.ClusterConfig.VolumeSizeInGB": 50,
        ".ProcessingResources.ClusterConfig.VolumeKmsKeyId": KEY,
        ".StoppingCondition.MaxRuntimeInSeconds": 600,
        ".NetworkConfig.EnableInterContainerTrafficEncryption": True,
        ".NetworkConfig.EnableNetworkIsolation": True,
        ".NetworkConfig.VpcConfig.Subnets[]": "subnet-1",
        ".NetworkConfig.VpcConfig.SecurityGroupIds[]": "sg-1",
    }


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ({}, []),
        ({"instance_type": "ml.m5.large", "volume_gb": 10, "tags": {"a": "b"}}, []),
        ({"arguments": ["--some"]}, ["AppSpecification.ContainerArguments[0]"]),
        ({"arguments": []}, ["AppSpecification.ContainerArguments"]),
        ({"environment": {"SEED": "1", "MORE": "2"}}, ["Environment.MORE"]),
        ({"environment": {}}, ["Environment.SEED"]),
        ({"inputs": []}, ["ProcessingInputs"]),
        ({"outputs": []}, ["ProcessingOutputConfig.Outputs"]),
        ({"instance_count": 1}, ["InstanceCount"]),
    ],
)
def test_a_processing_job_does_the_same_work_or_not(
    changes: dict[str, Any], places: list[str]
) -> None:
    request = processing_spec().to_request("job", ROLE, {})
    described = processing_spec(**changes).to_request("job", ROLE, {})
    # What AWS adds.
    for item in described.get("ProcessingInputs", []):
        item["AppManaged"] = False
    assert processing_spec().differences(request, described) == places


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": [SOURCE, SOURCE]}, "differ in name.*rows"),
        ({"outputs": [TARGET, TARGET]}, "differ in name.*sums"),
        ({"outputs": [TARGET.model_copy(update={"s3_uri": "/out"})]}, "'/out' is not an S3 URI"),
    ],
)
def test_what_sagemaker_would_refuse_late_is_found_before_it_is_sent(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(SpecError, match=words):
        processing_spec(**changes).check()
