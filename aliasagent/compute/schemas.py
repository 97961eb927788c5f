# SPDX-License-Identifier: Apache-2.0
"""The published schema of every message (JSON Schema, draft 2020-12).

``connection_info`` keeps Cinder's shape and may hold more than is listed, as Cinder sends it. ``port`` and ``hostdev``
are ours, with Neutron's, os-vif's and libvirt's names, and hold nothing else. What a ``format`` means is told by
:mod:`aliasagent.compute.formats`.
"""

from aliasagent.compute import schema_parts as parts
from aliasagent.compute.schema_parts import Schema
from aliasagent.devices import qos
from aliasagent.operations.model import Action
from aliasagent.operations.model import State

_UUID = parts.string('uuid')
_PATH = parts.string('absolute-path')
_TCP_PORT: Schema = {'type': ['integer', 'string'], 'minimum': 1, 'maximum': 65535, 'format': 'tcp-port'}
#: Cinder's specs are texts; an administrator's script may well send numbers.
_LIMIT: Schema = {'type': ['integer', 'string', 'null'], 'minimum': 0, 'format': 'number'}
#: What QEMU takes: a power of two.
_BLOCK_SIZE: Schema = {'enum': [None, *(512 << shift for shift in range(13))]}

_FILE_FORMAT: Schema = {'enum': [None, 'raw', 'qcow2']}
_DEVICE: Schema = {'properties': {'device_path': _PATH}, 'required': ['device_path']}
_FILE: Schema = {'properties': {'device_path': _PATH, 'format': _FILE_FORMAT}, 'required': ['device_path']}
_HAS_DEVICE: Schema = {'required': ['device_path']}

#: What ``connection_info['data']`` must hold, by ``driver_volume_type``.
VOLUME_DATA: dict[str, Schema] = {
    'file': _FILE,
    'local': _DEVICE,
    'gpfs': _FILE,
    'quobyte': _FILE,
    'smbfs': _FILE,
    'vzstorage': _FILE,
    'nfs': {
        'properties': {'format': _FILE_FORMAT},
        'if': _HAS_DEVICE,
        'then': _DEVICE,
        'else': {
            'properties': {'export': parts.string('name'), 'name': parts.string('file-name')},
            'required': ['export', 'name'],
        },
    },
    'iscsi': {
        'if': _HAS_DEVICE,
        'then': _DEVICE,
        'else': {
            'properties': {
                'target_portal': parts.string('portal'),
                'target_iqn': parts.string('iscsi-name'),
                'target_lun': parts.integer(0, 16383),
                'auth_method': {'enum': [None, '', 'CHAP']},
                'auth_username': parts.nullable(parts.string('name')),
                'secret_uuid': parts.nullable(_UUID),
            },
            'required': ['target_portal', 'target_iqn', 'target_lun'],
            'allOf': parts.by(
                'auth_method',
                {
                    # The password itself is not taken: QEMU gets it from libvirt, which holds it under this UUID.
                    'CHAP': {
                        'properties': {'auth_username': {'type': 'string'}, 'secret_uuid': {'type': 'string'}},
                        'required': ['auth_username', 'secret_uuid'],
                    }
                },
            ),
        },
    },
    'fibre_channel': _DEVICE,
    'rbd': {
        'if': _HAS_DEVICE,
        'then': _DEVICE,
        'else': {
            'properties': {
                'name': parts.string('name'),
                'hosts': {'type': ['array', 'null'], 'items': parts.string('host'), 'maxItems': 64},
                'ports': {'type': ['array', 'null'], 'items': _TCP_PORT, 'maxItems': 64},
                'auth_enabled': {'type': ['boolean', 'null']},
                'auth_username': parts.nullable(parts.string('name')),
                'secret_type': {'enum': [None, 'ceph']},
                'secret_uuid': parts.nullable(_UUID),
            },
            'required': ['name'],
            'if': {'properties': {'auth_enabled': {'const': True}}, 'required': ['auth_enabled']},
            'then': {
                'properties': {'auth_username': {'type': 'string'}, 'secret_uuid': {'type': 'string'}},
                'required': ['auth_username', 'secret_uuid'],
            },
        },
    },
    'nbd': {
        'if': _HAS_DEVICE,
        'then': _DEVICE,
        'else': {
            'properties': {'export': parts.nullable(parts.string('name'))},
            'if': {'required': ['socket']},
            'then': {'properties': {'socket': _PATH}},
            'else': {
                'properties': {'host': parts.string('host'), 'port': parts.nullable(_TCP_PORT)},
                'required': ['host'],
            },
        },
    },
}

#: What it must hold for any other type: the block device that os-brick made of the volume.
OTHER_VOLUME_DATA: Schema = _DEVICE

CONNECTION_INFO: Schema = {
    'type': 'object',
    'properties': {
        'driver_volume_type': parts.string('name'),
        'data': {
            'type': 'object',
            'properties': {
                'access_mode': {'enum': [None, 'rw', 'ro']},
                'discard': {'type': ['boolean', 'null']},
                'multiattach': {'type': ['boolean', 'null']},
                'logical_block_size': _BLOCK_SIZE,
                'physical_block_size': _BLOCK_SIZE,
                'qos_specs': {'type': ['object', 'null'], 'properties': dict.fromkeys(qos.KEYS, _LIMIT)},
                'encrypted': {'type': ['boolean', 'null']},
                # Of what Cinder tells about a volume's encryption, and the libvirt secret that holds its passphrase.
                'encryption': {
                    'type': ['object', 'null'],
                    'properties': {'provider': {'enum': ['luks']}, 'secret_uuid': _UUID},
                    'required': ['provider', 'secret_uuid'],
                },
            },
        },
        'serial': {'type': ['string', 'null']},
        'multiattach': {'type': ['boolean', 'null']},
        'mount_point_base': parts.nullable(_PATH),
        # Ours: how QEMU is to handle the disk.
        'disk': parts.nullable(
            parts.whole(
                {},
                {
                    'cache': {'enum': ['none', 'writeback', 'writethrough', 'directsync', 'unsafe']},
                    'io': {'enum': ['native', 'threads', 'io_uring']},
                    'iothread': parts.integer(1, 2**31 - 1),
                    # The most that QEMU's virtio devices have.
                    'queues': parts.integer(1, 1024),
                    'boot_order': parts.integer(1, 2**31 - 1),
                },
            )
        ),
    },
    'required': ['driver_volume_type', 'data'],
    'allOf': [
        *parts.by('driver_volume_type', {kind: {'properties': {'data': data}} for kind, data in VOLUME_DATA.items()}),
        {
            'if': {
                'properties': {'driver_volume_type': {'not': {'enum': list(VOLUME_DATA)}}},
                'required': ['driver_volume_type'],
            },
            'then': {'properties': {'data': OTHER_VOLUME_DATA}},
        },
        {
            # Without os-brick's path, an NFS file is where os-brick would mount its share.
            'if': {
                'properties': {'driver_volume_type': {'const': 'nfs'}, 'data': {'not': _HAS_DEVICE}},
                'required': ['driver_volume_type', 'data'],
            },
            'then': {'properties': {'mount_point_base': _PATH}, 'required': ['mount_point_base']},
        },
    ],
}

_PORT: Schema = {
    'id': parts.string('device-id'),
    'address': parts.string('mac-address'),
    'vif_type': {'type': 'string'},
}
_LINK_STATE = {'link_state': {'enum': [None, 'up', 'down']}}


def _vlan(minimum: int, maximum: int) -> Schema:
    """One VLAN, or a list of those that a trunk carries."""
    one: Schema = {'minimum': minimum, 'maximum': maximum}
    trunk: Schema = {'items': parts.integer(1, 4094), 'minItems': 1, 'maxItems': 4094, 'uniqueItems': True}
    return {'vlan': {'type': ['integer', 'array', 'null'], **one, **trunk}}


_VLAN = _vlan(1, 4094)
_MTU = {'mtu': parts.nullable(parts.integer(68, 65535))}
_DEVNAME = {'devname': parts.nullable(parts.string('interface-name'))}
_MODEL = {'model': {'enum': ['virtio', 'e1000', 'e1000e', 'rtl8139']}}
_QUEUES = {'queues': parts.nullable(parts.integer(1, 256))}
#: KiB/s; burst in KiB. libvirt keeps them in 32 bits.
_RATE = parts.integer(1, 2**32 - 1)
_LIMITS = parts.nullable(parts.whole({'average': _RATE}, {'peak': _RATE, 'burst': _RATE}))
_BANDWIDTH = {'bandwidth': parts.nullable(parts.whole({}, {'inbound': _LIMITS, 'outbound': _LIMITS}))}
_TAP = {**_DEVNAME, **_MTU, **_MODEL, **_QUEUES, **_BANDWIDTH, **_LINK_STATE}
_SRIOV = parts.whole(
    {**_PORT, 'pci_slot': parts.string('pci-address')}, {**_VLAN, **_LINK_STATE, 'managed': {'type': 'boolean'}}
)

#: What a port holds, by ``vif_type``.
VIF_TYPES: dict[str, Schema] = {
    'bridge': parts.whole({**_PORT, 'bridge': parts.string('interface-name')}, _TAP),
    'ovs': parts.whole(
        {**_PORT, 'bridge': parts.string('interface-name')},
        # 0 is no tag, as Neutron has it; 4095 is the VLAN of ports that may not reach anything.
        {**_TAP, **_vlan(0, 4095), 'ovs_interfaceid': parts.nullable(_UUID)},
    ),
    'tap': parts.whole(
        {**_PORT, 'devname': parts.string('interface-name')}, {**_MTU, **_MODEL, **_QUEUES, **_BANDWIDTH, **_LINK_STATE}
    ),
    'macvtap': parts.whole(
        {**_PORT, 'macvtap_source': parts.string('interface-name')},
        {
            'macvtap_mode': {'enum': ['bridge', 'vepa', 'private', 'passthrough']},
            **_DEVNAME,
            **_MODEL,
            **_QUEUES,
            **_BANDWIDTH,
            **_VLAN,
            **_LINK_STATE,
        },
    ),
    'hw_veb': _SRIOV,
    'hostdev': _SRIOV,
    'vhostuser': parts.whole(
        {**_PORT, 'vhostuser_socket': _PATH},
        {
            'vhostuser_mode': {'enum': ['client', 'server']},
            **_DEVNAME,
            **_MTU,
            'model': {'enum': ['virtio']},
            **_QUEUES,
            **_LINK_STATE,
        },
    ),
    'network': parts.whole({**_PORT, 'network': parts.string('name')}, {**_TAP, **_VLAN}),
}

PORT: Schema = {
    'type': 'object',
    'properties': {'vif_type': {'enum': list(VIF_TYPES)}},
    'required': list(_PORT),
    'allOf': parts.by('vif_type', VIF_TYPES),
}

#: What the description of a device of the host holds, by ``type``.
HOSTDEV_TYPES: dict[str, Schema] = {
    'pci': parts.whole(
        {'type': {'type': 'string'}, 'address': parts.string('pci-address')},
        {'driver': {'enum': ['vfio']}, 'managed': {'type': 'boolean'}},
    ),
    'mdev': parts.whole({'type': {'type': 'string'}, 'uuid': _UUID}, {'model': {'enum': ['vfio-pci']}}),
    'usb': {
        'if': {'anyOf': [{'required': ['vendor']}, {'required': ['product']}]},
        'then': parts.whole(
            {'type': {'type': 'string'}, 'vendor': parts.string('usb-id'), 'product': parts.string('usb-id')}
        ),
        'else': parts.whole(
            {'type': {'type': 'string'}, 'bus': parts.integer(1, 255), 'device': parts.integer(1, 127)}
        ),
    },
    'scsi': parts.whole(
        {
            'type': {'type': 'string'},
            'adapter': parts.string('scsi-host'),
            'bus': parts.integer(0, 255),
            'target': parts.integer(0, 65535),
            'unit': parts.integer(0, 16383),
        }
    ),
}

HOSTDEV: Schema = {
    'type': 'object',
    'properties': {'type': {'enum': list(HOSTDEV_TYPES)}},
    'required': ['type'],
    'allOf': parts.by('type', HOSTDEV_TYPES),
}

_INSTANCE = {'instance_uuid': _UUID}

#: Any id that an alias can hold.
_DEVICE_ID = parts.string('device-id')

#: What a control plane knows of a guest's devices, for what the guest alone cannot tell. An entry means the one device
#: that agrees with everything that it says.
INVENTORY: Schema = parts.whole(
    {},
    {
        'ports': {
            'type': 'array',
            'maxItems': 1000,
            'items': parts.whole(
                {'id': _DEVICE_ID},
                {
                    'address': parts.nullable(parts.string('mac-address')),
                    'bridge': parts.nullable(parts.string('interface-name')),
                    'network': parts.nullable(parts.string('name')),
                    'pci_slot': parts.nullable(parts.string('pci-address')),
                    'devname': parts.nullable(parts.string('interface-name')),
                    # Where the guest has it: what tells two interfaces of one MAC address on one bridge apart.
                    'guest_pci_slot': parts.nullable(parts.string('pci-address')),
                },
            ),
        },
        'volumes': {
            'type': 'array',
            'maxItems': 1000,
            'items': parts.whole(
                {'id': _DEVICE_ID},
                {
                    'target': parts.nullable(parts.string('device-name')),
                    # A path; pool/image of Ceph; pool/volume of a storage pool.
                    'source': parts.nullable(parts.string('name')),
                    'serial': parts.nullable(parts.string('name')),
                    'wwn': parts.nullable(parts.string('name')),
                },
            ),
        },
        'hostdevs': {
            'type': 'array',
            'maxItems': 1000,
            # As attach_hostdev takes it. A USB device is named by bus and device where another one is of its kind.
            'items': parts.whole(
                {'id': _DEVICE_ID, 'hostdev': HOSTDEV}, {'guest_pci_slot': parts.nullable(parts.string('pci-address'))}
            ),
        },
    },
)

#: The arguments of each method, by its name.
METHODS: dict[str, Schema] = {
    'attach_volume': parts.whole(
        {**_INSTANCE, 'volume_id': parts.string('device-id'), 'connection_info': CONNECTION_INFO},
        {
            'device_name': parts.nullable(parts.string('device-name')),
            'disk_bus': {'enum': [None, 'virtio', 'scsi', 'sata', 'usb']},
            'device_type': {'enum': ['disk', 'lun', 'cdrom']},
        },
    ),
    'attach_interface': parts.whole({**_INSTANCE, 'port': PORT}),
    'attach_hostdev': parts.whole({**_INSTANCE, 'device_id': parts.string('device-id'), 'hostdev': HOSTDEV}),
    'detach_volume': parts.whole({**_INSTANCE, 'volume_id': parts.string('device-id')}),
    'detach_interface': parts.whole({**_INSTANCE, 'port_id': parts.string('device-id')}),
    'detach': parts.whole({**_INSTANCE, 'device_id': parts.string('device-id')}),
    'reconcile_instance': parts.whole(_INSTANCE, {'inventory': parts.nullable(INVENTORY)}),
    'reconcile_plan': parts.whole(_INSTANCE, {'inventory': parts.nullable(INVENTORY)}),
    'reconcile_live': parts.whole(_INSTANCE, {'inventory': parts.nullable(INVENTORY)}),
    'reconcile_live_estimate': parts.whole(_INSTANCE),
    'live_migrate': parts.whole(
        {**_INSTANCE, 'dest_uri': parts.string('name')},
        {
            'migrate_uri': parts.nullable(parts.string('name')),
            'bandwidth_mib': parts.nullable(parts.integer(1, 2**31 - 1)),
            'unsafe': {'type': 'boolean'},
            'inventory': parts.nullable(INVENTORY),
        },
    ),
    'migration_progress': parts.whole(_INSTANCE),
    'abort_migration': parts.whole(_INSTANCE),
    'reconcile_status': parts.whole({}, _INSTANCE),
    'list_instances': parts.whole({}),
    'list_devices': parts.whole(_INSTANCE),
    'get_operation': parts.whole({'operation_id': parts.string('device-id')}),
    'list_operations': parts.whole(
        {},
        {
            **_INSTANCE,
            'states': {'type': 'array', 'items': {'enum': list(State)}},
            'since': parts.string('time'),
            'until': parts.string('time'),
            'limit': parts.integer(1, 1000),
        },
    ),
    'submit': parts.whole(
        {
            'operation': parts.whole(
                {'id': parts.string('device-id'), 'action': {'enum': list(Action)}, 'arguments': {'type': 'object'}}
            )
        }
    ),
}
