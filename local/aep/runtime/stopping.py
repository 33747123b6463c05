"""The time that SIGTERM takes. The parts of a stop follow each other, in this order, within STOP_SECONDS."""

STOP_SECONDS = 10.0

REQUESTS_SECONDS = 1.5
"""For requests that are being answered."""
METRICS_SECONDS = 0.5
"""For answers of /metrics, which has a port of its own."""
DRAIN_SECONDS = 6.0
"""For deliveries that were handed out, longer than an attempt may usually take, and for notifications
meanwhile. What is cut off then is sent again after the next start."""
WORKER_SECONDS = DRAIN_SECONDS + 1.0
"""For a worker, which drains and closes its connections; then it is killed."""
LAST_WRITE_SECONDS = 0.4
"""For readers to take what waits at the end of the process: as long for standard error as for output."""
