# SPDX-License-Identifier: Apache-2.0
"""The agent as a user whom libvirt's group alone lets do something."""

import os
import pathlib
import tempfile
import uuid
from typing import Any

import testtools

from aliasagent.client import ComputeAPI
from aliasagent.context import RequestContext
from aliasagent.devices import identity
from aliasagent.devices.domain import Domain
from aliasagent.tests.contract import harness
from aliasagent.tests.integration import base
from aliasagent.virt.guest import Side
from aliasagent.virt.host import Host
from sandbox import environment
from sandbox import libvirtd
from sandbox import processes
from sandbox import unprivileged
from sandbox.agent import Agent

#: A group that has members nowhere: nobody gets anything else by it.
GROUP = 64321


class WithoutRootTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.parts = environment.read()
        # not in the tests' own directory: that may be closed to others
        directory = tempfile.TemporaryDirectory(prefix='aa-', ignore_cleanup_errors=True)
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.directory.chmod(0o755)
        daemon = libvirtd.Libvirtd(self.directory / 'libvirt', group=str(GROUP))
        self.addCleanup(daemon.stop, destroy_guests=True)
        daemon.start()
        self.side = base.RealSide(daemon.uri)
        self.addCleanup(self.side.close)
        self.uri = daemon.uri
        transport = base.open_transport(self, self.parts.rabbit_url)
        self.host_name = f'without-root-{uuid.uuid4().hex[:8]}'
        self.api = ComputeAPI(transport, self.host_name, timeout=10)

    def agent(self, *groups: int) -> Agent:
        agent = Agent(
            self.directory / 'agent',
            host=self.host_name,
            rabbit_url=self.parts.rabbit_url,
            libvirt_uri=self.uri,
            groups=groups,
        )
        self.addCleanup(agent.kill)
        return agent

    def done(self, action: str, **arguments: Any) -> tuple[str, str | None]:
        ctxt = RequestContext()
        self.api.submit(ctxt, action, **arguments)

        def ended() -> dict[str, Any] | None:
            operation = self.api.get_operation(RequestContext(), ctxt.operation_id)
            return operation if operation['state'] in ('succeeded', 'failed') else None

        operation = processes.wait_until(ended, harness.SOON, action)
        return operation['state'], operation['error']

    def test_a_member_of_the_group_does_all_of_its_work(self) -> None:
        disks = self.directory / 'disks'
        disks.mkdir(mode=0o711)
        files = [disks / 'one.img', disks / 'two.img', disks / 'closed' / 'three.img']
        files[2].parent.mkdir(mode=0o700)
        for path in files:
            path.write_bytes(bytes(1 << 20))
            path.chmod(0o600)  # QEMU alone has to open it
        agent = self.agent(GROUP)
        agent.start(timeout=20)
        status = pathlib.Path(f'/proc/{agent.pid}/status').read_text().split('\n')
        shown = {line.partition(':')[0]: line.split()[1:] for line in status if line}
        self.assertEqual([str(unprivileged.USER)] * 4, shown['Uid'])
        self.assertEqual([0, 0, 0], [int(shown[name][0], 16) for name in ('CapEff', 'CapPrm', 'CapBnd')])
        self.assertEqual(unprivileged.USER, os.stat(agent.journal).st_uid)

        guest, volume, port = self.side.new_guest(state='started'), harness.new_id(), harness.new_id()
        connection = harness.file_connection(files[0])
        here = {'instance_uuid': guest}
        succeeded = ('succeeded', None)
        attach = {**here, 'volume_id': volume, 'connection_info': connection, 'disk_bus': 'scsi'}
        self.assertEqual(succeeded, self.done('attach_volume', **attach))
        bridged = {'id': port, 'address': harness.new_mac(), 'vif_type': 'bridge', 'bridge': self.side.bridge()}
        self.assertEqual(succeeded, self.done('attach_interface', **here, port=bridged))
        self.assertEqual(succeeded, self.done('detach_volume', **here, volume_id=volume))
        state, error = self.done(
            'attach_volume', **{**attach, 'connection_info': harness.file_connection(files[2])}
        )
        self.assertEqual('failed', state)
        self.assertIn(f'{files[2]} cannot be looked up: Permission denied', str(error))

        # the memory of a guest is written by libvirt, where the agent says
        named = harness.new_id()
        self._give_a_disk(guest, harness.disk_xml(str(files[1]), 'sdc', serial=named))
        self.assertEqual(succeeded, self.done('reconcile_live', **here))
        self.assertEqual(f'ua-{named}', identity.find(self._live(guest), named).device.alias)  # type: ignore[union-attr]
        self.assertEqual([], list((self.directory / 'agent' / 'save').iterdir()))

    def test_somebody_else_waits_for_a_hypervisor(self) -> None:
        agent = self.agent()
        agent.begin()
        agent.wait_said('Waiting for the hypervisor')
        agent.wait_said('Permission denied')
        agent.stop(timeout=10)
        self.assertNotIn('Ready:', agent.said())

    def _give_a_disk(self, guest: str, xml: str) -> None:
        host = self._host()
        try:
            host.guest(guest).attach(xml, Side.LIVE | Side.PERSISTENT)
        finally:
            host.close()

    def _live(self, guest: str) -> Domain:
        host = self._host()
        try:
            live = host.guest(guest).definitions().live
        finally:
            host.close()
        assert live is not None
        return live

    def _host(self) -> Host:
        host = Host(self.uri, reconnect_interval=0.05)
        host.start()
        assert host.wait_connected(harness.SOON)
        return host
