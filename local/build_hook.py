"""Adds the commit to what is built from a checkout, for `aep --version`. hatchling calls this."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PLACES = {"wheel": "aep/commit.txt", "sdist": "local/aep/commit.txt"}


class CommitHook(BuildHookInterface[Any]):
    """The hook. An archive of sources made from a checkout hands its file on to the wheel made from it."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        sys.path.insert(0, str(Path(self.root, "local")))
        from aep.commit import commit_of  # a build has this package from the sources alone

        found = None if version == "editable" else commit_of(Path(self.root))
        if found:
            self._folder = tempfile.TemporaryDirectory(prefix="aep-build-")
            file = Path(self._folder.name, "commit.txt")
            file.write_text(f"{found}\n")
            build_data["force_include"][str(file)] = PLACES[self.target_name]
