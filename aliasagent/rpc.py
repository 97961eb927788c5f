# SPDX-License-Identifier: Apache-2.0
"""The old place of the client's transport, for programs that were written for it."""

from aliasagent.client import transport

__all__ = ['transport']
