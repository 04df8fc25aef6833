"""Where in S3 a job's request says that data lie: refused before the job is stored."""

from collections.abc import Mapping

from sagemaker_local.aws_errors import validation
from sagemaker_local.context import Context
from sagemaker_local.s3 import Location, StorageError


def check_source(context: Context, source: Mapping[str, str], role: str) -> None:
    """Refuses a source without any object, or of a type that is not supported.

    Args:
        context: What operations work with.
        source: An `S3DataSource`, or an `S3Input` of a processing job.
        role: The role that AWS would read it with.

    Raises:
        AwsError: In AWS's words.
    """
    if source["S3DataType"] not in ("S3Prefix", "ManifestFile"):
        raise validation(
            f"S3DataType {source['S3DataType']} is not supported; use S3Prefix or ManifestFile."
        )
    uri = source["S3Uri"]
    try:
        if context.storage.list_prefix(uri):
            return
        problem = "no object begins with this prefix"
    except StorageError as error:
        problem = str(error)
    bucket = uri.removeprefix("s3://").split("/", 1)[0]
    raise validation(
        f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that '
        f"the bucket exists in the selected region ({context.config.region}), that objects exist "
        f'under that S3 prefix, and that the role "{role}" has "s3:ListBucket" permissions on '
        f'bucket "{bucket}". Error message from S3: {problem}'
    )


def check_output(uri: str, member: str = "S3OutputPath") -> None:
    """Refuses a place for output that is no S3 URI; `member` is what the request calls it."""
    try:
        Location.parse(uri)
    except StorageError:
        raise validation(f"Invalid {member}: {uri}. It must be an S3 URI.") from None
