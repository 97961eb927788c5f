# SPDX-License-Identifier: Apache-2.0
"""Requests that the contract accepts, of all kinds and with all options."""

from typing import Any

from hypothesis import strategies as st

from aliasagent.devices import qos
from aliasagent.devices import targets
from aliasagent.requests import port as port_requests
from aliasagent.tests.unit.devices import golden

Json = dict[str, Any]

uuids = st.uuids().map(str) | st.uuids().map(lambda value: str(value).upper())
names = st.text(st.characters(exclude_categories=('C', 'Z')), min_size=1, max_size=20)
paths = st.lists(
    st.text(st.characters(exclude_categories=('C', 'Z'), exclude_characters='/.'), min_size=1, max_size=8),
    min_size=1,
    max_size=4,
).map(lambda parts: '/' + '/'.join(parts))
interface_names = st.from_regex(r'[a-z][a-z0-9_.<&"-]{0,14}', fullmatch=True)
_hosts = st.sampled_from(['192.0.2.1', 'ceph-mon.example.org', '2001:db8::1', '[2001:db8::2]', 'a'])
_tcp_ports = st.integers(1, 65535) | st.integers(1, 65535).map(str)
_booleans = st.none() | st.booleans()
_limits = st.one_of(st.none(), st.integers(0, 2000), st.integers(0, 2000).map(str), st.integers(0, 10**20 - 1).map(str))
_rates = st.integers(1, 2**32 - 1)
_serials = st.sampled_from([None, golden.VOLUME, golden.VOLUME.upper()])


def _member(name: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    """A member that may be there."""
    return st.just({}) | values.map(lambda value: {name: value})


@st.composite
def _members(draw: st.DrawFn, /, **values: st.SearchStrategy[Any]) -> Json:
    found: Json = {}
    for name, strategy in values.items():
        found |= draw(_member(name, strategy))
    return found


_device = st.fixed_dictionaries({'device_path': paths})
_secrets = {'auth_username': names, 'secret_uuid': uuids, 'auth_password': st.just(golden.PLAINTEXT)}
_target = st.fixed_dictionaries(
    {
        'target_portal': st.sampled_from(['192.0.2.1:3260', '[2001:db8::1]:3261', 'target.example.org:3260']),
        'target_iqn': st.sampled_from(['iqn.2010-10.org.openstack:volume-1', 'eui.02004567A425678D']),
        'target_lun': st.integers(0, 16383) | st.integers(0, 16383).map(str),
    }
)


def _merged(*parts: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.tuples(*parts).map(lambda found: {name: value for part in found for name, value in part.items()})


_DATA: dict[str, st.SearchStrategy[Json]] = {
    'file': _merged(_device, _members(format=st.sampled_from([None, 'raw', 'qcow2']))),
    'local': _device,
    'nfs': _device
    | st.fixed_dictionaries({'export': names, 'name': st.just('volume-1')})
    | _merged(_device, st.fixed_dictionaries({'export': names, 'format': st.just('qcow2')})),
    'iscsi': st.one_of(
        _device,
        _target,
        _merged(_target, st.fixed_dictionaries({**_secrets, 'auth_method': st.just('CHAP')})),
    ),
    'fibre_channel': _device,
    **{
        kind: _merged(_device, _members(format=st.sampled_from([None, 'raw', 'qcow2'])))
        for kind in ('gpfs', 'quobyte', 'smbfs', 'vzstorage')
    },
    'nvmeof': _device,
    'rbd': st.one_of(
        _device,
        _merged(
            st.fixed_dictionaries({'name': names}),
            _members(hosts=st.lists(_hosts, max_size=3), ports=st.lists(_tcp_ports, max_size=3)),
        ),
        st.fixed_dictionaries({**_secrets, 'name': names, 'auth_enabled': st.just(True), 'hosts': st.just(['a', 'b'])}),
    ),
    'nbd': _merged(
        st.one_of(
            _device,
            st.fixed_dictionaries({'socket': paths}),
            _merged(st.fixed_dictionaries({'host': _hosts}), _members(port=st.none() | _tcp_ports)),
        ),
        _members(export=st.none() | names),
    ),
}
_common_data = _members(
    access_mode=st.sampled_from([None, 'rw', 'ro']),
    discard=_booleans,
    multiattach=_booleans,
    logical_block_size=st.sampled_from([None, 512, 4096, '512']),
    physical_block_size=st.sampled_from([None, 512, 4096, '4096']),
    qos_specs=st.none() | st.dictionaries(st.sampled_from(qos.KEYS) | names, _limits, max_size=4),
    encrypted=_booleans,
    encryption=st.none() | st.fixed_dictionaries({'provider': st.just('luks'), 'secret_uuid': uuids}),
    something_else=names,
)
_disk_options = _members(
    cache=st.sampled_from(['none', 'writeback', 'writethrough', 'directsync', 'unsafe']),
    io=st.sampled_from(['native', 'threads', 'io_uring']),
    iothread=st.integers(1, 8),
    queues=st.integers(1, 1024),
    boot_order=st.integers(1, 8),
)


@st.composite
def volumes(draw: st.DrawFn) -> Json:
    """What :func:`aliasagent.tests.unit.devices.golden.disk` takes."""
    kind = draw(st.sampled_from(sorted(_DATA)))
    bus = draw(st.sampled_from(['virtio', 'scsi', 'sata', 'usb']))
    info: Json = {
        'driver_volume_type': kind,
        'data': draw(_merged(_DATA[kind], _common_data)),
        **draw(_members(multiattach=_booleans, disk=st.none() | _disk_options, serial=_serials)),
    }
    if kind == 'nfs':
        info['mount_point_base'] = draw(paths)
    return {
        'connection_info': info,
        'target': targets.first_free(bus, ()),
        'bus': bus,
        'device_type': draw(st.sampled_from(['disk', 'lun', 'cdrom'])),
    }


_pci_addresses = st.from_regex(r'[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]', fullmatch=True)
_models = st.sampled_from(['virtio', 'e1000', 'e1000e', 'rtl8139'])
_limit = st.none() | _merged(st.fixed_dictionaries({'average': _rates}), _members(peak=_rates, burst=_rates))
_OPTIONAL: dict[str, st.SearchStrategy[Any]] = {
    'devname': st.none() | interface_names,
    'mtu': st.none() | st.integers(68, 65535),
    'model': _models,
    'queues': st.none() | st.integers(1, 256),
    'bandwidth': st.none() | _members(inbound=_limit, outbound=_limit),
    'vlan': st.none()
    | st.integers(0, 4094)
    | st.integers(0, 4094).map(str)
    | st.lists(st.integers(1, 4094), min_size=1, max_size=4, unique=True),
    'link_state': st.sampled_from([None, 'up', 'down']),
    'managed': st.booleans(),
    'ovs_interfaceid': st.none() | uuids,
    'macvtap_mode': st.sampled_from(['bridge', 'vepa', 'private', 'passthrough']),
    'vhostuser_mode': st.sampled_from(['client', 'server']),
}
_REQUIRED: dict[str, st.SearchStrategy[Any]] = {
    'id': uuids,
    'address': st.from_regex(r'5[02468ace](:[0-9a-fA-F]{2}){5}', fullmatch=True),
    'bridge': interface_names,
    'devname': interface_names,
    'macvtap_source': interface_names,
    'pci_slot': _pci_addresses,
    'vhostuser_socket': paths,
    'vdpa_device': paths,
    'network': names,
}


#: The types whose cards are virtio's.
_VIRTIO = ('vhostuser', 'vdpa')


@st.composite
def ports(draw: st.DrawFn) -> Json:
    """A port of any ``vif_type`` with any of its members."""
    vif_type = draw(st.sampled_from(sorted(port_requests.VIF_TYPES)))
    schema = port_requests.VIF_TYPES[vif_type]
    port: Json = {'vif_type': vif_type}
    for name in schema['properties']:
        if name in schema['required'] and name != 'vif_type':
            port[name] = draw(_REQUIRED[name])
        elif name in _OPTIONAL:
            port |= draw(
                _member(name, st.just('virtio') if vif_type in _VIRTIO and name == 'model' else _OPTIONAL[name])
            )
    return port


_usb_ids = st.from_regex(r'(0x)?[0-9a-fA-F]{4}', fullmatch=True)
hostdevs: st.SearchStrategy[Json] = st.one_of(
    _merged(
        st.fixed_dictionaries({'type': st.just('pci'), 'address': _pci_addresses}),
        _members(driver=st.just('vfio'), managed=st.booleans()),
    ),
    _merged(st.fixed_dictionaries({'type': st.just('mdev'), 'uuid': uuids}), _members(model=st.just('vfio-pci'))),
    st.fixed_dictionaries({'type': st.just('usb'), 'vendor': _usb_ids, 'product': _usb_ids}),
    st.fixed_dictionaries({'type': st.just('usb'), 'bus': st.integers(1, 255), 'device': st.integers(1, 127)}),
    st.fixed_dictionaries(
        {
            'type': st.just('scsi'),
            'adapter': st.sampled_from(['scsi_host0', 'scsi_host17']),
            'bus': st.integers(0, 255),
            'target': st.integers(0, 65535),
            'unit': st.integers(0, 16383),
        }
    ),
)

_anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.just('x' * 1_000_000)),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def broken(draw: st.DrawFn, requests: st.SearchStrategy[Json]) -> Json:
    """A request in which something, somewhere, is something else."""
    return dict(_break(draw, draw(requests)))


def _break(draw: st.DrawFn, value: Any) -> Any:
    if not isinstance(value, dict) or not value:
        return draw(_anything)
    name = draw(st.sampled_from(sorted(value)))
    return {**value, name: _break(draw, value[name]) if draw(st.booleans()) else draw(_anything)}
