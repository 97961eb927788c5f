# SPDX-License-Identifier: Apache-2.0
"""What the contract says of requests that are not as it wants them: the field, by its name."""

from typing import Any

import jsonschema

from aliasagent import exception
from aliasagent.compute import contract
from aliasagent.compute import schemas
from aliasagent.requests import formats
from aliasagent.requests import port as ports
from aliasagent.tests import base
from aliasagent.tests.unit.devices import golden

Json = dict[str, Any]


class SchemasTestCase(base.TestCase):
    def refused(self, field: str, method: str, **arguments: Any) -> str:
        error = self.assertRaises(
            exception.InvalidInput, contract.validate, method, {'instance_uuid': golden.DEVICE, **arguments}
        )
        self.assertEqual(field, error.kwargs['field'], str(error))
        return str(error)

    def test_the_schemas_are_schemas(self) -> None:
        for schema in schemas.METHODS.values():
            jsonschema.Draft202012Validator.check_schema(schema)

    def test_every_format_is_known(self) -> None:
        def used(part: Any) -> set[str]:
            if isinstance(part, list):
                return {name for each in part for name in used(each)}
            if not isinstance(part, dict):
                return set()
            own = {part['format']} if isinstance(part.get('format'), str) else set()
            return own | {name for each in part.values() for name in used(each)}

        self.assertEqual(set(formats.FORMATS), used(list(schemas.METHODS.values())))


class PortTestCase(SchemasTestCase):
    def port(self, field: str, port: Json) -> None:
        self.refused(field, 'attach_interface', port=port)

    def test_each_type_names_what_it_needs(self) -> None:
        needs = {
            'bridge': 'bridge',
            'ovs': 'bridge',
            'tap': 'devname',
            'macvtap': 'macvtap_source',
            'hw_veb': 'pci_slot',
            'hostdev': 'pci_slot',
            'hostdev_physical': 'pci_slot',
            'vdpa': 'vdpa_device',
            'vhostuser': 'vhostuser_socket',
            'network': 'network',
        }
        self.assertEqual(set(ports.VIF_TYPES), set(needs))
        for vif_type, need in needs.items():
            port = {'id': golden.PORT, 'address': '52:54:00:12:34:56', 'vif_type': vif_type}
            self.port(f'port.{need}', port)
            self.port(f'port.{need}', {**port, need: None})

    def test_each_type_refuses_what_is_not_its_own(self) -> None:
        for name, port in golden.PORTS.items():
            self.port('port.profile', {**port, 'profile': {}})
            if name not in ('interface-hostdev', 'interface-card'):
                self.port('port.pci_slot', {**port, 'pci_slot': '0000:06:12.5'})
        self.port('port.mtu', {**golden.PORTS['interface-macvtap'], 'mtu': 1500})
        self.port('port.vlan', {**golden.PORTS['interface-bridge'], 'vlan': 5})
        self.port('port.model', {**golden.PORTS['interface-hostdev'], 'model': 'virtio'})

    def test_types_that_nobody_knows(self) -> None:
        self.port('port.vif_type', {**golden.PORTS['interface-bridge'], 'vif_type': 'binding_failed'})
        self.port('port.vif_type', {'id': golden.PORT, 'address': '52:54:00:12:34:56'})

    def test_values(self) -> None:
        bridge = golden.PORTS['interface-bridge']
        for name, value in (
            ('id', 'None'),
            ('address', 'ff:ff:ff:ff:ff:ff'),
            ('bridge', 'a/b'),
            ('bridge', 'x' * 1_000_000),
            ('devname', 'sixteen-letters!'),
            ('mtu', 67),
            ('mtu', 1500.0),
            ('mtu', True),
            ('queues', 0),
        ):
            self.port(f'port.{name}', {**bridge, name: value})
        self.port('port.bandwidth.inbound.average', {**bridge, 'bandwidth': {'inbound': {'peak': 5}}})
        self.port('port.bandwidth.sideways', {**bridge, 'bandwidth': {'sideways': None}})
        for vlan in (4096, -1, '4096', '-1', '0x7', '', True, [], [5, 5]):
            self.port('port.vlan', {**golden.PORTS['interface-ovs'], 'vlan': vlan})
        for tag in (0, 4095, '5', True):
            self.port('port.vlan.0', {**golden.PORTS['interface-ovs'], 'vlan': [tag]})
        for vlan in (4095, '4095'):
            self.port('port.vlan', {**golden.PORTS['interface-macvtap'], 'vlan': vlan})


class ConnectionInfoTestCase(SchemasTestCase):
    def volume(self, field: str, kind: str, data: Any, **more: Any) -> str:
        info = {'driver_volume_type': kind, 'data': data, **more}
        return self.refused(f'connection_info.{field}', 'attach_volume', volume_id=golden.VOLUME, connection_info=info)

    def test_each_kind_names_what_it_needs(self) -> None:
        for kind in ('file', 'local', 'fibre_channel'):
            self.volume('data.device_path', kind, {})
        target = {'target_portal': '192.0.2.1:3260', 'target_iqn': 'iqn.2001-04.com.example:a', 'target_lun': 1}
        for name in target:
            self.volume(f'data.{name}', 'iscsi', {key: value for key, value in target.items() if key != name})
        self.volume('data.name', 'rbd', {})
        self.volume('data.host', 'nbd', {})
        self.volume('data.export', 'nfs', {}, mount_point_base='/mnt')
        self.volume('mount_point_base', 'nfs', {'export': 'a:/b', 'name': 'volume-1'})

    def test_who_logs_in_needs_a_secret(self) -> None:
        target = {'target_portal': '192.0.2.1:3260', 'target_iqn': 'iqn.2001-04.com.example:a', 'target_lun': 1}
        chap = {**target, 'auth_method': 'CHAP', 'auth_username': 'a', 'auth_password': golden.PLAINTEXT}
        self.volume('data.secret_uuid', 'iscsi', chap)
        self.volume('data.secret_uuid', 'iscsi', {**chap, 'secret_uuid': None})
        self.volume('data.auth_username', 'iscsi', {**target, 'auth_method': 'CHAP', 'secret_uuid': golden.SECRET})
        # os-brick has logged the host in.
        contract.validate(
            'attach_volume',
            {
                'instance_uuid': golden.DEVICE,
                'volume_id': golden.VOLUME,
                'connection_info': {'driver_volume_type': 'iscsi', 'data': {**chap, 'device_path': '/dev/sdb'}},
            },
        )

    def test_no_password_in_an_error(self) -> None:
        for data in ([golden.PLAINTEXT], {'auth_password': golden.PLAINTEXT}, golden.PLAINTEXT):
            error = self.refused(
                'connection_info.data' if not isinstance(data, dict) else 'connection_info.data.device_path',
                'attach_volume',
                volume_id=golden.VOLUME,
                connection_info={'driver_volume_type': 'file', 'data': data},
            )
            self.assertNotIn(golden.PLAINTEXT, error)

    def test_values(self) -> None:
        path = {'device_path': '/dev/sdb'}
        for name, value in (
            ('device_path', '/srv/../etc/shadow'),
            ('device_path', '/' + 'x' * 1_000_000),
            ('device_path', ''),
            ('access_mode', 'rx'),
            ('discard', 'yes'),
            ('logical_block_size', 513),
            ('qos_specs', ['total_iops_sec']),
        ):
            self.volume(f'data.{name}', 'local', {**path, name: value})
        self.volume('data.qos_specs.total_iops_sec', 'local', {**path, 'qos_specs': {'total_iops_sec': '-1'}})
        self.volume('data.qos_specs.total_iops_sec', 'local', {**path, 'qos_specs': {'total_iops_sec': 1.5}})
        self.volume('data.encryption.secret_uuid', 'local', {**path, 'encryption': {'provider': 'luks'}})
        self.volume(
            'data.encryption.provider',
            'local',
            {**path, 'encryption': {'provider': 'plain', 'secret_uuid': golden.SECRET}},
        )
        self.volume('data.hosts.0', 'rbd', {'name': 'a/b', 'hosts': ['a b']})
        self.volume('data.hosts.0', 'rbd', {'name': 'a/b', 'hosts': ['K' + '\N{KELVIN SIGN}']})
        self.volume('data.ports.1', 'rbd', {'name': 'a/b', 'hosts': ['a', 'b'], 'ports': ['1', '65536']})
        self.volume('data.name', 'nfs', {'export': 'a:/b', 'name': '../volume-1'}, mount_point_base='/mnt')
        self.volume('disk.cache', 'local', path, disk={'cache': 'all'})
        self.volume('disk.colour', 'local', path, disk={'colour': 'red'})

    def test_what_cinder_sends_beside_is_let_in(self) -> None:
        contract.validate(
            'attach_volume',
            {
                'instance_uuid': golden.DEVICE,
                'volume_id': golden.VOLUME,
                'connection_info': {
                    'driver_volume_type': 'local',
                    'data': {'device_path': '/dev/sdb', 'cacheable': True, 'enforce_multipath': False},
                    'status': 'attaching',
                    'attached_at': '',
                },
            },
        )


class HostdevTestCase(SchemasTestCase):
    def hostdev(self, field: str, hostdev: Json) -> None:
        self.refused(field, 'attach_hostdev', device_id=golden.DEVICE, hostdev=hostdev)

    def test_each_type_names_what_it_needs(self) -> None:
        for kind, need in {'pci': 'address', 'mdev': 'uuid', 'usb': 'bus', 'scsi': 'adapter'}.items():
            self.hostdev(f'hostdev.{need}', {'type': kind})
        self.hostdev('hostdev.product', {'type': 'usb', 'vendor': '1d6b'})
        self.hostdev('hostdev.vendor', {'type': 'usb', 'product': '0002'})
        self.hostdev('hostdev.device', {'type': 'usb', 'bus': 1})
        self.hostdev('hostdev.bus', {'type': 'usb', 'vendor': '1d6b', 'product': '0002', 'bus': 1})
        self.hostdev('hostdev.type', {'type': 'net'})
        self.hostdev('hostdev.type', {})

    def test_values(self) -> None:
        self.hostdev('hostdev.address', {'type': 'pci', 'address': '06:12.5'})
        self.hostdev('hostdev.driver', {'type': 'pci', 'address': '0000:06:12.5', 'driver': 'kvm'})
        self.hostdev('hostdev.vendor', {'type': 'usb', 'vendor': '1d6bb', 'product': '0002'})
        self.hostdev('hostdev.adapter', {'type': 'scsi', 'adapter': 'host0', 'bus': 0, 'target': 0, 'unit': 0})
        self.refused('device_id', 'attach_hostdev', device_id='../a', hostdev=golden.HOSTDEVS['hostdev-pci'])
