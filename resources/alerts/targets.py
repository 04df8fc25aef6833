"""The kinds of target (webhooks such as Slack's, SNS, e-mail), and how they get a message.

An address is a secret: whoever has a webhook's URL can write to the channel. No error quotes it.
"""

import re
import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from ipaddress import ip_address
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import boto3.session
import requests
from botocore.config import Config

from resources.alerts.errors import AlertTargetError, target_errors

TIMEOUT_SECONDS = 5
"""How long a target may take to accept a connection, and for each answer."""

_TOPIC = re.compile(r"(?:sns:)?(arn:[a-z-]+:sns:([a-z0-9-]+):\d{12}:[\w-]+)")
_FORMS = (
    "Write it as https://… (a Slack-compatible webhook), arn:aws:sns:region:account:topic, or "
    "smtps://user:password@host/?from=address&to=address, special characters %-encoded."
)


@dataclass(frozen=True)
class Message:
    """What somebody is told: a subject of one line, and lines of plain text."""

    subject: str
    text: str


def parse(address: str) -> "Webhook | Topic | Mailbox":
    """The target that an address means.

    Raises:
        AlertTargetError: It is of none of the forms.
    """
    address = address.strip()
    if topic := _TOPIC.fullmatch(address):
        return Topic(arn=topic[1], region=topic[2])
    try:
        url = urlsplit(address)
        host, port = url.hostname, url.port
    except ValueError:
        host, port = None, None
    else:
        if host and url.scheme in {"http", "https"}:
            return Webhook(address)
        to = parse_qs(url.query).get("to", [])
        if host and to and url.scheme in {"smtp", "smtps"}:
            tls = url.scheme == "smtps"
            return Mailbox(
                host=host,
                port=port or (smtplib.SMTP_SSL_PORT if tls else smtplib.SMTP_PORT),
                tls=tls,
                user=unquote(url.username or ""),
                password=unquote(url.password or ""),
                sender=parse_qs(url.query).get("from", to)[0],
                recipients=tuple(to),
            )
    raise AlertTargetError(f"The target of alerts (PLATFORM_ALERTS) is not understood. {_FORMS}")


@dataclass(frozen=True)
class Webhook:
    """A URL that takes {"text": …} by POST, as Slack's incoming webhooks do."""

    url: str

    def send(self, message: Message) -> None:
        """See `Alerts.send`."""
        # Slack's own rule: these three, and no others, are escaped.
        text = f"*{message.subject}*\n{message.text}"
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        with target_errors("webhook", "check that its URL is right and was not withdrawn"):
            answer = requests.post(
                self.url,
                json={"text": text},
                timeout=TIMEOUT_SECONDS,
                # A redirected POST becomes a GET, and would seem to have been taken.
                allow_redirects=False,
            )
            if not 200 <= answer.status_code < 300:
                raise requests.HTTPError(response=answer)


@dataclass(frozen=True)
class Topic:
    """A standard topic of SNS, reached with the credentials that the platform has anyway."""

    arn: str
    region: str

    def send(self, message: Message) -> None:
        """See `Alerts.send`."""
        config = Config(
            connect_timeout=TIMEOUT_SECONDS,
            read_timeout=TIMEOUT_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 1},
        )
        # SNS takes no other characters in a subject, and at most 100 of them.
        subject = _one_line(message.subject).encode("ascii", "replace").decode()[:100]
        session = boto3.session.Session()
        # The overloads of `client` name services whose stubs are not installed.
        make = cast("Callable[..., Any]", session.client)  # pyright: ignore[reportUnknownMemberType]
        to_do = "allow the platform's role sns:Publish on it, and check that it exists"
        with target_errors("SNS topic", to_do):
            client = make("sns", region_name=self.region, config=config)
            client.publish(TopicArn=self.arn, Subject=subject, Message=message.text)


@dataclass(frozen=True)
class Mailbox:
    """E-mail by an SMTP server.

    Attributes:
        tls: Whether the connection is encrypted from its beginning; otherwise it is as soon as the
            server offers it (STARTTLS).
        user: Empty where the server asks for none.
        password: Of the user; sent only over an encrypted connection, or on this machine.
    """

    host: str
    port: int
    tls: bool
    user: str
    password: str
    sender: str
    recipients: tuple[str, ...]

    def send(self, message: Message) -> None:
        """See `Alerts.send`."""
        to_do = "check its host, port and certificate, the user, the password and the addresses"
        with target_errors("mail server", to_do):
            mail = EmailMessage()
            mail["Subject"] = _one_line(message.subject)
            mail["From"] = self.sender
            mail["To"] = ", ".join(self.recipients)
            mail.set_content(message.text)
            self._deliver(mail)

    def _deliver(self, mail: EmailMessage) -> None:
        if self.tls:
            context = ssl.create_default_context()
            server = smtplib.SMTP_SSL(
                self.host, self.port, timeout=TIMEOUT_SECONDS, context=context
            )
        else:
            server = smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_SECONDS)
        with server:
            server.ehlo()
            encrypted = self.tls
            if not encrypted and server.has_extn("starttls"):
                server.starttls(context=ssl.create_default_context())
                encrypted = True
            if self.user:
                if not encrypted and not _is_loopback(self.host):
                    raise AlertTargetError(
                        "The mail server of PLATFORM_ALERTS offers no encryption, so that the "
                        "password was not sent: use smtps://."
                    )
                server.login(self.user, self.password)
            server.send_message(mail)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
