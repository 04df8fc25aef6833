"""What is removed after a deploy: old versions, their copies, and trained models that no date has.

Never what is live or could be rolled back to, and nothing at all where anything could not be read.
Objects among them that are not the platform's are left alone.
"""

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

from platform_assets.errors import EXPECTED
from platform_assets.models.deployed_models import DeployedModels, M
from platform_assets.models.endpoint import Endpoint
from platform_assets.models.served_models import ServedModels
from platform_assets.models.training import date_folder, work_folder
from resources.s3 import DATE, Folder, ObjectStore, list_published
from resources.sagemaker import Log, SageMakerResource

# S3 says to the second when an object was written.
_CLOCK = timedelta(seconds=1)
_READERS = 8
_DIGEST = r"[\w-]+"


def clean_up(
    models: ServedModels[M], sagemaker: SageMakerResource, endpoint: Endpoint, *, log: Log
) -> dict[str, Any]:
    """Remove what the last versions do not need; returns metadata to show.

    The deploy before it has succeeded, so a failure is logged and left to the next clean-up.
    """
    removed: dict[str, Any] = {}
    try:
        pruned = sagemaker.prune(endpoint.name, keep=endpoint.keep_versions, log=log)
        removed |= pruned.metadata()
        if pruned.artifacts_in_use is not None and pruned.newest is not None:
            removed[f"removed_{models.deployed.noun}s"] = remove_deployed_models(
                models.deployed,
                endpoint.name,
                in_use=pruned.artifacts_in_use,
                before=pruned.newest,
                log=log,
            )
        removed["removed_models"] = remove_models(
            models.store, models.trained_prefix, keep=endpoint.keep_versions, log=log
        )
    except EXPECTED as error:
        log.warning(f"Not everything old was removed; the next deploy tries again. {error}")
        removed["clean_up_failed"] = str(error)
    return removed


def remove_deployed_models(
    deployed: DeployedModels[M],
    endpoint_name: str,
    *,
    in_use: Collection[str],
    before: datetime,
    log: Log,
) -> int:
    """Remove an endpoint's copies of models that no version of it has.

    Args:
        in_use: S3 URIs of what SageMaker may still load.
        before: What is younger may be of a deploy that has just begun, and stays.

    Returns:
        How many were removed.
    """
    beginning = deployed.folder(endpoint_name, "").prefix
    unused = [
        folder
        for folder, modified in list_published(deployed.store, beginning, _DIGEST, warn=log.warning)
        if modified + _CLOCK < before
        and not any(uri.startswith(folder.file_uri("")) for uri in in_use)
    ]
    return _remove(unused)


def remove_models(store: ObjectStore, prefix: str, *, keep: int, log: Log) -> int:
    """Remove the models of trainings that no date has any more, but for the newest `keep`.

    If an earlier configuration is used again, the newest of them is reused; with an older one the
    model is trained again.

    Args:
        keep: How many stay although no date has them.

    Returns:
        How many were removed.
    """
    works = sorted(
        list_published(store, work_folder(store, prefix, "").prefix, _DIGEST, warn=log.warning),
        key=lambda work: work[1],
        reverse=True,
    )
    if len(works) <= keep:
        return 0
    dates = list_published(store, date_folder(store, prefix, "").prefix, DATE, warn=log.warning)
    with ThreadPoolExecutor(_READERS) as pool:
        models = list(pool.map(lambda item: item[0].published(), dates))
    used = {model.manifest.extra["artifact"] for model in models if model is not None}
    unused = [work for work, _ in works if not any(key.startswith(work.key("")) for key in used)]
    return _remove(unused[keep:])


def _remove(folders: Sequence[Folder]) -> int:
    for folder in folders:
        folder.remove()
    return len(folders)
