# SPDX-License-Identifier: Apache-2.0
"""Requests that would have the host run a program, lose a file, or give away what is its own, and leave no mark."""

import os
import pathlib
import socket
import stat
from typing import Any

import libvirt

from aliasagent import exception
from aliasagent.context import RequestContext
from aliasagent.tests.contract import harness
from aliasagent.tests.integration import test_agent
from aliasagent.tests.unit.virt import test_images
from sandbox import materials
from sandbox.agent import Agent

#: Part of each password that is sent here, and of nothing else.
MARK = 'x7Qm-hush'
PATH = 'connection_info.data.device_path'


class DoorsTest(test_agent.RealAgentCase):
    """An agent with the default options, but for a directory of files and sockets, and one bridge."""

    def start_agent(self, host: str) -> None:
        self.inside, self.outside = self.directory / 'inside', self.directory / 'outside'
        for each in (self.inside, self.outside):
            each.mkdir()
        self.agent = Agent(
            self.directory / 'agent',
            host=self.host_name,
            rabbit_url=self.side.parts.rabbit_url,
            libvirt_uri=self.side.uri,
        )
        self.agent.options['allowed'] = {
            'paths': self.inside,
            'sockets': self.inside,
            'migration_sockets': self.inside,
            'bridges': self.side.bridge(),
        }
        self.agent.start()
        self.addCleanup(self.agent.stop)

    def setUp(self) -> None:
        super().setUp()
        self.guest = self.side.new_guest(state='started')
        # Whoever is sent to this host itself comes here.
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.addCleanup(self.listener.close)
        self.listener.setblocking(False)
        self.port_here = self.listener.getsockname()[1]

    def definitions(self) -> tuple[str, str]:
        domain = self.side.connection.lookupByUUIDString(self.guest)
        return domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE), domain.XMLDesc(
            libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_INACTIVE
        )

    def files(self) -> dict[str, object]:
        """What lies in both directories: its kind, its number and what is in it."""
        found: dict[str, object] = {}
        for path in (*self.inside.rglob('*'), *self.outside.rglob('*')):
            seen = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(seen.st_mode) else b''
            found[str(path)] = (seen.st_mode, seen.st_ino, seen.st_mtime_ns, content)
        return found

    def assert_refused(self, field: str, method: str, **arguments: Any) -> None:
        """By a cast and by a call, as bad input that names the field, and nothing is changed or connected to."""
        definitions, files = self.definitions(), self.files()
        arguments = {'instance_uuid': self.guest, **arguments}
        self.assert_failed(self.raw_cast(method, **arguments), 'InvalidInput', f'{field}: ')
        ctxt, api = RequestContext(), self.api()
        try:
            api.submit(ctxt, method, **arguments)
        except exception.InvalidInput as error:
            self.assertEqual(field, error.kwargs['field'])
        else:
            self.assert_failed(self.wait(api, ctxt.operation_id), 'InvalidInput', f'{field}: ')
        self.assertEqual(definitions, self.definitions())
        self.assertEqual(files, self.files())
        self.assertRaises(BlockingIOError, self.listener.accept)

    def test_no_program_is_run_for_a_migration(self) -> None:
        marker = self.directory / 'marker'
        program = self.outside / 'program'
        program.write_text(f'#!/bin/sh\ntouch {marker}\n')
        program.chmod(0o755)
        for uri in (
            f'qemu+ssh://10.0.0.2/system?command={program}',
            f'qemu+ssh://10.0.0.2/system?Command={program}',
            f'qemu+ssh://10.0.0.2/system?x=1;command={program}',
            f'qemu+ssh://10.0.0.2/system?no_tty=1;COMMAND={program}',
            f'qemu+ssh://10.0.0.2/system?no_tty=1&mode=auto;command={program}',
            f'qemu+ssh://10.0.0.2/system?c%6fmmand={str(program).replace("/", "%2f")}',
            f'qemu+ext://10.0.0.2/system?command={program}',
            f'qemu+ssh://10.0.0.2/system?netcat={program}',
            f'qemu+ssh://root:{MARK}@10.0.0.2/system?command={program}',
            f'qemu+ssh://10.0.0.2/system?command={program}&password={MARK}',
        ):
            self.assert_refused('dest_uri', 'live_migrate', dest_uri=uri)
        self.assertFalse(marker.exists())
        journal = b''.join(path.read_bytes() for path in self.agent.directory.glob('journal.sqlite*'))
        for told in (self.agent.log.read_text(errors='replace'), journal.decode('latin-1')):
            self.assertIn('dest_uri', told)
            self.assertNotIn(MARK, told)

    def test_a_guest_goes_to_no_host_that_is_not_allowed(self) -> None:
        (self.inside / 'image').write_text('of another guest')
        good = 'qemu+tls://10.0.0.2/system'
        for host in ('127.0.0.1', 'localhost', '127.1', '[::1]', '[::ffff:127.0.0.1]', '169.254.169.254', '192.0.2.1'):
            self.assert_refused('dest_uri', 'live_migrate', dest_uri=f'qemu+tcp://{host}:{self.port_here}/system')
            self.assert_refused(
                'migrate_uri', 'live_migrate', dest_uri=good, migrate_uri=f'tcp://{host}:{self.port_here}'
            )
        for path in (self.inside / 'image', '/run/libvirt/libvirt-sock'):
            self.assert_refused('dest_uri', 'live_migrate', dest_uri=f'qemu+unix:///system?socket={path}')
            self.assert_refused('migrate_uri', 'live_migrate', dest_uri=good, migrate_uri=f'unix://{path}')

    def test_what_is_at_the_path_of_a_socket_stays(self) -> None:
        image = materials.make_disk(self.inside / 'another-guest.img')
        os.mknod(self.inside / 'node', stat.S_IFBLK | 0o600, os.makedev(7, 250))
        materials.make_disk(self.outside / 'another-guest.img')
        (self.inside / 'link').symlink_to(self.outside)
        (self.inside / 'link.img').symlink_to(image)
        for path in (
            image,
            self.inside / 'node',
            self.inside / 'link.img',
            self.inside / 'link' / 'another-guest.img',
            self.inside / 'link' / 'nothing',
            self.outside / 'another-guest.img',
            '/dev/sda',
        ):
            for mode in ('server', 'client'):
                port = {**self.new_port('vhostuser'), 'vhostuser_socket': str(path), 'vhostuser_mode': mode}
                self.assert_refused('port.vhostuser_socket', 'attach_interface', port=port)

    def test_a_port_takes_nothing_of_the_hosts_own(self) -> None:
        nic = min(path.name for path in pathlib.Path('/sys/class/net').iterdir() if path.name != 'lo')
        bridge = materials.make_bridge()
        self.addCleanup(materials.remove_bridge, bridge)
        for field, kind, more in (
            ('macvtap_source', 'macvtap', {'macvtap_source': nic, 'macvtap_mode': 'passthrough'}),
            ('macvtap_source', 'macvtap', {'macvtap_source': nic}),
            ('bridge', 'bridge', {'bridge': bridge}),
            ('bridge', 'ovs', {'bridge': bridge}),
            ('network', 'network', {'network': 'default'}),
            ('devname', 'tap', {'devname': nic}),
            ('devname', 'bridge', {'bridge': self.side.bridge(), 'devname': nic}),
            ('pci_slot', 'hw_veb', {'pci_slot': '0000:00:01.0'}),
        ):
            self.assert_refused(f'port.{field}', 'attach_interface', port={**self.new_port(kind), **more})

    def new_port(self, kind: str) -> dict[str, Any]:
        return {'id': harness.new_id(), 'address': harness.new_mac(), 'vif_type': kind}

    def test_qemu_connects_to_nothing_of_the_hosts_own(self) -> None:
        for host in ('127.0.0.1', 'localhost', '127.1', '[::ffff:127.0.0.1]', '169.254.169.254'):
            for field, kind, data in (
                ('host', 'nbd', {'host': host, 'port': self.port_here}),
                ('hosts.0', 'rbd', {'name': 'a/b', 'hosts': [host], 'ports': [self.port_here]}),
                (
                    'target_portal',
                    'iscsi',
                    {
                        'target_portal': f'{host}:{self.port_here}',
                        'target_iqn': 'iqn.2010-10.org.openstack:v',
                        'target_lun': 1,
                    },
                ),
            ):
                self.assert_refused(
                    f'connection_info.data.{field}',
                    'attach_volume',
                    volume_id=harness.new_id(),
                    connection_info={'driver_volume_type': kind, 'data': data},
                )

    def left_live_only(self, path: pathlib.Path) -> dict[str, Any]:
        """Attach a raw file, and have another client take it out of the saved definition."""
        arguments = {
            'volume_id': harness.new_id(),
            'connection_info': harness.file_connection(path),
            'disk_bus': 'scsi',
        }
        self.assert_succeeded(self.raw_cast('attach_volume', instance_uuid=self.guest, **arguments))
        domain = self.side.connection.lookupByUUIDString(self.guest)
        domain.detachDeviceAlias(f'ua-{arguments["volume_id"]}', libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        self.assertEqual(({arguments['volume_id']}, set()), self.ids(self.guest))
        return arguments

    def test_a_path_is_looked_at_though_the_running_guest_has_the_device(self) -> None:
        volume, secret = materials.make_disk(self.inside / 'volume.raw'), materials.make_disk(self.outside / 'secret')
        path = self.inside / 'link.raw'
        path.symlink_to(volume)
        arguments = self.left_live_only(path)
        path.unlink()
        path.symlink_to(secret)
        self.assert_refused(PATH, 'attach_volume', **arguments)

    def test_a_raw_disk_does_not_come_back_as_an_image(self) -> None:
        secret = materials.make_disk(self.outside / 'secret')
        path = materials.make_disk(self.inside / 'volume.raw')
        arguments = self.left_live_only(path)
        with path.open('r+b') as disk:  # as the guest writes it
            disk.write(test_images.header(str(secret).encode(), test_images.backing_format(b'raw')))
        arguments['connection_info'] = harness.file_connection(path, format='qcow2')
        definitions, files = self.definitions(), self.files()
        operation = self.raw_cast('attach_volume', instance_uuid=self.guest, **arguments)
        self.assertEqual('failed', operation['state'])
        # Another format is a conflict, and what the image is based on is out of bounds: either is enough.
        self.assertIn(operation['error_class'], ('InvalidInput', 'DeviceConflict'))
        self.assertEqual(definitions, self.definitions())
        self.assertEqual(files, self.files())
