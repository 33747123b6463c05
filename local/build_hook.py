"""Adds to what is built the commit, for `aep --version`, and the documentation. hatchling calls this."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PLACES = {"wheel": "aep/commit.txt", "sdist": "local/aep/commit.txt"}

DOCUMENTATION = "aep/docs"
"""The place in the wheel of the pages that the console shows (console/documentation.py)."""


class CommitHook(BuildHookInterface[Any]):
    """The hook. An archive of sources made from a checkout hands its file on to the wheel made from it."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        sys.path.insert(0, str(Path(self.root, "local")))
        from aep.commit import commit_of  # a build has this package from the sources alone

        if self.target_name == "wheel" and version != "editable":
            for page in Path(self.root, "docs").glob("*.md"):
                build_data["force_include"][str(page)] = f"{DOCUMENTATION}/{page.name}"
        found = None if version == "editable" else commit_of(Path(self.root))
        if found:
            self._folder = tempfile.TemporaryDirectory(prefix="aep-build-")
            file = Path(self._folder.name, "commit.txt")
            file.write_text(f"{found}\n")
            build_data["force_include"][str(file)] = PLACES[self.target_name]
