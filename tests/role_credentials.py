"""Short-lived credentials of a role, from a metadata service as ECS and EC2 have it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

from botocore.credentials import Credentials

from tests.local_servers import QuietHandler, serving


@dataclass
class Role:
    """A role, and what was handed out of its credentials: others each time, of six minutes.

    AWS's own hands out new ones at least five minutes before the end of the old:
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-security-credentials.html

    Attributes:
        url: Of the metadata service.
        issued: Credentials and when they end, by their session token.
    """

    url: str = ""
    issued: dict[str, tuple[Credentials, datetime]] = field(default_factory=dict)

    def expire(self) -> None:
        """As if the time of all that was handed out until now were over."""
        over = datetime.now(UTC)
        self.issued = {token: (keys, over) for token, (keys, _) in self.issued.items()}


@contextmanager
def metadata_service() -> Iterator[Role]:
    """Answers while the block runs: to `/credentials` as on ECS, else as on EC2."""
    role, numbers = Role(), count(1)

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            if self.path.endswith("security-credentials/"):
                self.reply(b"a-role")
                return
            number = next(numbers)
            keys = Credentials(f"AKIA{number}", f"secret-{number}", f"token-{number}")
            expires = datetime.now(UTC) + timedelta(minutes=6)
            role.issued[f"token-{number}"] = keys, expires
            self.reply(
                json.dumps(
                    {
                        "Code": "Success",
                        "AccessKeyId": keys.access_key,
                        "SecretAccessKey": keys.secret_key,
                        "Token": keys.token,
                        "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    }
                ).encode()
            )

        def do_PUT(self) -> None:
            self.reply(b"session")

    with serving(Handler) as port:
        role.url = f"http://127.0.0.1:{port}"
        yield role
