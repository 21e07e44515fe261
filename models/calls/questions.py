"""The calls about one micro-batch: made in threads, so many at a time, each for a bounded time.

One that raises is made again, then in halves, until the rows stand alone that cause it. A call that
hangs cannot be ended: its rows fail when its time is over, and its thread counts as busy until it
returns, so that there are never more of them.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

import numpy as np

from models.calls.answer_cache import Answer
from models.component import Batch, Component, RowsFailed, StageOutput
from topics.pipeline import Calls, duration_ms

CALL_TIMEOUT, CALL_DEADLINE = "CallTimeout", "CallDeadline"
_LONGEST_REASON = 300
_LOOK_AGAIN_S = 0.02

Rows = tuple[int, ...]


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


class Questions:
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
