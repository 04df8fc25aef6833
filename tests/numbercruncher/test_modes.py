"""The number cruncher as it really runs: in a container or a child process, to the same byte."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import pytest

from resources.docker import DockerResource, ModuleFailedError
from tests.containers import number_cruncher_image, run_in_dagster
from tests.numbercruncher.listings import days, market, put_snapshot

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MODES = [pytest.param("docker", marks=pytest.mark.docker), "process"]
Mode = Literal["docker", "process"]


def cruncher(mode: Mode) -> DockerResource:
    if mode == "docker":
        number_cruncher_image()
    return DockerResource(mode=mode, network="host", memory_mb=512)


@pytest.mark.usefixtures("environment")
@pytest.mark.docker
def test_container_and_child_process_give_the_same_bytes_and_messages(
    client: "S3Client",
    bucket: str,
    objects: Callable[[str], dict[str, bytes]],
) -> None:
    dates = days("2026-01-01", 5)
    for (day, rows), format_ in zip(
        market(dates, 400).items(), ["csv", "csv.gz", "parquet"] * 2, strict=False
    ):
        put_snapshot(client, bucket, day, rows, format_=format_)
    put_snapshot(client, bucket, dates[2], [], manifest={"rows": 1})  # and one that fails
    results = {}
    for mode in ("docker", "process"):
        extras = {"bucket": bucket, "dates": dates, "code_version": "1"}
        run = run_in_dagster(cruncher(mode), "numbercruncher", extras=extras)
        assert run.metadata["mode"] == mode
        created = {
            key: data
            for prefix in ("airbnb/price_changes/", "airbnb/neighbourhood_summary/")
            for key, data in objects(prefix).items()
        }
        results[mode] = (run.messages, created)
        for key in created:
            client.delete_object(Bucket=bucket, Key=key)
    assert len(results["docker"][1]) == 4 * (5 + 3)
    assert results["docker"] == results["process"]


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("mode", MODES)
def test_a_failure_of_everything_ends_with_one_sentence(mode: Mode) -> None:
    extras = {"bucket": "no-such-bucket", "dates": ["2026-01-01"], "code_version": "1"}
    with pytest.raises(ModuleFailedError) as caught:
        run_in_dagster(cruncher(mode), "numbercruncher", extras=extras)
    assert caught.value.log_tail[-1].startswith("The bucket no-such-bucket does not exist")
    assert not any("Traceback" in line for line in caught.value.log_tail)
