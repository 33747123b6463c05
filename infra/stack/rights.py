"""The rights that a function needs at its creation, and the wait until Google knows them everywhere."""

import hashlib
from asyncio import sleep
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pulumi
import pulumi_gcp as gcp

from .part import Part, Project


def remaining(created: str, seconds: int, now: datetime) -> float:
    """Returns how much is left of `seconds` since `created` (RFC 3339); never more than all of it."""
    ends = datetime.fromisoformat(created) + timedelta(seconds=seconds)
    return min(max((ends - now).total_seconds(), 0.0), float(seconds))


class EffectiveRights(Part):
    """Waits once, after new rights, before anything is created that needs them.

    A folder in the bucket is created after the rights, and Google says when. A later run finds it old enough
    and does not wait. Its name changes with the list of rights, so that added ones are waited for, too.
    """

    def __init__(
        self, project: Project, bucket: gcp.storage.Bucket, granted: Sequence[pulumi.Resource]
    ) -> None:
        super().__init__("EffectiveRights", "rights", project)
        names = "\n".join(sorted(right.pulumi_resource_name for right in granted))
        self._folder = gcp.storage.ManagedFolder(
            "rights",
            bucket=bucket.name,
            name=f"rights-{hashlib.sha256(names.encode()).hexdigest()[:16]}/",
            opts=self.child(*granted),
        )
        self.reached: pulumi.Output[pulumi.Resource] = self._folder.create_time.apply(self._wait)
        """The folder, once the rights are in force: for `depends_on`. A preview does not wait."""
        self.register_outputs({})

    async def _wait(self, created: str) -> pulumi.Resource:
        seconds = remaining(created, self.settings.rights_seconds, datetime.now(UTC))
        if seconds:
            pulumi.log.info(f"{seconds:.0f} s until Google knows the new rights", self._folder)
            await sleep(seconds)
        return self._folder
