"""What a container finds in its private folder: how it reaches AWS, by files that nobody else sees.

How the container comes to be is `container.py`'s business.
"""

import io
import shlex
import tarfile
import time
from collections.abc import Mapping

from resources.docker.aws_reach import Reach, as_process_output, read_bundle

PRIVATE_FOLDER = "/run/data-platform"
"""Where a container finds its context and its AWS files: a volume of its own, gone with it."""

USER_ID = 10001
"""User and group that the module runs as, who alone may read these files."""

CREDENTIALS = "credentials.json"
CA_BUNDLE = "ca-bundle.pem"
VARIABLES = "variables.sh"


def file_variables(reach: Reach) -> dict[str, str]:
    """What tells an AWS client where its files are."""
    variables = {"AWS_CA_BUNDLE": f"{PRIVATE_FOLDER}/{CA_BUNDLE}"} if reach.ca_bundle else {}
    if reach.credentials():
        variables |= {
            "AWS_SHARED_CREDENTIALS_FILE": f"{PRIVATE_FOLDER}/none",
            "AWS_CONFIG_FILE": f"{PRIVATE_FOLDER}/config",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    return variables


def reach_files(reach: Reach) -> dict[str, bytes]:
    """Trust, credentials in the form that AWS clients ask for again, and private variables."""
    files: dict[str, bytes] = {}
    if reach.ca_bundle:
        files[CA_BUNDLE] = read_bundle(reach)
    if reach.private:
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in reach.private.items()]
        files[VARIABLES] = "".join(lines).encode()
    if credentials := reach.credentials():
        files[CREDENTIALS] = as_process_output(credentials)
        command = f"credential_process = cat {PRIVATE_FOLDER}/{CREDENTIALS}"
        files["config"] = f"[default]\n{command}\n".encode()
    return files


def setting_private(reach: Reach) -> list[str]:
    """A command before the module's: what it sets does not show in `docker inspect`."""
    if not reach.private:
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
