"""The commit that this program was built from, where that can be known. The build reads it here, too."""

import subprocess
from functools import cache
from pathlib import Path

PACKED = Path(__file__).with_name("commit.txt")
"""The file that a build from a checkout adds (local/build_hook.py)."""
CHECKOUT = Path(__file__).parents[2]
DIGITS = 12


@cache
def commit() -> str | None:
    """Returns the first digits of the commit; None when this was built from no checkout."""
    return PACKED.read_text().strip() if PACKED.exists() else commit_of(CHECKOUT)


def commit_of(folder: Path) -> str | None:
    """Returns the commit that a folder is checked out at; None for one that is no checkout."""
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "rev-parse", f"--short={DIGITS}", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - constant
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None
