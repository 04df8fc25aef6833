"""The encoder of the SageMaker SDK, version 2."""

from recordio_input import compare

# Installed in the environment that this runs in only.
from sagemaker.amazon.common import (  # pyright: ignore[reportMissingImports]
    write_numpy_to_dense_tensor,
)

compare(write_numpy_to_dense_tensor)
