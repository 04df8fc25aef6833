"""The SageMaker endpoint: asks it for the clusters of digits, translates AWS's errors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    NoCredentialsError,
    ReadTimeoutError,
)
from numpy.typing import NDArray

from api.aws import error_code
from api.errors import (
    ApiError,
    BadEndpointError,
    EndpointTimeoutError,
    NotInServiceError,
    OverloadedError,
)
from formats import recordio
from formats.digit_confidence import DIGITS

if TYPE_CHECKING:
    from api.aws import Clients

_THROTTLED = {"ThrottlingException", "Throttling", "TooManyRequestsException"}
_ABSENT = {
    "ValidationError",
    "ModelNotReadyException",
    "ServiceUnavailable",
    "InternalFailure",
    "InternalDependencyException",
}


@dataclass(frozen=True)
class Clusters:
    """The endpoint's answer for n digits.

    Attributes:
        numbers: (n,) int64, the closest cluster of each digit.
        distances: (n,) float64, the Euclidean distance to its centroid.
    """

    numbers: NDArray[np.int64]
    distances: NDArray[np.float64]

    def digits(self) -> NDArray[np.int64]:
        """(n,) int64: cluster `digit + 10·j` belongs to `digit`, whichever model answered."""
        return self.numbers % DIGITS


class DigitEndpoint:
    """The endpoint that serves the digits."""

    def __init__(self, name: str, clients: Clients) -> None:
        self.name = name
        self._clients = clients

    def closest(self, features: NDArray[np.float32]) -> Clusters:
        """Ask for the closest clusters of prepared digits, (n, 784) float32, in one request.

        Raises:
            ApiError: It is not in service, too busy, too slow, or answers something else.
        """
        body = b"".join(recordio.encode(features))
        try:
            response = self._clients.runtime.invoke_endpoint(
                EndpointName=self.name,
                Body=body,
                ContentType="application/x-recordio-protobuf",
                Accept="application/json",
            )
            content = response["Body"].read()
        except (BotoCoreError, ClientError) as error:
            raise self._translated(error) from error
        return self._parsed(content, len(features))

    def _parsed(self, content: bytes, count: int) -> Clusters:
        try:
            predictions = json.loads(content)["predictions"]
            numbers = np.array([int(item["closest_cluster"]) for item in predictions], np.int64)
            distances = np.array([float(item["distance_to_cluster"]) for item in predictions])
        except (ValueError, TypeError, LookupError, OverflowError) as error:
            raise self._bad_answer() from error
        if len(numbers) != count or (numbers < 0).any() or not np.isfinite(distances).all():
            raise self._bad_answer()
        return Clusters(numbers, distances)

    def _bad_answer(self) -> ApiError:
        return BadEndpointError(
            f"The endpoint {self.name} answered something other than clusters. "
            "Look at what it serves: GET /model says which model that is."
        )

    def _translated(self, error: BotoCoreError | ClientError) -> ApiError:
        if isinstance(error, ClientError):
            code = error_code(error)
            if code in _THROTTLED:
                return OverloadedError("The endpoint has too much to do; try again in a second.")
            if code == "ModelError":
                return BadEndpointError(
                    f"The model behind the endpoint {self.name} failed on this digit."
                )
            if code in _ABSENT:
                return NotInServiceError(
                    f"The endpoint {self.name} is not in service. It may be being made: try again "
                    "soon, or materialise mnist/endpoint."
                )
            return NotInServiceError(
                f"The endpoint {self.name} cannot be asked: AWS refuses with {code or 'an error'}."
            )
        if isinstance(error, (ReadTimeoutError, ConnectTimeoutError)):
            return EndpointTimeoutError(f"The endpoint {self.name} did not answer in time.")
        if isinstance(error, NoCredentialsError):
            return NotInServiceError("The API has no AWS credentials, so it can ask no endpoint.")
        return NotInServiceError(f"The endpoint {self.name} is out of reach; try again soon.")
