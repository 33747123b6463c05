"""The tick of each minute that maintain works by."""

import pulumi
import pulumi_gcp as gcp

from event_platform.maintain.routes import PATH

from .alerts import TICK
from .function import CloudFunction
from .part import Part, Project
from .store import Store


class Schedule(Part):
    """Cloud Scheduler calls maintain each minute, as its only caller. What fails is left to the next tick.

    The first tick comes once the indexes are ready by which maintain looks for what is due.
    """

    def __init__(self, project: Project, maintain: CloudFunction, store: Store) -> None:
        super().__init__("Schedule", "schedule", project)
        assert maintain.caller is not None  # noqa: S101 - what is called on a schedule is never public
        gcp.cloudscheduler.Job(
            "tick",
            name=TICK,
            description="Puts due retries back",
            region=self.settings.region,
            schedule="* * * * *",
            time_zone="Etc/UTC",
            attempt_deadline="180s",
            http_target={
                "uri": pulumi.Output.concat(maintain.url, PATH),
                "http_method": "POST",
                "oidc_token": {"service_account_email": maintain.caller.email, "audience": maintain.url},
            },
            opts=self.child(*maintain.may_call, *store.changes),
        )
        self.register_outputs({})
