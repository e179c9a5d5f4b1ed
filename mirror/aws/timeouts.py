"""How long a call waits for its answer, and how many times boto3 sends it."""

from typing import NamedTuple

LONGEST_POLL = 20  # of SQS

# How many times boto3 sends a request that may be repeated.
ATTEMPTS = 4  # all of them end within 100 seconds
LISTING_ATTEMPTS = 5
PART_ATTEMPTS = 3  # over the CRT it was sent once before
QUEUE_ATTEMPTS = 3
POLL_ATTEMPTS = 2
SESSION_ATTEMPTS = 2


class Timeouts(NamedTuple):
    """In seconds. A large copy has COPY_TIMEOUT, as it is silent until it is done."""

    connect: int = 5
    answer: int = 20  # of a request that neither copies nor deletes
    listing: int = 60  # a page of a bucket in which much was deleted takes long
    small_copy: int = 120  # of a copy that lasts seconds, and of a delete
    queue: int = 5  # in addition to the long poll
    session: int = 5  # CreateSession: many requests may have to wait for it
    event_connect: int = 2  # of an event, which may be left unsent
    event: int = 5
    event_attempts: int = 2


OF_TASK = Timeouts()
