"""Files that take the place of others at once."""

import os
import tempfile
from pathlib import Path


def new_beside(path: Path) -> tuple[int, Path]:
    """Makes a file of mode 0600 in the folder of `path`; returns its descriptor and its path.

    Raises OSError, which names `path`: the name of the new file is one by chance.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), str(path)) from None
    return descriptor, Path(name)
