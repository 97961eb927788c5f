# SPDX-License-Identifier: Apache-2.0
"""The former module of the client's transport, kept for programs that import it."""

from aliasagent.client import transport

__all__ = ['transport']
