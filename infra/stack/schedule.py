"""The ticks of each minute that maintain works by."""

import pulumi
import pulumi_gcp as gcp

from event_platform.maintain.routes import FEEDS_PATH, PATH

from .alerts import FEEDS_TICK, TICK
from .function import CloudFunction
from .part import Part, Project
from .store import Store


class Schedule(Part):
    """Cloud Scheduler calls maintain each minute, as its only caller. What fails is left to the next tick.

    The first tick comes once the indexes are ready by which maintain looks for what is due. Feeds have a job
    of their own, so that retries never wait for a PIM.
    """

    def __init__(self, project: Project, maintain: CloudFunction, store: Store) -> None:
        super().__init__("Schedule", "schedule", project)
        self._job("tick", TICK, "Puts due retries back", PATH, maintain, store)
        if self.settings.feed_key is not None:
            self._job("feeds", FEEDS_TICK, "Reads the feeds of PIMs", FEEDS_PATH, maintain, store)
        self.register_outputs({})

    def _job(
        self, name: str, job: str, description: str, path: str, maintain: CloudFunction, store: Store
    ) -> None:
        assert maintain.caller is not None  # noqa: S101 - what is called on a schedule is never public
        gcp.cloudscheduler.Job(
            name,
            name=job,
            description=description,
            region=self.settings.region,
            schedule="* * * * *",
            time_zone="Etc/UTC",
            attempt_deadline="180s",
            http_target={
                "uri": pulumi.Output.concat(maintain.url, path),
                "http_method": "POST",
                "oidc_token": {"service_account_email": maintain.caller.email, "audience": maintain.url},
            },
            opts=self.child(*maintain.may_call, *store.changes),
        )
