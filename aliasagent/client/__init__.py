# SPDX-License-Identifier: Apache-2.0
"""The client: sends requests to agents. Does not import the agent."""

from aliasagent.client.rpc import transport
from aliasagent.client.rpcapi import ComputeAPI

__all__ = ['ComputeAPI', 'transport']
