"""The models that the endpoint serves at present: their centroids and evaluations.

Nothing here decides on a digit: that is the endpoint's own answer. The centroids only show how far
the other digits were. An answer is explained only by centroids that reproduce it, so that during an
update no answer is shown with another model's.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from botocore.exceptions import BotoCoreError, ClientError
from numpy.typing import NDArray

from api.aws import error_code
from api.endpoint import Clusters
from formats import digit_confidence, digit_features, ndarray_file, s3_uri
from formats.digit_confidence import DIGITS

if TYPE_CHECKING:
    from api.aws import Clients

_LOG = logging.getLogger(__name__)
_MAX_ARTIFACT_BYTES = 64 * 2**20
_MAX_EVALUATION_BYTES = 2**20
# The live version, the one that replaces it and the one that it replaced.
_KEPT = 3
_SECONDS_BETWEEN_REFRESHES = 2.0
# The endpoint calculates in float32.
_SAME_DISTANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Model:
    """A model that the endpoint serves or will serve.

    Attributes:
        name: The SageMaker model's name.
        etag: Of the artifact's object; it changes with the content.
        centroids: (10·m, 784) float32; number `digit + 10·j` belongs to `digit`.
        evaluation: The evaluation.json beside the artifact; empty where there is none.
    """

    name: str
    etag: str
    centroids: NDArray[np.float32]
    evaluation: dict[str, Any]

    def explains(self, features: NDArray[np.float32], clusters: Clusters) -> NDArray[np.bool_]:
        """(n,) bool: whether this model would have given the answers."""
        exists = clusters.numbers < len(self.centroids)
        chosen = self.centroids[np.where(exists, clusters.numbers, 0)]
        distances = np.linalg.norm(features - chosen, axis=1)
        near = np.abs(distances - clusters.distances) <= _SAME_DISTANCE * (1 + clusters.distances)
        return exists & near

    @property
    def reads_other_features(self) -> bool:
        """Whether its evaluation says that it was trained on other features than the API sends."""
        return bool(self.evaluation) and self.evaluation.get("features") != digit_features.VERSION

    def likelihoods(self, features: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """(n, 10): how likely each digit is; None where the evaluation has no `reach`."""
        reach = self.evaluation.get("reach")
        if not isinstance(reach, list) or len(reach) != DIGITS:
            return None
        return digit_confidence.likelihoods(features, self.centroids, np.array(reach, np.float64))


# The model that gave an answer, and the likelihood of each digit, (10,).
Explanation = tuple[Model, NDArray[np.float64] | None]


@dataclass(frozen=True)
class Service:
    """The answer of DescribeEndpoint.

    Attributes:
        status: SageMaker's status, such as InService or Updating.
        config: The endpoint configuration that is live.
        changed: When the endpoint was last changed.
        pending: The configuration that an update is bringing.
    """

    status: str
    config: str
    changed: datetime
    pending: str | None = None


class LiveModels:
    """The models behind an endpoint, cached while they are live; safe for several threads."""

    def __init__(self, endpoint: str, clients: Clients) -> None:
        self._endpoint = endpoint
        self._clients = clients
        self._models: list[Model] = []
        self._refreshed = float("-inf")
        self._lock = Lock()
        self._status = ""
        self._status_asked = float("-inf")
        self._status_lock = Lock()

    def service(self) -> Service:
        """The endpoint's description.

        Raises:
            BotoCoreError, ClientError: It cannot be described.
        """
        response = self._clients.sagemaker.describe_endpoint(EndpointName=self._endpoint)
        return Service(
            status=response["EndpointStatus"],
            config=response["EndpointConfigName"],
            changed=response["LastModifiedTime"],
            pending=response.get("PendingDeploymentSummary", {}).get("EndpointConfigName"),
        )

    def status(self) -> str:
        """The endpoint's status, or why there is none; up to two seconds old.

        Anybody may call this as often as they like without a call to AWS each time.
        """
        with self._status_lock:
            if time.monotonic() - self._status_asked >= _SECONDS_BETWEEN_REFRESHES:
                self._status = self._ask_status()
                self._status_asked = time.monotonic()
            return self._status

    def _ask_status(self) -> str:
        try:
            return self.service().status
        except ClientError as error:
            # What DescribeEndpoint says where there is no such endpoint.
            missing = {"ValidationException", "ResourceNotFound"}
            return "NotDeployed" if error_code(error) in missing else "Unknown"
        except BotoCoreError:
            return "Unreachable"

    def model_of(self, config: str) -> Model:
        """The model of an endpoint configuration, cached while its artifact is unchanged.

        Raises:
            BotoCoreError, ClientError: AWS does not give it.
            ValueError: It is no classifier of digits.
        """
        sagemaker, s3 = self._clients.sagemaker, self._clients.s3
        (variant, *_) = sagemaker.describe_endpoint_config(EndpointConfigName=config)[
            "ProductionVariants"
        ]
        name = variant.get("ModelName", "")
        container = sagemaker.describe_model(ModelName=name).get("PrimaryContainer", {})
        bucket, key = s3_uri.parse(container.get("ModelDataUrl", ""))
        etag = s3.head_object(Bucket=bucket, Key=key)["ETag"]
        for model in tuple(self._models):
            if (model.name, model.etag) == (name, etag):
                return model
        packed = self._read(bucket, key, _MAX_ARTIFACT_BYTES)
        centroids = ndarray_file.unpack_model(packed, max_bytes=_MAX_ARTIFACT_BYTES)
        if len(centroids) % DIGITS:
            raise ValueError(f"{len(centroids)} centroids are no whole number for each digit")
        return Model(name, etag, centroids, self._evaluation(bucket, key))

    def explain(
        self, features: NDArray[np.float32], clusters: Clusters
    ) -> list[Explanation | None]:
        """For each answer the model that gave it and the likelihood of each digit.

        None where that model cannot be read (any more): the digit is right all the same.
        """
        explained = self._explain(features, clusters)
        if None in explained and self.refresh():
            explained = self._explain(features, clusters)
        return explained

    def _explain(
        self, features: NDArray[np.float32], clusters: Clusters
    ) -> list[Explanation | None]:
        explained: list[Explanation | None] = [None] * len(features)
        for model in tuple(self._models):
            fits = model.explains(features, clusters)
            if not fits.any():
                continue
            likelihoods = model.likelihoods(features)
            for index in np.flatnonzero(fits):
                if explained[index] is None:
                    explained[index] = (model, None if likelihoods is None else likelihoods[index])
        return explained

    def refresh(self) -> bool:
        """Reads the live models, unless that was done a moment ago; returns whether it worked."""
        called = time.monotonic()
        with self._lock:
            # Another thread has refreshed them while this one waited.
            if self._refreshed > called:
                return True
            if called - self._refreshed < _SECONDS_BETWEEN_REFRESHES:
                return False
            try:
                self._remember()
            except (BotoCoreError, ClientError, ValueError, LookupError) as error:
                _LOG.warning(
                    "the model behind %s cannot be read: %s", self._endpoint, type(error).__name__
                )
                return False
            finally:
                self._refreshed = time.monotonic()
        return True

    def _remember(self) -> None:
        service = self.service()
        for config in (service.pending, service.config):
            if config is None:
                continue
            model = self.model_of(config)
            others = [other for other in self._models if other is not model]
            # A new list: other threads may be iterating over the old one.
            self._models = [model, *others][:_KEPT]

    def _evaluation(self, bucket: str, key: str) -> dict[str, Any]:
        evaluation_key = f"{key.rpartition('/')[0]}/evaluation.json"
        try:
            evaluation = json.loads(self._read(bucket, evaluation_key, _MAX_EVALUATION_BYTES))
        except (BotoCoreError, ClientError, ValueError):
            return {}
        return evaluation if isinstance(evaluation, dict) else {}

    def _read(self, bucket: str, key: str, limit: int) -> bytes:
        body = self._clients.s3.get_object(Bucket=bucket, Key=key)["Body"]
        try:
            content = body.read(limit + 1)
        finally:
            body.close()
        if len(content) > limit:
            raise ValueError(f"s3://{bucket}/{key} has more than {limit:,} bytes")
        return content
