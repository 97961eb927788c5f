# SPDX-License-Identifier: Apache-2.0
"""Neutron itself; run by :mod:`sandbox.neutron` in the environment of the services."""

import json
import pathlib
import sys
import time
from typing import Any

from sandbox import serving

#: Seconds between two reports of an agent.
INTERVAL = 20


class Agents:
    """Reports as alive what the files of a directory describe, as the agents themselves would."""

    def __init__(self, plugin: Any, directory: pathlib.Path) -> None:
        from neutron.db import agents_db

        self._callback = agents_db.AgentExtRpcCallback(plugin)
        self._directory = directory
        self._due: dict[pathlib.Path, float] = {}

    def report(self) -> None:
        """Report each agent whose time has come."""
        files = sorted(self._directory.glob('*.json'))
        self._due = {file: due for file, due in self._due.items() if file in files}
        for file in files:
            if time.monotonic() >= self._due.get(file, 0.0):
                self._report(json.loads(file.read_text()))
                self._due[file] = time.monotonic() + INTERVAL

    def _report(self, agent: dict[str, str]) -> None:
        from neutron_lib import constants
        from neutron_lib import context
        from oslo_utils import timeutils

        kinds = ['internal', agent['datapath']]
        if agent['datapath'] == 'netdev':
            kinds += ['dpdkvhostuser', 'dpdkvhostuserclient']
        state = {
            'binary': 'neutron-openvswitch-agent',
            'agent_type': constants.AGENT_TYPE_OVS,
            'host': agent['host'],
            'topic': 'N/A',
            'start_flag': True,
            'configurations': {
                'bridge_mappings': {},
                'integration_bridge': agent['bridge'],
                'datapath_type': agent['datapath'],
                'tunnel_types': ['vxlan'],
                'tunneling_ip': '192.0.2.10',
                'l2_population': False,
                'ovs_hybrid_plug': False,
                'vhostuser_socket_dir': '/var/run/openvswitch',
                'ovs_capabilities': {'datapath_types': ['system', 'netdev'], 'iface_types': kinds},
            },
        }
        now = timeutils.utcnow().strftime('%Y-%m-%dT%H:%M:%S.%f')
        self._callback.report_state(context.get_admin_context(), agent_state={'agent_state': state}, time=now)


def serve(agents: str, port: str) -> None:
    """Serve the API and the RPC of Neutron; the environment names the configuration."""
    sys.argv = ['neutron-server']
    from oslo_service import backend

    backend.init_backend(backend.BackendType.THREADING)  # before oslo.messaging is imported
    from neutron import server
    from neutron.server import api
    from neutron_lib.plugins import directory as plugins

    def application() -> Any:
        # NOTE: the migrations of Neutron do not run on SQLite: the newest schema is made from the models
        from neutron.db.migration.models import head  # noqa: F401
        from neutron_lib import context
        from neutron_lib.db import api as db_api
        from neutron_lib.db import model_base

        with db_api.CONTEXT_WRITER.using(context.get_admin_context()) as session:
            model_base.BASEV2.metadata.create_all(session.connection())
        return api.api_server()

    app = server.boot_server(application, prog='neutron-api')
    plugin = plugins.get_plugin()
    plugin.start_rpc_listeners()
    # One request after the other, with the reports in between: two that write at once would fail on SQLite.
    serving.serve(app, int(port), Agents(plugin, pathlib.Path(agents)).report)


if __name__ == '__main__':
    serve(*sys.argv[1:])
