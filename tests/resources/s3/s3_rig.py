"""What the S3 tests share."""

from collections.abc import Mapping
from typing import Any

from resources.s3 import Folder, ObjectStore, Publication, Published

PREFIX = "airbnb/listings/date=2026-11-22"


def open_uploads(store: ObjectStore) -> list[str]:
    """Keys of the multipart uploads that were neither completed nor aborted."""
    answer = store.client.list_multipart_uploads(Bucket=store.bucket)
    return [upload.get("Key", "") for upload in answer.get("Uploads", [])]


def commit(store: ObjectStore, files: Mapping[str, bytes], **more: Any) -> Published:
    """Publishes files under PREFIX."""
    with Publication(Folder(store, PREFIX)) as publication:
        for name, data in files.items():
            publication.put(name, data)
        return publication.commit(
            **{"partition": "2026-11-22", "rows": 1, "code_version": "1", **more}
        )
