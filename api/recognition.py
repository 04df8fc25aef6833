"""From pictures to answers: reading, asking the endpoint, explaining. Nothing of HTTP."""

from __future__ import annotations

import base64
import math
import time
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from api.aws import Clients
from api.endpoint import DigitEndpoint
from api.errors import NotInServiceError
from api.live_model import LiveModels
from formats.digit_features import picture
from formats.digit_images import prepare
from formats.digit_pictures import PictureError, PictureLimits, read_picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api.live_model import Explanation
    from api.settings import ApiSettings

# A Lambda takes requests of 6 MiB, with the picture in base64.
PICTURE_LIMITS = PictureLimits(max_bytes=4_500_000, max_pixels=25_000_000)
# In a batch: enough for a cut-out digit, and little enough for a thousand of them.
BATCH_LIMITS = PictureLimits(max_bytes=1_000_000, max_pixels=1_000_000)

# On Lambda, reading a batch's pictures ends after this time, well before API Gateway gives up.
_BATCH_SECONDS = 15.0

# Large pictures take memory while they are decoded, and there are two cores.
_DECODERS = BoundedSemaphore(2)


@dataclass(frozen=True)
class Answer:
    """A recognised digit.

    Attributes:
        digit: The endpoint's own answer.
        cluster: The closest cluster's number.
        distance: Euclidean distance to its centroid.
        likelihoods: (10,) of each digit, or None where the model that answered cannot be read.
        seen: (784,) float32, the features that the model was shown.
        centroid: (784,) float32, the closest centroid, or None.
    """

    digit: int
    cluster: int
    distance: float
    likelihoods: NDArray[np.float64] | None
    seen: NDArray[np.float32] = field(repr=False)
    centroid: NDArray[np.float32] | None = field(repr=False)

    def summary(self) -> dict[str, Any]:
        """The answer as the API sends it."""
        confidence = None
        if self.likelihoods is not None:
            confidence = round(float(self.likelihoods[self.digit]), 4)
        return {
            "digit": self.digit,
            "confidence": confidence,
            "cluster": self.cluster,
            "distance": round(self.distance, 4),
        }

    def details(self) -> dict[str, Any]:
        """The summary, and what the page shows: pictures as base64 of 28 × 28 bytes."""
        likelihoods = None if self.likelihoods is None else self.likelihoods.round(4).tolist()
        return {
            **self.summary(),
            "likelihoods": likelihoods,
            "seen": _as_picture(self.seen),
            "centroid": None if self.centroid is None else _as_picture(self.centroid),
        }


class Recogniser:
    """Reads pictures and asks the endpoint; one for a process, used by all its threads."""

    def __init__(self, settings: ApiSettings) -> None:
        self._clients = Clients(settings)
        self.endpoint = DigitEndpoint(settings.endpoint_name, self._clients)
        self.models = LiveModels(settings.endpoint_name, self._clients)
        self._batch_seconds = _BATCH_SECONDS if settings.aws_lambda_function_name else math.inf

    def warm_up(self) -> None:
        """Makes the clients and reads the live models, so that the first caller need not wait."""
        _ = self._clients.runtime
        self.models.refresh()

    def recognise(self, picture: bytes) -> Answer:
        """The digit in one picture.

        Raises:
            PictureError: No digit can be read off it.
            ApiError: The endpoint does not answer.
        """
        (answer,) = self._ask([_read(picture, PICTURE_LIMITS)])
        return answer

    def recognise_all(
        self, pictures: Sequence[bytes | PictureError]
    ) -> list[Answer | PictureError]:
        """The digits in many pictures, by one request; an error for each that has none.

        Raises:
            ApiError: The endpoint does not answer.
        """
        ends = time.monotonic() + self._batch_seconds
        read = [_attempt(picture, ends) for picture in pictures]
        answers = iter(self._ask([item for item in read if not isinstance(item, PictureError)]))
        return [item if isinstance(item, PictureError) else next(answers) for item in read]

    def _ask(self, digits: list[NDArray[np.float32]]) -> list[Answer]:
        if not digits:
            return []
        features = prepare(np.stack(digits))
        clusters = self.endpoint.closest(features)
        explained = self.models.explain(features, clusters)
        if any(explanation and explanation[0].reads_other_features for explanation in explained):
            raise NotInServiceError(
                f"The endpoint {self.endpoint.name} serves a model that was trained on other "
                "features of digits than this version of the API sends. Run the job digits, which "
                "trains and deploys one that fits, or deploy the API of the model's version."
            )
        return [
            Answer(
                digit=int(digit),
                cluster=int(number),
                distance=float(distance),
                likelihoods=explanation[1] if explanation else None,
                seen=seen,
                centroid=_centroid(explanation, int(number)),
            )
            for digit, number, distance, explanation, seen in zip(
                clusters.digits(),
                clusters.numbers,
                clusters.distances,
                explained,
                features,
                strict=True,
            )
        ]


def _read(picture: bytes, limits: PictureLimits) -> NDArray[np.float32]:
    with _DECODERS:
        return read_picture(picture, limits)


def _attempt(picture: bytes | PictureError, ends: float) -> NDArray[np.float32] | PictureError:
    if isinstance(picture, PictureError):
        return picture
    if time.monotonic() > ends:
        return PictureError("There was no time left for this picture: send fewer, or smaller ones.")
    try:
        return _read(picture, BATCH_LIMITS)
    except PictureError as error:
        return error


def _centroid(explanation: Explanation | None, number: int) -> NDArray[np.float32] | None:
    return None if explanation is None else explanation[0].centroids[number]


def _as_picture(features: NDArray[np.float32]) -> str:
    (image,) = picture(features[None])
    return base64.b64encode((image * 255).astype(np.uint8).tobytes()).decode()
