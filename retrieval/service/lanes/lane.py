"""A thread that answers questions in the order in which they come, several at once."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from vmr.retrieval.service.processes import BusyError

Question = TypeVar("Question")
Value = TypeVar("Value")
Hand = Callable[[int, Value | Exception], None]
"""Takes the place of a question, and its answer or what went wrong."""


class Lane(Generic[Question, Value]):
    """A thread with a queue. Whoever stops waiting for an answer leaves the queue.

    Args:
        name: of the thread.
        answer: answers some questions, in this thread, and hands over each answer when it is there.
        at_once: how many questions at most.
        most_waiting: with more questions in the queue, others are refused.

    Attributes:
        num_questions: how many were answered.
        num_batches: at how many times.
    """

    def __init__(
        self,
        name: str,
        answer: Callable[[Sequence[Question], Hand[Value]], None],
        *,
        at_once: int,
        most_waiting: int,
    ) -> None:
        self._answer, self._at_once, self._most_waiting = answer, at_once, most_waiting
        self._queue: deque[tuple[Question, asyncio.Future[Value]]] = deque()
        self._changed = threading.Condition()
        self._is_closed, self._num_answering = False, 0
        self.num_questions = self.num_batches = 0
        self._thread = threading.Thread(target=self._run, name=f"vmr-{name}", daemon=True)
        self._thread.start()

    @property
    def num_busy(self) -> int:
        """How many questions wait or are being answered."""
        return len(self._queue) + self._num_answering

    async def ask(self, question: Question) -> Value:
        """Return the answer to a question.

        Raises:
            BusyError: too many others wait.
        """
        future: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        with self._changed:
            if len(self._queue) >= self._most_waiting:
                self._queue = deque((each, other) for each, other in self._queue if not other.done())
            if self._is_closed or len(self._queue) >= self._most_waiting:
                raise BusyError("too many searches wait: try again in a second")
            self._queue.append((question, future))
            self._changed.notify()
        return await future

    def close(self) -> None:
        """Answer what is being answered, refuse what waits, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            self._answer_all(batch)
            del batch  # what was asked and found is not kept until the next question

    def _answer_all(self, batch: list[tuple[Question, "asyncio.Future[Value]"]]) -> None:
        left = dict(enumerate(future for _, future in batch))
        reason: Exception = RuntimeError("there is no answer")
        try:
            self._answer([question for question, _ in batch], lambda place, value: _deliver(left.pop(place), value))
        except Exception as error:  # whoever asked is told
            reason = error
        for future in left.values():
            _deliver(future, reason)

    def _next(self) -> list[tuple[Question, "asyncio.Future[Value]"]]:
        """Wait for questions; none if the lane is closed."""
        with self._changed:
            while True:
                batch: list[tuple[Question, asyncio.Future[Value]]] = []
                while self._queue and len(batch) < self._at_once:
                    question, future = self._queue.popleft()
                    if not future.done():
                        batch.append((question, future))
                if self._is_closed:
                    for _, future in [*batch, *self._queue]:
                        _deliver(future, BusyError("the service ends"))
                    return []
                self._num_answering = len(batch)
                if batch:
                    self.num_questions += len(batch)
                    self.num_batches += 1
                    return batch
                self._changed.wait()


def _deliver(future: "asyncio.Future[Value]", value: Value | Exception) -> None:
    """Hand an answer to whoever waits for it, if somebody does."""

    def hand_over() -> None:
        if not future.done():
            if isinstance(value, Exception):
                future.set_exception(value)
            else:
                future.set_result(value)

    loop = future.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(hand_over)
