"""Components: kinds of assets that can be made by YAML alone, one module each.

A component has a name and checked fields. Whoever fills these in, in a file
`pipelines/NAME/defs.yaml`, gets an asset of it, made and checked by the functions that make the
platform's own assets: a component only says with what. The components of one file are one pipeline:
one step, one job, one schedule. What they have in common is in `pipeline_asset.py`; how the files
are loaded, in `platform_assets/pipelines.py`.
"""

from platform_assets.components.container_transform import ContainerTransform
from platform_assets.components.postgres_snapshot import PostgresSnapshot
from platform_assets.components.s3_object_copy import S3ObjectCopy
from platform_assets.components.sagemaker_model import SageMakerModel

__all__ = ["ContainerTransform", "PostgresSnapshot", "S3ObjectCopy", "SageMakerModel"]
