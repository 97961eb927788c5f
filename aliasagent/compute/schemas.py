# SPDX-License-Identifier: Apache-2.0
"""The published schema of every message (JSON Schema, draft 2020-12).

``connection_info`` keeps Cinder's shape and may hold more than is listed, as Cinder sends it. ``port`` and ``hostdev``
are ours, with Neutron's, os-vif's and libvirt's names, and hold nothing else. What a ``format`` means is told by
:mod:`aliasagent.compute.formats`.
"""

from typing import Any

from aliasagent.devices import qos
from aliasagent.operations.model import Action
from aliasagent.operations.model import State

Schema = dict[str, Any]


def _string(form: str) -> Schema:
    return {'type': 'string', 'format': form}


def _integer(minimum: int, maximum: int) -> Schema:
    return {'type': 'integer', 'minimum': minimum, 'maximum': maximum}


def _nullable(schema: Schema) -> Schema:
    return {'anyOf': [{'type': 'null'}, schema]}


def _object(required: Schema, optional: Schema | None = None) -> Schema:
    return {
        'type': 'object',
        'properties': {**required, **(optional or {})},
        'required': list(required),
        'additionalProperties': False,
    }


def _by(name: str, values: dict[str, Schema]) -> list[Schema]:
    """What holds for each value of a member, so that an error names the field that this value needs."""
    return [
        {'if': {'properties': {name: {'const': value}}, 'required': [name]}, 'then': schema}
        for value, schema in values.items()
    ]


_UUID = _string('uuid')
_PATH = _string('absolute-path')
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
            'properties': {'export': _string('name'), 'name': _string('file-name')},
            'required': ['export', 'name'],
        },
    },
    'iscsi': {
        'if': _HAS_DEVICE,
        'then': _DEVICE,
        'else': {
            'properties': {
                'target_portal': _string('portal'),
                'target_iqn': _string('iscsi-name'),
                'target_lun': _integer(0, 16383),
                'auth_method': {'enum': [None, '', 'CHAP']},
                'auth_username': _nullable(_string('name')),
                'secret_uuid': _nullable(_UUID),
            },
            'required': ['target_portal', 'target_iqn', 'target_lun'],
            'allOf': _by(
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
                'name': _string('name'),
                'hosts': {'type': ['array', 'null'], 'items': _string('host'), 'maxItems': 64},
                'ports': {'type': ['array', 'null'], 'items': _TCP_PORT, 'maxItems': 64},
                'auth_enabled': {'type': ['boolean', 'null']},
                'auth_username': _nullable(_string('name')),
                'secret_type': {'enum': [None, 'ceph']},
                'secret_uuid': _nullable(_UUID),
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
            'properties': {'export': _nullable(_string('name'))},
            'if': {'required': ['socket']},
            'then': {'properties': {'socket': _PATH}},
            'else': {'properties': {'host': _string('host'), 'port': _nullable(_TCP_PORT)}, 'required': ['host']},
        },
    },
}

#: What it must hold for any other type: the block device that os-brick made of the volume.
OTHER_VOLUME_DATA: Schema = _DEVICE

CONNECTION_INFO: Schema = {
    'type': 'object',
    'properties': {
        'driver_volume_type': _string('name'),
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
        'mount_point_base': _nullable(_PATH),
        # Ours: how QEMU is to handle the disk.
        'disk': _nullable(
            _object(
                {},
                {
                    'cache': {'enum': ['none', 'writeback', 'writethrough', 'directsync', 'unsafe']},
                    'io': {'enum': ['native', 'threads', 'io_uring']},
                    'iothread': _integer(1, 2**31 - 1),
                    # The most that QEMU's virtio devices have.
                    'queues': _integer(1, 1024),
                    'boot_order': _integer(1, 2**31 - 1),
                },
            )
        ),
    },
    'required': ['driver_volume_type', 'data'],
    'allOf': [
        *_by('driver_volume_type', {kind: {'properties': {'data': data}} for kind, data in VOLUME_DATA.items()}),
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
    'id': _string('device-id'),
    'address': _string('mac-address'),
    'vif_type': {'type': 'string'},
}
_LINK_STATE = {'link_state': {'enum': [None, 'up', 'down']}}


def _vlan(minimum: int, maximum: int) -> Schema:
    """One VLAN, or a list of those that a trunk carries."""
    one: Schema = {'minimum': minimum, 'maximum': maximum}
    trunk: Schema = {'items': _integer(1, 4094), 'minItems': 1, 'maxItems': 4094, 'uniqueItems': True}
    return {'vlan': {'type': ['integer', 'array', 'null'], **one, **trunk}}


_VLAN = _vlan(1, 4094)
_MTU = {'mtu': _nullable(_integer(68, 65535))}
_DEVNAME = {'devname': _nullable(_string('interface-name'))}
_MODEL = {'model': {'enum': ['virtio', 'e1000', 'e1000e', 'rtl8139']}}
_QUEUES = {'queues': _nullable(_integer(1, 256))}
#: KiB/s; burst in KiB. libvirt keeps them in 32 bits.
_RATE = _integer(1, 2**32 - 1)
_LIMITS = _nullable(_object({'average': _RATE}, {'peak': _RATE, 'burst': _RATE}))
_BANDWIDTH = {'bandwidth': _nullable(_object({}, {'inbound': _LIMITS, 'outbound': _LIMITS}))}
_TAP = {**_DEVNAME, **_MTU, **_MODEL, **_QUEUES, **_BANDWIDTH, **_LINK_STATE}
_SRIOV = _object(
    {**_PORT, 'pci_slot': _string('pci-address')}, {**_VLAN, **_LINK_STATE, 'managed': {'type': 'boolean'}}
)

#: What a port holds, by ``vif_type``.
VIF_TYPES: dict[str, Schema] = {
    'bridge': _object({**_PORT, 'bridge': _string('interface-name')}, _TAP),
    'ovs': _object(
        {**_PORT, 'bridge': _string('interface-name')},
        # 0 is no tag, as Neutron has it; 4095 is the VLAN of ports that may not reach anything.
        {**_TAP, **_vlan(0, 4095), 'ovs_interfaceid': _nullable(_UUID)},
    ),
    'tap': _object(
        {**_PORT, 'devname': _string('interface-name')}, {**_MTU, **_MODEL, **_QUEUES, **_BANDWIDTH, **_LINK_STATE}
    ),
    'macvtap': _object(
        {**_PORT, 'macvtap_source': _string('interface-name')},
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
    'vhostuser': _object(
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
    'network': _object({**_PORT, 'network': _string('name')}, {**_TAP, **_VLAN}),
}

PORT: Schema = {
    'type': 'object',
    'properties': {'vif_type': {'enum': list(VIF_TYPES)}},
    'required': list(_PORT),
    'allOf': _by('vif_type', VIF_TYPES),
}

#: What the description of a device of the host holds, by ``type``.
HOSTDEV_TYPES: dict[str, Schema] = {
    'pci': _object(
        {'type': {'type': 'string'}, 'address': _string('pci-address')},
        {'driver': {'enum': ['vfio']}, 'managed': {'type': 'boolean'}},
    ),
    'mdev': _object({'type': {'type': 'string'}, 'uuid': _UUID}, {'model': {'enum': ['vfio-pci']}}),
    'usb': {
        'if': {'anyOf': [{'required': ['vendor']}, {'required': ['product']}]},
        'then': _object({'type': {'type': 'string'}, 'vendor': _string('usb-id'), 'product': _string('usb-id')}),
        'else': _object({'type': {'type': 'string'}, 'bus': _integer(1, 255), 'device': _integer(1, 127)}),
    },
    'scsi': _object(
        {
            'type': {'type': 'string'},
            'adapter': _string('scsi-host'),
            'bus': _integer(0, 255),
            'target': _integer(0, 65535),
            'unit': _integer(0, 16383),
        }
    ),
}

HOSTDEV: Schema = {
    'type': 'object',
    'properties': {'type': {'enum': list(HOSTDEV_TYPES)}},
    'required': ['type'],
    'allOf': _by('type', HOSTDEV_TYPES),
}

_INSTANCE = {'instance_uuid': _UUID}

#: What a control plane knows of a guest's ports and volumes, for what the guest alone cannot tell. Each is told by
#: everything that is said of it.
INVENTORY: Schema = _object(
    {},
    {
        'ports': {
            'type': 'array',
            'maxItems': 1000,
            'items': _object(
                {'id': _UUID},
                {
                    'address': _nullable(_string('mac-address')),
                    'pci_slot': _nullable(_string('pci-address')),
                    'devname': _nullable(_string('interface-name')),
                },
            ),
        },
        'volumes': {
            'type': 'array',
            'maxItems': 1000,
            'items': _object(
                {'id': _UUID},
                {'target': _nullable(_string('device-name')), 'source': _nullable(_string('name'))},
            ),
        },
    },
)

#: The arguments of each method, by its name.
METHODS: dict[str, Schema] = {
    'attach_volume': _object(
        {**_INSTANCE, 'volume_id': _string('device-id'), 'connection_info': CONNECTION_INFO},
        {
            'device_name': _nullable(_string('device-name')),
            'disk_bus': {'enum': [None, 'virtio', 'scsi', 'sata', 'usb']},
            'device_type': {'enum': ['disk', 'lun', 'cdrom']},
        },
    ),
    'attach_interface': _object({**_INSTANCE, 'port': PORT}),
    'attach_hostdev': _object({**_INSTANCE, 'device_id': _string('device-id'), 'hostdev': HOSTDEV}),
    'detach_volume': _object({**_INSTANCE, 'volume_id': _string('device-id')}),
    'detach_interface': _object({**_INSTANCE, 'port_id': _string('device-id')}),
    'detach': _object({**_INSTANCE, 'device_id': _string('device-id')}),
    'reconcile_instance': _object(_INSTANCE, {'inventory': _nullable(INVENTORY)}),
    'reconcile_plan': _object(_INSTANCE, {'inventory': _nullable(INVENTORY)}),
    'reconcile_live': _object(_INSTANCE, {'inventory': _nullable(INVENTORY)}),
    'reconcile_live_estimate': _object(_INSTANCE),
    'live_migrate': _object(
        {**_INSTANCE, 'dest_uri': _string('name')},
        {
            'migrate_uri': _nullable(_string('name')),
            'bandwidth_mib': _nullable(_integer(1, 2**31 - 1)),
            'unsafe': {'type': 'boolean'},
            'inventory': _nullable(INVENTORY),
        },
    ),
    'migration_progress': _object(_INSTANCE),
    'abort_migration': _object(_INSTANCE),
    'reconcile_status': _object({}, _INSTANCE),
    'list_instances': _object({}),
    'list_devices': _object(_INSTANCE),
    'get_operation': _object({'operation_id': _string('device-id')}),
    'list_operations': _object(
        {},
        {
            **_INSTANCE,
            'states': {'type': 'array', 'items': {'enum': list(State)}},
            'since': _string('time'),
            'until': _string('time'),
            'limit': _integer(1, 1000),
        },
    ),
    'submit': _object(
        {
            'operation': _object(
                {'id': _string('device-id'), 'action': {'enum': list(Action)}, 'arguments': {'type': 'object'}}
            )
        }
    ),
}
