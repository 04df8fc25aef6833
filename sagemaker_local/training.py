"""The training job operations: what is refused, what is stored, what is shown.

How a job runs is in jobs.py.
"""

import time
from collections.abc import Mapping
from typing import Any

from sagemaker_local import images, names, tags
from sagemaker_local.aws_errors import AwsError, validation
from sagemaker_local.context import Context
from sagemaker_local.listing import list_resources
from sagemaker_local.s3 import Location, StorageError
from sagemaker_local.store import Document

IN_PROGRESS = "InProgress"
STOPPING = "Stopping"
KIND = names.TRAINING_JOB
_SUMMARY = (
    "TrainingJobName",
    "TrainingJobArn",
    "CreationTime",
    "TrainingEndTime",
    "LastModifiedTime",
    "TrainingJobStatus",
    "SecondaryStatus",
)
_USUAL_RUNTIME = 86_400
_LONGEST_RUNTIME = 432_000


def create(context: Context, request: Document) -> Document:
    """CreateTrainingJob."""
    name = request["TrainingJobName"]
    if context.store.get(KIND, name) is not None:
        raise _exists(name)
    _check(context, request)
    running = len(context.store.names(KIND, (IN_PROGRESS, STOPPING)))
    if running >= context.config.job_limit:
        raise _limit(request, context.config.job_limit, running)
    now = time.time()
    arn = names.arn(context.config, KIND, name)
    document: Document = {
        **{key: value for key, value in request.items() if key != "Tags"},
        "TrainingJobArn": arn,
        "TrainingJobStatus": IN_PROGRESS,
        "CreationTime": now,
        "LastModifiedTime": now,
        "StoppingCondition": {"MaxRuntimeInSeconds": _USUAL_RUNTIME}
        | request.get("StoppingCondition", {}),
        "SecondaryStatusTransitions": [],
        "EnableNetworkIsolation": request.get("EnableNetworkIsolation", False),
        "EnableInterContainerTrafficEncryption": request.get(
            "EnableInterContainerTrafficEncryption", False
        ),
        "EnableManagedSpotTraining": request.get("EnableManagedSpotTraining", False),
        "ProfilingStatus": "Disabled",
        "_faults": context.lasting_faults("CreateTrainingJob"),
    }
    transition(document, "Starting")
    with context.store.transaction():
        if not context.store.insert(KIND, name, document, IN_PROGRESS):
            raise _exists(name)
        tags.put(context, arn, request.get("Tags", []))
    context.start_job(name)
    return {"TrainingJobArn": arn}


def describe(context: Context, request: Document) -> Document:
    """DescribeTrainingJob."""
    document = context.store.get(KIND, request["TrainingJobName"])
    if document is None:
        raise validation("Requested resource not found.")
    return document


def listed(context: Context, request: Document) -> Document:
    """ListTrainingJobs."""
    if request.get("WarmPoolStatusEquals") or request.get("TrainingPlanArnEquals"):
        return {"TrainingJobSummaries": []}
    return list_resources(
        context.store,
        KIND,
        request,
        "TrainingJobSummaries",
        lambda job: {key: job[key] for key in _SUMMARY if key in job},
        descending=False,
    )


def stop(context: Context, request: Document) -> Document:
    """StopTrainingJob: acknowledged once the job is marked; the runner ends it."""
    name = request["TrainingJobName"]

    def mark(document: Document) -> str | None:
        status = document["TrainingJobStatus"]
        if status == STOPPING:
            return None
        if status != IN_PROGRESS:
            raise validation(
                f"The request was rejected because the training job is in status {status}."
            )
        document["TrainingJobStatus"] = STOPPING
        transition(document, STOPPING)
        return STOPPING

    if context.store.update(KIND, name, mark) is None:
        raise validation("Requested resource not found.")
    context.stop_job(name)
    return {}


_MESSAGES = {
    "Starting": "Starting the training job",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Completed": "Training job completed",
    "Stopping": "Stopping the training job",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
}


def transition(document: Document, status: str, message: str = "") -> None:
    """Enters a secondary status: the one before ends now."""
    now = time.time()
    history = document["SecondaryStatusTransitions"]
    if history and "EndTime" not in history[-1]:
        history[-1]["EndTime"] = now
    entry: Document = {"Status": status, "StartTime": now}
    if status in ("Completed", "Failed", "Stopped", "MaxRuntimeExceeded"):
        entry["EndTime"] = now
    entry["StatusMessage"] = message or _MESSAGES.get(status, "")
    history.append(entry)
    document["SecondaryStatus"] = status


def _check(context: Context, request: Document) -> None:
    algorithm = request.get("AlgorithmSpecification")
    if not algorithm:
        raise validation("AlgorithmSpecification is required.")
    if bool(algorithm.get("TrainingImage")) == bool(algorithm.get("AlgorithmName")):
        raise validation(
            "Please specify either TrainingImage or AlgorithmName in AlgorithmSpecification, "
            "and not both."
        )
    if "AlgorithmName" in algorithm:
        raise validation(f'Could not find algorithm "{algorithm["AlgorithmName"]}".')
    names.check_image(context.config, algorithm["TrainingImage"], request["RoleArn"])
    own_code = images.find(context.config.images, algorithm["TrainingImage"]) is not None
    _check_resources(request)
    _check_time(request)
    _check_channels(context, request, needs_train=not own_code)
    if own_code:
        _check_own_code(request)


def _check_resources(request: Document) -> None:
    resources = request.get("ResourceConfig")
    if not resources:
        raise validation("ResourceConfig is required.")
    for member in ("InstanceType", "InstanceCount"):
        if member not in resources and "InstanceGroups" not in resources:
            raise validation(f"{member} is required in ResourceConfig.")
    if "InstanceGroups" in resources:
        raise validation("InstanceGroups are not supported.")


def _check_time(request: Document) -> None:
    condition = request.get("StoppingCondition")
    if not condition:
        raise validation("StoppingCondition is required.")
    runtime = condition.get("MaxRuntimeInSeconds", _USUAL_RUNTIME)
    longest = condition.get("MaxWaitTimeInSeconds")
    if runtime > _LONGEST_RUNTIME * 5:
        raise validation(f"MaxRuntimeInSeconds {runtime} is above the limit of the account.")
    if request.get("EnableManagedSpotTraining"):
        if longest is None or longest < runtime:
            raise validation(
                "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to "
                "MaxRuntimeInSeconds"
            )
    elif longest is not None:
        raise validation(
            "Invalid MaxWaitTimeInSeconds. It should not be present when "
            "EnableManagedSpotTraining is disabled"
        )


def _check_own_code(request: Document) -> None:
    """What an image's own code may ask for on AWS, and does not get here."""
    algorithm = request["AlgorithmSpecification"]
    for member in ("ContainerEntrypoint", "ContainerArguments"):
        if member in algorithm:
            raise validation(
                f"{member} is not supported for images that run as processes; the table of images "
                "says what they run."
            )
    for channel in [algorithm, *request.get("InputDataConfig", [])]:
        if channel.get("TrainingInputMode", channel.get("InputMode")) == "Pipe":
            raise validation("The input mode Pipe is not supported; use File or FastFile.")
        if channel.get("ChannelName") in (".", ".."):
            raise validation(f"Invalid channel name {channel['ChannelName']}.")
    if request["OutputDataConfig"].get("CompressionType") == "NONE":
        raise validation("The CompressionType NONE is not supported; use GZIP.")


def _check_channels(context: Context, request: Document, *, needs_train: bool) -> None:
    channels = request.get("InputDataConfig", [])
    seen: set[str] = set()
    for channel in channels:
        name = channel["ChannelName"]
        if name in seen:
            raise validation(f"Duplicate channel name {name} in InputDataConfig.")
        seen.add(name)
    if needs_train and "train" not in seen:
        raise validation("The algorithm kmeans requires the channel train in InputDataConfig.")
    for channel in channels:
        _check_channel(context, channel, request["RoleArn"])
    output = request["OutputDataConfig"]["S3OutputPath"]
    try:
        Location.parse(output)
    except StorageError:
        raise validation(f"Invalid S3OutputPath: {output}. It must be an S3 URI.") from None


def _check_channel(context: Context, channel: Mapping[str, Any], role: str) -> None:
    source = channel["DataSource"].get("S3DataSource")
    if source is None:
        raise validation(
            f"Channel {channel['ChannelName']} has no S3DataSource; file systems are not supported."
        )
    if source["S3DataType"] not in ("S3Prefix", "ManifestFile"):
        raise validation(
            f"S3DataType {source['S3DataType']} is not supported by the algorithm kmeans."
        )
    uri = source["S3Uri"]
    try:
        if context.storage.list_prefix(uri):
            return
        problem = "no object begins with this prefix"
    except StorageError as error:
        problem = str(error)
    bucket = uri.removeprefix("s3://").split("/", 1)[0]
    raise validation(
        f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that '
        f"the bucket exists in the selected region ({context.config.region}), that objects exist "
        f'under that S3 prefix, and that the role "{role}" has "s3:ListBucket" permissions on '
        f'bucket "{bucket}". Error message from S3: {problem}'
    )


def _exists(name: str) -> AwsError:
    return AwsError(
        "ResourceInUse",
        "Training job names must be unique within an AWS account and region, and a training job "
        f"with this name already exists ({name})",
    )


def _limit(request: Document, limit: int, running: int) -> AwsError:
    kind = request["ResourceConfig"]["InstanceType"]
    return AwsError(
        "ResourceLimitExceeded",
        f"The account-level service limit '{kind} for training job usage' is {limit} Instances, "
        f"with current utilization of {running} Instances and a request delta of "
        f"{request['ResourceConfig']['InstanceCount']} Instances. Please use AWS Service Quotas to "
        "request an increase for this quota. If AWS Service Quotas is not available, contact AWS "
        "support to request an increase for this quota.",
    )
