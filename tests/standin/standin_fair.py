"""A queue of the stand-in: its messages, and which of them comes next.

Fair queues as the SQS Developer Guide has them in "How Amazon SQS fair queues work": the messages of one group id are
those of a tenant, and one without is a tenant of its own. A tenant is noisy once it has 30 messages in flight and more
than 10% of all that are; the messages of the others go first then, and among noisy tenants those of the one with the
fewest in flight. That ends when none of its messages waits. SQS also ends it when none was in flight for 5 minutes, and
calls a tenant noisy that takes more than 10% of the processing time. Both is left out: here a tenant of few slow
messages goes in its turn.
"""

import asyncio
import heapq
from dataclasses import dataclass, field

from standin_store import ACCOUNT, REGION

NOISY_IN_FLIGHT = 30
NOISY_SHARE = 0.1

Line = list[tuple[float, int, str]]  # heap of (visible at, number, message id); an entry may be outdated


@dataclass(slots=True)
class Message:
    id: str
    body: str
    sent_at: float  # seconds since 1970, as all times here
    visible_at: float
    receives: int = 0
    received_at: float = 0.0
    group: str = ""
    in_flight: bool = False


@dataclass
class Tenant:
    """The messages of a group id, or all without one: of those each is a tenant of its own, and so never noisy."""

    group: str
    waiting: Line = field(default_factory=list)
    in_flight: int = 0
    is_noisy: bool = False

    def judge(self, in_flight: int) -> None:
        """`in_flight`: of all tenants."""
        if not self.waiting:
            self.is_noisy = False
        if self.group and self.in_flight >= NOISY_IN_FLIGHT and self.in_flight > NOISY_SHARE * in_flight:
            self.is_noisy = True


@dataclass
class Queue:
    name: str
    visibility_timeout: int = 30
    max_receive_count: int = 0  # 0: no redrive policy
    dead_letter_queue: str = ""
    is_fair: bool = True  # False: the oldest message first, whatever its group
    messages: dict[str, Message] = field(default_factory=dict)
    tenants: dict[str, Tenant] = field(default_factory=dict)
    lent: Line = field(default_factory=list)  # what is in flight
    in_flight: int = 0
    arrivals: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def arn(self) -> str:
        return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{self.name}"

    def add(self, message: Message) -> None:
        self.messages[message.id] = message
        self.show_at(message, message.visible_at)

    def remove(self, message: Message) -> None:
        del self.messages[message.id]
        if message.in_flight:
            self.count_in_flight(message, -1)
        self.changed.set()

    def tenant(self, message: Message) -> Tenant:
        if message.group not in self.tenants:
            self.tenants[message.group] = Tenant(message.group)
        return self.tenants[message.group]

    def count_in_flight(self, message: Message, number: int) -> None:
        message.in_flight = number > 0
        self.in_flight += number
        self.tenant(message).in_flight += number

    def show_at(self, message: Message, moment: float) -> None:
        """Hide a message until a moment; an older entry of it no longer counts."""
        message.visible_at = moment
        self.arrivals += 1
        line = self.lent if message.in_flight else self.tenant(message).waiting
        heapq.heappush(line, (moment, self.arrivals, message.id))
        self.changed.set()

    def first(self, line: Line) -> Message | None:
        while line:
            moment, _, message_id = line[0]
            message = self.messages.get(message_id)
            if message and message.visible_at == moment:
                return message
            heapq.heappop(line)
        return None

    def take_back(self, now: float) -> None:
        """What was in flight for its visibility timeout waits again."""
        while (message := self.first(self.lent)) and message.visible_at <= now:
            heapq.heappop(self.lent)
            self.count_in_flight(message, -1)
            self.show_at(message, message.visible_at)

    def take_next(self, now: float) -> Message | None:
        """The visible message whose turn it is. It is in no line until it is shown again."""
        self.take_back(now)
        chosen, turn = None, None
        for tenant in self.tenants.values():
            message = self.first(tenant.waiting)
            tenant.judge(self.in_flight)
            if message and message.visible_at <= now:
                of_noisy = (1, tenant.in_flight) if self.is_fair and tenant.is_noisy else (0, 0)
                its_turn = (of_noisy, tenant.waiting[0])
                if turn is None or its_turn < turn:
                    chosen, turn = tenant, its_turn
        return self.messages[heapq.heappop(chosen.waiting)[2]] if chosen else None

    def next_change(self) -> float | None:
        """When the first message that is not visible becomes so, or did if one is."""
        lines = [self.lent, *(tenant.waiting for tenant in self.tenants.values())]
        firsts = filter(None, map(self.first, lines))
        return min((message.visible_at for message in firsts), default=None)
