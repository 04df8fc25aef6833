"""The plan of a stack: its home, ports, credentials and the environment that clients get.

Only here are settings read from the environment; elsewhere it is only handed on to programs.
`stack` starts what is planned here.
"""

import datetime as dt
import json
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedded import ports as port_plan
from embedded import postgres
from embedded.errors import ConfigurationError
from embedded.home import CHECKOUT, Credentials, Home, write_private
from embedded.ports import HOST, Ports

# A service that the user has already is known by this name being in the environment.
GIVEN_BY = {
    "s3": "AWS_ENDPOINT_URL_S3",
    "sagemaker": "AWS_ENDPOINT_URL_SAGEMAKER",
    "postgres": "PLATFORM_POSTGRES_DSN",
}
_SAGEMAKER_ENDPOINTS = (
    "AWS_ENDPOINT_URL_SAGEMAKER",
    "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME",
    "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS",
    "AWS_ENDPOINT_URL_CLOUDWATCH",
    # What the SageMaker SDK v3 asks about roles before it trains.
    "AWS_ENDPOINT_URL_IAM",
    "AWS_ENDPOINT_URL_STS",
)
# Inside Airbnb's first files are of 2015.
FIRST_PARTITION = "2015-01-01"
_DEFAULTS = {
    "AWS_DEFAULT_REGION": "eu-west-1",
    "PLATFORM_BUCKET": "data-platform",
    "PLATFORM_AIRBNB_BUCKET": "data-platform-airbnb",
    "PLATFORM_ENDPOINT_NAME": "digits",
}
_EMBEDDED_ROLE = "arn:aws:iam::000000000000:role/platform-sagemaker"
# Settings of the stack; the platform does not read them.
_ABOUT_THE_STACK = {
    "PLATFORM_HOME",
    "PLATFORM_PORT_BASE",
    "PLATFORM_STACK_ID",
    "PLATFORM_UI_URL",
    "PLATFORM_PAGE_URL",
    "PLATFORM_METRICS_URL",
}


@dataclass(frozen=True)
class Plan:
    """A stack that can be started.

    Attributes:
        port_base: PLATFORM_PORT_BASE, this time's or the one kept in the home; empty without any.
        environment: What clients get: the content of the env file.
        own: What of it the user has not given.
        embedded: Which of s3, sagemaker and postgres are ours to start.
    """

    home: Home
    port_base: str
    ports: Ports
    credentials: Credentials
    environment: Mapping[str, str]
    own: Mapping[str, str]
    embedded: frozenset[str]

    @property
    def admin_dsn(self) -> str:
        """The embedded Postgres as its superuser."""
        return postgres.dsn(
            postgres.ADMIN, self.credentials.postgres_admin_password, self.ports.postgres
        )


def home_from(environ: Mapping[str, str] | None = None) -> Home:
    """PLATFORM_HOME, or `.platform` in the checkout."""
    chosen = (os.environ if environ is None else environ).get("PLATFORM_HOME")
    return Home(Path(chosen).expanduser().absolute() if chosen else CHECKOUT / ".platform")


def make_plan(environ: Mapping[str, str] | None = None) -> Plan:
    """Read the environment and settle what is to run where.

    Makes the home's folders and credentials when they are missing, and nothing else.

    Raises:
        ConfigurationError: The environment asks for something that does not fit together.
    """
    environ = os.environ if environ is None else environ
    home = home_from(environ)
    home.make_folders()
    credentials = home.credentials()
    port_base = environ.get("PLATFORM_PORT_BASE") or kept_port_base(home) or ""
    ports = port_plan.choose(port_base)
    given = _without_own_values(environ, home)
    embedded = frozenset(name for name, variable in GIVEN_BY.items() if not given.get(variable))
    environment = {
        **_keys(given, credentials, embedded),
        **{name: given.get(name) or default for name, default in _DEFAULTS.items()},
        # Written out, so that who puts data in knows what the platform can materialise.
        "PLATFORM_FIRST_PARTITION": given.get("PLATFORM_FIRST_PARTITION")
        or kept_first_partition(home)
        or FIRST_PARTITION,
        **_endpoints(given, ports, embedded),
        "PLATFORM_SAGEMAKER_ROLE_ARN": _role(given, embedded),
        "PLATFORM_POSTGRES_DSN": given.get("PLATFORM_POSTGRES_DSN")
        or postgres.dsn(postgres.DATABASE, credentials.postgres_password, ports.postgres),
        "PLATFORM_UI_URL": f"http://{HOST}:{ports.ui}",
        "PLATFORM_PAGE_URL": f"http://{HOST}:{ports.api}",
        "PLATFORM_API_URL": f"http://{HOST}:{ports.api}",
        "PLATFORM_METRICS_URL": f"http://{HOST}:{ports.metrics}/metrics",
        "DAGSTER_HOME": str(home.dagster),
        **_embedded_settings(embedded),
        **_settings_of_the_platform(given),
    }
    own = {name: value for name, value in environment.items() if given.get(name) != value}
    to_day("PLATFORM_FIRST_PARTITION", environment["PLATFORM_FIRST_PARTITION"])
    return Plan(home, port_base, ports, credentials, environment, own, embedded)


def write_env_file(plan: Plan) -> None:
    """Write `env` for shells (`set -a; . .platform/env`), and what later commands have to know.

    That is which values are our own, those of earlier ports included, and the base of the ports.
    """
    own = _own_values(plan.home)
    for name, value in plan.own.items():
        own[name] = sorted({*own.get(name, []), value})
    write_private(_own_file(plan.home), json.dumps(own, indent=2) + "\n")
    write_private(_port_base(plan.home), plan.port_base + "\n")
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in plan.environment.items()]
    write_private(plan.home.env_file, "".join(lines))


def read_env_file(home: Home) -> dict[str, str]:
    """The environment of the stack that was started last.

    Raises:
        ConfigurationError: None was started yet.
    """
    try:
        words = shlex.split(home.env_file.read_text())
    except OSError:
        raise ConfigurationError(
            f"There is no {home.env_file}: start the services first, with `make up`."
        ) from None
    return dict(word.split("=", 1) for word in words)


def kept_port_base(home: Home) -> str | None:
    """PLATFORM_PORT_BASE of the last `up`, empty if it had none; None if nothing ever was up."""
    try:
        return _port_base(home).read_text().strip()
    except OSError:
        return None


def kept_first_partition(home: Home) -> str | None:
    """The day on which this home's partitions begin; None where nobody has put data into it."""
    try:
        return _first_partition(home).read_text().strip()
    except OSError:
        return None


def keep_first_partition(home: Home, day: str) -> None:
    """Have partitions begin on this day, YYYY-MM-DD, from the next `up` on."""
    write_private(_first_partition(home), day + "\n")


def to_day(name: str, text: str) -> dt.date:
    """The day that a setting or an argument of this name gives.

    Raises:
        ConfigurationError: It is not of the form YYYY-MM-DD, or no day of the calendar.
    """
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        day = None
    # Days are compared as text, and 20240905 is ISO's, too.
    if day is None or day.isoformat() != text:
        raise ConfigurationError(f"{name}={text!r} is no day: write it as YYYY-MM-DD.")
    return day


def _first_partition(home: Home) -> Path:
    return home.root / "first_partition"


def _port_base(home: Home) -> Path:
    return home.root / "port_base"


def _own_file(home: Home) -> Path:
    return home.root / "own.json"


def _own_values(home: Home) -> dict[str, list[str]]:
    try:
        own: dict[str, list[str] | str] = json.loads(_own_file(home).read_text())
    except (OSError, ValueError):
        return {}
    # An earlier release kept one value of each, as text.
    return {name: [kept] if isinstance(kept, str) else kept for name, kept in own.items()}


def _without_own_values(environ: Mapping[str, str], home: Home) -> dict[str, str]:
    """The environment without what an earlier `up` gave out: a shell may have read our env file."""
    own = _own_values(home)
    return {name: value for name, value in environ.items() if value not in own.get(name, [])}


def _keys_are_ours(embedded: frozenset[str]) -> bool:
    """The same keys are S3's and SageMaker's: ours only where nobody else has to accept them."""
    return {"s3", "sagemaker"} <= embedded


def _keys(
    given: Mapping[str, str], credentials: Credentials, embedded: frozenset[str]
) -> dict[str, str]:
    if _keys_are_ours(embedded):
        ours = {
            "AWS_ACCESS_KEY_ID": credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
        }
        # A token from another account would be sent along with our keys, and refused.
        return ours | ({"AWS_SESSION_TOKEN": ""} if "AWS_SESSION_TOKEN" in given else {})
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    missing = [name for name in names if not given.get(name)]
    if missing:
        raise ConfigurationError(
            f"An endpoint of your own is set, but not {' and '.join(missing)}: set the keys that "
            "it accepts; the embedded services will take the same ones."
        )
    token = given.get("AWS_SESSION_TOKEN")
    return {name: given[name] for name in names} | ({"AWS_SESSION_TOKEN": token} if token else {})


def _endpoints(given: Mapping[str, str], ports: Ports, embedded: frozenset[str]) -> dict[str, str]:
    s3 = f"http://{HOST}:{ports.s3}" if "s3" in embedded else given["AWS_ENDPOINT_URL_S3"]
    ours = f"http://{HOST}:{ports.sagemaker}"
    sagemaker = {
        name: ours if "sagemaker" in embedded else given.get(name, "")
        for name in _SAGEMAKER_ENDPOINTS
    }
    # Without a runtime or logs endpoint of their own, clients find Amazon's by themselves.
    return {"AWS_ENDPOINT_URL_S3": s3} | {name: url for name, url in sagemaker.items() if url}


def _role(given: Mapping[str, str], embedded: frozenset[str]) -> str:
    role = given.get("PLATFORM_SAGEMAKER_ROLE_ARN")
    if not role and "sagemaker" not in embedded:
        raise ConfigurationError(
            "AWS_ENDPOINT_URL_SAGEMAKER is set, but not PLATFORM_SAGEMAKER_ROLE_ARN: set the role "
            "that the training jobs and models of that SageMaker run under."
        )
    return role or _EMBEDDED_ROLE


def _settings_of_the_platform(given: Mapping[str, str]) -> dict[str, str]:
    """Whatever else of the platform's settings the user has set."""
    return {
        name: value
        for name, value in given.items()
        if name.startswith("PLATFORM_") and value and name not in _ABOUT_THE_STACK
    }


def _embedded_settings(embedded: frozenset[str]) -> dict[str, str]:
    """Settings of the platform that fit services on this machine."""
    settings: dict[str, str] = {}
    if "sagemaker" in embedded:
        settings["PLATFORM_SAGEMAKER_POLL_SECONDS"] = "0.5"
    if "s3" in embedded and sys.platform == "linux":
        # A container reaches 127.0.0.1 of the machine only in the machine's own network.
        settings["PLATFORM_CRUNCHER_NETWORK"] = "host"
    return settings
