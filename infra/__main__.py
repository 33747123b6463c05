"""The event platform on Google Cloud. `stack/platform.py` says what there is."""

import pulumi

from stack.platform import Platform
from stack.settings import from_pulumi

platform = Platform(from_pulumi())
for name, value in platform.outputs.items():
    pulumi.export(name, value)
