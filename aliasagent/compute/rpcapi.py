# SPDX-License-Identifier: Apache-2.0
"""The former module of the client, kept for programs that import it."""

from aliasagent.client import ComputeAPI

__all__ = ['ComputeAPI']
