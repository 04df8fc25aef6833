"""What applications of Spark get: their code, and a folder for what is not published yet."""

import importlib.util
import io
import uuid
import zipfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from resources.s3 import ObjectStore

PACKED_PYTHON = "./environment/bin/python"
"""The Python of a packed environment, from where a task of Spark is."""


@contextmanager
def scratch_folder(
    context: dg.OpExecutionContext | dg.AssetExecutionContext, store: ObjectStore, root: str
) -> Generator[str]:
    """A folder that nobody else has; those of runs that were killed are removed before.

    Yields:
        Its key, without a slash at the end.
    """
    _sweep(context.instance, store, root)
    folder = f"{root}/{context.run.run_id}/{uuid.uuid4().hex}"
    try:
        yield folder
    finally:
        store.delete_prefix(f"{folder}/")


def _sweep(instance: dg.DagsterInstance, store: ObjectStore, root: str) -> None:
    start = f"{root}/"
    folders = {info.key.removeprefix(start).partition("/")[0] for info in store.list(start)}
    for run_id in sorted(folders):
        # A run that is not in these records is another deployment's, in the same bucket.
        run = instance.get_run_by_id(run_id)
        if run is not None and run.is_finished:
            store.delete_prefix(f"{start}{run_id}/")


def code_archive(packages: Iterable[str]) -> bytes:
    """The modules of packages, as an archive that Python imports from."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in packages:
            spec = importlib.util.find_spec(package)
            for folder in (spec.submodule_search_locations if spec else None) or ():
                for path in sorted(Path(folder).rglob("*.py")):
                    archive.write(path, path.relative_to(Path(folder).parent))
    return buffer.getvalue()
