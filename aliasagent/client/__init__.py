# SPDX-License-Identifier: Apache-2.0
"""The client: gives requests to the agents. It loads nothing of the agent."""

from aliasagent.client.rpc import transport
from aliasagent.client.rpcapi import ComputeAPI

__all__ = ['ComputeAPI', 'transport']
