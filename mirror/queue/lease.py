"""One receive of a message: SQS hides it from all others for its visibility timeout.

The state of a lease says what is still to be done for it:

                      receive
                         |
                         v <---+ extend, by the heartbeat
                       HELD ---+
                         |  finish: its last key has ended
         +---------------+----------------+
         | all are equal | interrupted    | one failed
         |               v                v
         |            REQUEUE          FAILED
         |    sent again |   |            | nack: it is to be visible after a pause
         v               |   +---------> NACK <---+ again, by the heartbeat
   +--> ACK <------------+    not sent    |  -----+
   +-----| |                              | SQS has taken that
    again| | its visibility timeout is    v
         | |         over              VISIBLE
         v +------------------------------^
      DELETED

Three transitions are not in it. A worker that can wait no longer has all that it holds made visible (to NACK). An
extension that ends late may have hidden what is to be visible, so that is repeated (VISIBLE to NACK). An option may
have a message sent again that would be deleted (ACK to REQUEUE).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from mirror.queue.messages import Content, Received

NEVER = float("inf")


class State(Enum):
    HELD = auto()  # its keys are being synced
    ACK = auto()  # to be deleted
    REQUEUE = auto()  # to be sent again, which uses up no receive, and then to be deleted
    FAILED = auto()  # to be made visible after a pause
    NACK = auto()  # SQS is asked to have it visible at `show_at`
    DELETED = auto()
    VISIBLE = auto()  # to all workers, now or at a time that SQS knows


NEXT = {
    State.HELD: {State.ACK, State.REQUEUE, State.FAILED, State.NACK},
    State.ACK: {State.DELETED, State.VISIBLE, State.NACK, State.REQUEUE},
    State.REQUEUE: {State.ACK, State.NACK},
    State.FAILED: {State.NACK},
    State.NACK: {State.NACK, State.VISIBLE},
    State.DELETED: set(),
    State.VISIBLE: {State.NACK},
}


@dataclass(eq=False)
class Lease:
    """One receive of a message, and what is left to do for it."""

    received: Received
    received_at: float
    visible_at: float  # when SQS gives it to another worker, unless it is extended
    due_at: float  # when the heartbeat acts on it; NEVER while a settler does, or when SQS extends it no more
    content: Content = field(default_factory=Content)  # its keys are those that have not ended yet
    state: State = State.HELD
    outcome: State = State.ACK  # what it becomes when its last key has ended
    failed: str = ""  # the key that failed
    gave_up: bool = False  # S3 was too busy for one of its keys for too long, see GaveUp, or an option asks
    postpone: int = 0  # seconds for which it stays hidden when it is sent again
    may_land_until: float = 0.0  # until then a write for it may still take effect
    show_at: float = 0.0  # of NACK

    def become(self, state: State) -> None:
        assert state in NEXT[self.state], f"a lease in state {self.state.name} cannot become {state.name}"
        self.state = state

    def fail(self, key: str) -> None:
        self.outcome, self.failed = State.FAILED, key
