"""The processing job operations: what is refused, and what is stored.

How a job runs is in job_run.py, what its containers are given and leave in processing_job.py.
"""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from sagemaker_local import image_lookup, job_kinds, names, s3_places
from sagemaker_local.aws_errors import validation
from sagemaker_local.context import Context
from sagemaker_local.images import Image
from sagemaker_local.job_kinds import JobKind
from sagemaker_local.store import Document

KIND = JobKind(names.PROCESSING_JOB, "Processing", names.PROCESSING_LOGS)
_USUAL_RUNTIME = 86_400
_PLACE = ("/", "opt", "ml", "processing")
_PYTHON = re.compile(r"python[\d.]*")


def create(context: Context, request: Document) -> Document:
    """CreateProcessingJob."""
    job_kinds.require_new(context, KIND, request["ProcessingJobName"])
    _check_image(context, request)
    cluster = {"InstanceCount": 1} | request["ProcessingResources"]["ClusterConfig"]
    if "InstanceType" not in cluster:
        raise validation(
            "InstanceType is required in ClusterConfig; InstancePreferences are not supported."
        )
    inputs = request.get("ProcessingInputs", [])
    outputs = request.get("ProcessingOutputConfig", {}).get("Outputs", [])
    _check_names("InputName", inputs)
    _check_names("OutputName", outputs)
    for one in inputs:
        _check_input(context, one, request["RoleArn"])
    for one in outputs:
        _check_output(one)
    more: Document = {
        "ProcessingResources": {"ClusterConfig": cluster},
        "StoppingCondition": request.get(
            "StoppingCondition", {"MaxRuntimeInSeconds": _USUAL_RUNTIME}
        ),
    }
    return job_kinds.begin(context, KIND, request, cluster, more)


def _check_image(context: Context, request: Document) -> None:
    application = request["AppSpecification"]
    uri = application["ImageUri"]
    image_lookup.check_image(context.config, uri, request["RoleArn"])
    image = image_lookup.custom_image(context.config, uri)
    if image is None:
        raise validation(
            f"The image {uri} of the built-in k-means trains and serves, and runs no processing "
            "job."
        )
    if not image.container:
        _check_process(image, application.get("ContainerEntrypoint", []))


def _check_process(image: Image, entrypoint: list[str]) -> None:
    """Only a script has an entry point that a process can take over from a request."""
    if not image.script_mode:
        if entrypoint:
            raise validation(
                "ContainerEntrypoint is not supported for images that run as processes; the table "
                "of images says what they run. For a script, give its entry script_mode = true."
            )
    elif len(entrypoint) < 2 or not _PYTHON.fullmatch(PurePosixPath(entrypoint[0]).name):
        raise validation(
            "An image with script_mode in the table of images needs a ContainerEntrypoint of "
            'python3 and a script, such as ["python3", "/opt/ml/processing/input/code/my.py"].'
        )


def _check_names(member: str, items: Iterable[Document]) -> None:
    seen: set[str] = set()
    for item in items:
        if item[member] in seen:
            raise validation(f"Duplicate {member} {item[member]}.")
        seen.add(item[member])


def _check_input(context: Context, item: Document, role: str) -> None:
    name = f"ProcessingInput {item['InputName']}"
    if "DatasetDefinition" in item:
        raise validation(f"{name}: DatasetDefinition is not supported; use S3Input.")
    if "S3Input" not in item:
        raise validation(f"{name}: S3Input is required.")
    if item.get("AppManaged"):
        return
    source = item["S3Input"]
    if source.get("S3InputMode") == "Pipe":
        raise validation(f"{name}: the S3InputMode Pipe is not supported; use File.")
    if source.get("S3CompressionType") == "Gzip":
        raise validation(
            f"{name}: the S3CompressionType Gzip can only be used with the S3InputMode Pipe, which "
            "is not supported; use None."
        )
    _check_path(name, source)
    s3_places.check_source(context, source, role)


def _check_output(item: Document) -> None:
    name = f"ProcessingOutput {item['OutputName']}"
    if "FeatureStoreOutput" in item:
        raise validation(f"{name}: FeatureStoreOutput is not supported; use S3Output.")
    if "S3Output" not in item:
        raise validation(f"{name}: S3Output is required.")
    if item.get("AppManaged"):
        return
    target = item["S3Output"]
    if target["S3UploadMode"] == "Continuous":
        raise validation(f"{name}: the S3UploadMode Continuous is not supported; use EndOfJob.")
    _check_path(name, target)
    s3_places.check_output(target["S3Uri"], "S3Uri")


def _check_path(name: str, place: Document) -> None:
    path = PurePosixPath(place.get("LocalPath", ""))
    if path.parts[: len(_PLACE)] != _PLACE or ".." in path.parts:
        raise validation(
            f"{name}: LocalPath is required and must begin with /opt/ml/processing/, not {path}."
        )
