"""A published classifier, wherever its files are: how it is read.

How it is made stands in `classifier.py`; where an endpoint's own copies are, in `deployed.py`.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats import ndarray_file
from platform_assets.models.published import ARTIFACT, MAX_ARTIFACT_BYTES, PublishedModel

EVALUATION = "evaluation.json"
_MAX_EVALUATION_BYTES = 2**20


@dataclass(frozen=True)
class PublishedClassifier(PublishedModel):
    """A classifier's artifact and evaluation."""

    def read_centroids(self) -> NDArray[np.float32]:
        """The centroids, (10·m, 784) float32."""
        return ndarray_file.unpack_model(self.files.read(ARTIFACT, max_bytes=MAX_ARTIFACT_BYTES))

    def read_evaluation(self) -> dict[str, Any]:
        """What `evaluation.evaluate` and `evaluation.calibrate` measured, and its gate."""
        return json.loads(self.files.read(EVALUATION, max_bytes=_MAX_EVALUATION_BYTES))
