"""Everything that can go wrong for a user, as one tree.

    AnabranchError
    ├── MissingExtra          an optional dependency is not installed
    ├── InvalidSettings       settings from the environment or flags are wrong
    │   └── InvalidAddress    a broker's address is not host:port
    ├── PipelineFileError     a pipeline file is wrong (topics.pipeline.file)
    ├── RegistryError         a model or weights cannot be had (models.registry, models.onnx)
    ├── DatasetError          a data file cannot be used (models.data)
    ├── SchemaError           no pipeline can be made of a data file (models.schema)
    ├── HistoryError          entries or snapshots of windows are wrong (models.features)
    ├── TrainingError, EstimatorError, NotExportable, ExportMismatch   (models)
    ├── EngineError           the processes that train cannot be had, or die (models.training)
    ├── EvaluationError       days or a stream cannot be evaluated (models.report)
    ├── ComponentNotLoadable, UnknownComponent, ComponentStopped        (agents)
    ├── LetterNotFound, BadFilter, EditFailed   about dead letters     (agents)
    ├── PromotionError        a version cannot be put into service (agents.control)
    ├── BrokerError
    │   ├── BrokerUnreachable nobody answers at the broker's address
    │   ├── HostUnknown       the name in the broker's address cannot be resolved
    │   ├── ListenerUnreachable the broker tells clients an address that they cannot reach
    │   ├── CertificateRefused, LoginRefused, ProtocolMismatch   broker or we have no trust
    │   ├── NotAuthorized     the broker knows us, but does not let us do that
    │   ├── GrantRefused      the broker adds no ACL (agents.broker)
    │   ├── NoBroker          no broker was named, and no embedded one runs
    │   ├── TopicNotFound     a topic does not exist
    │   ├── TopicMissing      a topic of a pipeline does not exist, or is hidden from us
    │   ├── TopicNotMade      the broker makes no such topic
    │   ├── WriteTimeout      the broker did not confirm what was written
    │   ├── TopicRecreated    a topic is another than the one that was dealt with before
    │   └── TopicMismatch     a topic has another partition count than the pipeline
    ├── WireError             bytes on a stage topic are not a stage batch
    └── LeaseLost             this worker no longer owns the partition it wants to write
        └── NameTaken         another worker has the name that is ours in the group

The command line prints such an error as one line and ends with exit code 1.
"""

from __future__ import annotations

import re
from typing import Any

_USER = re.compile(r"//[^/]*@")


class AnabranchError(Exception):
    """A failure with a message for people: what, where, and what to do."""

    @property
    def lines(self) -> list[str]:
        """What the command line prints."""
        return [f"error: {self}"]

    def __reduce__(self) -> tuple[Any, ...]:
        """So that it comes out of another process; its class takes facts, not the message."""
        return _again, (type(self), self.args), self.__dict__


def _again(kind: type[AnabranchError], args: tuple[Any, ...]) -> AnabranchError:
    error = kind.__new__(kind)
    error.args = args
    return error


class MissingExtra(AnabranchError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra {extra!r}: pip install 'anabranch[{extra}]'")


class InvalidSettings(AnabranchError):
    """Settings from the environment or from flags are wrong."""

    def __init__(self, wrong: list[tuple[str, str]]) -> None:
        # A rule about several settings has no name; its reason names them.
        reasons = [
            reason if name == "ANABRANCH_" else f"{name}: {reason}" for name, reason in wrong
        ]
        super().__init__("; ".join(text.replace("Value error, ", "") for text in reasons))


class InvalidAddress(InvalidSettings):
    """What was given as a broker's address is none."""

    def __init__(self, address: str, reason: str) -> None:
        address = _USER.sub("//", address)  # a password may be in it
        AnabranchError.__init__(
            self,
            f"broker address {address!r} {reason} (it is given by --broker or ANABRANCH_BROKER, as "
            "HOST:PORT; several with commas)",
        )


class BrokerError(AnabranchError):
    """The broker cannot do what the pipeline needs."""


class CertificateRefused(BrokerError):
    """The broker's certificate does not prove that it is the broker."""

    def __init__(self, address: str, cause: str) -> None:
        super().__init__(f"{address} is not trusted: {cause}")


class LoginRefused(BrokerError):
    """The broker does not know the user, or not with that password."""

    def __init__(self, address: str, mechanism: str, cause: str) -> None:
        super().__init__(
            f"{address} refuses the login by {mechanism}: {cause}; check ANABRANCH_SASL_USERNAME "
            "and its password, and which mechanisms the broker takes"
        )


class ProtocolMismatch(BrokerError):
    """The broker ends the connection before it has begun."""

    def __init__(self, address: str, cause: str) -> None:
        super().__init__(
            f"{address} ends the connection at once ({cause}): it may expect TLS where we speak "
            "none, or the reverse (ANABRANCH_TLS), or a certificate of ours "
            "(ANABRANCH_TLS_CERTIFICATE)"
        )


class NotAuthorized(BrokerError):
    """The broker knows who we are, but does not let us do what is needed."""

    def __init__(self, who: str, what: str) -> None:
        super().__init__(
            f"{who}: the broker does not allow it {what}; `anabranch topics PIPELINE --acls` "
            "writes out what each component must be allowed"
        )


class BrokerUnreachable(BrokerError):
    """Nobody answers at the broker's address."""

    def __init__(self, address: str, waited_s: float, cause: str = "") -> None:
        because = f" ({cause})" if cause else ""
        super().__init__(
            f"no Kafka broker answers at {address} after {waited_s:.0f} s{because}; "
            "start one, or name another with --broker or ANABRANCH_BROKER"
        )


class HostUnknown(BrokerError):
    """The name in a broker's address cannot be resolved."""

    def __init__(self, address: str, cause: str) -> None:
        super().__init__(
            f"no address is known for the host of broker {address} ({cause}): check how it is "
            "written in --broker or ANABRANCH_BROKER, and that this machine can resolve it"
        )


class ListenerUnreachable(BrokerError):
    """A broker answers, but tells clients to go on at an address that they cannot reach."""

    def __init__(self, bootstrap: str, node: int | str, address: str, cause: str) -> None:
        super().__init__(
            f"{bootstrap} answers, but tells clients to use broker {node} at {address}, which "
            f"cannot be reached from here ({cause}): set advertised.listeners of that broker to an "
            "address that this machine reaches, or make the name known here (DNS, /etc/hosts)"
        )


class NoBroker(BrokerError):
    """No broker was named, and no embedded one runs."""

    def __init__(self) -> None:
        super().__init__(
            "no broker: start one with `anabranch run PIPELINE`, or name yours with --broker "
            "or ANABRANCH_BROKER"
        )


class TopicNotFound(BrokerError):
    """A topic does not exist."""

    def __init__(self, topic: str, known: list[str]) -> None:
        super().__init__(f"no topic {topic!r}; the broker has: {', '.join(known) or 'none'}")


class TopicMissing(BrokerError):
    """A topic that belongs to a pipeline does not exist, or is hidden from us."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        super().__init__(
            f"topic {topic} is missing: run `anabranch topics PIPELINE --create`, which makes a "
            "pipeline's topics (`anabranch models shadow` that of a challenger); where it is there "
            "but hidden from us, `anabranch topics PIPELINE --acls` says who must be allowed what"
        )


class TopicNotMade(BrokerError):
    """The broker makes no such topic."""

    def __init__(self, topic: str, reason: str) -> None:
        super().__init__(f"the broker does not make topic {topic}: {reason}")


class WriteTimeout(BrokerError):
    """The broker did not confirm what was written."""

    def __init__(self, topic: str, partition: int, waited_s: float) -> None:
        super().__init__(
            f"{topic}[{partition}]: the broker confirmed nothing for {waited_s:.0f} s; some of "
            "the records may be written: a worker that starts again finds them there"
        )


class TopicMismatch(BrokerError):
    """A topic has another partition count than the pipeline file says."""

    def __init__(self, topic: str, partitions: int, wanted: int) -> None:
        self.topic = topic
        super().__init__(
            f"topic {topic} has {partitions} partitions, the pipeline file says {wanted}: every "
            "topic of a pipeline needs the same count. Where nothing has run yet, make the topic "
            "again or change the file; else go on under a new name, as deploy/operations.md says "
            "under 'More partitions'"
        )


class TopicRecreated(BrokerError):
    """A topic is another than the one by its name that workers have dealt with."""

    def __init__(self, topic: str, evidence: str, pipeline: str) -> None:
        self.topic = topic
        anew = f"{evidence}: {topic} was deleted and made anew"
        if topic.rpartition(".")[2] in ("control", "redrive", "reports", "state"):
            super().__init__(f"{anew}, what was on it is gone; start the workers again")
            return
        super().__init__(
            f"{anew}, and new records would be taken for those of before. End the workers of "
            f"{pipeline}, delete its consumer groups ({pipeline}.…) and all of its topics but its "
            f"sources and {pipeline}.control, and start it again; or give the pipeline a new name "
            "(deploy/runbooks/AnabranchTopicMismatch.md has the commands)"
        )


class WireError(AnabranchError):
    """Bytes on a stage topic are not a stage batch."""


class LeaseLost(AnabranchError):
    """This worker may no longer own what it wants to write, see `topics.transport.lease`."""

    def __init__(self, group: str, silent_s: float) -> None:
        super().__init__(
            f"{group}: another worker may own the partitions now (the last heartbeat was answered "
            f"{silent_s:.1f} s ago); what was in hand is not written, its rows are read again"
        )


class NameTaken(LeaseLost):
    """Another worker of the same component has the name that is ours."""

    def __init__(self, group: str, name: str) -> None:
        AnabranchError.__init__(
            self,
            f"{group}: another worker has joined as {name!r} and has the partitions now; each "
            "worker needs an ANABRANCH_INSTANCE_ID of its own, or none",
        )
