"""A published classifier, wherever its files are: how it is read.

How it is made stands in `classifier.py`; where an endpoint's own copies are, in `deployed.py`.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats import ndarray_file
from resources.s3 import Published

ARTIFACT = "model.tar.gz"
EVALUATION = "evaluation.json"
MAX_ARTIFACT_BYTES = 256 * 2**20
_MAX_EVALUATION_BYTES = 2**20


@dataclass(frozen=True)
class PublishedClassifier:
    """A classifier's artifact and evaluation.

    Attributes:
        files: In the folder of its date, or in one of an endpoint (see `deployed.py`).
    """

    files: Published

    @property
    def date(self) -> str:
        """The date that it was made for."""
        return self.files.manifest.partition

    @property
    def sha256(self) -> str:
        """Of its artifact."""
        return self.files.manifest.file(ARTIFACT).sha256

    @property
    def artifact_uri(self) -> str:
        """The s3:// address of its artifact."""
        return self.files.folder.file_uri(ARTIFACT)

    def read_centroids(self) -> NDArray[np.float32]:
        """The centroids, (10·m, 784) float32."""
        return ndarray_file.unpack_model(self.files.read(ARTIFACT, max_bytes=MAX_ARTIFACT_BYTES))

    def read_evaluation(self) -> dict[str, Any]:
        """What `evaluation.evaluate` and `evaluation.calibrate` measured, and its gate."""
        return json.loads(self.files.read(EVALUATION, max_bytes=_MAX_EVALUATION_BYTES))
