"""What every Kafka client is made with, how it ends, and why a broker will not have us."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from typing import Any, Protocol

from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from topics.broker_address import parsed
from topics.errors import (
    BrokerError,
    CertificateRefused,
    InvalidSettings,
    LoginRefused,
    ProtocolMismatch,
)
from topics.file_content import read_file
from topics.kafka.aiokafka_fixes import break_as_connections_do, read_tolerantly
from topics.settings import BrokerSettings, SecuritySettings

log = logging.getLogger(__name__)

read_tolerantly()  # every consumer that is made with these options
break_as_connections_do()

CLOSE_TIMEOUT_S = 3.0
_PROBE_S = 5.0
_MOST_PASSWORD_BYTES = 1 << 16
_LOGIN_ERRORS = (
    AuthenticationFailedError,
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
_HOST_MISMATCH = 62  # X509_V_ERR_HOSTNAME_MISMATCH; 64 is that of an IP address
_IP_MISMATCH = 64
_EXPIRED = 10


def client_options(settings: BrokerSettings) -> dict[str, Any]:
    """How an aiokafka client reaches the broker."""
    return {"bootstrap_servers": settings.addresses, **security_options(settings)}


def security_options(settings: BrokerSettings) -> Mapping[str, Any]:
    """How an aiokafka client protects its connections. Raises InvalidSettings.

    The embedded broker listens to this machine alone, and knows neither TLS nor users.
    """
    security = settings.security
    if settings.embedded or not (security.tls or security.sasl_mechanism):
        return {"security_protocol": "PLAINTEXT"}
    context = _tls(security) if security.tls else None
    if security.sasl_mechanism is None:
        return {"security_protocol": "SSL", "ssl_context": context}
    return {
        "security_protocol": "SASL_SSL" if security.tls else "SASL_PLAINTEXT",
        "ssl_context": context,
        "sasl_mechanism": security.sasl_mechanism,
        "sasl_plain_username": security.sasl_username,
        "sasl_plain_password": _password(security),
    }


def _tls(security: SecuritySettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=security.tls_ca)
    except (ssl.SSLError, OSError) as exc:
        raise InvalidSettings([("ANABRANCH_TLS_CA", f"no PEM certificates: {exc}")]) from exc
    if security.tls_certificate is None:
        return context
    secret = security.tls_key_password
    # Always a password: OpenSSL would ask for one on the terminal.
    password = secret.get_secret_value() if secret is not None else ""
    try:
        context.load_cert_chain(security.tls_certificate, security.tls_key, password)
    except (ssl.SSLError, OSError) as exc:
        reason = f"no certificate with its key, or a wrong ANABRANCH_TLS_KEY_PASSWORD: {exc}"
        raise InvalidSettings([("ANABRANCH_TLS_CERTIFICATE", reason)]) from exc
    return context


def _password(security: SecuritySettings) -> str:
    if security.sasl_password is not None:
        return security.sasl_password.get_secret_value()
    try:
        file = security.sasl_password_file
        text = read_file(file, _MOST_PASSWORD_BYTES).decode() if file else ""
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidSettings([("ANABRANCH_SASL_PASSWORD_FILE", type(exc).__name__)]) from exc
    if not (lines := text.splitlines()) or not lines[0]:
        raise InvalidSettings([("ANABRANCH_SASL_PASSWORD_FILE", "its first line is empty")])
    return lines[0]


class Client(Protocol):
    """A started aiokafka consumer or producer."""

    async def stop(self) -> None:
        """Send what is left, then disconnect."""


async def close_client(client: Client) -> None:
    """Stop *client*; after CLOSE_TIMEOUT_S it is left as it is.

    One whose broker is gone would wait for it for ever.
    """
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await client.stop()
    except asyncio.CancelledError:
        # A fetch that waits to try again raises it out of aiokafka's stop: nobody has cancelled us.
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise
    except TimeoutError:
        log.warning("%s did not disconnect within %.0f s", type(client).__name__, CLOSE_TIMEOUT_S)


async def refusal(settings: BrokerSettings) -> BrokerError | None:
    """Why a broker that is there will not have us; None when none is there, or all is well.

    aiokafka only says that it could not connect.
    """
    options = client_options(settings)
    for address in options.pop("bootstrap_servers"):
        host, port = parsed(address)
        try:
            async with asyncio.timeout(_PROBE_S):
                connection = await create_conn(host, port, **options)
            connection.close()
        except ssl.SSLCertVerificationError as exc:
            return CertificateRefused(address, _reason(exc))
        except _LOGIN_ERRORS as exc:
            return LoginRefused(address, options["sasl_mechanism"], str(exc))
        except (ssl.SSLError, ConnectionResetError) as exc:
            return ProtocolMismatch(address, str(exc) or type(exc).__name__)
        except KafkaError as exc:
            if "closed" in str(exc):
                return ProtocolMismatch(address, str(exc))
        except OSError:
            continue
    return None


def _reason(exc: ssl.SSLCertVerificationError) -> str:
    """What is wrong with the broker's certificate, and what to do."""
    if exc.verify_code in (_HOST_MISMATCH, _IP_MISMATCH):
        return f"{exc.verify_message}; connect to a name that is in it"
    if exc.verify_code == _EXPIRED:
        return f"{exc.verify_message}; the broker needs a new one"
    return f"{exc.verify_message}; ANABRANCH_TLS_CA names the authorities that are trusted"
