"""Data capture of endpoints: what is kept of requests, and how AWS writes it.

When it is written is in capture_writer.py.
Source: https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-data-capture-endpoint.html
"""

import base64
import json
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sagemaker_local import s3_places
from sagemaker_local.aws_errors import validation
from sagemaker_local.fleet import Answer, Invocation
from sagemaker_local.store import Document

_MEMBERS = {"INPUT": "endpointInput", "OUTPUT": "endpointOutput"}
# About what a captured request needs of memory beside its bodies.
_OVERHEAD_BYTES = 2048


@dataclass(frozen=True)
class Captured:
    """What is kept of a request that was answered.

    Attributes:
        config: The endpoint's DataCaptureConfig.
        endpoint, variant: Who answered.
        moment: When, in UTC.
        bodies: Content type and bytes of `INPUT` and `OUTPUT`, as far as they are captured.
        metadata: The line's `eventMetadata`.
    """

    config: Document
    endpoint: str
    variant: str
    moment: datetime
    bodies: Mapping[str, tuple[str, bytes]]
    metadata: Document

    @property
    def size(self) -> int:
        """Bytes of memory, roughly."""
        return _OVERHEAD_BYTES + sum(len(body) for _, body in self.bodies.values())

    @property
    def folder(self) -> str:
        """S3 URI of the folder for the same variant and hour."""
        destination = self.config["DestinationS3Uri"].rstrip("/")
        return f"{destination}/{self.endpoint}/{self.variant}/{self.moment:%Y/%m/%d/%H}"

    def line(self) -> bytes:
        """The request as a line of JSON."""
        types: Document = self.config.get("CaptureContentTypeHeader", {})
        data: Document = {}
        for mode, (content_type, body) in self.bodies.items():
            encoding, text = _encoded(types, content_type, body)
            data[_MEMBERS[mode]] = {
                "observedContentType": content_type,
                "mode": mode,
                "data": text,
                "encoding": encoding,
            }
        line = {"captureData": data, "eventMetadata": self.metadata, "eventVersion": "0"}
        return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def check(request: Document) -> None:
    """Refuses a CreateEndpointConfig request whose DataCaptureConfig cannot act.

    Raises:
        AwsError: It has serverless variants, or the destination is not in S3.
    """
    config = request.get("DataCaptureConfig")
    if config is None:
        return
    s3_places.check_output(config["DestinationS3Uri"], "DestinationS3Uri")
    if any("ServerlessConfig" in variant for variant in request["ProductionVariants"]):
        raise validation(
            "DataCaptureConfig is not supported with serverless variants: leave it out, or serve "
            "from instances."
        )


def summary(config: Document | None) -> Document | None:
    """What DescribeEndpoint says of a DataCaptureConfig."""
    if config is None:
        return None
    enabled = _enabled(config)
    return {
        "EnableCapture": enabled,
        "CaptureStatus": "Started" if enabled else "Stopped",
        "CurrentSamplingPercentage": config["InitialSamplingPercentage"],
        "DestinationS3Uri": config["DestinationS3Uri"],
        "KmsKeyId": config.get("KmsKeyId", ""),
    }


def capture(
    config: Document | None, endpoint: str, variant: str, invocation: Invocation, answer: Answer
) -> Captured | None:
    """What is to be kept of a request; None if nothing is, as where the container refused it."""
    if config is None or not _enabled(config) or answer.status != 200:
        return None
    if random.random() * 100 >= config["InitialSamplingPercentage"]:  # noqa: S311 - no secret
        return None
    modes = {option["CaptureMode"] for option in config["CaptureOptions"]}
    bodies: dict[str, tuple[str, bytes]] = {}
    if modes & {"Input", "InputAndOutput"}:
        bodies["INPUT"] = invocation.content_type, invocation.body
    if modes & {"Output", "InputAndOutput"}:
        bodies["OUTPUT"] = answer.content_type, answer.body
    moment = datetime.now(UTC)
    metadata: Document = {"eventId": str(uuid.uuid4())}
    if invocation.custom_attributes:
        metadata["customAttributes"] = [invocation.custom_attributes]
    if invocation.inference_id:
        metadata["inferenceId"] = invocation.inference_id
    metadata["inferenceTime"] = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
    return Captured(config, endpoint, variant, moment, bodies, metadata)


def _enabled(config: Document) -> bool:
    return config.get("EnableCapture", True)


def _encoded(types: Document, content_type: str, body: bytes) -> tuple[str, str]:
    """Encoding and text of a body: by its content type, whose parameters do not count."""
    kind = content_type.partition(";")[0].strip().lower()
    for encoding, member in (("CSV", "CsvContentTypes"), ("JSON", "JsonContentTypes")):
        if kind in (wanted.lower() for wanted in types.get(member, [])):
            try:
                return encoding, body.decode()
            except UnicodeDecodeError:
                # Not what its type says; no byte of it may be lost.
                break
    return "BASE64", base64.b64encode(body).decode()
