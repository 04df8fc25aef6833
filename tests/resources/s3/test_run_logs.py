"""What a run prints goes to S3, and nothing of it stays on the machine."""

from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import pytest

from resources.s3 import ObjectStore


@dg.op
def speak() -> None:
    print("hello from a step")


@dg.job
def speaking() -> None:
    speak()


@pytest.mark.usefixtures("environment")
def test_what_a_run_prints_is_in_s3_and_leaves_no_folder(bucket: str, tmp_path: Path) -> None:
    here = tmp_path / "printed"
    here.mkdir()
    logs: Mapping[str, object] = {
        "module": "resources.s3.run_logs",
        "class": "RunLogs",
        "config": {
            "bucket": bucket,
            "kms_key_variable": "PLATFORM_KMS_KEY_ID",
            "prefix": "dagster",
            "local_dir": str(here),
        },
    }
    records = tmp_path / "records"
    records.mkdir()
    with dg.DagsterInstance.local_temp(str(records), overrides={"compute_logs": logs}) as instance:
        assert speaking.execute_in_process(instance=instance).success
    store = ObjectStore(bucket=bucket)
    printed = [store.get_bytes(item.key, max_bytes=10_000) for item in store.list("dagster/")]
    assert any(b"hello from a step" in text for text in printed)
    assert not list(here.iterdir())
