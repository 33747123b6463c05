"""The deployed archive: the folder `functions/`, byte for byte, under a name of its content and the
attempt.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pulumi
import pulumi_gcp as gcp
from pulumi_gcp.cloudfunctionsv2 import FunctionBuildConfigSourceStorageSourceArgs

from .part import Part, Project

IMAGES = "gcf-artifacts"
"""The repository that Google makes for the images of functions, unless it is there."""
IMAGES_KEPT = 5
MONTH = "2592000s"
FOLDER = Path(__file__).parents[2] / "functions"
PACKED_AS = "event_platform/archive.txt"
"""The file in which the archive names itself, by which the code knows where it is from."""


def files(folder: Path) -> Mapping[str, Path]:
    """The files of the source by their path in the archive, without what Python leaves there."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    kept = [path for path in found if "__pycache__" not in path.parts and path.suffix != ".pyc"]
    return {path.as_posix(): folder / path for path in sorted(kept)}


def digest(folder: Path) -> str:
    """16 hex digits that change with any path or byte of the source, and with nothing else."""
    total = hashlib.sha256()
    for name, path in files(folder).items():
        total.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:16]


def archive_name(attempt: int) -> str:
    """Returns the archive's name. With a raised attempt the same source has another and is built anew."""
    return f"functions-{digest(FOLDER)}{f'-{attempt}' if attempt > 1 else ''}.zip"


class Source(Part):
    """The archive of the functions, the account that builds them, and the images that come of it."""

    def __init__(self, project: Project) -> None:
        super().__init__("Source", "source", project)
        self.bucket = gcp.storage.Bucket(
            "source",
            name=f"{self.settings.project}-event-platform-source",
            location=self.settings.region,
            uniform_bucket_level_access=True,
            public_access_prevention="enforced",
            force_destroy=True,  # it holds nothing but archives of the source
            labels=self.settings.labels,
            opts=self.child(),
        )
        archive: dict[str, pulumi.Asset | pulumi.Archive] = {
            name: pulumi.FileAsset(path) for name, path in files(FOLDER).items()
        }
        archive[PACKED_AS] = pulumi.StringAsset(archive_name(self.settings.attempt))
        self.archive = gcp.storage.BucketObject(
            "functions",
            bucket=self.bucket.name,
            name=archive_name(self.settings.attempt),
            source=pulumi.AssetArchive(archive),
            opts=self.child(),
        )
        self.images = gcp.artifactregistry.Repository(
            "images",
            repository_id=IMAGES,
            location=self.settings.region,
            format="DOCKER",
            description="Images of the functions; old ones are deleted",
            cleanup_policies=[
                {"id": "old", "action": "DELETE", "condition": {"tag_state": "ANY", "older_than": MONTH}},
                {"id": "latest", "action": "KEEP", "most_recent_versions": {"keep_count": IMAGES_KEPT}},
            ],
            labels=self.settings.labels,
            opts=self.child(),
        )
        self.builder = gcp.serviceaccount.Account(
            "builder",
            account_id="aep-builder",
            display_name="Builds the functions of the event platform",
            opts=self.child(),
        )
        self.builds = [
            gcp.projects.IAMMember(
                f"builder-{role}",
                project=self.settings.project,
                role=f"roles/{role}",
                member=self.builder.member,
                opts=self.child(),
            )
            for role in ("logging.logWriter", "artifactregistry.writer", "storage.objectViewer")
        ]
        """The roles that Google asks for of an account that builds functions."""
        self.register_outputs({})

    def object(self) -> FunctionBuildConfigSourceStorageSourceArgs:
        """Returns the place where a function's build finds the archive."""
        return FunctionBuildConfigSourceStorageSourceArgs(bucket=self.bucket.name, object=self.archive.name)
