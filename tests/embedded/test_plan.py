"""The plan of a stack by its environment, before anything is started."""

import json
import shlex
import stat
from pathlib import Path

import pytest

from embedded import ports
from embedded.errors import ConfigurationError
from embedded.plan import keep_first_partition, make_plan, read_env_file, write_env_file

NAMES = {
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_SAGEMAKER",
    "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME",
    "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS",
    "AWS_ENDPOINT_URL_CLOUDWATCH",
    "AWS_ENDPOINT_URL_IAM",
    "AWS_ENDPOINT_URL_STS",
    "PLATFORM_BUCKET",
    "PLATFORM_AIRBNB_BUCKET",
    "PLATFORM_SAGEMAKER_ROLE_ARN",
    "PLATFORM_ENDPOINT_NAME",
    "PLATFORM_FIRST_PARTITION",
    "PLATFORM_POSTGRES_DSN",
    "PLATFORM_UI_URL",
    "PLATFORM_PAGE_URL",
    "PLATFORM_API_URL",
    "PLATFORM_METRICS_URL",
    "DAGSTER_HOME",
}
OWN_S3 = {
    "AWS_ENDPOINT_URL_S3": "https://s3.example.com",
    "AWS_ACCESS_KEY_ID": "AKIAMINE",
    "AWS_SECRET_ACCESS_KEY": "mine",
}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"PLATFORM_HOME": str(tmp_path / "home")}


def test_the_env_file_holds_the_standard_names(environ: dict[str, str]) -> None:
    plan = make_plan(environ)
    write_env_file(plan)

    assert read_env_file(plan.home) == plan.environment
    assert set(plan.environment) >= NAMES
    assert set(plan.environment) - NAMES <= {
        "PLATFORM_SAGEMAKER_POLL_SECONDS",
        "PLATFORM_CRUNCHER_NETWORK",
    }


def test_credentials_are_random_private_and_kept(environ: dict[str, str], tmp_path: Path) -> None:
    first = make_plan(environ)
    again = make_plan(environ)
    other = make_plan({"PLATFORM_HOME": str(tmp_path / "other")})

    assert first.credentials == again.credentials
    assert first.credentials.secret_access_key != other.credentials.secret_access_key
    kept = first.home.root / "credentials.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(first.home.root.stat().st_mode) == 0o700


def test_damaged_credentials_are_not_replaced(environ: dict[str, str]) -> None:
    home = make_plan(environ).home
    (home.root / "credentials.json").write_text('{"stack_id": ')

    with pytest.raises(ConfigurationError, match=r"credentials\.json is damaged"):
        make_plan(environ)

    assert (home.root / "credentials.json").read_text() == '{"stack_id": '


def test_a_home_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match="file/home cannot be used"):
        make_plan({"PLATFORM_HOME": str(tmp_path / "file" / "home")})


def test_a_home_that_cannot_be_closed_to_others_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system without access modes, where chmod does nothing; here it is replaced."""
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    monkeypatch.setattr(Path, "chmod", lambda *_: None)

    with pytest.raises(ConfigurationError, match="home cannot be closed to other users"):
        make_plan({"PLATFORM_HOME": str(home)})

    assert not (home / "credentials.json").exists()


def test_an_s3_of_ones_own_is_used_with_its_keys(environ: dict[str, str]) -> None:
    plan = make_plan(environ | OWN_S3)

    assert plan.embedded == {"sagemaker", "postgres"}
    assert {name: plan.environment[name] for name in OWN_S3} == OWN_S3


def test_a_postgres_of_ones_own_is_used(environ: dict[str, str]) -> None:
    own = "postgresql://me:p%20w@db.example.com:5432/mine?sslmode=require"
    plan = make_plan(environ | {"PLATFORM_POSTGRES_DSN": own})
    write_env_file(plan)

    assert plan.embedded == {"s3", "sagemaker"}
    assert read_env_file(plan.home)["PLATFORM_POSTGRES_DSN"] == own


def test_a_sagemaker_of_ones_own_is_used_with_amazons_other_endpoints(
    environ: dict[str, str],
) -> None:
    own = {
        "AWS_ENDPOINT_URL_SAGEMAKER": "https://api.sagemaker.eu-west-1.amazonaws.com",
        "PLATFORM_SAGEMAKER_ROLE_ARN": "arn:aws:iam::123456789012:role/mine",
        "AWS_ACCESS_KEY_ID": "AKIAMINE",
        "AWS_SECRET_ACCESS_KEY": "mine",
        "AWS_SESSION_TOKEN": "token",
    }
    plan = make_plan(environ | own)

    assert plan.embedded == {"s3", "postgres"}
    assert {name: plan.environment[name] for name in own} == own
    assert "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME" not in plan.environment
    assert "PLATFORM_SAGEMAKER_POLL_SECONDS" not in plan.environment


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("AWS_SECRET_ACCESS_KEY", "but not AWS_SECRET_ACCESS_KEY"),
        ("PLATFORM_SAGEMAKER_ROLE_ARN", "but not PLATFORM_SAGEMAKER_ROLE_ARN"),
    ],
)
def test_a_service_of_ones_own_without_its_settings_is_refused_and_they_are_named(
    environ: dict[str, str], left_out: str, message: str
) -> None:
    own = OWN_S3 | {
        "AWS_ENDPOINT_URL_SAGEMAKER": "https://sagemaker.example.com",
        "PLATFORM_SAGEMAKER_ROLE_ARN": "arn:aws:iam::123456789012:role/mine",
    }
    del own[left_out]

    with pytest.raises(ConfigurationError, match=message):
        make_plan(environ | own)


def test_keys_of_a_cloud_account_in_the_shell_are_not_handed_to_the_embedded_services(
    environ: dict[str, str],
) -> None:
    cloud = {"AWS_ACCESS_KEY_ID": "AKIACLOUD", "AWS_SECRET_ACCESS_KEY": "cloud"}
    plan = make_plan(environ | cloud | {"AWS_SESSION_TOKEN": "cloud"})

    assert plan.environment["AWS_ACCESS_KEY_ID"] == plan.credentials.access_key_id
    assert plan.environment["AWS_SESSION_TOKEN"] == ""


def test_a_shell_that_has_read_the_env_file_does_not_count_as_having_services_of_its_own(
    environ: dict[str, str],
) -> None:
    plan = make_plan(environ)
    write_env_file(plan)
    words = shlex.split(plan.home.env_file.read_text())
    shell = environ | dict(word.split("=", 1) for word in words)

    assert make_plan(shell) == plan
    moved = make_plan(shell | {"PLATFORM_PORT_BASE": "20000"})
    assert moved.embedded == plan.embedded
    assert moved.environment["AWS_ENDPOINT_URL_S3"] == f"http://127.0.0.1:{moved.ports.s3}"


def test_a_shell_that_has_read_an_older_env_file_follows_the_stack_to_its_new_ports(
    environ: dict[str, str],
) -> None:
    first = make_plan(environ | {"PLATFORM_PORT_BASE": "20000"})
    write_env_file(first)
    write_env_file(make_plan(environ | {"PLATFORM_PORT_BASE": "21000"}))

    later = make_plan(environ | dict(first.environment))

    assert later.embedded == first.embedded
    assert later.environment["AWS_ENDPOINT_URL_S3"] == f"http://127.0.0.1:{later.ports.s3}"
    assert later.environment["PLATFORM_UI_URL"] == "http://127.0.0.1:21000"


def test_a_home_of_an_earlier_release_keeps_its_own_values_and_takes_the_users(
    environ: dict[str, str],
) -> None:
    """It kept one text for each name, of which a user's setting may be a part."""
    home = make_plan(environ).home
    kept = {"PLATFORM_BUCKET": "data-platform", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:20003"}
    (home.root / "own.json").write_text(json.dumps(kept))

    plan = make_plan(environ | kept | {"PLATFORM_BUCKET": "data"})
    write_env_file(plan)

    assert plan.environment["PLATFORM_BUCKET"] == "data"
    assert "s3" in plan.embedded
    assert make_plan(environ | kept).embedded == plan.embedded


def test_ports_once_chosen_stay_chosen_for_their_home_alone(
    environ: dict[str, str], tmp_path: Path
) -> None:
    write_env_file(make_plan(environ | {"PLATFORM_PORT_BASE": "20000"}))

    assert make_plan(environ).ports == ports.from_base(20000)
    assert make_plan(environ | {"PLATFORM_PORT_BASE": "21000"}).ports == ports.from_base(21000)
    assert make_plan({"PLATFORM_HOME": str(tmp_path / "other")}).ports == ports.choose(None)


def test_ports_are_not_kept_where_nothing_was_started_on_them(environ: dict[str, str]) -> None:
    make_plan(environ | {"PLATFORM_PORT_BASE": "20000"})

    assert make_plan(environ).ports == ports.choose(None)


@pytest.mark.parametrize("day", ["2015", "2015-1-1", "20150101"])
def test_a_first_partition_of_another_form_is_refused(environ: dict[str, str], day: str) -> None:
    with pytest.raises(ConfigurationError, match=f"PLATFORM_FIRST_PARTITION='{day}'.*YYYY-MM-DD"):
        make_plan(environ | {"PLATFORM_FIRST_PARTITION": day})


def test_partitions_begin_where_the_home_says_and_a_setting_decides(
    environ: dict[str, str],
) -> None:
    keep_first_partition(make_plan(environ).home, "2026-11-15")
    plan = make_plan(environ)
    write_env_file(plan)
    assert plan.environment["PLATFORM_FIRST_PARTITION"] == "2026-11-15"
    # A shell that has read the env file does not decide it.
    keep_first_partition(plan.home, "2024-12-07")
    sourced = make_plan(environ | read_env_file(plan.home)).environment
    assert sourced["PLATFORM_FIRST_PARTITION"] == "2024-12-07"
    chosen = make_plan(environ | {"PLATFORM_FIRST_PARTITION": "2020-01-01"}).environment
    assert chosen["PLATFORM_FIRST_PARTITION"] == "2020-01-01"


def test_settings_of_the_platform_in_the_shell_are_passed_on_and_stay(
    environ: dict[str, str],
) -> None:
    chosen = {"PLATFORM_SAGEMAKER_POLL_SECONDS": "3", "PLATFORM_CRUNCHER": "process"}
    plan = make_plan(environ | chosen)
    write_env_file(plan)

    assert chosen.items() <= plan.environment.items()
    assert make_plan(environ | chosen) == plan, "a second `up` would restart everything"
