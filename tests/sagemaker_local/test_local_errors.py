"""Requests that AWS refuses are refused with AWS's code and message: a table of cases."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.model import StructureShape

from sagemaker_local import service_model
from sagemaker_local.aws_errors import AwsError
from tests.sagemaker_local.rig import IMAGE, ROLE, Server, channel, job, refusal, unique, variant

ARN = "arn:aws:sagemaker:eu-west-1:123456789012"
LONG = "a" * 64
CONTAINER = {"Image": IMAGE, "ModelDataUrl": "s3://{store}/none/model.tar.gz"}
NAME_PATTERN = "Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
NO_JOB = "Requested resource not found."
V = "ValidationException"


def training(words: str, code: str = V, **changes: Any) -> tuple[str, Any, str, str]:
    """The table's entry for a CreateTrainingJob that is refused."""
    return "create_training_job", changes, code, words


TRAINING_CASES = {
    "exists": training(
        "Training job names must be unique within an AWS account and region",
        "ResourceInUse",
        TrainingJobName="{trained}",
    ),
    "no-name": training(
        "1 validation error detected: Value null at 'trainingJobName' failed to satisfy "
        "constraint: Member must not be null",
        TrainingJobName=None,
    ),
    "name-pattern": training(
        f"Value 'a_b' at 'trainingJobName' failed to satisfy constraint: {NAME_PATTERN}",
        TrainingJobName="a_b",
    ),
    "name-ends-in-hyphen": training(NAME_PATTERN, TrainingJobName="job-"),
    "name-long": training("Member must have length less than or equal to 63", TrainingJobName=LONG),
    "name-empty": training(
        "Member must have length greater than or equal to 1", TrainingJobName=""
    ),
    "no-role": training("Value null at 'roleArn'", RoleArn=None),
    "role-pattern": training(
        "at 'roleArn' failed to satisfy constraint: Member must satisfy regular expression pattern",
        RoleArn="arn:aws:iam::12:role/too-few-digits",
    ),
    "role-short": training("Member must have length greater than or equal to 20", RoleArn="role"),
    "no-output": training("Value null at 'outputDataConfig'", OutputDataConfig=None),
    "no-output-path": training(
        "Value null at 'outputDataConfig.s3OutputPath'", OutputDataConfig={}
    ),
    "output-pattern": training(
        "'outputDataConfig.s3OutputPath' failed", OutputDataConfig={"S3OutputPath": "/tmp/models"}
    ),
    "output-unpacked": training(
        "The CompressionType NONE is not supported; use GZIP.",
        OutputDataConfig={"S3OutputPath": "s3://{store}/models", "CompressionType": "NONE"},
    ),
    "output-https": training(
        "Invalid S3OutputPath", OutputDataConfig={"S3OutputPath": "https://host/models"}
    ),
    "instance-type": training(
        "Value 'ml.none' at 'resourceConfig.instanceType' failed to satisfy constraint: "
        "Member must satisfy enum value set: [ml.m4.xlarge,",
        ResourceConfig={"InstanceType": "ml.none", "InstanceCount": 1, "VolumeSizeInGB": 1},
    ),
    "instance-count": training(
        "Value '-1' at 'resourceConfig.instanceCount' failed to satisfy constraint: Member must "
        "have value greater than or equal to 0",
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": -1, "VolumeSizeInGB": 1},
    ),
    "instance-count-text": training(
        "STRING_VALUE can not be converted",
        "SerializationException",
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": "1", "VolumeSizeInGB": 1},
    ),
    "instance-count-fraction": training(
        "can not be converted to an Integer",
        "SerializationException",
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1.5, "VolumeSizeInGB": 1},
    ),
    "instance-count-huge": training(
        "NUMBER_VALUE can not be converted to an Integer (at 'resourceConfig.instanceCount')",
        "SerializationException",
        ResourceConfig={
            "InstanceType": "ml.m5.large",
            "InstanceCount": 10**400,
            "VolumeSizeInGB": 1,
        },
    ),
    "two-at-once": training(
        "2 validation errors detected: ", TrainingJobName="a_b", RoleArn="a_b" * 10
    ),
    "no-resources": training("ResourceConfig is required", ResourceConfig=None),
    "no-instance-type": training(
        "InstanceType is required", ResourceConfig={"InstanceCount": 1, "VolumeSizeInGB": 1}
    ),
    "no-time": training("StoppingCondition is required", StoppingCondition=None),
    "time-zero": training(
        "'stoppingCondition.maxRuntimeInSeconds' failed to satisfy constraint: Member must have "
        "value greater than or equal to 1",
        StoppingCondition={"MaxRuntimeInSeconds": 0},
    ),
    "time-beyond-a-month": training(
        "MaxRuntimeInSeconds 2419201 is above the 28 days that a training job may take.",
        StoppingCondition={"MaxRuntimeInSeconds": 2419201},
    ),
    "spot-without-wait": training(
        "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to "
        "MaxRuntimeInSeconds",
        EnableManagedSpotTraining=True,
    ),
    "spot-with-short-wait": training(
        "Invalid MaxWaitTimeInSeconds",
        EnableManagedSpotTraining=True,
        StoppingCondition={"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 30},
    ),
    "wait-without-spot": training(
        "Invalid MaxWaitTimeInSeconds",
        StoppingCondition={"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 90},
    ),
    "no-algorithm": training("AlgorithmSpecification is required", AlgorithmSpecification=None),
    "image-and-name": training(
        "either TrainingImage or AlgorithmName",
        AlgorithmSpecification={
            "TrainingImage": IMAGE,
            "AlgorithmName": "mine",
            "TrainingInputMode": "File",
        },
    ),
    "algorithm-name": training(
        'Could not find algorithm "mine"',
        AlgorithmSpecification={"AlgorithmName": "mine", "TrainingInputMode": "File"},
    ),
    "input-mode": training(
        "at 'algorithmSpecification.trainingInputMode' failed to satisfy constraint: Member must "
        "satisfy enum value set: [Pipe, File, FastFile]",
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "Slow"},
    ),
    "image-of-another-region": training(
        "Cannot find repository: kmeans in registry ID: 382416733822",
        AlgorithmSpecification={
            "TrainingImage": "382416733822.dkr.ecr.us-east-1.amazonaws.com/kmeans:1",
            "TrainingInputMode": "File",
        },
    ),
    "image-of-another-account": training(
        "Cannot find repository: kmeans in registry ID: 111111111111",
        AlgorithmSpecification={
            "TrainingImage": IMAGE.replace("438346466558", "1" * 12),
            "TrainingInputMode": "File",
        },
    ),
    "image-unknown": training(
        "Cannot find repository: forest",
        AlgorithmSpecification={
            "TrainingImage": IMAGE.replace("kmeans", "forest"),
            "TrainingInputMode": "File",
        },
    ),
    "image-no-uri": training(
        "Invalid image URI kmeans",
        AlgorithmSpecification={"TrainingImage": "kmeans", "TrainingInputMode": "File"},
    ),
    "hyperparameters-many": training(
        "at 'hyperParameters' failed to satisfy constraint: Member must have length less than or "
        "equal to 100",
        HyperParameters={f"h{number}": "1" for number in range(101)},
    ),
    "hyperparameter-long": training(
        "Map value must satisfy constraint: [Member must have length less than or equal to 2500]",
        HyperParameters={"k": "1" * 2501},
    ),
    "hyperparameter-key-long": training(
        "Map keys must satisfy constraint: [Member must have length less than or equal to 256]",
        HyperParameters={"k" * 257: "1"},
    ),
    "hyperparameter-number": training(
        "NUMBER_VALUE can not be converted to a String",
        "SerializationException",
        HyperParameters={"k": 10},
    ),
    "hyperparameter-null": training(
        "1 validation error detected: Value null at 'hyperParameters.k.member' failed to satisfy "
        "constraint: Member must not be null",
        HyperParameters={"k": None},
    ),
    "channel-name": training(
        "at 'inputDataConfig.1.member.channelName' failed to satisfy constraint",
        InputDataConfig=[channel("tr ain", "s3://{store}/train/")],
    ),
    "channel-twice": training(
        "Duplicate channel name train",
        InputDataConfig=[channel("train", "s3://{store}/train/")] * 2,
    ),
    "no-train-channel": training(
        "requires the channel train", InputDataConfig=[channel("test", "s3://{store}/train/")]
    ),
    "no-channels": training(
        "Member must have length greater than or equal to 1", InputDataConfig=[]
    ),
    "data-type": training(
        "Member must satisfy enum value set: [ManifestFile, S3Prefix",
        InputDataConfig=[channel("train", "s3://{store}/train/", "Folder")],
    ),
    "no-data": training(
        'No S3 objects found under S3 URL "s3://{store}/nothing/" given in input data source.',
        InputDataConfig=[channel("train", "s3://{store}/nothing/")],
    ),
    "no-bucket": training(
        'No S3 objects found under S3 URL "s3://there-is-no-such-bucket/x"',
        InputDataConfig=[channel("train", "s3://there-is-no-such-bucket/x")],
    ),
    "tags-many": training(
        "'tags' failed to satisfy constraint: Member must have length less than or equal to 50",
        Tags=[{"Key": f"k{number}", "Value": ""} for number in range(51)],
    ),
    "tags-twice": training("Duplicate tag keys", Tags=[{"Key": "k", "Value": "v"}] * 2),
    "tags-reserved": training("aws: prefixed", Tags=[{"Key": "aws:k", "Value": "v"}]),
    "environment-key": training("Map keys must satisfy constraint", Environment={"1 no name": "x"}),
}
OTHER_CASES: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "describe-job": ("describe_training_job", {"TrainingJobName": "none"}, V, NO_JOB),
    "stop-job": ("stop_training_job", {"TrainingJobName": "none"}, V, NO_JOB),
    "stop-completed": (
        "stop_training_job",
        {"TrainingJobName": "{trained}"},
        V,
        "The request was rejected because the training job is in status Completed.",
    ),
    "model-exists": (
        "create_model",
        {"ModelName": "{model}", "PrimaryContainer": CONTAINER, "ExecutionRoleArn": ROLE},
        V,
        'Cannot create already existing model "' + ARN + ':model/{model}".',
    ),
    "model-data": (
        "create_model",
        {"ModelName": "m", "PrimaryContainer": CONTAINER, "ExecutionRoleArn": ROLE},
        V,
        "Could not find model data at s3://{store}/none/model.tar.gz.",
    ),
    "model-no-container": (
        "create_model",
        {"ModelName": "m", "ExecutionRoleArn": ROLE},
        V,
        "either PrimaryContainer or Containers",
    ),
    "model-no-role": (
        "create_model",
        {"ModelName": "m", "PrimaryContainer": CONTAINER},
        V,
        "ExecutionRoleArn is required",
    ),
    "model-no-image": (
        "create_model",
        {"ModelName": "m", "PrimaryContainer": {}, "ExecutionRoleArn": ROLE},
        V,
        "Image is required",
    ),
    "model-data-pattern": (
        "create_model",
        {
            "ModelName": "m",
            "PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": "model.tar.gz"},
            "ExecutionRoleArn": ROLE,
        },
        V,
        "Value 'model.tar.gz' at 'primaryContainer.modelDataUrl' failed to satisfy constraint",
    ),
    "describe-model": (
        "describe_model",
        {"ModelName": "none"},
        V,
        f'Could not find model "{ARN}:model/none".',
    ),
    "delete-model": (
        "delete_model",
        {"ModelName": "none"},
        V,
        f'Could not find model "{ARN}:model/none".',
    ),
    "config-no-model": (
        "create_endpoint_config",
        {"EndpointConfigName": "c", "ProductionVariants": [variant("none")]},
        V,
        f'Could not find model "{ARN}:model/none".',
    ),
    "config-no-variants": (
        "create_endpoint_config",
        {"EndpointConfigName": "c", "ProductionVariants": []},
        V,
        "at 'productionVariants' failed to satisfy constraint: Member must have length greater "
        "than or equal to 1",
    ),
    "config-variant-twice": (
        "create_endpoint_config",
        {"EndpointConfigName": "c", "ProductionVariants": [variant("{model}")] * 2},
        V,
        "Production variant names must be unique",
    ),
    "config-weight": (
        "create_endpoint_config",
        {"EndpointConfigName": "c", "ProductionVariants": [variant("{model}", weight=-1)]},
        V,
        "at 'productionVariants.1.member.initialVariantWeight' failed to satisfy constraint",
    ),
    "config-no-instances": (
        "create_endpoint_config",
        {
            "EndpointConfigName": "c",
            "ProductionVariants": [{"VariantName": "v", "ModelName": "{model}"}],
        },
        V,
        "InstanceType is required for production variant v",
    ),
    "config-serverless-memory": (
        "create_endpoint_config",
        {
            "EndpointConfigName": "c",
            "ProductionVariants": [
                {
                    "VariantName": "v",
                    "ModelName": "{model}",
                    "ServerlessConfig": {"MemorySizeInMB": 100, "MaxConcurrency": 1},
                }
            ],
        },
        V,
        "memorySizeInMB' failed to satisfy constraint: Member must have value greater than or "
        "equal to 1024",
    ),
    "describe-config": (
        "describe_endpoint_config",
        {"EndpointConfigName": "none"},
        V,
        f'Could not find endpoint configuration "{ARN}:endpoint-config/none".',
    ),
    "delete-config": (
        "delete_endpoint_config",
        {"EndpointConfigName": "none"},
        V,
        f'Could not find endpoint configuration "{ARN}:endpoint-config/none".',
    ),
    "endpoint-exists": (
        "create_endpoint",
        {"EndpointName": "{endpoint}", "EndpointConfigName": "none"},
        V,
        'Cannot create already existing endpoint "' + ARN + ':endpoint/{endpoint}".',
    ),
    "endpoint-no-config": (
        "create_endpoint",
        {"EndpointName": "e", "EndpointConfigName": "none"},
        V,
        f'Could not find endpoint configuration "{ARN}:endpoint-config/none".',
    ),
    "update-no-config": (
        "update_endpoint",
        {"EndpointName": "{endpoint}", "EndpointConfigName": "none"},
        V,
        f'Could not find endpoint configuration "{ARN}:endpoint-config/none".',
    ),
    "update-no-endpoint": (
        "update_endpoint",
        {"EndpointName": "none", "EndpointConfigName": "none"},
        V,
        f'Could not find endpoint "{ARN}:endpoint/none".',
    ),
    "describe-endpoint": (
        "describe_endpoint",
        {"EndpointName": "none"},
        V,
        f'Could not find endpoint "{ARN}:endpoint/none".',
    ),
    "delete-endpoint": (
        "delete_endpoint",
        {"EndpointName": "none"},
        V,
        f'Could not find endpoint "{ARN}:endpoint/none".',
    ),
    "weights-no-variant": (
        "update_endpoint_weights_and_capacities",
        {
            "EndpointName": "{endpoint}",
            "DesiredWeightsAndCapacities": [{"VariantName": "none", "DesiredWeight": 1.0}],
        },
        V,
        'Variant "none" not found in endpoint',
    ),
    "list-many": (
        "list_training_jobs",
        {"MaxResults": 101},
        V,
        "Value '101' at 'maxResults' failed to satisfy constraint: Member must have value less "
        "than or equal to 100",
    ),
    "list-token": ("list_models", {"NextToken": "nonsense"}, V, "Invalid NextToken"),
    "list-order": ("list_endpoints", {"SortOrder": "Up"}, V, "[Ascending, Descending]"),
    "tags-no-resource": (
        "list_tags",
        {"ResourceArn": f"{ARN}:model/none"},
        V,
        "Could not find resource",
    ),
    "tags-no-arn": (
        "add_tags",
        {"ResourceArn": "arn:aws:s3:::bucket", "Tags": []},
        V,
        "at 'resourceArn' failed to satisfy constraint",
    ),
}
CASES = {**TRAINING_CASES, **OTHER_CASES}


def filled(value: Any, names: dict[str, str]) -> Any:
    """A table row with the fixtures' names filled in."""
    if isinstance(value, str):
        for key, name in names.items():
            value = value.replace("{" + key + "}", name)
        return value
    if isinstance(value, dict):
        return {key: filled(item, names) for key, item in value.items()}
    return [filled(item, names) for item in value] if isinstance(value, list) else value


@pytest.fixture
def names(store: str, trained: str, model: str, endpoint: str) -> dict[str, str]:
    done = trained.split("/")[-3]
    return {"store": store, "trained": done, "model": model, "endpoint": endpoint}


@pytest.mark.parametrize("case", CASES)
def test_refusals_have_the_code_and_the_message_of_aws(
    server: Server, names: dict[str, str], case: str
) -> None:
    operation, given, code, words = CASES[case]
    request = filled(given, names)
    if operation == "create_training_job":
        request = job(unique(), names["store"], **request)
    error = refusal(lambda: getattr(server.sagemaker, operation)(**request))
    assert error["Error"]["Code"] == code, error["Error"]
    assert filled(words, names) in error["Error"]["Message"]
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert error["ResponseMetadata"]["HTTPHeaders"]["x-amzn-errortype"] == code


def test_the_table_has_at_least_so_many_cases() -> None:
    assert len(CASES) >= 60


RUNTIME_CASES: dict[str, Callable[[Server, str], Any]] = {
    "Endpoint none of account 123456789012 not found.": lambda server, _: (
        server.runtime.invoke_endpoint(EndpointName="none", Body=b"1")
    ),
    "Variant other not found": lambda server, endpoint: server.runtime.invoke_endpoint(
        EndpointName=endpoint, Body=b"1", TargetVariant="other"
    ),
}


@pytest.mark.parametrize("words", RUNTIME_CASES)
def test_the_runtime_refuses_with_validation_error(
    server: Server, endpoint: str, words: str
) -> None:
    error = refusal(lambda: RUNTIME_CASES[words](server, endpoint))["Error"]
    assert error["Code"] == "ValidationError"
    assert words in error["Message"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"logGroupName": "/none"}, "The specified log group does not exist."),
        (
            {"logGroupName": "/aws/sagemaker/TrainingJobs", "logStreamName": "none"},
            "The specified log stream does not exist.",
        ),
    ],
)
def test_logs_that_do_not_exist(
    server: Server, trained: str, call: dict[str, str], words: str
) -> None:
    with pytest.raises(server.logs.exceptions.ResourceNotFoundException, match=words):
        server.logs.get_log_events(**{"logStreamName": "x", **call})


@pytest.fixture
def busy(own_server: Server) -> Server:
    """A server whose endpoints take long to deploy and that runs one job at a time."""
    own_server.extra = {
        **own_server.extra,
        "EMBEDDED_SAGEMAKER_ENDPOINT_SECONDS": "600",
        "EMBEDDED_SAGEMAKER_STARTING_SECONDS": "600",
        "EMBEDDED_SAGEMAKER_JOB_LIMIT": "1",
    }
    own_server.start()
    return own_server


def test_an_endpoint_that_is_changing_cannot_be_changed_and_quotas_hold(
    busy: Server, server: Server, store: str, trained: str
) -> None:
    client = busy.sagemaker
    container = {"Image": IMAGE, "ModelDataUrl": trained}
    client.create_model(ModelName="m", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    client.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant("m")])
    client.create_endpoint(EndpointName="e", EndpointConfigName="c")
    for refused in (
        lambda: client.update_endpoint(EndpointName="e", EndpointConfigName="c"),
        lambda: client.delete_endpoint(EndpointName="e"),
    ):
        message = refusal(refused)["Error"]["Message"]
        assert message == f'Cannot update in-progress endpoint "{ARN}:endpoint/e".'
    with pytest.raises(ClientError, match="Endpoint e of account 123456789012 not found"):
        busy.runtime.invoke_endpoint(EndpointName="e", Body=b"1")
    client.create_training_job(**job("one", store))
    with pytest.raises(client.exceptions.ResourceLimitExceeded, match="for training job usage"):
        client.create_training_job(**job("two", store))
    client.stop_training_job(TrainingJobName="one")
    description = busy.until("one", "Stopped")
    assert "TrainingTimeInSeconds" not in description


@pytest.mark.parametrize("bits", [32, 64])
def test_the_smallest_whole_number_is_one_and_the_next_one_is_not(bits: int) -> None:
    """FilterLogEvents takes one of each size, neither below zero, which is looked at afterwards."""
    operation = service_model.operation(service_model.LOGS_PREFIX, "FilterLogEvents")
    assert isinstance(operation.input_shape, StructureShape)
    member = "limit" if bits == 32 else "startTime"
    for value, code in (
        (-(2 ** (bits - 1)), V),
        (-(2 ** (bits - 1)) - 1, "SerializationException"),
    ):
        with pytest.raises(AwsError) as caught:
            service_model.check(operation.input_shape, {member: value})
        assert caught.value.code == code
