"""The alerts, which call an operator, as data: lines of the log, and figures that Google counts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from event_platform.domain.messages.queue_messages import (
    DEAD_LETTERS_TOPIC,
    EVENTS_TOPIC,
    NOTIFICATIONS_TOPIC,
)
from event_platform.permissions import DELIVERIES_TOPICS

TICK = "event-platform-tick"
"""The job that calls maintain each minute."""
FEEDS_TICK = "event-platform-feeds"
"""The job that has maintain read the feeds that are due."""
PUSHED = ("fanout", "deliver", "notify", "maintain")
FRONT = ("manage", "ingest")
"""The functions that others call. Nobody sends again what they turn away."""
INTAKE = (EVENTS_TOPIC, "pim-events-.+", NOTIFICATIONS_TOPIC)
WAITS_AT_MOST = 600
"""Seconds that a message of ours may wait for fan-out or notify before it is an alert."""
DELIVERY_WAITS_AT_MOST = 2 * 3600
"""Longer: a receiver that is slow or throttles has its deliveries wait in their lanes, as is meant."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log that calls somebody. `filter` is in Cloud Logging's language.

    Nothing is counted, so no metric has to exist before the alert does.
    """

    filter: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of Google's that calls somebody while it is above, or with `below` less than, a limit.

    `labels` have regular expressions as values. With `minutes` the figure is what was counted in that time;
    without, it is the greatest value now. Nothing counted is 0 where the alert is for less.
    """

    metric: str
    resource: str
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    above: float | None = None
    below: float | None = None
    minutes: int = 0
    lasting: str = "0s"

    @property
    def query(self) -> str:
        """Returns the condition in PromQL."""
        name = self.metric.replace("/", ":", 1).translate(str.maketrans("./", "__"))
        chosen = {"monitored_resource": self.resource, **self.labels}
        series = name + "{" + ",".join(_matcher(*each) for each in chosen.items()) + "}"
        value = f"sum(increase({series}[{self.minutes}m]))" if self.minutes else f"max({series})"
        if self.below is not None:
            return f"({value} or vector(0)) < {self.below:g}"
        return f"{value} > {self.above:g}"


@dataclass(frozen=True, slots=True)
class Alert:
    """A condition on which somebody is called.

    `runbook` is what to do first; the heading of its name in docs/operate.md says the rest.
    """

    name: str
    title: str
    runbook: str
    condition: Line | Figure
    severity: str = "ERROR"
    needs_domain: bool = False


def _matcher(label: str, value: str) -> str:
    operator = "=" if re.fullmatch(r"[\w-]+", value) else "=~"
    return f'{label}{operator}"{value}"'


def logged_by_us(event: str, *conditions: str) -> str:
    """Returns the filter of an event of our structured lines, with further conditions on its fields."""
    return " AND ".join(['resource.type="cloud_run_revision"', f'jsonPayload.event="{event}"', *conditions])


def requests_of(functions: Sequence[str]) -> str:
    """Returns the filter of Cloud Run's own line for each request to the functions."""
    services = " OR ".join(f'"{function}"' for function in functions)
    return (
        'resource.type="cloud_run_revision" AND log_id("run.googleapis.com/requests") '
        f"AND resource.labels.service_name=({services})"
    )


def _answers(functions: Sequence[str], codes: str) -> Mapping[str, str]:
    return {"service_name": "|".join(functions), "response_code_class": codes}


ALERTS: Sequence[Alert] = (
    Alert(
        "dead-letters",
        "Messages wait in dead-letters",
        "`aep dead list --google PROJECT` shows them with the reason; mend, then `aep dead replay`.",
        Figure(
            "pubsub.googleapis.com/subscription/num_undelivered_messages",
            "pubsub_subscription",
            {"subscription_id": DEAD_LETTERS_TOPIC},
            above=0,
        ),
    ),
    Alert(
        "ingest-5xx",
        "ingest answers 5xx",
        "A PIM may have lost an event: its webhook does not try again. Look at the log of ingest.",
        Line(f"{requests_of(['ingest'])} AND httpRequest.status>=500"),
        severity="CRITICAL",
    ),
    Alert(
        "ingest-refused",
        "A PIM's events are refused",
        "They are lost: a PIM sends nothing twice. `ingest.refused` in the log of ingest says whose and why.",
        Line(logged_by_us("ingest.refused", 'jsonPayload.tenant!=""')),
    ),
    Alert(
        "entry-unreadable",
        "The entry of a PIM cannot be understood",
        "Its events are refused and lost, and its clients are refused. The line names the PIM and the cure.",
        Line(logged_by_us("pims.entry_unreadable")),
        severity="CRITICAL",
    ),
    Alert(
        "instances-full",
        "manage or ingest has no instance for a request",
        "Events are lost meanwhile. The line names the function: raise its `maxInstances`, or the quota.",
        Line(f'{requests_of(FRONT)} AND textPayload:"no available instance"'),
        severity="CRITICAL",
    ),
    Alert(
        "rate-limited",
        "An address is turned away at the domain",
        "Cloud Armor answers 429. If the address is a PIM's, its events are lost: see the log line.",
        Line('resource.type="http_load_balancer" AND jsonPayload.statusDetails="denied_by_security_policy"'),
        needs_domain=True,
    ),
    Alert(
        "events-wait",
        "Events or notifications wait for their function",
        "fanout or notify is failing or at its instances. Look at their log and the dashboard.",
        Figure(
            "pubsub.googleapis.com/subscription/oldest_unacked_message_age",
            "pubsub_subscription",
            {"subscription_id": "|".join(INTAKE)},
            above=WAITS_AT_MOST,
            lasting="300s",
        ),
    ),
    Alert(
        "deliveries-wait",
        "Deliveries wait for hours",
        "A receiver that throttles, or deliver at its instances or failing. Look at the dashboard.",
        Figure(
            "pubsub.googleapis.com/subscription/oldest_unacked_message_age",
            "pubsub_subscription",
            {"subscription_id": f"{DELIVERIES_TOPICS}-.+"},
            above=DELIVERY_WAITS_AT_MOST,
            lasting="300s",
        ),
        severity="WARNING",
    ),
    Alert(
        "egress-failing",
        "Most receivers cannot be reached: the fault is ours",
        "Nobody is suspended and no retry is used up meanwhile. Look at the network: NAT, DNS.",
        Line(logged_by_us("egress.failing")),
        severity="CRITICAL",
    ),
    Alert(
        "no-resolver",
        "No nameserver answers: the fault is ours",
        "Deliveries wait, and no retry is used up meanwhile. Look at DNS.",
        Line(logged_by_us("egress.no_resolver")),
        severity="CRITICAL",
    ),
    Alert(
        "subscriptions-suspended",
        "A subscription was suspended",
        "Its receiver fails. The log of deliver names it; its owner is told and resumes it.",
        Line(logged_by_us("subscription.suspended", 'jsonPayload.by="platform"')),
        severity="WARNING",
    ),
    Alert(
        "functions-fail",
        "Functions answer 5xx for minutes",
        "The store or a topic is away, or our code fails: see their log. Messages are pushed again.",
        Figure(
            "run.googleapis.com/request_count",
            "cloud_run_revision",
            _answers(PUSHED, "5xx"),
            above=50,
            minutes=5,
        ),
    ),
    Alert(
        "replay-not-done",
        "A replay did not come to its end within a day",
        "It was ended, and its push subscriptions are gone. The line names it; look at the log of fanout.",
        Line(logged_by_us("replay.not_done")),
        severity="WARNING",
    ),
    Alert(
        "feed-behind",
        "A feed is behind its PIM",
        "Nothing is lost: it goes on from its cursor. The line names the PIM and its resources.",
        Line(logged_by_us("feed.behind")),
        severity="WARNING",
    ),
    Alert(
        "tick-fails",
        "Cloud Scheduler could not call maintain",
        "Retries stay due and nothing is lost. The line of event-platform-tick says what it was answered.",
        Line(f'resource.type="cloud_scheduler_job" AND resource.labels.job_id="{TICK}" AND severity>=ERROR'),
        severity="WARNING",
    ),
    Alert(
        "missing-tick",
        "maintain has not worked for ten minutes",
        "Retries stay due and nothing is lost. Look at the job event-platform-tick and the log of maintain.",
        Figure(
            "run.googleapis.com/request_count",
            "cloud_run_revision",
            _answers(["maintain"], "2xx"),
            below=1,
            minutes=10,
            lasting="300s",
        ),
    ),
)
