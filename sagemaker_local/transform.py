"""CreateTransformJob: what is refused, and what is stored.

How a job runs is in transform_run.py.
"""

from sagemaker_local import deployed_config, job_kinds, names, s3_places
from sagemaker_local.aws_errors import validation
from sagemaker_local.context import Context
from sagemaker_local.job_kinds import JobKind
from sagemaker_local.store import Document

KIND = JobKind(names.TRANSFORM_JOB, "Transform", names.TRANSFORM_LOGS)
USUAL_PAYLOAD_MB = 6
# AWS's limit for one payload, and for all that are under way to an instance.
MOST_PAYLOAD_MB = 100
_NO_PROCESSING = {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}


def create(context: Context, request: Document) -> Document:
    """CreateTransformJob: the job goes on with a copy of the model if that is deleted."""
    job_kinds.require_new(context, KIND, request["TransformJobName"])
    model = deployed_config.stored(context, names.MODEL, request["ModelName"])
    source, output = request["TransformInput"], request["TransformOutput"]
    more: Document = {
        "TransformInput": {"CompressionType": "None", "SplitType": "None"} | source,
        "TransformOutput": {"AssembleWith": "None", "KmsKeyId": ""} | output,
        "DataProcessing": _NO_PROCESSING | request.get("DataProcessing", {}),
        "_model": deployed_config.serving_spec(model),
    }
    _check_payload(request)
    if more["TransformInput"]["SplitType"] == "TFRecord":
        raise validation("SplitType TFRecord is not supported; use Line, RecordIO or None.")
    if more["DataProcessing"] != _NO_PROCESSING:
        raise validation(
            "DataProcessing is not supported: leave out InputFilter, OutputFilter and JoinSource."
        )
    s3_places.check_output(output["S3OutputPath"])
    s3_places.check_source(context, source["DataSource"]["S3DataSource"], model["ExecutionRoleArn"])
    return job_kinds.begin(context, KIND, request, request["TransformResources"], more)


def _check_payload(request: Document) -> None:
    payload = request.get("MaxPayloadInMB", USUAL_PAYLOAD_MB)
    if payload == 0:
        raise validation(
            "MaxPayloadInMB 0, which sends objects of any size by chunked encoding, is not "
            f"supported; use 1 to {MOST_PAYLOAD_MB}."
        )
    if payload > MOST_PAYLOAD_MB:
        raise validation(f"MaxPayloadInMB cannot be greater than {MOST_PAYLOAD_MB}, not {payload}.")
    concurrent = request.get("MaxConcurrentTransforms", 1)
    if concurrent * payload > MOST_PAYLOAD_MB:
        raise validation(
            "The value of (MaxConcurrentTransforms * MaxPayloadInMB) cannot exceed "
            f"{MOST_PAYLOAD_MB} MB: {concurrent} * {payload}."
        )
