# SPDX-License-Identifier: Apache-2.0
"""The version of the installed package."""

from importlib import metadata


def version() -> str:
    """Return the version, such as ``1.2.0``."""
    return metadata.version('aliasagent')
