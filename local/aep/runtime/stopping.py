"""The seconds that SIGTERM may take.

The parts of a stop follow each other, in this order, within STOP_SECONDS.
"""

STOP_SECONDS = 10.0

REQUESTS_SECONDS = 1.5
"""The time for requests that are being answered."""
CONTROL_SECONDS = 0.2
"""The time for answers of the control socket."""
CONSOLE_SECONDS = 0.2
"""The time for answers of the console, whose live pages are ended before."""
METRICS_SECONDS = 0.2
"""The time for answers of /metrics, which has a port of its own."""
DRAIN_SECONDS = 6.0
"""The time for deliveries that were handed out, longer than an attempt may usually take, and for
notifications.

A delivery that is cut off then is sent again after the next start.
"""
CONNECTIONS_SECONDS = 1.0
"""The time for connections to receivers to close, which a broker that does not answer could hold up."""
WORKER_SECONDS = DRAIN_SECONDS + CONNECTIONS_SECONDS
"""The time in which a worker ends its deliveries and closes its connections; then it is killed."""
LAST_WRITE_SECONDS = 0.4
"""The time for readers to take the last lines of the process: as long for standard error as for output."""
