"""The files by which a container reaches AWS, in a folder of its own that nobody else sees.

How the container comes to be is `container.py`'s business.
"""

import io
import shlex
import tarfile
import time
from collections.abc import Mapping

from resources.docker.aws_access import AwsAccess, as_process_output, read_bundle

PRIVATE_FOLDER = "/run/data-platform"
"""Where a container finds its context and its AWS files: a volume of its own, gone with it."""

USER_ID = 10001
"""User and group that the module runs as, who alone may read these files."""

CREDENTIALS = "credentials.json"
CA_BUNDLE = "ca-bundle.pem"
VARIABLES = "variables.sh"


def file_variables(access: AwsAccess) -> dict[str, str]:
    """What tells an AWS client where its files are."""
    variables = {"AWS_CA_BUNDLE": f"{PRIVATE_FOLDER}/{CA_BUNDLE}"} if access.ca_bundle else {}
    if access.credentials():
        variables |= {
            "AWS_SHARED_CREDENTIALS_FILE": f"{PRIVATE_FOLDER}/none",
            "AWS_CONFIG_FILE": f"{PRIVATE_FOLDER}/config",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    return variables


def access_files(access: AwsAccess) -> dict[str, bytes]:
    """Trust, credentials in the form that AWS clients ask for again, and private variables."""
    files: dict[str, bytes] = {}
    if access.ca_bundle:
        files[CA_BUNDLE] = read_bundle(access)
    if access.private:
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in access.private.items()]
        files[VARIABLES] = "".join(lines).encode()
    if credentials := access.credentials():
        files[CREDENTIALS] = as_process_output(credentials)
        command = f"credential_process = cat {PRIVATE_FOLDER}/{CREDENTIALS}"
        files["config"] = f"[default]\n{command}\n".encode()
    return files


def source_private_variables(access: AwsAccess) -> list[str]:
    """A command before the module's: what it sets does not show in `docker inspect`."""
    if not access.private:
        return []
    return ["sh", "-c", f'. {PRIVATE_FOLDER}/{VARIABLES} && exec "$@"', "sh"]


def tar(files: Mapping[str, bytes]) -> bytes:
    """The files as an archive, readable for the container's user alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o400
            entry.uid = entry.gid = USER_ID
            entry.mtime = int(time.time())
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
