"""Checks that lines of pages have at most 110 characters, as those of the code: part of `make lint`.

Exempt is what cannot be broken: rows of tables, headings, blocks of code, and a line that is one link or one
word.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
AT_MOST = 110
UNBREAKABLE = re.compile(r"\s*(?:\||#|(?:[-*+] |\d+\. )?(?:\[[^\]]*\]\(\S*\)\S*|\S+|`[^`]*`\S*)$)")


def too_long(text: str) -> Iterator[int]:
    """Yields the number of each line that is too long and could be broken."""
    is_code = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif not is_code and len(line) > AT_MOST and UNBREAKABLE.match(line) is None:
            yield number


def pages() -> list[Path]:
    """Returns the pages that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S603 - constants
    return [path for line in listed.splitlines() if (path := ROOT / line).is_file()]


def main() -> None:
    found = [
        f"{page.relative_to(ROOT)}:{number}" for page in pages() for number in too_long(page.read_text())
    ]
    if found:
        sys.exit("\n".join([*found, f"break these lines: pages have at most {AT_MOST} characters a line"]))


if __name__ == "__main__":
    main()
