"""How long a call waits for its answer, in seconds. A large copy has COPY_TIMEOUT, as it is silent until it is done."""

CONNECT_TIMEOUT = 5
ANSWER_TIMEOUT = 20  # of a request that neither copies nor deletes
LISTING_TIMEOUT = 60  # a page of a bucket in which much was deleted takes long
SMALL_COPY_TIMEOUT = 120  # of a copy that lasts seconds, and of a delete
QUEUE_TIMEOUT = 5  # in addition to the long poll
POLL_TIMEOUT = 20 + QUEUE_TIMEOUT  # of the longest poll
SESSION_TIMEOUT = 5  # CreateSession: many requests may have to wait for it
EVENT_CONNECT_TIMEOUT = 2  # of an event, which may be left unsent
EVENT_TIMEOUT = 5

# How many times boto3 sends a request that may be repeated.
ATTEMPTS = 4  # all of them end within 100 seconds
LISTING_ATTEMPTS = 5
PART_ATTEMPTS = 3  # over the CRT it was sent once before
QUEUE_ATTEMPTS = 3
POLL_ATTEMPTS = 2
SESSION_ATTEMPTS = 2
EVENT_ATTEMPTS = 2
