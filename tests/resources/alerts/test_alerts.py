"""Messages arrive at each kind of target; what does not work says so, without the secret."""

from email import message_from_string, policy
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from resources.alerts import (
    AlertError,
    AlertMessageError,
    Alerts,
    AlertTargetError,
    AlertUnavailableError,
    Message,
)
from tests.receivers import mail_server, webhook
from tests.resources.tls_server import tls_server

MESSAGE = Message("listings failed: 2026-01-05", "Reason: <no rows> & more\nhttp://ui/runs/1")
SECRET = "hush"
PUBLISHED = (
    b"<PublishResponse xmlns='http://sns.amazonaws.com/doc/2010-03-31/'><PublishResult>"
    b"<MessageId>1</MessageId></PublishResult></PublishResponse>"
)
DENIED = b"<ErrorResponse><Error><Code>AuthorizationError</Code></Error></ErrorResponse>"
INVALID = b"<ErrorResponse><Error><Code>InvalidParameter</Code></Error></ErrorResponse>"
THROTTLED = b"<ErrorResponse><Error><Code>Throttled</Code></Error></ErrorResponse>"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:platform"


def test_a_webhook_gets_the_text_as_slack_escapes_it() -> None:
    with webhook() as receiver:
        Alerts(target=receiver.url).send(MESSAGE)
        (text,) = receiver.texts()
    assert text.startswith("*listings failed: 2026-01-05*\n")
    assert "&lt;no rows&gt; &amp; more" in text


def test_a_webhook_of_this_machine_is_reached_where_a_proxy_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the platform sets it: settings.keep_loopback_from_proxies."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost,::1")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost,::1")
    with webhook() as receiver:
        Alerts(target=receiver.url).send(MESSAGE)
        assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, AlertMessageError),  # Slack's invalid_payload
        (413, AlertMessageError),
        (422, AlertMessageError),
        (401, AlertTargetError),
        (403, AlertTargetError),
        (404, AlertTargetError),  # withdrawn
        (410, AlertTargetError),  # the channel is archived
        (302, AlertTargetError),  # would be followed by a GET, which delivers nothing
        (408, AlertUnavailableError),
        (429, AlertUnavailableError),  # Slack takes one message a second
        (503, AlertUnavailableError),
    ],
)
def test_a_refusal_of_a_webhook_is_classed_as_message_target_or_temporary(
    status: int, kind: type[AlertError]
) -> None:
    with webhook() as receiver:
        receiver.status = status
        receiver.headers["Location"] = receiver.url
        with pytest.raises(kind) as refused:
            Alerts(target=receiver.url).send(MESSAGE)
    assert refused.value.transient == (kind is AlertUnavailableError)
    assert SECRET not in str(refused.value)


def test_a_mail_has_subject_addresses_and_text() -> None:
    with mail_server() as mails:
        Alerts(
            target=f"smtp://me:{SECRET}@127.0.0.1:{mails.port}/?from=p%40example.com"
            "&to=a%40example.com&to=b%40example.com"
        ).send(Message("two\nlines", MESSAGE.text))
        (raw,) = mails.messages
    mail = message_from_string(raw, policy=policy.default)
    assert mail["Subject"] == "two lines"
    assert mail["From"] == "p@example.com"
    assert mail["To"] == "a@example.com, b@example.com"
    assert "<no rows> & more" in mail.get_content()
    assert any(command.startswith("AUTH") for command in mails.commands)


@pytest.mark.parametrize(
    ("command", "answer", "kind"),
    [
        ("AUTH", "535 wrong password", AlertTargetError),
        ("MAIL", "550 not from you", AlertTargetError),
        ("MAIL", "552 too large", AlertMessageError),
        ("MAIL", "451 later", AlertUnavailableError),
        ("RCPT", "550 nobody of that name", AlertTargetError),
        ("RCPT", "450 a full mailbox", AlertUnavailableError),
        (".", "554 looks like spam", AlertMessageError),
        (".", "552 too large", AlertMessageError),
        (".", "452 a full disk", AlertUnavailableError),
    ],
)
def test_a_refusal_of_a_mail_server_is_classed_as_message_target_or_temporary(
    command: str, answer: str, kind: type[AlertError]
) -> None:
    with mail_server() as mails:
        mails.refusals[command] = answer
        with pytest.raises(kind) as refused:
            Alerts(target=f"smtp://me:{SECRET}@127.0.0.1:{mails.port}/?to=a%40example.com").send(
                MESSAGE
            )
    assert refused.value.transient == (kind is AlertUnavailableError)
    assert SECRET not in str(refused.value)


def test_a_text_that_is_not_utf8_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of files and output of programs may hold any bytes; Python keeps them as surrogates."""
    message = Message("listings failed: \udcff", "No file b\udce9.csv")
    with mail_server() as mails, webhook("/") as receiver:
        use_sns(monkeypatch, receiver.url)
        receiver.answer = PUBLISHED
        Alerts(target=f"smtp://127.0.0.1:{mails.port}/?to=a%40example.com").send(message)
        Alerts(target=TOPIC).send(message)
    assert "No file b?.csv" in mails.messages[0]
    assert parse_qs(receiver.requests[0])["Message"] == ["No file b?.csv"]


def test_a_topic_gets_subject_and_text(monkeypatch: pytest.MonkeyPatch) -> None:
    with webhook("/") as receiver:
        receiver.answer = PUBLISHED
        use_sns(monkeypatch, receiver.url)
        for target in (TOPIC, f"sns:{TOPIC}"):
            Alerts(target=target).send(Message("späte\nDaten " + "x" * 200, MESSAGE.text))
    for body in receiver.requests:
        fields = parse_qs(body)
        assert fields["TopicArn"] == [TOPIC]
        assert fields["Message"] == [MESSAGE.text]
        (subject,) = fields["Subject"]
        assert subject.startswith("sp?te Daten x")
        assert len(subject) == 100
    assert len(receiver.requests) == 2


@pytest.mark.parametrize(
    ("status", "answer", "kind"),
    [
        (400, INVALID, AlertMessageError),  # "Message too long"
        (403, DENIED, AlertTargetError),
        (400, THROTTLED, AlertUnavailableError),
        (503, DENIED, AlertUnavailableError),
        (502, b"a proxy's page", AlertUnavailableError),
    ],
)
def test_a_refusal_of_a_topic_is_classed_as_message_target_or_temporary(
    status: int, answer: bytes, kind: type[AlertError], monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook("/") as receiver:
        receiver.status, receiver.answer = status, answer
        use_sns(monkeypatch, receiver.url)
        with pytest.raises(kind) as refused:
            Alerts(target=TOPIC).send(MESSAGE)
    assert refused.value.transient == (kind is AlertUnavailableError)
    assert ("sns:Publish" in str(refused.value)) == (kind is AlertTargetError)


@pytest.mark.parametrize(
    ("scheme", "setting"),
    [
        ("https", "set REQUESTS_CA_BUNDLE"),
        ("arn", "set AWS_CA_BUNDLE"),
        ("smtps", "check its host, port and certificate"),
    ],
)
@pytest.mark.parametrize("goes_away", [False, True])
def test_only_a_certificate_that_is_not_trusted_is_for_somebody_to_correct(
    scheme: str, setting: str, goes_away: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with tls_server(tmp_path, goes_away=goes_away) as url:
        use_sns(monkeypatch, url)
        host = url.removeprefix("https://")
        targets = {
            "https": f"{url}/{SECRET}",
            "arn": TOPIC,
            "smtps": f"smtps://me:{SECRET}@{host}/?to=a%40example.com",
        }
        with pytest.raises(AlertError) as refused:
            Alerts(target=targets[scheme]).send(MESSAGE)
    assert type(refused.value) is (AlertUnavailableError if goes_away else AlertTargetError)
    assert (setting in str(refused.value)) is not goes_away
    assert SECRET not in str(refused.value)


def use_sns(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SNS", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:9/hush",
        "smtp://me:hush@127.0.0.1:9/?to=a%40example.com",
        "https://[hush",  # no URL
        "slack://hush",
        "smtps://me:hush@example.com/",  # to whom?
        "mailto:hush@example.com",
        "arn:aws:sqs:eu-west-1:123456789012:hush",
    ],
)
def test_no_error_and_no_representation_shows_the_target(target: str) -> None:
    alerts = Alerts(target=target)
    assert SECRET not in repr(alerts)
    with pytest.raises(AlertError) as refused:
        alerts.send(MESSAGE)
    assert SECRET not in str(refused.value)
    # Neither does what Dagster would keep of the error with its causes.
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
