"""The Firestore database with the indexes and lifetimes that `data_model.py` names."""

import pulumi
import pulumi_gcp as gcp

from event_platform.data_model import EXPIRES_AT, EXPIRING, INDEXES, UNINDEXED

from .part import Part, Project

DATABASE = "(default)"
NO_CLIENTS = """rules_version = '2';
service cloud.firestore {
  match /databases/{database}/documents {
    match /{document=**} {
      allow read, write: if false;
    }
  }
}
"""
"""The rules for Firebase's web and mobile clients. The functions are not bound by them."""
DAY_SECONDS = 86400
CHANGES_AT_ONCE = 10
"""Indexes and exemptions in the making at a time. Of many, Firestore refuses some: "too much contention"."""


class Store(Part):
    """The database and the buckets of the platform."""

    def __init__(self, project: Project) -> None:
        super().__init__("Store", "store", project)
        self.database = gcp.firestore.Database(
            "store",
            name=DATABASE,
            location_id=self.settings.store_location or self.settings.region,
            type="FIRESTORE_NATIVE",
            concurrency_mode="OPTIMISTIC",
            delete_protection_state=(
                "DELETE_PROTECTION_ENABLED" if self.settings.protect else "DELETE_PROTECTION_DISABLED"
            ),
            point_in_time_recovery_enablement=(
                "POINT_IN_TIME_RECOVERY_ENABLED"
                if self.settings.point_in_time_recovery
                else "POINT_IN_TIME_RECOVERY_DISABLED"
            ),
            deletion_policy="DELETE",  # when it is destroyed on purpose; the provider would leave it behind
            opts=self.child(holds_data=True),
        )
        self.changes: list[pulumi.Resource] = []
        """The indexes and exemptions."""
        self._index()
        self._refuse_clients()
        if self.settings.backup_days:
            gcp.firestore.BackupSchedule(
                "store-daily",
                database=self.database.name,
                retention=f"{self.settings.backup_days * DAY_SECONDS}s",
                daily_recurrence={},
                opts=self.child(),
            )
        self.register_outputs({})

    def _index(self) -> None:
        def in_turn() -> pulumi.ResourceOptions:
            """Options by which the first change is made alone and each later one waits for an earlier one."""
            return self.child(*self.changes[-CHANGES_AT_ONCE:][:1])

        for index in INDEXES:
            self.changes.append(
                gcp.firestore.Index(
                    "-".join([index.collection, *(_named(field, order) for field, order in index.fields)]),
                    database=self.database.name,
                    collection=index.collection,
                    fields=[{"field_path": field, "order": order} for field, order in index.fields],
                    opts=in_turn(),
                )
            )
        for collection, fields in UNINDEXED.items():
            for field in fields:
                expires = field == EXPIRES_AT and collection in EXPIRING
                self.changes.append(
                    gcp.firestore.Field(
                        f"{collection}-{field}",
                        database=self.database.name,
                        collection=collection,
                        field=field,
                        index_config={},
                        ttl_config={} if expires else None,
                        opts=in_turn(),
                    )
                )

    def _refuse_clients(self) -> None:
        rules = gcp.firebaserules.Ruleset(
            "no-clients",
            source={"files": [{"name": "firestore.rules", "content": NO_CLIENTS}]},
            opts=self.child(self.database),
        )
        gcp.firebaserules.Release(
            "no-clients",
            name="cloud.firestore",
            ruleset_name=rules.name,
            opts=self.child(),
        )


def _named(field: str, order: str) -> str:
    return f"{field}-descending" if order == "DESCENDING" else field
