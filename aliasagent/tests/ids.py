# SPDX-License-Identifier: Apache-2.0
"""Ids for tests: a few that always mean the same thing, and new ones."""

import uuid

GUEST = '5a7fd1f2-61c5-4a3e-9d6f-0f7a4f1b2c01'
OTHER_GUEST = '5a7fd1f2-61c5-4a3e-9d6f-0f7a4f1b2c02'

VOLUME = '7d3c2b9e-54f5-4b1e-8f0f-2a6c1d7e9b10'
OTHER_VOLUME = '8e4d3caf-65a6-4c2f-901a-3b7d2e8fac11'
THIRD_VOLUME = '9f5e4db0-76b7-4d30-812b-4c8e3f90bd12'

PORT = '91f04c6a-7c1b-4a6e-b8e5-3d2f1a0b9c20'
#: Its tap has the same name as PORT's.
TWIN_PORT = '91f04c6a-7cff-4a6e-b8e5-3d2f1a0b9c21'
MAC = '52:54:00:00:00:01'
OTHER_MAC = '52:54:00:00:00:02'


def new_id() -> str:
    """Return the id of a guest, a device or a request that no other test has."""
    return str(uuid.uuid4())


def new_mac() -> str:
    """Return a MAC address that no other test has."""
    tail = uuid.uuid4().hex
    return f'52:54:00:{tail[0:2]}:{tail[2:4]}:{tail[4:6]}'
