"""For how long a call waits, in seconds. A copy waits for COPY_TIMEOUT, as it is silent until it is done."""

CONNECT_TIMEOUT = 10
ANSWER_TIMEOUT = 60  # of everything that is no copy
QUEUE_TIMEOUT = 30  # beside the long poll
