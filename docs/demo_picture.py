"""Runs `aep demo` and draws what it prints as `docs/demo.svg`: `make demo-picture`."""

import io
import re
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from aep.sandbox.demo import run_demo

PICTURE = Path(__file__).with_name("demo.svg")
WIDTH = 80


def main() -> int:
    """Returns the exit status of the demo; the picture is replaced only if that is 0."""
    console = Console(
        file=io.StringIO(), record=True, width=WIDTH, color_system="truecolor", markup=False, emoji=False
    )
    if (status := run_demo(console)) == 0:
        without_fonts = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
        PICTURE.write_text(
            console.export_svg(title="make demo", code_format=without_fonts, unique_id="demo"), "utf-8"
        )
    return status


if __name__ == "__main__":
    raise SystemExit(main())
