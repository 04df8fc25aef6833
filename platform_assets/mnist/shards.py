"""The digits that several instances train on: as many objects as instances, each with its share.

SageMaker gives each instance whole objects, and a date's digits are one. They are dealt out one by
one, so that each share has about as many of each digit.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from formats import recordio
from platform_assets.mnist import dataset
from resources.s3 import Folder, ObjectStore, Published
from resources.sagemaker import S3Channel, UnavailableError

CONTENT_TYPE = "application/x-recordio-protobuf"


@contextmanager
def training_channels(
    channels: Published, digest: str, instances: int
) -> Iterator[list[S3Channel]]:
    """What a job of so many instances reads, for as long as the job needs it.

    Args:
        channels: The digits of a date.
        digest: Of the work that the job does: it names the shares' folder.
        instances: How many. One reads the digits where they are.
    """
    if instances == 1:
        uri = channels.folder.file_uri(f"{dataset.MARKED}/")
        yield [S3Channel(name="train", s3_uri=uri, content_type=CONTENT_TYPE)]
        return
    shares = folder(channels.folder.store, digest)
    goes_on = False
    try:
        write(channels, shares, instances)
        share = {"DataSource": {"S3DataSource": {"S3DataDistributionType": "ShardedByS3Key"}}}
        yield [
            S3Channel(
                name="train",
                s3_uri=shares.file_uri(""),
                content_type=CONTENT_TYPE,
                extra_request=share,
            )
        ]
    except UnavailableError:
        goes_on = True  # nobody can tell; the next run attaches to the job
        raise
    finally:
        if not goes_on:
            remove(shares)


def folder(store: ObjectStore, digest: str) -> Folder:
    """Where the shares are for as long as a job reads them: SageMaker's role may read there."""
    return Folder(store, f"mnist/dataset/shares={digest}")


def write(channels: Published, shares: Folder, instances: int) -> None:
    """Write each instance's share of the train digits."""
    features, labels = dataset.read_channel(channels, dataset.MARKED)
    for number in range(instances):
        share = slice(number, None, instances)
        out = shares.store.writer(shares.key(f"{number}.rec"))
        try:
            out.writelines(recordio.encode(features[share], labels[share].astype(np.float32)))
            out.complete()
        except BaseException:
            out.abort()
            raise


def remove(shares: Folder) -> None:
    """Remove all shares."""
    shares.store.delete_prefix(shares.key(""))
