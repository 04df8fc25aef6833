"""What runs print, kept in S3 by Dagster's own class. `deploy/dagster.yaml` names it."""

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from dagster_aws.s3 import S3ComputeLogManager


class RunLogs(S3ComputeLogManager):
    """Leaves no folders behind, and takes a KMS key from the environment.

    Of Dagster's own fields, `upload_extra_args` can only be written out.
    """

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Dagster's own fields, and `kms_key_variable`: which variable has the key.

        A field that is itself taken from the environment would have to be set, and Fargate sets no
        variable that is empty.
        """
        return {**super().config_type(), "kms_key_variable": str}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Self:
        """Dagster's hook: with the key where Dagster looks for it."""
        config = dict(config_value)
        if key := os.environ.get(config.pop("kms_key_variable")):
            config["upload_extra_args"] = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}
        return super().from_config_value(inst_data, config)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Generator[Any]:
        """Dagster's, around all that a step does; at its end, the files are in S3 and gone."""
        try:
            with super().capture_logs(log_key) as context:
                yield context
        finally:
            folder = Path(self.local_manager.get_captured_local_path(log_key, "out")).parent
            with suppress(OSError):  # what S3 did not take is still in it
                for empty in (folder, folder.parent):
                    empty.rmdir()
