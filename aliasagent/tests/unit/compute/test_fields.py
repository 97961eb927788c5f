# SPDX-License-Identifier: Apache-2.0
"""Each field of a request either names nothing of the host, for a reason that is written here, or is bounded."""

from collections.abc import Iterator
from typing import Any

from aliasagent.actions import Action
from aliasagent.allowed import rules
from aliasagent.compute import contract
from aliasagent.compute import schemas
from aliasagent.requests import base as requests_base
from aliasagent.requests import catalog
from aliasagent.requests import hostdev as hostdevs
from aliasagent.requests import neutron
from aliasagent.requests import port as ports
from aliasagent.requests import sources
from aliasagent.requests.schema import Schema
from aliasagent.tests import base
from aliasagent.tests import ids

ID = ids.VOLUME
PORT = {'id': ID, 'address': ids.MAC}
ISCSI = {'target_portal': '192.0.2.1:3260', 'target_iqn': 'iqn.2001-04.com.example:a', 'target_lun': 0}

#: What names something of the host, and the options that bound it.
NAMES: dict[str, set[str]] = {
    'connection_info.data.device_path': {'paths'},
    'connection_info.mount_point_base': {'paths'},
    'connection_info.data.socket': {'sockets'},
    'connection_info.data.host': {'storage_hosts'},
    'connection_info.data.hosts': {'storage_hosts'},
    'connection_info.data.target_portal': {'storage_hosts'},
    'port.bridge': {'bridges'},
    'port.network': {'networks'},
    'port.macvtap_source': {'interfaces'},
    'port.devname': {'taps'},
    'port.vhostuser_socket': {'sockets'},
    'port.vdpa_device': {'paths'},
    'port.pci_slot': {'pci'},
    'hostdev.address': {'pci'},
    'hostdev.uuid': {'mdevs'},
    'hostdev.vendor': {'usb'},
    'hostdev.product': {'usb'},
    'hostdev.bus': {'usb', 'scsi'},
    'hostdev.device': {'usb'},
    'hostdev.adapter': {'scsi'},
    'hostdev.target': {'scsi'},
    'hostdev.unit': {'scsi'},
    'dest_uri': {'migration_hosts', 'migration_keys', 'migration_sockets'},
    'migrate_uri': {'migration_hosts', 'migration_sockets'},
}
_ID = 'an id, by which something is found that a guest or the journal has already'
_CHOICE = 'which of a few kinds; what each kind names is in fields of its own'
_GUEST = 'how the guest sees its device'
_LIMIT = 'a number that limits the guest'
_THERE = 'a name on another host, which storage_hosts bounds'
_SHARE = 'part of the path below mount_point_base, which paths bounds as a whole'
_SECRET = 'who logs in at another host, and a secret of libvirt that is used and cannot be read'
_QUESTION = 'what is answered'
#: Fields of what Cinder and Neutron answer, by their names in the agent's own form, in which the options bound them.
_PART = 'binding:vif_details'
SPELLED: dict[str, str] = {
    'port.mac_address': 'port.address',
    'port.binding:vif_type': 'port.vif_type',
    f'port.{_PART}.bridge_name': 'port.bridge',
    f'port.{_PART}.macvtap_source': 'port.macvtap_source',
    f'port.{_PART}.macvtap_mode': 'port.macvtap_mode',
    f'port.{_PART}.vhostuser_mode': 'port.vhostuser_mode',
    f'port.{_PART}.vhostuser_socket': 'port.vhostuser_socket',
    f'port.{_PART}.vlan': 'port.vlan',
    'port.binding:profile.pci_slot': 'port.pci_slot',
}
#: What names nothing that an option could bound, and why.
HARMLESS: dict[str, str] = {
    'instance_uuid': _ID,
    'volume_id': _ID,
    'port_id': _ID,
    'device_id': _ID,
    'operation_id': _ID,
    'port.id': _ID,
    'operation.id': _ID,
    'operation.action': _CHOICE,
    'operation.arguments': 'checked as the arguments of its action',
    'device_name': _GUEST,
    'disk_bus': _GUEST,
    'connection_info.disk.queues': _GUEST,
    'port.link_state': _GUEST,
    'port.managed': 'how libvirt takes the function that port.pci_slot names, which pci bounds',
    'device_type': 'a LUN passes SCSI commands through to a device that paths or storage_hosts bounds',
    'connection_info.driver_volume_type': _CHOICE,
    'connection_info.serial': 'read by nobody',
    'connection_info.multiattach': _GUEST,
    'connection_info.disk.cache': 'how QEMU opens the disk',
    'connection_info.disk.io': 'how QEMU opens the disk',
    'connection_info.disk.iothread': 'a thread that the guest has already',
    'connection_info.disk.boot_order': _GUEST,
    'connection_info.data.access_mode': _GUEST,
    'connection_info.data.discard': _GUEST,
    'connection_info.data.multiattach': _GUEST,
    'connection_info.data.logical_block_size': _GUEST,
    'connection_info.data.physical_block_size': _GUEST,
    'connection_info.data.qos_specs': _LIMIT,
    'connection_info.data.encrypted': _GUEST,
    'connection_info.data.encryption.provider': _CHOICE,
    'connection_info.data.encryption.secret_uuid': _SECRET,
    'connection_info.data.format': 'an image is looked into, and all that it names is bounded by paths',
    'connection_info.data.export': f'of nfs {_SHARE}; of nbd {_THERE}',
    'connection_info.data.name': f'of nfs {_SHARE}; of rbd {_THERE}',
    'connection_info.data.target_iqn': _THERE,
    'connection_info.data.target_lun': _THERE,
    'connection_info.data.port': _THERE,
    'connection_info.data.ports': _THERE,
    'connection_info.data.auth_method': _CHOICE,
    'connection_info.data.auth_enabled': _CHOICE,
    'connection_info.data.auth_username': _SECRET,
    'connection_info.data.secret_type': _CHOICE,
    'connection_info.data.secret_uuid': _SECRET,
    'port.binding:vnic_type': _CHOICE,
    f'port.{_PART}.ovs_hybrid_plug': 'refused if true',
    f'port.{_PART}.vhostuser_ovs_plug': 'whether the port has a name, which taps bounds',
    'port.binding:profile.capabilities': 'whether the function that pci bounds is behind the switch',
    'port.network_id': 'an id that the name of a bridge is made of, which bridges bounds',
    'port.address': _GUEST,
    'port.vif_type': _CHOICE,
    'port.model': _GUEST,
    'port.mtu': _GUEST,
    'port.queues': _GUEST,
    'port.vlan': 'a tag on a bridge, interface or function that an option bounds',
    'port.bandwidth': _LIMIT,
    'port.macvtap_mode': 'of an interface that interfaces bounds',
    'port.vhostuser_mode': 'of a socket that sockets bounds',
    'port.ovs_interfaceid': 'an id that the switch is told, of a port on a bridge that bridges bounds',
    'hostdev.type': _CHOICE,
    'hostdev.driver': _CHOICE,
    'hostdev.managed': 'whether the host gets back a device that pci bounds',
    'hostdev.model': _CHOICE,
    'bandwidth_mib': _LIMIT,
    'unsafe': 'whether libvirt looks at the caches of disks that the guest has',
    'force': "whether a guest of Nova's may be changed, too",
    'inventory': 'what is compared with devices that a guest has, and opened by nobody',
    'states': _QUESTION,
    'since': _QUESTION,
    'until': _QUESTION,
    'limit': _QUESTION,
}

#: For each type a request that names all that it can.
VOLUMES: list[dict[str, Any]] = [
    *(
        {'driver_volume_type': kind, 'data': {'device_path': '/dev/sdb'}}
        for kind in sources.SCHEMAS
        if 'device_path' in str(sources.SCHEMAS[kind])
    ),
    {'driver_volume_type': 'nfs', 'data': {'export': 'a:/b', 'name': 'c'}, 'mount_point_base': '/mnt'},
    {'driver_volume_type': 'iscsi', 'data': ISCSI},
    {'driver_volume_type': 'rbd', 'data': {'name': 'a/b', 'hosts': ['192.0.2.1']}},
    {'driver_volume_type': 'nbd', 'data': {'host': '192.0.2.1'}},
    {'driver_volume_type': 'nbd', 'data': {'socket': '/run/s'}},
]
_NAMED_OF_PORTS = {
    'bridge': 'br0',
    'network': 'default',
    'macvtap_source': 'eth0',
    'devname': 'eth0',
    'vhostuser_socket': '/run/s',
    'vdpa_device': '/dev/vhost-vdpa-0',
    'pci_slot': '0000:06:12.5',
}
#: By these names, a port is on something of the host.
OF_HOST = (*_NAMED_OF_PORTS.values(), f'tap{ID[:11]}', f'vhu{ID[:11]}')
PORTS = [
    {
        **PORT,
        'vif_type': kind,
        **{name: value for name, value in _NAMED_OF_PORTS.items() if name in schema['properties']},
    }
    for kind, schema in ports.VIF_TYPES.items()
]
#: As Neutron answers them, with all that they can name.
_DETAILS = {'bridge_name': 'br0', 'macvtap_source': 'eth0', 'vhostuser_socket': '/run/s', 'vhostuser_ovs_plug': True}
ANSWERED: list[dict[str, Any]] = [
    {
        'id': ID,
        'mac_address': ids.MAC,
        'binding:vif_type': vif_type,
        'binding:vnic_type': vnic_type,
        _PART: _DETAILS,
        'binding:profile': {'pci_slot': '0000:06:12.5', 'capabilities': ['switchdev']},
    }
    for vif_type, readers in neutron.READERS.items()
    for vnic_type in readers
]
HOSTDEVS: list[dict[str, Any]] = [
    {'type': 'pci', 'address': '0000:06:12.5'},
    {'type': 'mdev', 'uuid': ID},
    {'type': 'usb', 'vendor': '1d6b', 'product': '0002'},
    {'type': 'usb', 'bus': 1, 'device': 2},
    {'type': 'scsi', 'adapter': 'scsi_host0', 'bus': 0, 'target': 0, 'unit': 0},
]
MIGRATIONS = [
    {'dest_uri': 'qemu+ssh://there/system?keyfile=/etc/key', 'migrate_uri': 'tcp://there'},
    {'dest_uri': 'qemu+unix:///system?socket=/run/s', 'migrate_uri': 'unix:///run/s'},
]
#: What the host has of the function that a port names.
DEFAULTS = requests_base.Defaults(interface_of=lambda _slot: 'eth0', vdpa_of=lambda _slot: '/dev/vhost-vdpa-0')


def flat(info: dict[str, Any]) -> dict[str, Any]:
    """A connection_info as Cinder's attachments API answers it."""
    return {**{name: value for name, value in info.items() if name != 'data'}, **info['data']}


#: In the agent's own forms, and in those that Cinder and Neutron answer.
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    *(('attach_volume', {'volume_id': ID, 'connection_info': info}) for info in VOLUMES),
    *(('attach_interface', {'port': port}) for port in PORTS),
    *(('attach_hostdev', {'device_id': ID, 'hostdev': hostdev}) for hostdev in HOSTDEVS),
    *(('live_migrate', migration) for migration in MIGRATIONS),
]
ALL_ANSWERED: list[tuple[str, dict[str, Any]]] = [
    *(
        ('attach_volume', {'volume_id': ID, 'connection_info': flat(info)})
        for info in VOLUMES
        if 'mount_point_base' not in info
    ),
    *(('attach_interface', {'port': port}) for port in ANSWERED),
]


def own(field: str) -> str:
    """The name of a field in the agent's own form."""
    known = {*NAMES, *HARMLESS}
    in_data = field.replace('connection_info.', 'connection_info.data.', 1)
    return SPELLED.get(field, in_data if field not in known and in_data in known else field)


def fields(schema: Schema, prefix: str = '') -> Iterator[str]:
    """The members of a schema under whichever condition, by their full name; those of an open object as one."""
    parts = [schema[word] for word in ('then', 'else') if word in schema]
    for part in (*schema.get('allOf', ()), *schema.get('anyOf', ()), *parts):
        yield from fields(part, prefix)
    for name, member in schema.get('properties', {}).items():
        full = f'{prefix}{name}'
        below = [] if own(full) in HARMLESS else list(fields(member, f'{full}.'))
        yield from below or [full]


class FieldsTestCase(base.TestCase):
    def test_each_field_is_known(self) -> None:
        """Whoever adds a field says here why it is harmless, or bounds what it names."""
        found = {own(field) for schema in schemas.METHODS.values() for field in fields(schema)}
        self.assertEqual(set(), set(SPELLED.values()) - set(NAMES) - set(HARMLESS))
        self.assertEqual(set(), found - set(NAMES) - set(HARMLESS), 'neither bounded nor harmless')
        self.assertEqual(set(), (set(NAMES) | set(HARMLESS)) - found, 'not in any schema')
        self.assertEqual(set(), set(NAMES) & set(HARMLESS))

    def test_what_names_something_of_the_host_is_bounded(self) -> None:
        bounded: dict[str, set[str]] = {field: set() for field in NAMES}
        for method, arguments in REQUESTS:
            contract.validate(method, {'instance_uuid': ID, **arguments})
            needs = catalog.parse(Action(method), arguments).needs()
            named = {field for field in self.given(arguments) if field in NAMES}
            missed = {field for field in named if not any(_is_of(need, field) for need in needs)}
            self.assertEqual(set(), missed, str(arguments))
            for field in named:
                bounded[field] |= {need.kind for need in needs if _is_of(need, field)}
        self.assertEqual(NAMES, bounded)

    def test_what_cinder_and_neutron_name_of_the_host_is_bounded(self) -> None:
        bounded = set()
        for method, arguments in ALL_ANSWERED:
            contract.validate(method, {'instance_uuid': ID, **arguments})
            request = catalog.parse(Action(method), arguments).completed(DEFAULTS)
            named = {field for field in self.given(request.to_dict()) if field in NAMES}
            needs = request.needs()
            self.assertEqual(set(), {field for field in named if not any(_is_of(need, field) for need in needs)})
            self.assertNotEqual([], needs, str(arguments))
            bounded |= named
            if isinstance(request, ports.AttachInterface):
                names = {need.name for need in needs}
                xml = request.device().to_xml()
                self.assertEqual([], [name for name in OF_HOST if f'"{name}"' in xml and name not in names])
        unused = {'connection_info.mount_point_base', 'port.network'}
        self.assertEqual({name for name in NAMES if name.startswith(('conn', 'port'))} - unused, bounded)

    def test_every_option_bounds_something(self) -> None:
        self.assertEqual(set(vars(rules.Bounds())), {kind for kinds in NAMES.values() for kind in kinds})

    def test_all_types_are_tried(self) -> None:
        tried = {
            *(info['driver_volume_type'] for info in VOLUMES),
            *(port['vif_type'] for port in PORTS),
            *(hostdev['type'] for hostdev in HOSTDEVS),
        }
        self.assertEqual({*sources.SCHEMAS, *ports.VIF_TYPES, *hostdevs.SCHEMAS}, tried)

    def given(self, value: Any, prefix: str = '') -> Iterator[str]:
        """The fields of a request by their full name."""
        for name, member in value.items():
            if isinstance(member, dict):
                yield from self.given(member, f'{prefix}{name}.')
            else:
                yield f'{prefix}{name}'


def _is_of(need: rules.Need, field: str) -> bool:
    """Whether something that is needed is what a field names; USB and SCSI devices are named by several together."""
    return field == need.field or field.startswith(f'{need.field}.') or need.field.startswith(f'{field}.')
