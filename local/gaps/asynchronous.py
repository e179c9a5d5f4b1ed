"""Lambda: events that wait for their function (Lambda Developer Guide, "Asynchronous invocation")."""

from __future__ import annotations

import contextvars
import heapq
import itertools
import json
import os
import threading
import time
from dataclasses import dataclass, field

from ministack.services import eventbridge, lambda_svc

from gaps import replaces
from gaps.functions import measure

UNRESERVED = 10  # runs at a time of a function without reserved concurrency; an account's first limit on AWS
LONGEST_PAUSE = 300
RETRY_PAUSE = float(os.environ.get("LAMBDA_ASYNC_RETRY_BASE_SECONDS", "60"))  # after an error; the second is twice that
DEFAULTS = {"MaximumEventAgeInSeconds": 6 * 3600, "MaximumRetryAttempts": 2}


@dataclass(order=True)
class Waiting:
    """An event that waits until it is due."""

    due: float
    number: int
    event: object = field(compare=False)
    since: float = field(compare=False)
    throttled: int = field(default=0, compare=False)
    failed: int = field(default=0, compare=False)


class Queue:
    """The events of one function, and one thread that starts its runs."""

    def __init__(self, arn):
        """Begin to serve the function of that ARN, in the account and region of the caller."""
        self.arn, self.name = arn, arn.split(":")[6]
        self.heap, self.running = [], 0
        self.changed = threading.Condition()

        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self.serve,), daemon=True).start()

    def put(self, waiting):
        with self.changed:
            heapq.heappush(self.heap, waiting)
            self.changed.notify()

    def serve(self):
        while True:
            with self.changed:
                now = time.time()
                while not self.heap or self.heap[0].due > now:
                    self.changed.wait(self.heap[0].due - now if self.heap else None)
                    now = time.time()
                due = []
                while self.heap and self.heap[0].due <= now:
                    due.append(heapq.heappop(self.heap))
            self.start(due, now)

    def start(self, due, now):
        """Start as many of the events that are due as may run; the others wait, or have waited too long."""
        function, _, _ = lambda_svc._get_func_record_for_ref(self.arn)
        if not function:  # deleted
            return
        old = now - setting(function, "MaximumEventAgeInSeconds")
        kept = [waiting for waiting in due if waiting.since > old]
        if len(kept) < len(due):
            measure(self.name, AsyncEventsDropped=len(due) - len(kept))
        room = max(0, self.room(function))
        for waiting in kept[:room]:
            self.running += 1
            context = contextvars.copy_context()
            threading.Thread(target=context.run, args=(self.run, function, waiting), daemon=True).start()
        if kept[room:]:
            measure(self.name, Throttles=len(kept[room:]))
        for waiting in kept[room:]:
            self.put_back(function, waiting)

    def room(self, function):
        """Return how many more runs may start; an Invoke request takes of the same reserved concurrency."""
        reserved, key = function.get("concurrency"), lambda_svc._inflight_key(function["config"])
        if reserved is None:
            return UNRESERVED - self.running
        return reserved - max(self.running, lambda_svc._inflight.get(key, 0))

    def run(self, function, waiting):
        result = {"error": True}
        try:
            result = lambda_svc._execute_function(function, waiting.event)
        finally:
            with self.changed:
                self.running -= 1
        if result.get("throttle"):
            self.put_back(function, waiting)
        elif result.get("error"):
            waiting.failed += 1
            if waiting.failed > setting(function, "MaximumRetryAttempts"):
                measure(self.name, AsyncEventsDropped=1)
                return
            waiting.due = time.time() + RETRY_PAUSE * waiting.failed
            self.put(waiting)

    def put_back(self, function, waiting):
        """Try it again after 1, 2, 4, ... seconds, at the latest when it is too old."""
        waiting.throttled += 1
        pause = min(2 ** (waiting.throttled - 1), LONGEST_PAUSE)
        waiting.due = min(time.time() + pause, waiting.since + setting(function, "MaximumEventAgeInSeconds"))
        self.put(waiting)


def setting(function, name):
    return (lambda_svc._event_invoke_config(function, None) or {}).get(name, DEFAULTS[name])


queues, lock, numbers = {}, threading.Lock(), itertools.count()


@replaces(lambda_svc, "invoke_async_with_retry")
def invoke_later(_original, function, event):
    """Put the event into its function's queue, and return."""
    arn, now = function["config"]["FunctionArn"], time.time()
    with lock:
        queue = queues.get(arn) or queues.setdefault(arn, Queue(arn))
    measure(queue.name, AsyncEventsReceived=1)
    queue.put(Waiting(now, next(numbers), event, now))


@replaces(eventbridge, "_dispatch_to_lambda")
def dispatch_to_lambda(_original, arn, payload):
    """A rule invokes its functions asynchronously."""
    function, _, _ = lambda_svc._get_func_record_for_ref(arn)
    lambda_svc.invoke_async_with_retry(function, json.loads(payload))
