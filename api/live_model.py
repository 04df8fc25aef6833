"""What the endpoint serves just now: its versions, their centroids and what is known of them.

Nothing here decides on a digit: that is the endpoint's own answer. The centroids only tell how far
the other digits were, and an answer is explained with those centroids alone that reproduce it, so
that in the middle of an update no answer is shown with another model's.
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

from api.endpoint import DIGITS, Clusters
from formats import digit_confidence, digit_features, ndarray_file, s3_uri

if TYPE_CHECKING:
    from api.aws import Clients

_LOG = logging.getLogger(__name__)
_MAX_ARTIFACT_BYTES = 64 * 2**20
_MAX_EVALUATION_BYTES = 2**20
# The live version, the one that replaces it and the one that it replaced.
_KEPT = 3
_SECONDS_BETWEEN_LOOKS = 2.0
# The endpoint calculates in float32.
_SAME_DISTANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Model:
    """A model that the endpoint serves, or is about to.

    Attributes:
        name: Of the SageMaker model.
        etag: Of the artifact's object, which tells one content from another.
        centroids: (10·m, 784) float32; number `digit + 10·j` belongs to `digit`.
        evaluation: What was measured when it was made, as far as it stands beside the artifact.
    """

    name: str
    etag: str
    centroids: NDArray[np.float32]
    evaluation: dict[str, Any]

    def explains(self, features: NDArray[np.float32], clusters: Clusters) -> NDArray[np.bool_]:
        """(n,) bool: whether this model would have given the answers."""
        known = clusters.numbers < len(self.centroids)
        chosen = self.centroids[np.where(known, clusters.numbers, 0)]
        distances = np.linalg.norm(features - chosen, axis=1)
        near = np.abs(distances - clusters.distances) <= _SAME_DISTANCE * (1 + clusters.distances)
        return known & near

    @property
    def reads_other_features(self) -> bool:
        """Whether it was trained on other features than are sent here, as far as that is known."""
        return bool(self.evaluation) and self.evaluation.get("features") != digit_features.VERSION

    def likelihoods(self, features: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """(n, 10): how likely each digit is; None where nobody measured how sure it may be."""
        reach = self.evaluation.get("reach")
        if not isinstance(reach, list) or len(reach) != DIGITS:
            return None
        return digit_confidence.likelihoods(features, self.centroids, np.array(reach, np.float64))


# The model that gave an answer, and the likelihood of each digit, (10,).
Explanation = tuple[Model, NDArray[np.float64] | None]


@dataclass(frozen=True)
class Service:
    """What DescribeEndpoint says.

    Attributes:
        status: SageMaker's word for it, such as InService or Updating.
        config: The endpoint configuration that is live.
        changed: When the endpoint was last changed.
        pending: The configuration that an update is bringing.
    """

    status: str
    config: str
    changed: datetime
    pending: str | None = None


class LiveModels:
    """The models behind an endpoint, kept as long as they are live; safe for several threads."""

    def __init__(self, endpoint: str, clients: Clients) -> None:
        self._endpoint = endpoint
        self._clients = clients
        self._models: list[Model] = []
        self._looked = float("-inf")
        self._lock = Lock()
        self._status = ""
        self._status_asked = float("-inf")
        self._status_lock = Lock()

    def warm_up(self) -> None:
        """Fetch what is live, if it is there already."""
        self._look()

    def service(self) -> Service:
        """What the endpoint's description says.

        Raises:
            BotoCoreError, ClientError: It cannot be described.
        """
        told = self._clients.sagemaker().describe_endpoint(EndpointName=self._endpoint)
        pending = told.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
        return Service(
            told["EndpointStatus"], told["EndpointConfigName"], told["LastModifiedTime"], pending
        )

    def status(self) -> str:
        """SageMaker's word for how the endpoint is, or why there is none; up to two seconds old.

        Anybody may ask for it, and as often as they like; AWS is not to be asked each time.
        """
        with self._status_lock:
            if time.monotonic() - self._status_asked >= _SECONDS_BETWEEN_LOOKS:
                self._status = self._ask_status()
                self._status_asked = time.monotonic()
            return self._status

    def _ask_status(self) -> str:
        try:
            return self.service().status
        except ClientError as error:
            # DescribeEndpoint knows a single error: that there is no such endpoint.
            code = error.response.get("Error", {}).get("Code", "")
            return "NotDeployed" if code == "ValidationException" else "Unknown"
        except BotoCoreError:
            return "Unreachable"

    def model_of(self, config: str) -> Model:
        """The model of an endpoint configuration, from memory where its artifact is unchanged.

        Raises:
            BotoCoreError, ClientError: AWS does not give it.
            ValueError: It is no classifier of digits.
        """
        sagemaker, s3 = self._clients.sagemaker(), self._clients.s3()
        (variant, *_) = sagemaker.describe_endpoint_config(EndpointConfigName=config)[
            "ProductionVariants"
        ]
        name = variant.get("ModelName", "")
        container = sagemaker.describe_model(ModelName=name).get("PrimaryContainer", {})
        bucket, key = _location(container.get("ModelDataUrl", ""))
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

        None where that model is not, or no longer, to be had: the digit holds all the same.
        """
        explained = self._explain(features, clusters)
        if None in explained and self._look():
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

    def _look(self) -> bool:
        """Look at what is live, unless that was done a moment ago."""
        asked = time.monotonic()
        with self._lock:
            # Whoever waited here for somebody else's look has its result already.
            if self._looked > asked:
                return True
            if asked - self._looked < _SECONDS_BETWEEN_LOOKS:
                return False
            try:
                self._remember()
            except (BotoCoreError, ClientError, ValueError, LookupError) as error:
                _LOG.warning(
                    "the model behind %s is not to be had: %s", self._endpoint, type(error).__name__
                )
                return False
            finally:
                self._looked = time.monotonic()
        return True

    def _remember(self) -> None:
        service = self.service()
        for config in (service.pending, service.config):
            if config is None:
                continue
            model = self.model_of(config)
            others = [each for each in self._models if each is not model]
            # Replaced as a whole: other threads go over the list meanwhile.
            self._models = [model, *others][:_KEPT]

    def _evaluation(self, bucket: str, key: str) -> dict[str, Any]:
        beside = f"{key.rpartition('/')[0]}/evaluation.json"
        try:
            found = json.loads(self._read(bucket, beside, _MAX_EVALUATION_BYTES))
        except (BotoCoreError, ClientError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _read(self, bucket: str, key: str, limit: int) -> bytes:
        body = self._clients.s3().get_object(Bucket=bucket, Key=key)["Body"]
        try:
            content = body.read(limit + 1)
        finally:
            body.close()
        if len(content) > limit:
            raise ValueError(f"s3://{bucket}/{key} has more than {limit:,} bytes")
        return content


def _location(uri: str) -> tuple[str, str]:
    bucket, key = s3_uri.parse(uri)
    if not key:
        raise ValueError(f"{uri!r} is no object in S3")
    return bucket, key
