"""How an event ended, derived again from what a pack holds, and held against what was recorded.

What models say comes out the same to the bit where processor and onnxruntime are alike, else within
1e-6; what is weighed, and which decision that is, is plain arithmetic and the same everywhere. What
stands at the roots cannot be derived from one event, and is taken as it was recorded: windows over
the past of its keys, and what components of your own say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from agents.evidence.contents import (
    BACKGROUND,
    EXPLANATION,
    PIPELINE,
    POLICY,
    WEIGHTS,
    Contents,
    model_entry,
)
from agents.evidence.errors import CodeNotPacked
from agents.explanations import (
    DecisionExplainer,
    Explanation,
    RecordedEvent,
    ShownFields,
    model_of,
    named,
)
from agents.weigh import ExploredRows, Explorer
from models.component import Component
from models.features import FeatureVector
from models.onnx.session import ModelSession
from models.registry import Background, card_digest, digest_of
from models.weighting import combine
from topics.events import DecodedEvents, SourceDecoder, as_float32
from topics.pipeline import ComponentSpec, Explore, Policy, in_order
from topics.records import (
    ORIGIN_HEADER,
    Decision,
    ModelRef,
    Source,
    StageBatch,
    original_digest,
    rfc3339_time,
    source_id,
)
from topics.redrive import producer_headers

TOLERANCE = 1e-6


class Finding(BaseModel):
    """What came of one check."""

    model_config = ConfigDict(frozen=True)

    what: str
    holds: bool
    said: str
    """What has been shown, or what differs."""


class Differs(ValueError):
    """Something is not as it was recorded."""


@dataclass(slots=True)
class Rederivation:
    """Derives a pack's event again."""

    contents: Contents
    bits: bool = True
    """All that models have said so far came out the same to the bit."""
    largest: float = 0.0
    """The largest difference so far."""
    derived: list[str] = field(default_factory=list)
    """What models, or features of the event's own fields, have said again."""
    _sessions: dict[str, ModelSession] = field(default_factory=dict)

    def findings(self) -> Iterator[Finding]:
        """What is found, check by check."""
        checks: list[tuple[str, Callable[[], str]]] = [("records", self._records)]
        checks += [("models", self._models), ("features", self._features)]
        checks += [("signals", self._signals)]
        try:
            decision = self.contents.decision
        except Exception as exc:
            yield failed("decision", exc)
            return
        if decision is None:
            checks += [("dead letter", self._dead_letter)]
        else:
            checks += [("event", partial(self._event, decision))]
            checks += [("named files", partial(self._provenance, decision))]
            checks += [("score", partial(self._score, decision))]
            checks += [("decision", partial(self._decided, decision))]
            if EXPLANATION in self.contents.names:
                checks += [("explanation", partial(self._explained, decision))]
        for what, check in checks:
            try:
                yield Finding(what=what, holds=True, said=check())
            except Exception as exc:  # entries of anybody's making, models among them
                yield failed(what, exc)

    def _records(self) -> str:
        """They are about this one event."""
        contents, source = self.contents, self.contents.source
        if contents.event.place != source:
            raise Differs(f"the event in it is {named(contents.event.place)}")
        of_decision = contents.decision and contents.decision.source
        if of_decision not in (None, source):
            raise Differs("the decision is about another event")
        for letter in self.contents.letters:
            if letter.source != (source.partition, source.offset):
                raise Differs(f"the dead letter of attempt {letter.attempt} is about another event")
        count = len(contents.stages) + len(contents.redrives) + len(contents.records.letters)
        return f"the event, {count} about it, and how it ended, all at {named(source)}"

    def _models(self) -> str:
        """Each that has spoken is there, byte by byte."""
        digests = set[str]()
        for name, row in self.contents.rows.items():
            if self.contents.pipeline.component(name).model is None or not row.present[0]:
                continue
            self._session(digest := model_of(row).digest)
            digests.add(digest)
        if not digests:
            return "none has spoken"
        return f"{len(digests)}, those that the records name by SHA-256"

    def _session(self, digest: str) -> ModelSession:
        if digest not in self._sessions:
            name = model_entry(digest)
            content = self.contents.read(name)
            if digest_of(content) != digest:
                raise Differs(f"{name} has another SHA-256 than its name and the records say")
            self._sessions[digest] = ModelSession.of(content, name)
        return self._sessions[digest]

    def _decoded(self, attempt: int) -> DecodedEvents:
        """The event as workers took it in at that attempt."""
        contents = self.contents
        record: Any = contents.event_of(attempt) or contents.event.record
        seconds = (self._clock_ms(record.timestamp) + 0.5) / 1000
        decoder = SourceDecoder(
            contents.pipeline.event, contents.pipeline.partitions, lambda: seconds
        )
        return decoder.decode([record])

    def _clock_ms(self, published_ms: int) -> int:
        """What a worker's clock showed, as far as event times are held against it.

        Where that mattered, the event's time was set to it, or to the record's.
        """
        if (clipped_ms := self._clipped_ms()) is not None:
            return clipped_ms
        records = self.contents.records
        ends = [*records.letters, *([records.decided] if records.decided else [])]
        return max([published_ms, *(int(each.record.timestamp) for each in ends)])

    def _clipped_ms(self) -> int | None:
        """What the event's time was set to, where a record says that it was later than can be."""
        for row in self.contents.rows.values():
            if row.rows.clipped is not None and row.rows.clipped[0]:
                return int(row.rows.event_time_ms[0])
        return None

    def _features(self) -> str:
        """Those of the event's own fields come out of the raw event."""
        pipeline, rows = self.contents.pipeline, self.contents.rows
        own, recorded = list[str](), list[str]()
        for spec in pipeline.components:
            row = rows.get(spec.name)
            if row is None or not row.present[0] or spec.features is None:
                continue
            for feature, columns in _columns(spec):
                (own if feature.over is None else recorded).extend(feature.columns)
                if feature.over is None:
                    values = FeatureVector([feature]).compute(self._fields())
                    self._compare(f"{spec.name}: {feature.name}", values[0], row.output[0, columns])
        if own:
            self.derived.append("features")
        windows = f"; taken as recorded: {', '.join(recorded)}" if recorded else ""
        return f"{', '.join(own) or 'none'} derived from the raw event again{windows}"

    def _fields(self) -> Mapping[str, Any]:
        """The event's fields, at the event time that counts."""
        decoded = self._decoded(max(1, self.contents.attempt))
        if not len(decoded.valid):
            raise Differs(f"the raw event is not valid: {decoded.failures[0].reason}")
        return decoded.columns

    def _signals(self) -> str:
        """What models say of what was recorded before them."""
        pipeline, rows = self.contents.pipeline, self.contents.rows
        again, recorded = list[str](), list[str]()
        for name in in_order(pipeline):
            row = rows.get(name)
            if row is None or not row.present[0]:
                continue
            spec = pipeline.component(name)
            if spec.model is None:
                recorded.append(name)
                continue
            session = self._session(model_of(row).digest)
            signal = session.signal(self._model_input(spec, row))
            self._compare(f"the signal of {name}", signal, row.signal)
            if spec.features is None:
                self._compare(f"the output of {name}", row.signal, row.output[0])
            again.append(name)
        said = "none derived again"
        if again:
            self.derived.append("signals")
            how = "to the bit" if self.bits else f"within {self.largest:.1g}"
            said = f"{', '.join(again)} derived again, {how}"
        rest = f"; taken as recorded: {', '.join(recorded)}" if recorded else ""
        return said + rest

    def _model_input(self, spec: ComponentSpec, row: StageBatch) -> Any:
        if spec.features is not None:
            return as_float32(row.output)
        rows = self.contents.rows
        for name in spec.inputs:
            if name not in rows or not rows[name].present[0]:
                raise Differs(f"{spec.name} has spoken, and {name}, which it reads, has not")
        return np.concatenate([as_float32(rows[name].output) for name in spec.inputs], axis=1)

    def _compare(self, what: str, again: Any, recorded: Any) -> None:
        """Raises Differs for what is further apart than 1e-6."""
        if np.shape(again) != np.shape(recorded):
            raise Differs(f"{what} has {np.shape(again)} values, recorded are {np.shape(recorded)}")
        if np.array_equal(again, recorded, equal_nan=True):
            return
        apart = np.abs(np.asarray(again, np.float64) - np.asarray(recorded, np.float64))
        scale = np.maximum(1, np.abs(np.asarray(recorded, np.float64)))
        largest = float(np.max(apart / scale))
        if not largest <= TOLERANCE:
            first = np.ravel(again)[np.argmax(np.ravel(apart))]
            raise Differs(
                f"{what} comes out as {first:.9g}, "
                f"recorded is {np.ravel(recorded)[np.argmax(np.ravel(apart))]:.9g}"
            )
        self.bits, self.largest = False, max(self.largest, largest)

    def _event(self, decision: Decision) -> str:
        """The decision is about what the raw event says."""
        contents = self.contents
        record = contents.records.decided
        headers = dict(record.record.headers) if record is not None else {}
        source = decision.source
        if headers.get("ce_id") != source_id(*_place(source)).encode():
            raise Differs("the header ce_id of the decision record names another event")
        decoded = self._decoded(contents.attempt)
        if decoded.failures:
            raise Differs(f"the raw event is not valid: {decoded.failures[0].reason}")
        if decoded.ids[0].decode(errors="replace") != decision.event_id:
            raise Differs(f"the raw event has the id {decoded.ids[0].decode(errors='replace')!r}")
        origin = Source.of(dict(contents.event.record.headers).get(ORIGIN_HEADER) or b"")
        if origin != decision.origin:
            raise Differs("the raw event is a copy of another one than the decision says")
        happened = rfc3339_time(int(decoded.times_ms[0]))
        if happened != decision.event_time:
            raise Differs(f"the raw event happened at {happened}")
        if (self._clipped_ms() is None) == decision.clipped:
            raise Differs("decision and records disagree on whether its time was set back")
        if decision.clipped:
            return f"the id is that of the raw event; its time was set back to {happened}"
        return f"id and time of {decision.event_id} are those of the raw event"

    def _provenance(self, decision: Decision) -> str:
        """Pipeline file, policy and weights are those that the decision names by digest."""
        named = decision.provenance
        if named is None:
            return "the decision names no pipeline file: it is from before decisions did"
        digests = {PIPELINE: named.pipeline_file}
        if decision.score is not None:
            digests[POLICY] = named.policy
        if named.weights is not None:
            digests[WEIGHTS] = named.weights
        for name, digest in digests.items():
            content = self.contents.read(name)
            if (card_digest(content) if name == WEIGHTS else digest_of(content)) != digest:
                raise Differs(f"{name} is another one than the decision names")
        return f"{', '.join(digests)} are those that the decision names by SHA-256"

    def _score(self, decision: Decision) -> str:
        """Σ weight · signal, with what was present."""
        names = self.contents.pipeline.weighting.inputs
        if decision.decided_by == "late":
            if decision.score is not None or decision.contributions:
                raise Differs("it was decided without a score, and has one")
            return "there is none: some stage was late"
        signals = np.array([[self._signal(name, decision) for name in names]], np.float32)
        present = np.array([[name in decision.contributions for name in names]])
        weighed = combine(signals, present, self._weights(decision))
        for place, name in enumerate(names):
            share = decision.contributions.get(name)
            said = (share.weight, share.contribution) if share else (0.0, 0.0)
            if said != (weighed.weights[0, place], weighed.contributions[0, place]):
                raise Differs(f"weight or contribution of {name} come out otherwise")
        missing = [name for name in names if name not in decision.contributions]
        if decision.missing != missing or decision.degraded != bool(missing):
            raise Differs(f"missing is {', '.join(missing) or 'nothing'}, which it does not say")
        if decision.score != float(weighed.scores[0]):
            raise Differs(f"it comes out as {weighed.scores[0]:.17g}, recorded is {decision.score}")
        for name in missing:
            row = self.contents.rows.get(name)
            if row is not None and row.present[0] and decision.decided_by == "score":
                raise Differs(f"{name} is missing in it, and its record has a signal")
        without = f", without {', '.join(missing)}" if missing else ""
        return f"{decision.score:.6f} = Σ weight · signal, to the bit{without}"

    def _signal(self, name: str, decision: Decision) -> float:
        """What a stage said, by its record and the decision alike; 0 where it is missing."""
        share, row = decision.contributions.get(name), self.contents.rows.get(name)
        if share is None:
            return 0.0
        if row is None or not row.present[0]:
            raise Differs(f"{name} was weighed, and no record of what it said is in the pack")
        if ModelRef(share.model, share.digest, share.variant) != model_of(row):
            raise Differs(f"the decision names another model of {name} than its record")
        if share.signal != float(row.signal[0]):
            raise Differs(f"the decision has another signal of {name} than its record")
        return share.signal

    def _weights(self, decision: Decision) -> Any:
        """α by stage. Raises Differs."""
        weighting, packed = self.contents.pipeline.weighting, self.contents.weights
        if decision.weights == 0:
            values = weighting.fixed_weights
            if values is None:
                raise Differs(
                    "the weights were fixed in a pipeline file, and not in the packed one"
                )
        else:
            values = packed.card.values if packed is not None else {}
        if set(values) != set(weighting.inputs):
            raise Differs("the weights are of other stages than the pipeline file weighs")
        return np.array([values[name] for name in weighting.inputs])

    def _decided(self, decision: Decision) -> str:
        """By the score and the thresholds, or as the file says of what is late."""
        contents = self.contents
        if decision.score is None:
            fallback = contents.pipeline.weighting.fallback
            if decision.decision != fallback:
                raise Differs(f"for what is late the pipeline file has {fallback or 'nothing'}")
            return f"{fallback} is what the pipeline file has for what is late"
        policy = Policy.model_validate_json(contents.read(POLICY))
        name = f"{contents.pipeline.name}@{policy.version}"
        if name != decision.policy:
            raise Differs(f"{decision.policy} has decided, and {name} is packed")
        decisions = [policy.otherwise, *policy.thresholds]
        reached = np.searchsorted([*policy.thresholds.values()], [decision.score], "right")
        by_policy = decisions[int(reached[0])]
        if by_policy != decision.by_policy:
            raise Differs(f"{name} gives {by_policy}, not {decision.by_policy}")
        said = (decision.explored, decision.instead_of, decision.propensity)
        if policy.explore is None:
            if said != (False, None, 1.0):
                raise Differs(f"{name} explores nothing, and the decision says that it was")
            return f"{decision.decision} by {name}"
        explored = self._explored(decision, policy.explore, decisions, reached)
        fields = explored.said(decisions).get(0, {})
        if said != (
            fields.get("explored", False), fields.get("instead_of"), fields.get("propensity", 1.0)
        ) or decisions[int(explored.decided[0])] != decision.decision:  # fmt: skip
            raise Differs(f"exploration by {name} comes out otherwise: {fields or 'it has none'}")
        chance = f", propensity {decision.propensity:g}" if fields else ""
        instead = f", explored instead of {by_policy}" if decision.explored else ""
        return f"{decision.decision} by {name}{instead}{chance}"

    def _explored(
        self, decision: Decision, explore: Explore, names: Sequence[str], reached: Any
    ) -> ExploredRows:
        """What exploration makes of the event; its fields are those of the raw event."""
        source, columns = decision.source, self._fields()
        sent = {name for row in self.contents.rows.values() for name in row.rows.fields}
        rows = replace(
            next(iter(self.contents.rows.values())).rows,
            offsets=np.array([source.offset]),
            fields={
                name: np.asarray(columns[name], np.float64)
                for name in explore.up_to
                if name in sent and name in columns
            },
        )  # fmt: skip
        explorer = Explorer(explore, decision.pipeline, source.topic, names)
        return explorer.explore(source.partition, rows, reached, np.ones(1, np.bool_))

    def _dead_letter(self) -> str:
        """The last one is about this event, and for a cause that the records show."""
        *_, letter = self.contents.letters
        contents, record = self.contents, self.contents.event.record
        event: Any = contents.event_of(letter.attempt) if letter.attempt > 1 else record
        if not letter.original and event is not None:
            theirs = producer_headers(event.headers)
            if (letter.key, letter.value, letter.headers) != (event.key, event.value, theirs):
                raise Differs("the dead letter holds another event than the source record")
        if letter.digest and event is not None:
            digest = original_digest(event.key, event.value, event.headers)
            if letter.digest != digest:
                raise Differs("the dead letter was cut from another event than the source record")
        where = f"attempt {letter.attempt}: {letter.stage}: {letter.error}"
        cause = self._cause(letter.attempt)
        if cause is None:
            return f"{where}; why is as the letter says, nothing else in the pack tells"
        error, reason = cause
        if letter.error != error or not letter.reason.startswith(reason):
            said = f"{letter.error}: {letter.reason}"
            raise Differs(f"the letter says {said}; what is recorded comes to {error}: {reason}")
        return f"{where}, which comes out again"

    def _cause(self, attempt: int) -> tuple[str, str] | None:
        """Error and reason: of the raw event, else the first failure in the order of stages."""
        decoded = self._decoded(attempt)
        if decoded.failures:
            return decoded.failures[0].error, decoded.failures[0].reason
        rows = self.contents.stages if attempt == 1 else {}
        for name in self.contents.pipeline.weighting.inputs:
            row = rows.get(name)
            if row is not None and row.failures:
                return row.failures[0].error, row.failures[0].reason
        return None

    def _explained(self, decision: Decision) -> str:
        """Base and groups come out again, and sum to the score."""
        packed = self.contents.explanation
        if packed is None or decision.score is None:
            raise Differs("there is an explanation, and no score")
        explainer, event = self._explainer(decision)
        again = explainer.explained(event)
        total = packed.base + sum(each.value for each in packed.groups)
        if not abs(total - decision.score) <= TOLERANCE:
            raise Differs(f"base and groups sum to {total:.9g}, the score is {decision.score:.9g}")
        if not _alike(packed, again):
            raise Differs("base or groups come out otherwise")
        if packed != explainer.retold(packed, event):
            raise Differs("ranks, shares or words come out otherwise")
        return f"base and {len(packed.groups)} groups come out again, and sum to the score"

    def explanation(self, decision: Decision) -> Explanation:
        """Why it was decided so.

        Raises NotExplained, RegistryError, CodeNotPacked and ValueError.
        """
        explainer, event = self._explainer(decision)
        return explainer.explained(event)

    def _explainer(self, decision: Decision) -> tuple[DecisionExplainer, RecordedEvent]:
        """What explains it, and what it is given."""
        contents, explainer = self.contents, DecisionExplainer(self.contents.pipeline, self)
        rows = {name: contents.rows[name] for name in explainer.wanted(decision)}
        shown = ShownFields(contents.pipeline).of([contents.event.record])
        fields = shown.get(contents.source, {})
        return explainer, RecordedEvent(decision, rows, fields)

    def background(self, weights: int) -> tuple[Background, str]:  # noqa: ARG002
        """The packed background rows, if they are those of the packed weights."""
        content, packed = self.contents.read(BACKGROUND), self.contents.weights
        if packed is None or packed.background != digest_of(content):
            raise Differs("the background rows are not those of the weights")
        return self.contents.background, packed.background

    def session(self, component: str, model: ModelRef) -> ModelSession:  # noqa: ARG002
        """The packed model."""
        return self._session(model.digest)

    def pure_component(self, name: str, code: ModelRef) -> Component:  # noqa: ARG002
        """Raises CodeNotPacked: what a pack of anybody's making names is not imported."""
        raise CodeNotPacked(name)


def _columns(spec: ComponentSpec) -> Iterator[tuple[Any, slice]]:
    """Each feature, and where its columns are in the component's output."""
    at = 0
    for feature in spec.features or []:
        yield feature, slice(at, at := at + len(feature.columns))


def _place(source: Source) -> tuple[str, int, int]:
    return source.topic, source.partition, source.offset


def _alike(packed: Explanation, again: Explanation) -> bool:
    """The same groups with the same values, up to rounding."""
    if packed == again:
        return True
    groups = [{each.group: each for each in one.groups} for one in (packed, again)]
    if groups[0].keys() != groups[1].keys() or len(packed.groups) != len(groups[0]):
        return False
    near = [abs(packed.base - again.base)]
    for group, other in groups[1].items():
        own = groups[0][group]
        near.append(abs(own.value - other.value))
        if own.standard_error != other.standard_error:
            near.append(abs((own.standard_error or np.inf) - (other.standard_error or np.inf)))
    facts = ("schema_version", "event_id", "pipeline", "source", "decision", "score", "method",
             "models", "weights", "background", "missing")  # fmt: skip
    same = all(getattr(packed, name) == getattr(again, name) for name in facts)
    return same and all(each <= TOLERANCE for each in near)


def failed(what: str, exc: Exception) -> Finding:
    """A check that could not be made, or that found a difference."""
    known = isinstance(exc, (Differs, ValueError)) and str(exc)
    said = str(exc).splitlines()[0] if known else f"{type(exc).__name__}: {str(exc)[:300]}"
    return Finding(what=what, holds=False, said=" ".join(said.split()))
