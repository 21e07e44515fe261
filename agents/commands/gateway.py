"""`anabranch gateway`: events and decisions over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.event_loop import run_async, until_signalled
from agents.commands.monitoring import monitored
from agents.commands.options import (
    BrokerOption,
    JsonOption,
    MetricsHostOption,
    MetricsPortOption,
    PipelineArgument,
    open_registry,
    pipeline_file,
)
from agents.commands.terminal import print_json, stderr

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

    from agents.gateway.access.access_tokens import TokenVerifier
    from agents.gateway.access.guard import Guard
    from agents.gateway.gateway_process import Monitor
    from agents.gateway.inference.grpc_port import GrpcPort
    from agents.gateway.limits import Limits
    from topics.pipeline import PipelineFile
    from topics.settings import BrokerSettings


def gateway(
    pipeline: PipelineArgument,
    host: Annotated[
        str, typer.Option("--host", metavar="HOST", help="Where it listens.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="0 for any free port.")
    ] = 8080,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            metavar="PORT",
            help="Serve the Open Inference Protocol over gRPC here, too; 0 for any free port.",
        ),
    ] = None,
    broker: BrokerOption = None,
    deadline_ms: Annotated[
        int,
        typer.Option(
            min=1,
            max=600_000,
            metavar="MS",
            help="How long a request waits for its decisions, unless it says so itself.",
        ),
    ] = 5000,
    max_in_flight: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Events without an answer; more get 429."),
    ] = 5000,
    max_events: Annotated[
        int, typer.Option(min=1, metavar="N", help="Events of a request; more get 413.")
    ] = 1000,
    max_body: Annotated[
        int, typer.Option(min=1024, metavar="BYTES", help="Of a request; more get 413.")
    ] = 4 * 2**20,
    max_rate: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            metavar="N",
            help="Requests a second of each key, or each address without keys; more get 429.",
        ),
    ] = None,
    max_streams: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Streams of decisions at the same time; more get 429."
        ),
    ] = 256,
    stream_buffer: Annotated[
        int,
        typer.Option(
            min=1024,
            metavar="BYTES",
            help="Decisions that may wait for one reader of a stream; with more it is sent away.",
        ),
    ] = 4 * 2**20,
    keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Who may ask: a line for each key, with its digest."),
    ] = None,
    new_key: Annotated[
        str | None,
        typer.Option("--new-key", metavar="NAME", help="Add a key to --keys, print it, and end."),
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE",
            help="Of a new key: publish, read or admin (may be given several times). "
            "[default: publish and read]",
        ),
    ] = None,
    without_keys: Annotated[
        bool,
        typer.Option("--without-keys", help="Listen to other machines though nobody needs a key."),
    ] = False,
    jwks: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|URL",
            help="Take tokens (JWT) that are signed by one of these public keys: a JSON Web Key "
            "Set, a file or an https address.",
        ),
    ] = None,
    jwt_issuer: Annotated[
        str | None, typer.Option(metavar="ISS", help="Who has to have issued a token.")
    ] = None,
    jwt_audience: Annotated[
        str | None, typer.Option(metavar="AUD", help="For whom a token has to be.")
    ] = None,
    jwt_roles_claim: Annotated[
        str,
        typer.Option(
            metavar="CLAIM",
            help="Where a token has its roles, publish, read or admin; `scope` counts, too.",
        ),
    ] = "roles",
    tls_certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Speak HTTPS, with this PEM certificate.")
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its private key, if it is not in the same file."),
    ] = None,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    as_json: JsonOption = False,
    end_with_stdin: Annotated[
        bool, typer.Option("--end-with-stdin", hidden=True, help="End when stdin is closed.")
    ] = False,
) -> None:
    """Answer questions over HTTP: publish an event, wait for its decision, answer with it.

    POST /predict takes one event or a list and answers with the decision records, in order. GET
    /decisions?source=TOPIC/PARTITION/OFFSET and /decisions/EVENT_ID look back, /decisions/stream
    sends decisions as they are made (server-sent events). /openapi.json says it all, /healthz,
    /readyz and /metrics are for monitoring; --metrics-port serves them without a key, apart.
    Several gateways may run side by side.

    Examples:
      anabranch gateway card-fraud

      anabranch gateway card-fraud --broker kafka:9092 --port 8081 --deadline-ms 2000

      anabranch gateway card-fraud --grpc-port 8081

      anabranch gateway card-fraud --keys keys.txt --new-key shop --role publish

      anabranch gateway card-fraud --host 0.0.0.0 --keys keys.txt --tls-certificate gateway.pem

      anabranch gateway card-fraud --jwks keys.json --jwt-issuer ISS --jwt-audience card-fraud

      curl -N 'localhost:8080/decisions/stream?decision=decline&min_score=0.9'

      curl -d @event.json -H 'content-type: application/json' localhost:8080/predict
    """  # fmt: skip
    from agents.broker import needed_broker
    from agents.gateway.access.api_keys import ROLES, ApiKeys, add_key
    from agents.gateway.limits import Limits
    from topics.errors import MissingExtra

    if new_key is not None:
        if keys is None:
            raise typer.BadParameter("give the file too, --keys FILE", param_hint="--new-key")
        roles = [known for known in ROLES if known in (role or ("publish", "read"))]
        if unknown := {*(role or ())} - {*ROLES}:
            raise typer.BadParameter(
                f"{', '.join(sorted(unknown))}: a role is {', '.join(ROLES)}", param_hint="--role"
            )
        typer.echo(add_key(keys, new_key, roles))
        return
    try:
        from agents.gateway.access.guard import Guard, RateLimit
        from agents.gateway.access.tls import Unguarded, is_loopback, server_tls
        from agents.gateway.server import listening

        if grpc_port is not None:
            # Or gRPC says on stderr what every caller gets wrong.
            os.environ.setdefault("GRPC_VERBOSITY", "NONE")
            from agents.gateway.inference.grpc_port import Certificate, GrpcPort
    except ModuleNotFoundError as exc:
        raise MissingExtra("anabranch gateway", "gateway") from exc
    if tls_key is not None and tls_certificate is None:
        raise typer.BadParameter("give --tls-certificate too", param_hint="--tls-key")

    file, settings = pipeline_file(pipeline), needed_broker(broker)
    limits = Limits(
        body_bytes=max_body, events=max_events, in_flight=max_in_flight,
        deadline_s=deadline_ms / 1000,
        longest_deadline_s=max(deadline_ms / 1000, Limits().longest_deadline_s),
        streams=max_streams, stream_bytes=stream_buffer,
    )  # fmt: skip
    tokens = _tokens(jwks, jwt_issuer, jwt_audience, jwt_roles_claim)
    guard = Guard(
        None if keys is None else ApiKeys(keys),
        None if max_rate is None else RateLimit(max_rate),
        tokens,
    )
    tls = None if tls_certificate is None else server_tls(tls_certificate, tls_key)
    with listening(host, port) as listener:
        is_guarded = keys is not None or tokens is not None
        if not is_guarded and not without_keys and not is_loopback(listener):
            raise Unguarded(host)
        if is_guarded and tls is None and not is_loopback(listener):
            stderr.print("keys travel in clear: give --tls-certificate, or let what is in front")
        at = None if metrics_port is None else (metrics_host, metrics_port)
        monitor = None if at is None else partial(monitored, at, file)
        grpc = None
        if grpc_port is not None:
            files = None if tls_certificate is None else Certificate(tls_certificate, tls_key)
            grpc = partial(GrpcPort, host, grpc_port, limits, files)
        run_async(
            _gateway(
                file, settings, listener, limits, guard, tls, grpc, monitor,
                as_json=as_json, end_with_stdin=end_with_stdin,
            )
        )  # fmt: skip


def _tokens(
    jwks: str | None, issuer: str | None, audience: str | None, roles_claim: str
) -> TokenVerifier | None:
    """What verifies tokens; None where none are taken. Raises KeySetUnusable."""
    if jwks is None:
        if issuer or audience:
            raise typer.BadParameter("give --jwks too", param_hint="--jwt-issuer, --jwt-audience")
        return None
    if not issuer or not audience:
        raise typer.BadParameter(
            "give --jwt-issuer and --jwt-audience too: whoever has a token of the same issuer for "
            "something else may not ask here",
            param_hint="--jwks",
        )
    from agents.gateway.access.access_tokens import TokenVerifier
    from agents.gateway.access.key_set import KeyAddress, KeyFile

    source = KeyAddress(jwks) if "://" in jwks else KeyFile(Path(jwks))
    return TokenVerifier(source, issuer, audience, roles_claim)


async def _gateway(
    file: PipelineFile, settings: BrokerSettings, listener: socket.socket, limits: Limits,
    guard: Guard, tls: ssl.SSLContext | None, grpc: Callable[[], GrpcPort] | None,
    monitor: Monitor | None, *, as_json: bool, end_with_stdin: bool,
) -> None:  # fmt: skip
    from agents.gateway.gateway_process import limits_for, run_gateway

    stopping = asyncio.Event()
    until_signalled(stopping)
    if end_with_stdin:
        _until_stdin_ends(stopping)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    url = f"{'http' if tls is None else 'https'}://{shown}:{port}"
    if not as_json:
        stderr.print(f"{file.pipeline.name} on {url}, from {settings.broker}", soft_wrap=True)

    await guard.open()

    port_of_grpc = None
    about = {"pipeline": file.pipeline.name, "broker": settings.broker, "url": url}
    if grpc is not None:
        port_of_grpc = grpc()
        about["grpc"] = f"{shown}:{port_of_grpc.number}"
        if not as_json:
            stderr.print(f"gRPC on {about['grpc']}", soft_wrap=True)

    def up() -> None:
        if as_json:
            print_json(json.dumps(about))
            return
        stderr.print(f"ready: POST {url}/predict; Ctrl-C stops", soft_wrap=True)

    await run_gateway(
        file, open_registry(), settings, listener, stopping,
        limits=limits_for(settings, limits), guard=guard, up=up, tls=tls,
        grpc=port_of_grpc, monitor=monitor,
    )  # fmt: skip


def _until_stdin_ends(stopping: asyncio.Event) -> None:
    """Set *stopping* when whoever has started this process has gone, however it went."""
    handle = sys.stdin.fileno()

    def look() -> None:
        if not os.read(handle, 1024):
            asyncio.get_running_loop().remove_reader(handle)
            stopping.set()

    asyncio.get_running_loop().add_reader(handle, look)
