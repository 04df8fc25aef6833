"""Real runs of all that talks to AWS, through fronts of the embedded services that keep requests.

What is asked of these requests is in `test_requests.py`.
"""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import dagster as dg
import pytest
import yaml

from embedded import seed_listings
from formats import s3_uri
from formats.mnist_pickle import dump
from monitoring.serving import probe_endpoint
from platform_assets.definitions import build_defs
from platform_assets.mnist import model, raw
from resources.s3 import ObjectStore
from resources.sagemaker import SageMakerResource
from tests.api.rig import serve
from tests.aws_requests import Recorder
from tests.conftest import Services, fresh_bucket, fresh_database, point_to
from tests.digit_pictures import encoded
from tests.platform_assets import airbnb_rig, mnist_rig
from tests.platform_assets.conftest import Platform
from tests.s3_front import in_front_of_all

# Of the account that the embedded SageMaker writes into ARNs.
ROLE = "arn:aws:iam::123456789012:role/data-platform-sagemaker"
PUBLIC = "public/mnist.pkl.gz"
OTHER_BUCKET, OTHER_KEY = s3_uri.parse(raw.SAMPLE_FILES)
FIRST, SECOND, THIRD, LAST = "2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08"
# More than a part of a multipart upload.
LARGE = 9 * 2**20


@contextmanager
def fronts(recorder: Recorder, env: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The addresses of fronts before the services of an environment, by the same names."""
    with in_front_of_all(env) as created:
        for front in created.values():
            front.observe = recorder.keep
        yield {name: front.url for name, front in created.items()}


def log_settings(folder: Path) -> dict[str, Any]:
    """The part of deploy/dagster.yaml that has Dagster write what runs print to S3."""
    settings = yaml.safe_load(Path("deploy/dagster.yaml").read_text())["compute_logs"]
    return {"compute_logs": settings | {"config": settings["config"] | {"local_dir": str(folder)}}}


@contextmanager
def own_place(services: Services, s3_client: Any) -> Iterator[dict[str, str]]:
    """Settings of a platform with buckets, a database and an endpoint of its own."""
    with ExitStack() as stack:
        buckets = {
            name: stack.enter_context(fresh_bucket(s3_client))
            for name in ("PLATFORM_BUCKET", "PLATFORM_AIRBNB_BUCKET", "PUBLIC_BUCKET")
        }
        stack.enter_context(fresh_bucket(s3_client, OTHER_BUCKET))
        yield {
            **buckets,
            "PLATFORM_POSTGRES_DSN": stack.enter_context(fresh_database(services)),
            "PLATFORM_SAGEMAKER_ROLE_ARN": ROLE,
            # ARNs have it in lower case.
            "PLATFORM_ENDPOINT_NAME": f"Test-{secrets.token_hex(4)}",
            "PLATFORM_CRUNCHER": "process",
            "PLATFORM_KMS_KEY_ID": "",
            "PLATFORM_SAGEMAKER_POLL_SECONDS": "0.1",
            "PLATFORM_MNIST_SOURCE": f"s3://{buckets['PUBLIC_BUCKET']}/{PUBLIC}",
        }


@dataclass
class Runs:
    """The platform, and who keeps what it sends.

    Attributes:
        platform: On the fronts.
        recorder: Of the fronts.
        s3: A client past the fronts.
    """

    platform: Platform
    recorder: Recorder
    s3: Any

    @classmethod
    @contextmanager
    def on(
        cls, env: Mapping[str, str], recorder: Recorder, s3: Any, folder: Path
    ) -> Iterator[Self]:
        """With the process's environment being `env`; the endpoint is gone afterwards.

        Args:
            env: All that the platform is told.
            recorder: Of the fronts.
            s3: A client past the fronts.
            folder: For Dagster's records and logs.
        """
        with ExitStack() as stack:
            point_to(env, stack.enter_context(pytest.MonkeyPatch.context()))
            for name in ("records", "logs"):
                (folder / name).mkdir()
            instance = stack.enter_context(
                dg.DagsterInstance.local_temp(
                    str(folder / "records"), overrides=log_settings(folder / "logs")
                )
            )
            store = ObjectStore(
                bucket=env["PLATFORM_BUCKET"], kms_key_id=env["PLATFORM_KMS_KEY_ID"]
            )
            runs = cls(Platform(instance, env, store), recorder, s3)
            try:
                yield runs
            finally:
                runs.sagemaker.teardown(env["PLATFORM_ENDPOINT_NAME"], versions_too=True)

    def everything(self, folder: Path) -> None:
        """All that there is; the folder is for the API's log."""
        self.make_listings()
        self.make_digits()
        self.use_endpoint(folder)
        self.copy_from_the_other_address()
        self.use_parts()
        self.take_back()
        self.read_logs()

    def press(self, job: str, **ops: Any) -> None:
        """Run a job that is no asset's."""
        done = self._defs.resolve_job_def(job).execute_in_process(
            instance=self.platform.instance,
            run_config={"ops": {name: {"config": config} for name, config in ops.items()}},
        )
        assert done.success

    @cached_property
    def _defs(self) -> dg.Definitions:
        return build_defs()

    def leave_upload(self, store: ObjectStore, folder: str) -> None:
        """What a killed run leaves behind in a folder."""
        self.s3.create_multipart_upload(Bucket=store.bucket, Key=f"{folder}/left")

    @property
    def sagemaker(self) -> SageMakerResource:
        """The resource, in a hurry."""
        role = self.platform.env["PLATFORM_SAGEMAKER_ROLE_ARN"]
        return SageMakerResource(role_arn=role, poll_seconds=0.1)

    def make_digits(self) -> None:
        """From the public object to an endpoint that serves, twice updated."""
        platform, endpoint = self.platform, self.platform.env["PLATFORM_ENDPOINT_NAME"]
        source = platform.store.sibling(platform.env["PUBLIC_BUCKET"])
        source.put_bytes(PUBLIC, dump(mnist_rig.real_digits()))
        self.leave_upload(platform.store, raw.folder(platform.store, FIRST).prefix)
        easy = {"mnist__classifier": {"config": {"min_accuracy": 0.1, "max_drop": 1.0}}}
        with self.recorder.sent_by("platform"):
            self.press("observe_sources")
            config = {"ops": {**mnist_rig.FEW["ops"], **easy}}
            assert platform.run("digits", FIRST, config=config).success
        mnist_rig.put_digits(platform, SECOND, THIRD)
        kept = {"name": endpoint, "keep_versions": 1}
        for number, date in enumerate((SECOND, THIRD)):
            mnist_rig.put_classifier(platform, date, 400 + number)
            with self.recorder.sent_by("platform"):
                config = {"resources": {"endpoint": {"config": kept}}}
                run = platform.run("digits", date, assets=["mnist/endpoint"], config=config)
                assert run.success

    def use_endpoint(self, folder: Path) -> None:
        """By the alerts' look, and by the HTTP API."""
        endpoint = self.platform.env["PLATFORM_ENDPOINT_NAME"]
        picture = (mnist_rig.real_digits().test.images[0].reshape(28, 28) * 255).astype("uint8")
        with self.recorder.sent_by("platform"):
            probe = probe_endpoint(self.platform.instance, self.sagemaker, endpoint)
        assert probe.state == "well"
        with (
            self.recorder.sent_by("api"),
            serve(self.platform.env, folder) as served,
            served.client() as client,
        ):
            answer = client.post(
                "/", content=encoded(picture), headers={"content-type": "image/png"}
            )
            assert answer.status_code == 200, answer.text
            assert client.get("/model").status_code == 200

    def take_back(self) -> None:
        """The buttons, and a training that is cancelled."""
        (job,) = {
            item.key.split("/")[3]
            for item in self.platform.store.list(f"{model.PREFIX}/work=")
            if item.key.endswith("model.tar.gz")
        }
        with self.recorder.sent_by("platform"):
            self.press("rollback_endpoint", rollback_endpoint_form={})
            self.press("teardown_endpoint")
            # It has ended: that is told, and the request is the same.
            assert not self.sagemaker.stop_training(job)

    def copy_from_the_other_address(self) -> None:
        """The public object is gone from the first."""
        store = self.platform.store
        gone = f"s3://{self.platform.env['PUBLIC_BUCKET']}/{PUBLIC}"
        store.sibling(self.platform.env["PUBLIC_BUCKET"]).delete(PUBLIC)
        store.sibling(OTHER_BUCKET).put_bytes(OTHER_KEY, b"digits")
        with self.recorder.sent_by("platform"):
            public = raw.PublicMnist(uri=gone, fallback=raw.SAMPLE_FILES)
            raw.copy_public(public, raw.folder(store, LAST), LAST)

    def use_parts(self) -> None:
        """A large object that is copied, and one that is not published after all."""
        store = self.platform.store
        source = store.sibling(self.platform.env["PUBLIC_BUCKET"])
        source.put_bytes(PUBLIC, bytes(LARGE))
        with self.recorder.sent_by("platform"):
            store.copy_from(source, PUBLIC, f"{raw.folder(store, LAST).prefix}/large")
            writer = store.writer(f"{raw.folder(store, LAST).prefix}/broken-off")
            writer.write(bytes(LARGE))
            writer.abort()

    def make_listings(self) -> None:
        """A date, the one before it, and what is outdated by that."""
        platform = self.platform
        dates = airbnb_rig.DATES[:2]
        seed_listings.seed(platform.env["PLATFORM_POSTGRES_DSN"], dates, places=50)
        store = platform.store.sibling(platform.env["PLATFORM_AIRBNB_BUCKET"])
        self.leave_upload(store, f"airbnb/listings/date={dates[0]}")
        with self.recorder.sent_by("platform"):
            for date in reversed(dates):
                assert platform.run("listings", date).success
            self.press("repair", repair_dates={"which": "outdated"})

    def read_logs(self) -> None:
        """What runs have printed, as Dagster's UI shows it."""
        instance = self.platform.instance
        logs = instance.compute_log_manager
        (run,) = instance.get_run_records(limit=1)
        with self.recorder.sent_by("platform"):
            for line in instance.all_logs(
                run.dagster_run.run_id, of_type=dg.DagsterEventType.LOGS_CAPTURED
            ):
                file = line.get_dagster_event().logs_captured_data.file_key
                key = logs.build_log_key_for_run(run.dagster_run.run_id, file)
                assert logs.get_log_data(key).stderr
