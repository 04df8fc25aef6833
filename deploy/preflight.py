"""`make preflight`: what the platform needs on AWS, what of it is missing, and how to mend it.

    python -m deploy.preflight [FOLDER]

Changes nothing. The settings are those of the environment; those of a folder, such as
deploy/private/platform, go before it, as in the containers. Exit code 0 only if all is there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import docker
from docker.errors import DockerException, ImageNotFound
from pydantic import ValidationError
from requests.exceptions import RequestException
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deploy.preflight_aws import Look, State, look_at_aws
from deploy.with_settings import read_settings
from formats.errors import FormatError
from platform_assets.airbnb.listings import ListingsTable
from platform_assets.errors import PlatformError
from platform_assets.partitions import DAILY
from platform_assets.settings import Settings, resources
from resources.errors import ResourceError
from resources.postgres import PostgresResource
from resources.spark import SparkNotSetUpError, SparkResource

REQUIRED = (
    "PLATFORM_BUCKET",
    "PLATFORM_AIRBNB_BUCKET",
    "PLATFORM_SAGEMAKER_ROLE_ARN",
    "PLATFORM_POSTGRES_DSN",
)
_SIGNS: dict[State, str] = {
    "ok": "[green]ok",
    "missing": "[red]missing",
    "unknown": "[yellow]unknown",
}


def usable_here(environ: Mapping[str, str]) -> dict[str, str]:
    """Settings without certificates that are files of the image, and are not on this host.

    Connections to the database are encrypted all the same; whose they are, is not looked at.
    """
    usable = dict(environ)
    for name in ("AWS_CA_BUNDLE", "PGSSLROOTCERT"):
        if usable.get(name) and not Path(usable[name]).exists():
            del usable[name]
            if name == "PGSSLROOTCERT" and usable.get("PGSSLMODE", "").startswith("verify-"):
                usable["PGSSLMODE"] = "require"
    return usable


def look_at_all() -> Iterator[Look]:
    """Everything, one after the other; what stands on something missing is left out."""
    unset = [name for name in REQUIRED if not os.environ.get(name)]
    # Dagster's own database asks for a password where it is one of the composition's.
    if os.environ.get("POSTGRES_PASSWORD") == "":
        unset.append("POSTGRES_PASSWORD")
    try:
        settings = Settings()
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        yield Look("settings", "missing", f"Correct {'; '.join(problems)}.")
        return
    if unset:
        yield Look("settings", "missing", f"Set {', '.join(unset)}.")
    else:
        yield Look("settings", "ok", "All that are needed are set.")
    yield look_at_image(settings)
    if settings.cruncher == "spark" or settings.spark_above:
        yield look_at_spark(settings)
    if os.environ.get("PLATFORM_POSTGRES_DSN"):
        yield look_at_database(settings)
    yield from look_at_aws(settings)


def look_at_image(settings: Settings) -> Look:
    """The number cruncher's image, if it is to run in a container."""
    what = f"image {settings.cruncher_image}"
    if settings.cruncher in ("process", "spark"):
        where = {"process": "is a child process", "spark": "runs on Spark"}[settings.cruncher]
        return Look(what, "ok", f"Not needed: the number cruncher {where}.")
    try:
        image = docker.from_env(timeout=5).images.get(settings.cruncher_image)
    except ImageNotFound:
        return Look(what, "missing", "Build it: README.md says how; or PLATFORM_CRUNCHER=process.")
    except (DockerException, RequestException):
        message = "No Docker Engine answers: start one; or PLATFORM_CRUNCHER=process."
        return Look(what, "missing", message)
    return Look(what, "ok", str(image.short_id))


def look_at_spark(settings: Settings) -> Look:
    """Whether Spark can be asked; the cluster itself is not."""
    spark: SparkResource = resources(settings)["spark"]
    try:
        spark.check_set_up()
    except SparkNotSetUpError as error:
        return Look("Spark", "missing", str(error))
    return Look("Spark", "ok", spark.master or spark.application_id)


def look_at_database(settings: Settings) -> Look:
    """The table of listings: whether it, its columns and its rows may be read."""
    configured = resources(settings)
    table: ListingsTable = configured["listings_table"]
    what = f"table {table.source}"
    postgres = PostgresResource(dsn=os.environ["PLATFORM_POSTGRES_DSN"])
    date = DAILY.get_last_partition_key() or datetime.now(UTC).date().isoformat()
    try:
        with postgres.connect() as session:
            columns, differences = table.compare(session)
            lacking = [column.name for column in differences.missing]
            if lacking:
                message = (
                    f"It lacks {', '.join(lacking)}: add them, or set PLATFORM_LISTINGS_COLUMNS."
                )
                return Look(what, "missing", message)
            session.examine(table.extract(columns, date))
    except (ResourceError, PlatformError, FormatError) as error:
        return Look(what, "missing", str(error))
    if differences.retyped:
        odd = ", ".join(f"{one.name} ({one.actual})" for one in differences.retyped)
        return Look(what, "missing", f"Of these columns the type cannot be cast: {odd}.")
    return Look(what, "ok", f"All rows of its {len(columns)} columns may be read.")


def main(folders: list[str]) -> int:
    """Print all looks as a table."""
    console = Console()
    try:
        for folder in folders:
            os.environ.update(usable_here(read_settings(Path(folder))))
    except OSError as error:
        console.print(f"Settings cannot be read: {error}. README.md says how they are made.")
        return 1
    table = Table("", "what", "what is there, or how to mend it")
    looks: list[Look] = []
    for look in look_at_all():
        looks.append(look)
        table.add_row(_SIGNS[look.state], escape(look.what), escape(look.message))
    console.print(table)
    wrong = sum(look.state != "ok" for look in looks)
    console.print(
        f"{wrong} of {len(looks)} are not as they have to be." if wrong else "All is there."
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
