# SPDX-License-Identifier: Apache-2.0
"""Mail to those who look after a key: what happens next and when, and the one-time link.

In: a mail server of the configuration, addresses, sentences. Out: one message, or `MailFault`. Blocking; every wait has an
end. The link is in the mail alone: whoever reads the mail first has the key, which is why it works once.
"""

import smtplib
import socket
import ssl
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

import msgspec

TIMEOUT = 15.0  # seconds that a server may take for each answer


class MailFault(Exception):
    """A message was not taken. The text holds nothing of it."""


class MailSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A mail server.

    Attributes:
        tls: `starttls`, `tls` (from the first byte) or `none`.
        password: a reference, `env:NAME` or `file:PATH`, looked up at each use.
    """

    host: str
    port: int = 587
    tls: str = "starttls"
    sender: str = "beffroi@localhost"
    user: str = ""
    password: str | None = None
    ca_file: str | None = None


def send(
    settings: MailSettings, recipients: tuple[str, ...], subject: str, text: str, look_up: Callable[[str], str]
) -> None:
    """Hand one message to the server.

    Raises:
        MailFault: it did not take it, or not for everybody.
    """
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = settings.sender, ", ".join(recipients), subject
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=settings.sender.rpartition("@")[2] or "localhost")
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no robot answers
    # As it is where it can be: a link that is broken across lines by an encoding is one that some programs cannot follow.
    message.set_content(text, cte="7bit" if text.isascii() else "quoted-printable")
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        with _connect(settings, context) as server:
            if settings.tls == "starttls":
                server.starttls(context=context)
            if settings.user:
                server.login(settings.user, look_up(settings.password or ""))
            refused = server.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        raise MailFault(f"the mail server {settings.host} did not take a message: {_reason(error)}") from None
    if refused:
        raise MailFault(f"the mail server {settings.host} did not take a message for {', '.join(sorted(refused))}")


def _connect(settings: MailSettings, context: ssl.SSLContext) -> smtplib.SMTP:
    name = socket.gethostname()[:60] or "localhost"
    if settings.tls == "tls":
        return smtplib.SMTP_SSL(settings.host, settings.port, local_hostname=name, timeout=TIMEOUT, context=context)
    return smtplib.SMTP(settings.host, settings.port, local_hostname=name, timeout=TIMEOUT)


def _reason(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return f"no such recipient: {', '.join(sorted(error.recipients))}"
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error
        return f"{error.smtp_code} {said.decode('utf-8', 'replace') if isinstance(said, bytes) else said}"[:200]
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
