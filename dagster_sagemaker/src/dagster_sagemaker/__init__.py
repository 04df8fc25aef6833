"""Amazon SageMaker for Dagster: training, transform and processing jobs, and endpoints.

What is exported here is the public interface.
"""

from . import sagemaker
from .sagemaker import *  # noqa: F403 - its __all__ is this package's

__all__: list[str] = []
__all__ += sagemaker.__all__
