"""A component that asks another system, run so that a call costs its own rows and a bounded time.

Calls are made in threads, so many at a time. One that raises is made again, then in halves, until
the rows stand alone that cause it. A call that hangs cannot be ended: its rows fail when its time
is over, and its thread counts as busy until it returns, so that there are never more of them.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial

import numpy as np

from models.component import Batch, Component, Floats, RowsFailed, StageOutput
from topics.pipeline import Calls, duration_ms

log = logging.getLogger(__name__)

CALL_TIMEOUT, CALL_DEADLINE = "CallTimeout", "CallDeadline"
_LONGEST_REASON = 300

Answer = tuple[Floats, np.float32]
"""Of a row: its output (F,) and its signal."""
Rows = tuple[int, ...]


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
        keys = [_row_key(batch, fields, row) for row in range(batch.rows) if self._calls.cache]
        answers: dict[int, Answer] = {
            row: answer for row, key in enumerate(keys)
            if (answer := self._cache.get(key)) is not None
        }  # fmt: skip
        missing = [row for row in range(batch.rows) if row not in answers]
        errors: dict[int, tuple[str, str]] = {}
        if missing:
            asked = _Questions(
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


class AnswerCache:
    """The newest answers, each for so many seconds.

    >>> cache = AnswerCache(1, 60, lambda: 0.0)
    >>> cache.put(b"a", (np.ones(1), np.float32(1)))
    >>> cache.put(b"b", (np.ones(1), np.float32(1)))
    >>> cache.get(b"a") is None, cache.get(b"b") is None
    (True, False)
    """

    def __init__(self, most: int, keep_s: float, clock: Callable[[], float]) -> None:
        self._most, self._keep_s, self._clock = most, keep_s, clock
        self._answers = OrderedDict[bytes, tuple[float, Answer]]()

    def get(self, key: bytes) -> Answer | None:
        """The answer, while it is fresh."""
        answered = self._answers.get(key)
        if answered is None or self._clock() - answered[0] >= self._keep_s:
            return None
        self._answers.move_to_end(key)
        return answered[1]

    def put(self, key: bytes, answer: Answer) -> None:
        """Keep an answer; the one that was used the longest ago goes for it."""
        self._answers[key] = self._clock(), answer
        self._answers.move_to_end(key)
        while len(self._answers) > self._most:
            self._answers.popitem(last=False)


class Threads:
    """At most so many calls at a time, also of those that were given up.

    Each is in a daemon thread: one that never returns does not hold up the end of the process.
    """

    def __init__(self, most: int, name: str) -> None:
        self._free = threading.Semaphore(most)
        self._name = name

    def start(self, call: Callable[[], StageOutput]) -> Future[StageOutput] | None:
        """The result to come, or None when as many calls are under way as may be."""
        if not self._free.acquire(blocking=False):
            return None
        result = Future[StageOutput]()

        def run() -> None:
            try:
                result.set_result(call())
            except BaseException as exc:  # whatever a user's code raises is told to who waits
                result.set_exception(exc)
            finally:
                self._free.release()

        threading.Thread(target=run, name=f"call-{self._name}", daemon=True).start()
        return result


class _Question:
    """Rows that one call is about, and how often it may still be made."""

    def __init__(self, rows: Rows, tries: int, not_before: float) -> None:
        self.rows, self.tries, self.not_before = rows, tries, not_before
        self.began = 0.0


class _Questions:
    """The calls about one micro-batch."""

    def __init__(
        self, component: Component, batch: Batch, calls: Calls, threads: Threads,
        clock: Callable[[], float], *, in_time: bool,
    ) -> None:  # fmt: skip
        self._component, self._batch = component, batch
        self._calls, self._threads, self._clock = calls, threads, clock
        self._timeout_s = duration_ms(calls.timeout) / 1000
        self._backoff_s = duration_ms(calls.backoff) / 1000
        self._ends = clock() + duration_ms(calls.deadline) / 1000 if in_time else math.inf
        self._waiting = deque[_Question]()
        self._later: list[_Question] = []
        self._answered_at = clock()
        """When a call of ours last ended, or could begin."""
        self._running: dict[Future[StageOutput], _Question] = {}
        self._news = threading.Event()
        self._answers: dict[int, Answer] = {}
        self._errors: dict[int, tuple[str, str]] = {}

    def ask(self, rows: Sequence[int]) -> tuple[dict[int, Answer], dict[int, tuple[str, str]]]:
        """The answers about *rows*, and why others have none; within the deadline."""
        for first in range(0, len(rows), self._calls.rows):
            some = tuple(rows[first : first + self._calls.rows])
            self._waiting.append(_Question(some, 1 + self._calls.retries, 0.0))
        while (now := self._clock()) < self._ends:
            self._news.clear()
            self._start(now)
            self._collect(now)
            if not self._open():
                break
            self._news.wait(max(self._next_event(self._clock()), 0.0))
        self._collect(self._clock())
        for question in self._open():
            self._fail(question.rows, CALL_DEADLINE, f"no answer within {self._calls.deadline}")
        return self._answers, self._errors

    def _open(self) -> list[_Question]:
        """What has no answer yet."""
        return [*self._waiting, *self._later, *self._running.values()]

    def _start(self, now: float) -> None:
        """Start what is due, as far as there are threads."""
        due = [question for question in self._later if question.not_before <= now]
        self._later = [question for question in self._later if question.not_before > now]
        self._waiting += due
        while self._waiting:
            question = self._waiting[0]
            part = _picked(self._batch, question.rows)
            future = self._threads.start(partial(self._component.transform, part))
            if future is None:
                self._give_up(now)
                return
            self._waiting.popleft()
            question.began = self._answered_at = now
            self._running[future] = question
            future.add_done_callback(lambda _: self._news.set())

    def _give_up(self, now: float) -> None:
        """Fail what waits, when calls that hang have had all threads for as long as one may."""
        if self._running or now - self._answered_at < self._timeout_s:
            return
        busy = f"all {self._calls.concurrency} calls that may be made at a time hang"
        while self._waiting:
            self._fail(self._waiting.popleft().rows, CALL_TIMEOUT, busy)

    def _collect(self, now: float) -> None:
        """Take what has come, and give up what takes too long."""
        for future, question in list(self._running.items()):
            if future.done():
                del self._running[future]
                self._answered_at = now
                self._take(future, question, now)
            elif now - question.began >= self._timeout_s:
                del self._running[future]
                self._answered_at = now
                self._fail(question.rows, CALL_TIMEOUT, f"no answer within {self._calls.timeout}")

    def _take(self, future: Future[StageOutput], question: _Question, now: float) -> None:
        rows = question.rows
        try:
            stage = future.result()
            output, signal = np.asarray(stage.output), np.asarray(stage.signal, np.float32)
            if output.ndim != 2 or len(output) != len(rows) or signal.shape != (len(rows),):
                shapes = f"output {output.shape} and signal {signal.shape} for {len(rows)} rows"
                self._fail(rows, "InvalidOutput", shapes)
                return
        except RowsFailed as exc:
            stage = exc.outputs
            for place, why in exc.errors.items():
                self._errors[rows[place]] = why
            output, signal = np.asarray(stage.output), np.asarray(stage.signal, np.float32)
        except BaseException as exc:
            self._again(question, exc, now)
            return
        for place, row in enumerate(rows):
            if row not in self._errors:
                self._answers[row] = output[place], signal[place]

    def _again(self, question: _Question, exc: BaseException, now: float) -> None:
        """Make the call again later, or two of its halves, or fail its row."""
        rows, left = question.rows, question.tries - 1
        if left > 0:
            again = _Question(rows, left, now + self._backoff_s * 2 ** (self._calls.retries - left))
            self._later.append(again)
        elif len(rows) > 1:  # a service that is down has been asked often enough: once for each
            half = len(rows) // 2
            self._waiting += [_Question(part, 1, now) for part in (rows[:half], rows[half:])]
        else:
            self._fail(rows, type(exc).__name__, _reason(exc))

    def _fail(self, rows: Rows, name: str, reason: str) -> None:
        self._errors |= dict.fromkeys(rows, (name, reason))

    def _next_event(self, now: float) -> float:
        """Seconds until something is due by the clock alone."""
        due = [question.began + self._timeout_s for question in self._running.values()]
        due += [question.not_before for question in self._later]
        if self._waiting:  # threads of calls that were given up, or of other batches, make room
            due.append(now + _LOOK_AGAIN_S)
        return min(*due, self._ends) - now


_LOOK_AGAIN_S = 0.02


def _reason(exc: BaseException) -> str:
    try:
        text = str(exc)
    except Exception:  # even its __str__ is user code
        return "no message"
    return text[:_LONGEST_REASON].encode("utf-8", "replace").decode()


def _picked(batch: Batch, rows: Rows) -> Batch:
    places = list(rows)
    return Batch(
        len(rows),
        columns={name: column[places] for name, column in batch.columns.items()},
        inputs={
            name: StageOutput(stage.output[places], stage.signal[places])
            for name, stage in batch.inputs.items()
        },
    )


def _row_key(batch: Batch, fields: Sequence[str], row: int) -> bytes:
    """What a row holds of these fields, and of all inputs, as bytes that no other row has."""
    parts = [name.encode() + _bytes_of(batch.columns[name][row]) for name in fields]
    parts += [
        name.encode() + _bytes_of(stage.output[row]) + _bytes_of(stage.signal[row])
        for name, stage in batch.inputs.items()
    ]
    return b"".join(b"%d:%b" % (len(part), part) for part in parts)


def _bytes_of(value: object) -> bytes:
    if isinstance(value, np.ndarray | np.generic):
        return value.tobytes()
    return repr(value).encode("utf-8", "backslashreplace")
