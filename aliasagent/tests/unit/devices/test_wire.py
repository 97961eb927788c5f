# SPDX-License-Identifier: Apache-2.0
"""What Cinder and Neutron answer is another spelling of the agent's own requests, or refused in words."""

import json
import pathlib
from typing import Any

from hypothesis import assume
from hypothesis import given
from hypothesis import strategies as st

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.compute import contract
from aliasagent.devices.hostdev import Hostdev
from aliasagent.devices.interface import Interface
from aliasagent.requests import base as requests_base
from aliasagent.requests import catalog
from aliasagent.requests.port import AttachInterface
from aliasagent.requests.volume import AttachVolume
from aliasagent.tests import base
from aliasagent.tests import cases
from aliasagent.tests.unit.devices import golden
from aliasagent.tests.unit.devices import requests
from aliasagent.virt import functions

Json = dict[str, Any]

#: Cinder's types, for which os-brick makes a block device, and those for which it mounts a share.
BLOCK = ('iscsi', 'iser', 'fibre_channel', 'nvmeof', 'rbd', 'local', 'storpool', 'scaleio', 'lightos', 'of-next-year')
SHARES = ('nfs', 'smbfs', 'quobyte', 'vzstorage', 'gpfs')
SLOT = '0000:06:12.5'
MAC = '52:54:00:12:34:56'
DEFAULTS = requests_base.Defaults(
    ceph_user='nova',
    ceph_secret_uuid=golden.PASSPHRASE,
    interface_of={SLOT: 'ens1f0v3'}.get,
    vdpa_of={SLOT: '/dev/vhost-vdpa-7'}.get,
)
ISCSI = {'target_portal': '192.0.2.1:3260', 'target_iqn': 'iqn.2001-04.com.example:a', 'target_lun': 1}
RBD = {'name': 'volumes/a', 'hosts': ['192.0.2.1'], 'ports': ['6789'], 'auth_enabled': True}


def parse(action: Action, arguments: Json, defaults: requests_base.Defaults = DEFAULTS) -> Any:
    """Make a request as the agent does of a message."""
    contract.validate(action, {'instance_uuid': golden.DEVICE, **arguments})
    return catalog.parse(action, arguments).completed(defaults)


def volume(info: Json, defaults: requests_base.Defaults = DEFAULTS) -> AttachVolume:
    found: AttachVolume = parse(
        Action.ATTACH_VOLUME, {'volume_id': golden.VOLUME, 'connection_info': info}, defaults
    )
    return found


def interface(port: Json, defaults: requests_base.Defaults = DEFAULTS) -> AttachInterface:
    found: AttachInterface = parse(Action.ATTACH_INTERFACE, {'port': port}, defaults)
    return found


def flat(info: Json) -> Json:
    """A connection_info with the members of its data beside the others."""
    return {**{name: value for name, value in info.items() if name != 'data'}, **info['data']}


def answered(vif_type: str, vnic_type: str = 'normal', details: Any = None, profile: Any = None, **more: Any) -> Json:
    """A port as Neutron answers it."""
    return {
        'id': golden.PORT,
        'mac_address': MAC,
        'status': 'DOWN',
        'fixed_ips': [{'ip_address': '192.0.2.7', 'subnet_id': golden.DEVICE}],
        'device_id': golden.DEVICE,
        'binding:vif_type': vif_type,
        'binding:vnic_type': vnic_type,
        'binding:vif_details': details,
        'binding:profile': profile,
        **more,
    }


class RefusingTestCase(base.TestCase):
    def refused(self, field: str, words: str, make: Any, *args: Any) -> None:
        error = self.assertRaises(exception.InvalidInput, make, *args)
        self.assertEqual(field, error.kwargs['field'], str(error))
        self.assertIn(words, str(error))
        self.assertNotIn('schema', str(error))
        self.assertNotIn(golden.PLAINTEXT, str(error))


class ConnectionInfoTestCase(RefusingTestCase):
    def test_what_cinder_answers_for_ceph(self) -> None:
        info = cases.read('cinder-rbd')['attachment']['connection_info']
        nested = {'driver_volume_type': 'rbd', 'data': info}
        self.assertEqual(volume(nested), volume(info))
        disk = volume(info).disk(target='vda', bus='virtio')
        self.assertEqual(('network', 'rbd', info['name']), (disk.type, disk.source_protocol, disk.source_name))
        self.assertEqual(('cinder', info['secret_uuid']), (disk.auth_username, disk.auth_secret_uuid))
        self.assertEqual(('unmap', False), (disk.discard, disk.readonly))

    def test_what_cinder_answers_for_nfs(self) -> None:
        info = cases.read('cinder-nfs')['attachment']['connection_info']
        # The base is a directory of Cinder's host, and no path of this one.
        self.refused('connection_info.device_path', "mount the share on the agent's host first", volume, info)
        asked = volume({**info, 'device_path': '/var/lib/nova/mnt/a/volume'})
        disk = asked.disk(target='vda', bus='virtio')
        self.assertEqual(('file', '/var/lib/nova/mnt/a/volume', 'raw'), (disk.type, disk.source_file, disk.driver_type))

    def test_the_connection_of_another_volume_is_refused(self) -> None:
        data: Json = {'device_path': '/dev/sdq'}
        info: Json = {'driver_volume_type': 'local', 'data': data}
        for name, nested in (('volume_id', True), ('volume_id', False), ('serial', False)):
            whose = info | ({'data': data | {name: golden.PORT}} if nested else {name: golden.PORT})
            field = f'connection_info.{"data." if nested else ""}{name}'
            self.refused(field, f'is of volume {golden.PORT}, not of the requested', volume, whose)
            if not nested:
                self.refused(field, golden.PORT, volume, flat(whose))
        # An id in another form is not compared: the agent cannot tell what it is the id of.
        for other in (golden.VOLUME.upper(), 'volume-1', None):
            self.assertEqual(volume(info), volume(info | {'serial': other, 'data': data | {'volume_id': other}}))

    @given(requests.volumes())
    def test_both_spellings_are_the_same_request(self, request: Json) -> None:
        info = request['connection_info']
        # Only the form with data names the mount point of this host.
        assume(info['driver_volume_type'] != 'nfs' or 'device_path' in info['data'])
        # In the flat form there is one place for it.
        assume('multiattach' not in info or 'multiattach' not in info['data'])
        asked = volume(info)
        self.assertEqual(asked, volume(flat(info)))
        self.assertEqual(asked.needs(), volume(flat(info)).needs())
        kept = asked.to_dict()
        self.assertIn('data', kept['connection_info'])
        self.assertEqual(kept, volume(flat(info)).to_dict())

    @given(requests.broken(requests.volumes().map(lambda request: {'info': flat(request['connection_info'])})))
    def test_anything_else_is_refused(self, broken: Json) -> None:
        try:
            asked = volume(broken['info'])
        except exception.InvalidInput as refused:
            self.assertNotIn(golden.PLAINTEXT, str(refused))
            return
        self.assertEqual(asked, volume(asked.connection_info.to_dict()))

    def test_numbers_as_texts(self) -> None:
        texts = {'target_lun': '1', 'physical_block_size': '4096', 'logical_block_size': '512'}
        numbers = {'target_lun': 1, 'physical_block_size': 4096, 'logical_block_size': 512}
        for place in (lambda data: {'data': data}, dict):
            ways = [
                volume({'driver_volume_type': 'iscsi', **place({**ISCSI, **values})}) for values in (texts, numbers)
            ]
            self.assertEqual(ways[0], ways[1])
            self.assertEqual(json.dumps(ways[0].to_dict()), json.dumps(ways[1].to_dict()))
        for name, value, words in (
            ('target_lun', '16384', 'the number of a LUN'),
            ('target_lun', '-1', 'the number of a LUN'),
            ('target_lun', '\N{FULLWIDTH DIGIT ONE}', 'the number of a LUN'),
            ('target_lun', '', 'the number of a LUN'),
            ('target_lun', True, 'is not of type'),
            ('physical_block_size', '513', 'is not one of 512, 1024'),
            ('physical_block_size', 512.0, 'is not of type'),
            ('logical_block_size', '0512', 'is not one of 512, 1024'),
        ):
            info = {'driver_volume_type': 'iscsi', **ISCSI, name: value}
            self.refused(f'connection_info.{name}', words, volume, info)

    def test_what_has_a_device_path_is_a_block_device_or_a_file(self) -> None:
        more: Json = {'discard': False, 'qos_specs': None, 'encrypted': False, 'cacheable': False}
        more |= {'enforce_multipath': True, 'mount_point_base': '/var/lib/cinder/mnt', 'format': 'raw'}
        more |= {'access_mode': 'rw', 'attachment_id': golden.DEVICE, 'cluster_name': None, 'auth_password': None}
        for kinds, form in ((BLOCK, 'block'), (SHARES, 'file')):
            for kind in kinds:
                disk = volume({'driver_volume_type': kind, 'device_path': '/dev/x0', **more}).disk(
                    target='vda', bus='virtio'
                )
                self.assertEqual((form, '/dev/x0'), (disk.type, disk.source), kind)

    def test_what_has_none_says_what_to_do(self) -> None:
        for words, kinds in (
            ("connect the volume to the agent's host first, as os-brick does", set(BLOCK) - {'iscsi', 'rbd'}),
            ("mount the share on the agent's host first, as os-brick does", SHARES),
            ("give the path of the volume's file", ('file',)),
        ):
            for kind in kinds:
                for missing in ({}, {'device_path': None}):
                    flat_info = {'driver_volume_type': kind, **missing}
                    self.refused('connection_info.device_path', words, volume, flat_info)
                    nested = {'driver_volume_type': kind, 'data': missing}
                    if kind != 'nfs':
                        self.refused('connection_info.data.device_path', words, volume, nested)

    def test_a_password_is_not_enough(self) -> None:
        chap = {**ISCSI, 'auth_method': 'CHAP', 'auth_username': 'a', 'auth_password': golden.PLAINTEXT}
        for secret in ({}, {'secret_uuid': None}):
            info = {'driver_volume_type': 'iscsi', **chap, **secret}
            self.refused('connection_info.secret_uuid', 'as os-brick does', volume, info)
        connected = volume({'driver_volume_type': 'iscsi', **chap, 'device_path': '/dev/sdb'})
        self.assertNotIn(golden.PLAINTEXT, json.dumps(connected.to_dict()))
        encrypted = volume({'driver_volume_type': 'local', 'device_path': '/dev/sdb', 'encrypted': True})
        self.refused(
            'connection_info.data.encryption',
            'secret_uuid of a libvirt secret that has the passphrase',
            lambda: encrypted.disk(target='vda', bus='virtio'),
        )

    def test_ceph_without_a_secret_is_the_agents_own(self) -> None:
        for given_ in (
            {},
            {'secret_uuid': None, 'auth_username': None},
        ):
            disk = volume({'driver_volume_type': 'rbd', **RBD, **given_}).disk(target='vda', bus='virtio')
            self.assertEqual(('nova', golden.PASSPHRASE), (disk.auth_username, disk.auth_secret_uuid))
        named = volume({'driver_volume_type': 'rbd', **RBD, 'auth_username': 'cinder', 'secret_uuid': golden.SECRET})
        disk = named.disk(target='vda', bus='virtio')
        self.assertEqual(('cinder', golden.SECRET), (disk.auth_username, disk.auth_secret_uuid))
        # Each comes from the agent alone if only one is missing, as in Nova.
        disk = volume({'driver_volume_type': 'rbd', **RBD, 'auth_username': 'cinder'}).disk(target='vda', bus='virtio')
        self.assertEqual(('cinder', golden.PASSPHRASE), (disk.auth_username, disk.auth_secret_uuid))

    def test_the_agents_keyring_has_the_key_of_one_user(self) -> None:
        keyring = requests_base.Defaults('nova', golden.PASSPHRASE, ceph_key_user='nova')
        info = {'driver_volume_type': 'rbd', **RBD}
        for given_ in ({}, {'auth_username': 'nova'}, {'auth_username': None, 'secret_uuid': None}):
            disk = volume({**info, **given_}, keyring).disk(target='vda', bus='virtio')
            self.assertEqual(('nova', golden.PASSPHRASE), (disk.auth_username, disk.auth_secret_uuid))
        other = {**info, 'auth_username': 'cinder'}
        words = 'is cinder, and the agent\'s option [ceph] keyring gives QEMU the key of the Ceph user nova'
        self.refused('connection_info.data.auth_username', words, volume, other, keyring)
        disk = volume({**other, 'secret_uuid': golden.SECRET}, keyring).disk(target='vda', bus='virtio')
        self.assertEqual(('cinder', golden.SECRET), (disk.auth_username, disk.auth_secret_uuid))
        volume({**other, 'auth_enabled': False}, keyring)

    def test_ceph_without_anything_is_refused(self) -> None:
        info = {'driver_volume_type': 'rbd', **RBD}
        nothing = requests_base.Defaults()
        self.refused('connection_info.data.auth_username', 'option [ceph] user is not set', volume, info, nothing)
        only_user = requests_base.Defaults(ceph_user='nova')
        self.refused(
            'connection_info.data.secret_uuid', 'option [ceph] secret_uuid is not set', volume, info, only_user
        )
        # Without authentication, and on a host that maps the image itself, nothing is needed.
        self.assertIsNone(volume({**info, 'auth_enabled': False}, nothing).disk(target='a', bus='virtio').auth_username)
        volume({**info, 'device_path': '/dev/rbd0'}, nothing)


class PortTestCase(RefusingTestCase):
    def test_what_neutron_answers_for_open_vswitch(self) -> None:
        port = cases.read('neutron-bound')['port']
        asked = interface(port)
        own = {'id': golden.PORT, 'address': port['mac_address'], 'vif_type': 'ovs', 'bridge': 'br-int'}
        self.assertEqual(interface({**own, 'devname': 'tap91f04c6a-7c'}), asked)
        made = asked.device(dead_vlan=True)
        assert isinstance(made, Interface)
        self.assertEqual(('openvswitch', golden.PORT), (made.virtualport_type, made.interfaceid))
        self.assertEqual((4095,), made.vlan_tags)

    def test_what_neutron_answers_for_dpdk(self) -> None:
        port = cases.read('neutron-vhostuser')['port']
        for mode in ('server', 'client'):
            port['binding:vif_details']['vhostuser_mode'] = mode
            made = interface(port).device()
            assert isinstance(made, Interface)
            socket = port['binding:vif_details']['vhostuser_socket']
            self.assertEqual(
                ('vhostuser', mode, socket, 'vhu91f04c6a-7c'),
                (made.type, made.source_mode, made.source_path, made.target_dev),
            )
        port['binding:vif_details'].pop('vhostuser_socket')
        self.refused('port.binding:vif_details.vhostuser_socket', 'is missing', interface, port)

    def test_a_port_that_is_not_bound(self) -> None:
        for name, words in (('unbound', 'set its binding:host_id'), ('binding-failed', "Neutron's agent on the host")):
            port = cases.read(f'neutron-{name}')['port']
            self.refused('port.binding:vif_type', words, interface, port)
        seen_by_a_user = {'id': golden.PORT, 'mac_address': MAC, 'binding:vnic_type': 'normal'}
        self.refused('port.binding:vif_type', 'as an administrator', interface, seen_by_a_user)

    def test_a_hybrid_port_never_goes_around_its_security_groups(self) -> None:
        for vif_type in ('ovs', 'vhostuser'):
            port = answered(vif_type, details={'ovs_hybrid_plug': True, 'bridge_name': 'br-int'})
            self.refused('port.binding:vif_details.ovs_hybrid_plug', 'qbr91f04c6a-7c', interface, port)

    def test_both_spellings_of_each_type(self) -> None:
        profile = {'pci_slot': SLOT, 'physical_network': 'physnet1', 'card_serial_number': None}
        tap = {'devname': 'tap91f04c6a-7c'}
        sriov = {'pci_slot': SLOT}
        for port, own in (
            (answered('ovs'), {'vif_type': 'ovs', 'bridge': 'br-int', **tap}),
            (answered('ovs', details={'ovs_hybrid_plug': False}), {'vif_type': 'ovs', 'bridge': 'br-int', **tap}),
            # The trunk's own bridge, where the guest sends the tags.
            (
                answered('ovs', details={'bridge_name': 'tbr-1'}),
                {'vif_type': 'ovs', 'bridge': 'tbr-1', 'vlan': 0, **tap},
            ),
            (answered('bridge', details={'bridge_name': 'brq1'}), {'vif_type': 'bridge', 'bridge': 'brq1', **tap}),
            (
                answered('bridge', network_id=golden.DEVICE),
                {'vif_type': 'bridge', 'bridge': f'brq{golden.DEVICE[:11]}', **tap},
            ),
            (answered('tap', mtu=1450), {'vif_type': 'tap', 'mtu': 1450, **tap}),
            (
                answered('macvtap', details={'macvtap_source': 'eth0.5', 'macvtap_mode': 'vepa', 'vlan': '5'}),
                {'vif_type': 'macvtap', 'macvtap_source': 'eth0.5', 'macvtap_mode': 'vepa'},
            ),
            (answered('hw_veb', 'direct', {'vlan': '100'}, profile), {'vif_type': 'hw_veb', 'vlan': 100, **sriov}),
            (answered('hw_veb', 'direct', {'vlan': '0'}, profile), {'vif_type': 'hw_veb', **sriov}),
            (
                answered('hw_veb', 'macvtap', {'vlan': '100'}, profile),
                {'vif_type': 'macvtap', 'macvtap_source': 'ens1f0v3', 'macvtap_mode': 'passthrough', 'vlan': 100},
            ),
            (
                answered('hostdev_physical', 'direct-physical', {'vlan': '7'}, profile, managed=False),
                {'vif_type': 'hostdev_physical', 'managed': False, **sriov},
            ),
            (
                answered('ovs', 'direct', {}, {**profile, 'capabilities': ['switchdev']}),
                {'vif_type': 'hostdev', **sriov},
            ),
            (
                answered('ovs', 'vdpa', {}, profile, queues=4),
                {'vif_type': 'vdpa', 'vdpa_device': '/dev/vhost-vdpa-7', 'queues': 4},
            ),
            (
                answered('vhostuser', details={'vhostuser_socket': '/run/vpp/a', 'vhostuser_mode': 'client'}),
                {'vif_type': 'vhostuser', 'vhostuser_socket': '/run/vpp/a', 'vhostuser_mode': 'client'},
            ),
        ):
            of_own = interface({'id': golden.PORT, 'address': MAC, **own})
            asked = interface(port)
            self.assertEqual(of_own, asked)
            self.assertEqual(of_own.needs(), asked.needs())
            self.assertEqual(of_own.to_dict(), asked.to_dict())
            self.assertEqual(f'ua-{golden.PORT}', asked.device().alias)

    def test_what_no_agent_can_plug(self) -> None:
        slot, socket = {'pci_slot': SLOT}, {'vhostuser_socket': '/run/a'}
        for field, words, port in (
            ('binding:vif_type', 'the agent plugs only ovs, bridge', answered('vrouter')),
            ('binding:vnic_type', 'only normal or direct or vdpa', answered('ovs', 'smart-nic', {}, slot)),
            ('binding:vnic_type', 'only direct or macvtap', answered('hw_veb', 'normal', {}, slot)),
            ('binding:profile.pci_slot', 'is missing', answered('hw_veb', 'direct', {'vlan': '5'})),
            ('binding:profile.pci_slot', 'is missing', answered('ovs', 'vdpa', {}, {})),
            ('binding:profile.capabilities', 'bypass the switch', answered('ovs', 'direct', {}, slot)),
            ('binding:vif_details.macvtap_source', 'is missing', answered('macvtap')),
            ('network_id', 'is missing', answered('bridge')),
            ('binding:vif_details.vlan', 'is not a VLAN', answered('hw_veb', 'direct', {'vlan': '4095'}, slot)),
            ('binding:vif_details.vlan', 'is above 4094', answered('hw_veb', 'direct', {'vlan': 4095}, slot)),
            ('binding:vif_details.bridge_name', 'network interface', answered('ovs', details={'bridge_name': 'a/b'})),
            ('binding:vif_details', 'is not of type object', answered('ovs', details=[])),
            ('mtu', 'does not apply to vif_type hw_veb', answered('hw_veb', 'direct', {}, slot, mtu=1500)),
            ('model', 'e1000 is not possible', answered('vhostuser', details=socket, model='e1000')),
            ('bridge', 'a field of another form', answered('ovs', bridge='br-ex')),
            ('vlan', 'a field of another form', answered('ovs', vlan=5)),
        ):
            self.refused(f'port.{field}', words, interface, port)

    def test_a_function_without_what_the_port_needs(self) -> None:
        nothing = requests_base.Defaults()
        for port, words in (
            (answered('hw_veb', 'macvtap', {}, {'pci_slot': SLOT}), 'no network interface on this host'),
            (answered('ovs', 'vdpa', {}, {'pci_slot': SLOT}), 'no vhost-vdpa device on this host'),
        ):
            self.refused('port.binding:profile.pci_slot', words, interface, port, nothing)

    def test_vlans_as_texts_in_the_agents_own_form(self) -> None:
        ovs = {'id': golden.PORT, 'address': MAC, 'vif_type': 'ovs', 'bridge': 'br-int'}
        sriov = {'id': golden.PORT, 'address': MAC, 'vif_type': 'hw_veb', 'pci_slot': SLOT}
        for port in (ovs, sriov):
            self.assertEqual(interface({**port, 'vlan': 100}), interface({**port, 'vlan': '100'}))
        # Untagged on Open vSwitch, and not left to the agent; no VLAN elsewhere.
        self.assertEqual(0, interface({**ovs, 'vlan': '0'}).port.vlan)
        self.assertEqual(interface(sriov), interface({**sriov, 'vlan': '0'}))

    def test_a_whole_card_is_a_host_device(self) -> None:
        made = interface(answered('hostdev_physical', 'direct-physical', None, {'pci_slot': SLOT})).device()
        assert isinstance(made, Hostdev)
        self.assertEqual(('pci', True, SLOT), (made.type, made.managed, made.host_address))

    @given(st.data())
    def test_anything_else_is_refused(self, data: st.DataObject) -> None:
        options: st.SearchStrategy[Json] = st.sampled_from(
            [{}, {'mtu': 1500}, {'managed': False}, {'queues': 2}, {'model': 'e1000'}]
        )
        details = {'vhostuser_socket': '/run/a', 'macvtap_source': 'eth0', 'bridge_name': 'br-int', 'vlan': '7'}
        port = answered(
            data.draw(st.sampled_from(['ovs', 'bridge', 'tap', 'macvtap', 'hw_veb', 'hostdev_physical', 'vhostuser'])),
            data.draw(st.sampled_from(['normal', 'direct', 'macvtap', 'direct-physical', 'vdpa'])),
            details,
            {'pci_slot': SLOT, 'capabilities': ['switchdev']},
            **data.draw(options),
        )
        if data.draw(st.booleans()):
            port = data.draw(requests.broken(st.just(port)))
        try:
            asked = interface(port)
        except exception.InvalidInput as refused:
            self.assertTrue(refused.kwargs['field'].startswith('port'), str(refused))
            return
        self.assertEqual(asked, interface(asked.to_dict()['port']))


class FunctionsTestCase(base.TestCase):
    def test_what_the_host_has_of_a_function(self) -> None:
        root = pathlib.Path(self.make_directory())
        self.assertIsNone(functions.interface(SLOT, root))
        self.assertIsNone(functions.vdpa(SLOT, root))
        (root / SLOT / 'net' / 'ens1f0v3').mkdir(parents=True)
        (root / SLOT / 'vdpa0' / 'vhost-vdpa-7').mkdir(parents=True)
        self.assertEqual('ens1f0v3', functions.interface(SLOT, root))
        self.assertEqual('/dev/vhost-vdpa-7', functions.vdpa(SLOT, root))
        # Which of two is meant cannot be told.
        (root / SLOT / 'net' / 'ens1f0v3r').mkdir()
        self.assertIsNone(functions.interface(SLOT, root))
