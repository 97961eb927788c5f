# SPDX-License-Identifier: Apache-2.0
"""``aliasagent guest ...``"""

import argparse
from collections.abc import Iterable

from aliasagent.shell import base


class GuestList(base.AgentLister):
    """List the guests of a host.

    "persistent" tells whether the guest has a saved definition, which it will start with the next time.
    """

    COLUMNS = ('uuid', 'name', 'state', 'persistent')

    def things(self, _parsed_args: argparse.Namespace) -> Iterable[base.Json]:
        return self.agent.guests()
