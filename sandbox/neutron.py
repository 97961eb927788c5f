# SPDX-License-Identifier: Apache-2.0
"""Runs a real Neutron with ml2/ovs, and reports agents on hosts as alive, so that ports can be bound there."""

import json
import pathlib

from sandbox import keystone as keystone_module
from sandbox import processes
from sandbox import rest
from sandbox import service

#: The Open vSwitch of a host: the kernel's, or one with DPDK, whose guests need vhost-user.
SYSTEM, NETDEV = 'system', 'netdev'
_CONF = """\
[DEFAULT]
use_stderr = true
transport_url = fake://
auth_strategy = keystone
core_plugin = ml2
service_plugins = router
api_paste_config = {etc}/api-paste.ini
state_path = {directory}/state
host = ctrl
api_workers = 0
rpc_workers = 0
dhcp_agent_notification = false
notify_nova_on_port_status_changes = false
notify_nova_on_port_data_changes = false
{database}
[oslo_concurrency]
lock_path = {directory}/state/lock
[oslo_messaging_notifications]
driver = noop
[ml2]
type_drivers = flat,vlan,vxlan,geneve
tenant_network_types = vxlan
mechanism_drivers = openvswitch
extension_drivers = port_security
[ml2_type_vxlan]
vni_ranges = 1:1000
[securitygroup]
enable_security_group = true
firewall_driver = openvswitch
{authtoken}
"""


class Neutron(service.Service):
    """API and RPC server, in one process. A port's status stays DOWN: no agent wires it.

    :param keystone: has started when the Neutron starts
    """

    name = 'neutron'

    def __init__(self, directory: pathlib.Path, keystone: keystone_module.Keystone) -> None:
        super().__init__(directory)
        self._keystone = keystone

    @property
    def url(self) -> str:
        """The URL of version 2.0 of the API."""
        return f'http://{self.address}/v2.0'

    def start(self) -> None:
        if self.pid is not None:
            return
        fresh = not self._settings.exists()
        (self.directory / 'state' / 'lock').mkdir(parents=True, exist_ok=True)
        config = self.directory / 'neutron.conf'
        if fresh:
            self._save(port=processes.free_port())
            (self.directory / 'agents').mkdir(exist_ok=True)
            config.write_text(
                _CONF.format(
                    directory=self.directory,
                    etc=service.venv('clouds-venv') / 'etc' / 'neutron',
                    database=service.database(self.directory / 'neutron.sqlite'),
                    authtoken=self._keystone.authtoken('neutron'),
                )
            )
        more = {'OS_NEUTRON_CONFIG_DIR': str(self.directory), 'OS_NEUTRON_CONFIG_FILES': config.name}
        command = self._command(self.directory / 'agents', str(self.settings()['port']))
        self._serve(command, self._answers, more)
        if fresh:
            self._keystone.register('network', 'neutron', f'http://{self.address}')

    def client(self, user: str) -> rest.Client:
        """Return a client with a new token of a user of Keystone."""
        return rest.Client(self.url, {'X-Auth-Token': self._keystone.token(user)})

    def add_agent(self, host: str, datapath: str = SYSTEM, bridge: str = 'br-int') -> None:
        """Report an Open vSwitch agent on a host as alive from now on; ports can be bound there when this returns.

        A port bound to a host without an agent has the vif_type ``binding_failed``; with the datapath ``netdev`` it is
        ``vhostuser``, otherwise ``ovs``.

        :param bridge: the integration bridge of the host
        :raises PartFailed: Neutron does not list the agent in time
        """
        entry = self.directory / 'agents' / f'{host}.json'
        new = entry.with_suffix('.new')
        new.write_text(json.dumps({'host': host, 'datapath': datapath, 'bridge': bridge}))
        new.rename(entry)
        admin = self.client('neutron')

        def alive() -> bool:
            return any(agent['alive'] for agent in admin('GET', f'/agents?host={host}')['agents'])

        processes.wait_until(alive, 30, f'the agent on {host}', interval=0.2)

    def remove_agent(self, host: str) -> None:
        """Remove the agent of a host from Neutron; do nothing if it has none."""
        (self.directory / 'agents' / f'{host}.json').unlink(missing_ok=True)
        admin = self.client('neutron')
        for agent in admin('GET', f'/agents?host={host}')['agents']:
            admin('DELETE', f'/agents/{agent["id"]}')
