# SPDX-License-Identifier: Apache-2.0
"""The client: sends requests to agents. Does not import the agent.

Its two names are imported at their first use, because oslo.messaging, which they need, takes its time: the command does
without it.
"""

import importlib
from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    from aliasagent.client.rpc import transport
    from aliasagent.client.rpcapi import ComputeAPI

__all__ = ['ComputeAPI', 'transport']

_MODULES = {'ComputeAPI': 'aliasagent.client.rpcapi', 'transport': 'aliasagent.client.rpc'}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(_MODULES[name]), name)
