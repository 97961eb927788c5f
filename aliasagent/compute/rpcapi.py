# SPDX-License-Identifier: Apache-2.0
"""The old place of the client, for programs that were written for it."""

from aliasagent.client import ComputeAPI

__all__ = ['ComputeAPI']
