# SPDX-License-Identifier: Apache-2.0
"""The places where os-brick mounts shares."""

import hashlib
import os
import pathlib
import re

MOUNTINFO = pathlib.Path('/proc/self/mountinfo')
_ESCAPE = re.compile(r'\\([0-7]{3})')


def place(base: str, export: str) -> str:
    """Return the directory that os-brick mounts a share at."""
    return os.path.join(base, hashlib.md5(export.encode(), usedforsecurity=False).hexdigest())


def is_mounted(directory: str) -> bool:
    """Return whether a directory is a mount point. Does not touch the directory itself, which may not answer."""
    lines = MOUNTINFO.read_text(errors='replace').splitlines()
    return directory in {_ESCAPE.sub(lambda found: chr(int(found[1], 8)), line.split(' ')[4]) for line in lines}
