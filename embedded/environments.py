"""What each program of the stack gets of the environment: a list a program, and nothing else.

`supervision` keeps to it. Of a name that ends in `*` the beginning is meant.
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

_ANY_PROGRAM = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_*", "TZ", "TMPDIR", "LD_LIBRARY_PATH",
    "PYTHON*", "VIRTUAL_ENV", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX",
    "PLATFORM_STACK_ID",
)  # fmt: skip
_ANY_CLIENT = (
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE",
)  # fmt: skip
_DOCKER = ("DOCKER_*", "XDG_RUNTIME_DIR")
_EMBEDDED_SAGEMAKER = ("EMBEDDED_SAGEMAKER_*",)
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_AWS = (*_KEYS, "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_*")

NEEDS: Mapping[str, tuple[str, ...]] = {
    "s3": _KEYS,
    "postgres": (),
    "sagemaker": (
        *(*_ANY_CLIENT, *_DOCKER, *_EMBEDDED_SAGEMAKER, *_KEYS),
        *("AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3"),
    ),
    # And the runs that it starts: all settings of the platform, and those of one's own assets.
    "code-server": (*_ANY_CLIENT, *_DOCKER, *_AWS, "PLATFORM_*", "DAGSTER_HOME"),
    "webserver": ("DAGSTER_HOME", "PLATFORM_ALLOWED_HOSTS"),
    "daemon": ("DAGSTER_HOME",),
    "api": (
        *(*_ANY_CLIENT, *_AWS),
        *("PLATFORM_ENDPOINT_NAME", "PLATFORM_API_*", "PLATFORM_ALLOWED_HOSTS"),
    ),
    "metrics": (
        *(*_ANY_CLIENT, *_AWS, "DAGSTER_HOME"),
        *("PLATFORM_BUCKET", "PLATFORM_ENDPOINT_NAME", "PLATFORM_SAGEMAKER_ROLE_ARN"),
        *("PLATFORM_FIRST_PARTITION", "PLATFORM_PRICE_PER_HOUR", "PLATFORM_INSTANCE_TYPE"),
        *("PLATFORM_SCHEDULES", "PLATFORM_ALLOWED_HOSTS"),
    ),
}
"""Program → names of variables."""


def from_shell(environ: Mapping[str, str]) -> dict[str, str]:
    """What programs may get of the user's own environment.

    Not what is AWS's or the platform's, which would reach other services than those of the plan.
    """
    taken = (*_ANY_PROGRAM, *_ANY_CLIENT, *_DOCKER, *_EMBEDDED_SAGEMAKER)
    return {name: value for name, value in environ.items() if _is_among(name, taken)}


def not_for(program: str, names: Iterable[str]) -> list[str]:
    """Which of these variables a program does not get."""
    needed = (*_ANY_PROGRAM, *NEEDS.get(program, ()))
    return sorted(name for name in names if not _is_among(name, needed))


def _is_among(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
