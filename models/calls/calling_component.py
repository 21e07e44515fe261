"""A component that asks another system: a call costs its own rows, and a bounded time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

import numpy as np

from models.calls.answer_cache import Answer, AnswerCache, row_key
from models.calls.questions import Questions, Threads
from models.component import Batch, Component, RowsFailed, StageOutput
from topics.pipeline import Calls, duration_ms

log = logging.getLogger(__name__)


class CallingComponent(Component):
    """Runs *component*, whose `transform` is a call, by what the pipeline file says of calls.

    `transform` raises RowsFailed for rows without an answer, where there is no default.
    """

    def __init__(
        self, name: str, component: Component, calls: Calls,
        clock: Callable[[], float] = time.monotonic, *, in_time: bool = True,
    ) -> None:  # fmt: skip
        self._name, self._component, self._calls = name, component, calls
        self._in_time = in_time
        self._clock = clock
        self._cache = AnswerCache(calls.cache, duration_ms(calls.cache_for) / 1000, clock)
        self._threads = Threads(calls.concurrency, name)

    def without_deadline(self) -> CallingComponent:
        """The same for where nobody waits: a batch may take what its calls take."""
        return CallingComponent(
            self._name, self._component, self._calls, self._clock, in_time=False
        )

    def load(self) -> None:
        """As that of the component."""
        self._component.load()

    def transform(self, batch: Batch) -> StageOutput:
        """Output and signal of N rows. Raises RowsFailed."""
        fields = self._calls.cache_by or list(batch.columns)
        keys = [row_key(batch, fields, row) for row in range(batch.rows) if self._calls.cache]
        answers: dict[int, Answer] = {
            row: answer for row, key in enumerate(keys)
            if (answer := self._cache.get(key)) is not None
        }  # fmt: skip
        missing = [row for row in range(batch.rows) if row not in answers]
        errors: dict[int, tuple[str, str]] = {}
        if missing:
            asked = Questions(
                self._component, batch, self._calls, self._threads, self._clock,
                in_time=self._in_time,
            )  # fmt: skip
            fresh, errors = asked.ask(missing)
            answers |= fresh
            for row in fresh if keys else ():
                self._cache.put(keys[row], fresh[row])
        return self._stage_output(batch.rows, answers, errors)

    def _stage_output(
        self, rows: int, answers: Mapping[int, Answer], errors: dict[int, tuple[str, str]]
    ) -> StageOutput:
        default = self._calls.default
        if errors and default is not None:
            name, reason = next(iter(errors.values()))
            log.warning(
                "component %s: %d of %d rows have the default, %g, for their call failed: %s: %s",
                self._name, len(errors), rows, default, name, reason,
            )  # fmt: skip
            instead: Answer = (
                np.array(self._calls.default_output or [default], np.float64),
                np.float32(default),
            )
            answers = {**answers, **dict.fromkeys(errors, instead)}
            errors = {}
        width = next((len(output) for output, _ in answers.values()), 1)
        outputs, signals = np.zeros((rows, width)), np.zeros(rows, np.float32)
        for row, (output, signal) in answers.items():
            if len(output) == width:
                outputs[row], signals[row] = output, signal
            else:
                why = f"{len(output)} output columns where other rows have {width}"
                errors = {**errors, row: ("InvalidOutput", why)}
        stage = StageOutput(outputs, signals)
        if errors:
            raise RowsFailed(stage, dict(sorted(errors.items())))
        return stage
