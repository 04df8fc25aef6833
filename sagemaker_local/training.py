"""The training job operations: what is refused, what is stored, what is shown.

How a job runs is in jobs.py.
"""

import math
import time
from collections.abc import Mapping
from typing import Any

from sagemaker_local import image_lookup, job_kinds, names, s3_places
from sagemaker_local.aws_errors import validation
from sagemaker_local.context import Context
from sagemaker_local.images import Image
from sagemaker_local.job_kinds import JobKind
from sagemaker_local.listing import list_resources
from sagemaker_local.store import Document

_DAY_SECONDS = 86_400
_USUAL_RUNTIME = _DAY_SECONDS
_LONGEST_RUNTIME = 28 * _DAY_SECONDS


def create(context: Context, request: Document) -> Document:
    """CreateTrainingJob."""
    job_kinds.require_new(context, KIND, request["TrainingJobName"])
    _check(context, request)
    more: Document = {
        "StoppingCondition": {"MaxRuntimeInSeconds": _USUAL_RUNTIME}
        | request.get("StoppingCondition", {}),
        "SecondaryStatusTransitions": [],
        "EnableNetworkIsolation": request.get("EnableNetworkIsolation", False),
        "EnableInterContainerTrafficEncryption": request.get(
            "EnableInterContainerTrafficEncryption", False
        ),
        "EnableManagedSpotTraining": request.get("EnableManagedSpotTraining", False),
        "ProfilingStatus": "Disabled",
    }
    return job_kinds.begin(context, KIND, request, request["ResourceConfig"], more)


def list_jobs(context: Context, request: Document) -> Document:
    """ListTrainingJobs."""
    if request.get("WarmPoolStatusEquals") or request.get("TrainingPlanArnEquals"):
        return {"TrainingJobSummaries": []}
    return list_resources(context, KIND.resource, request, "TrainingJobSummaries", descending=False)


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


def _record_status(document: Document, status: str, message: str) -> None:
    """Enters a secondary status: the one before ends now, and with the last one the job's time."""
    now = time.time()
    history = document["SecondaryStatusTransitions"]
    if history and "EndTime" not in history[-1]:
        history[-1]["EndTime"] = now
    entry: Document = {"Status": status, "StartTime": now}
    if status in ("Completed", "Failed", "Stopped", "MaxRuntimeExceeded"):
        entry["EndTime"] = now
        _count_time(document)
    entry["StatusMessage"] = message or _MESSAGES.get(status, "")
    history.append(entry)
    document["SecondaryStatus"] = status


def _count_time(document: Document) -> None:
    """Nothing is billed if no instance started."""
    if "TrainingStartTime" in document:
        seconds = max(1, math.ceil(document["TrainingEndTime"] - document["TrainingStartTime"]))
        document["TrainingTimeInSeconds"] = seconds
        # Spot capacity here is always there, and about as cheap as AWS's usually is.
        share = 0.3 if document["EnableManagedSpotTraining"] else 1.0
        document["BillableTimeInSeconds"] = max(1, math.ceil(seconds * share))


KIND = JobKind(names.TRAINING_JOB, "Training", names.TRAINING_LOGS, _record_status)


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
    image_lookup.check_image(context.config, algorithm["TrainingImage"], request["RoleArn"])
    image = image_lookup.custom_image(context.config, algorithm["TrainingImage"])
    _check_resources(request)
    _check_time(request)
    _check_channels(context, request, needs_train=image is None)
    if request["OutputDataConfig"].get("CompressionType") == "NONE":
        raise validation("The CompressionType NONE is not supported; use GZIP.")
    if image is not None:
        _check_custom_image(request, image)


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
    if runtime > _LONGEST_RUNTIME:
        raise validation(
            f"MaxRuntimeInSeconds {runtime} is above the 28 days that a training job may take."
        )
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


def _check_custom_image(request: Document, image: Image) -> None:
    """What a job of a custom image may ask for on AWS, and does not get here."""
    algorithm = request["AlgorithmSpecification"]
    if not image.container:
        _check_process(algorithm, image)
    for channel in [algorithm, *request.get("InputDataConfig", [])]:
        if channel.get("TrainingInputMode", channel.get("InputMode")) == "Pipe":
            raise validation("The input mode Pipe is not supported; use File or FastFile.")
        if channel.get("ChannelName") in (".", ".."):
            raise validation(f"Invalid channel name {channel['ChannelName']}.")


def _check_process(algorithm: Document, image: Image) -> None:
    """Only in script mode a process may have another command: that of the SDK v3's SourceCode."""
    for member in ("ContainerEntrypoint", "ContainerArguments"):
        if member in algorithm and not image.script_mode:
            raise validation(
                f"{member} is not supported for images that run as processes; the table of images "
                "says what they run. For the SDK v3's SourceCode, give the entry script_mode."
            )
    if algorithm.get("ContainerArguments") and not algorithm.get("ContainerEntrypoint"):
        raise validation(
            "ContainerArguments need a ContainerEntrypoint where an image runs as a process: it "
            "has no entry point of its own."
        )


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
    s3_places.check_output(request["OutputDataConfig"]["S3OutputPath"])


def _check_channel(context: Context, channel: Mapping[str, Any], role: str) -> None:
    source = channel["DataSource"].get("S3DataSource")
    if source is None:
        raise validation(
            f"Channel {channel['ChannelName']} has no S3DataSource; file systems are not supported."
        )
    s3_places.check_source(context, source, role)
