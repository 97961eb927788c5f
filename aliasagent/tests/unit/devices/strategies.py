# SPDX-License-Identifier: Apache-2.0
"""Trees that look like domain definitions, with everything in them that XML allows."""

from hypothesis import strategies as st
from lxml import etree

from aliasagent.devices import xml
from aliasagent.tests.ids import MAC
from aliasagent.tests.ids import OTHER_MAC
from aliasagent.tests.ids import PORT
from aliasagent.tests.ids import TWIN_PORT
from aliasagent.tests.ids import VOLUME

#: Few, so that the devices of one tree often get in each other's way.
IDS = (
    VOLUME,
    PORT,
    # begins as the one before
    TWIN_PORT,
    'share_1',
)
MACS = (MAC, OTHER_MAC)
NOVA = 'http://openstack.org/xmlns/libvirt/nova/1.1'
QEMU = 'http://libvirt.org/schemas/domain/qemu/1.0'
VENDOR = 'urn:example:vendor'
#: Said of every element: what lxml makes up by itself gets mixed up when trees are put together.
PREFIXES = {'nova': NOVA, 'qemu': QEMU, 'v': VENDOR}
NAMESPACES = ('', '', '', f'{{{QEMU}}}', f'{{{VENDOR}}}')

_KNOWN_NAMES = ('alias', 'address', 'source', 'target', 'driver', 'serial', 'mac', 'readonly', 'virtualport', 'devices')
_any_name = st.from_regex(r'[A-Za-z_][A-Za-z0-9_.-]{0,6}', fullmatch=True)
names = st.builds(str.__add__, st.sampled_from(NAMESPACES), st.sampled_from(_KNOWN_NAMES) | _any_name)
#: All characters that XML 1.0 can hold.
texts = st.text(
    st.characters(exclude_categories=('Cs', 'Cc'), exclude_characters='\ufffe\uffff', include_characters='\t\n\r'),
    max_size=12,
)
attributes = st.dictionaries(names, texts, max_size=3)
ids = st.sampled_from(IDS)
aliases = st.one_of(
    st.none(),
    st.sampled_from(['ua-' + each for each in IDS]),
    st.sampled_from(['', 'ua-', 'net0', 'virtio-disk1', 'UA-share_1', 'ua-Übel']),
)
macs = st.sampled_from(MACS)
target_names = st.sampled_from(['vda', 'vdb', 'vdc', 'sda'])
port_lists = st.lists(ids, max_size=3)
_volumes = st.sampled_from(
    ['/dev/sdb', '/dev/sdc', *(f'/srv/volume-{each}' for each in IDS), '/'.join(f'/volume-{each}' for each in IDS[:2])]
)


@st.composite
def comments(draw: st.DrawFn) -> xml.Element:
    # Nothing escapes a carriage return there, so that reading makes a line's end of it.
    return etree.Comment(draw(texts).replace('-', '~').replace('\r', ''))


@st.composite
def instructions(draw: st.DrawFn) -> xml.Element:
    return etree.ProcessingInstruction('vendor', draw(texts).replace('?', '').replace('\r', '').strip())


@st.composite
def elements(draw: st.DrawFn, depth: int = 2, name: st.SearchStrategy[str] = names) -> xml.Element:
    """Any element: attributes, text, comments, instructions, elements of other namespaces, and tails."""
    element = etree.Element(draw(name), draw(attributes), nsmap=PREFIXES)
    element.text = draw(st.none() | texts)
    kinds = [comments(), instructions()] + ([elements(depth - 1)] if depth else [])
    for child in draw(st.lists(st.one_of(*kinds), max_size=3 if depth else 1)):
        child.tail = draw(st.none() | texts)
        element.append(child)
    return element


def _child(parent: xml.Element, tag: str, text: str | None = None, /, **values: str) -> xml.Element:
    child = etree.SubElement(parent, tag, values)
    child.text = text
    return child


def _finish(draw: st.DrawFn, device: xml.Element) -> xml.Element:
    """Give a device an alias, perhaps, and something that nobody knows, and mix it all up."""
    name = draw(aliases)
    if name is not None:
        _child(device, 'alias', name=name)
    if draw(st.booleans()):
        device.insert(draw(st.integers(0, len(device))), draw(elements(1)))
    return device


@st.composite
def disks(draw: st.DrawFn) -> xml.Element:
    kind = draw(st.sampled_from(['disk', 'lun', 'cdrom']))
    disk = etree.Element('disk', nsmap=PREFIXES, type='block', device=kind)
    if draw(st.booleans()):
        _child(disk, 'source', **{draw(st.sampled_from(['dev', 'file', 'name', 'volume'])): draw(_volumes)})
    _child(disk, 'target', dev=draw(target_names), bus='virtio')
    if draw(st.booleans()):
        _child(disk, 'serial', draw(ids | texts))
    return _finish(draw, disk)


@st.composite
def interfaces(draw: st.DrawFn) -> xml.Element:
    interface = etree.Element('interface', nsmap=PREFIXES, type='bridge')
    _child(interface, 'mac', address=draw(macs))
    if draw(st.booleans()):
        _child(_child(interface, 'virtualport', type='openvswitch'), 'parameters', interfaceid=draw(ids | texts))
    if draw(st.booleans()):
        _child(interface, 'target', dev='tap' + draw(ids)[:11])
    return _finish(draw, interface)


@st.composite
def hostdevs(draw: st.DrawFn) -> xml.Element:
    kind = draw(st.sampled_from(['pci', 'mdev', 'usb', 'scsi']))
    hostdev = etree.Element('hostdev', nsmap=PREFIXES, mode='subsystem', type=kind)
    address = _child(_child(hostdev, 'source'), 'address')
    if kind == 'mdev':
        address.set('uuid', draw(ids | texts))
    else:
        address.set('bus', draw(st.sampled_from(['0x01', '0x02']) | texts))
    return _finish(draw, hostdev)


@st.composite
def other_devices(draw: st.DrawFn) -> xml.Element:
    kind = st.sampled_from(['rng', 'memory', 'video', 'filesystem', 'emulator', 'whatever', 'disk', 'interface'])
    return _finish(draw, draw(elements(1, kind)))


devices = st.one_of(disks(), interfaces(), hostdevs(), other_devices())


#: Nova's, and what may be taken for it.
_NOVAS = (NOVA, NOVA.replace('1.1', '2.7'))
_SIMILAR = ('', 'urn:openstack', NOVA.removesuffix('/1.1'))


@st.composite
def metadata(draw: st.DrawFn) -> tuple[xml.Element, bool]:
    """The metadata of a guest, with anything in them, and whether Nova wrote some of them."""
    made = etree.Element('metadata', draw(attributes), nsmap=PREFIXES)
    made.text = draw(st.none() | texts)
    is_novas = False
    for child in draw(st.lists(st.one_of(comments(), instructions(), elements(1), elements(1)), max_size=4)):
        child.tail = draw(st.none() | texts)
        kind = draw(st.sampled_from(['as it is', 'named', 'below another']))
        if kind == 'named' and isinstance(child.tag, str):
            namespace = draw(st.sampled_from(_NOVAS + _SIMILAR))
            name = draw(st.sampled_from(['instance', 'owner', 'instances', 'port']))
            child.tag = str(etree.QName(namespace or None, name))
            is_novas |= namespace in _NOVAS and name in ('instance', 'owner')
        elif kind == 'below another':
            copy = etree.SubElement(made, f'{{{VENDOR}}}copy')
            copy.append(child)
            etree.SubElement(copy, f'{{{NOVA}}}instance')
            continue
        made.append(child)
    return made, is_novas


@st.composite
def domains(draw: st.DrawFn) -> xml.Element:
    """A definition of any devices, with anything between them."""
    root = etree.Element('domain', draw(attributes), nsmap=PREFIXES)
    _child(root, 'name', draw(texts))
    metadata = _child(root, 'metadata')
    ports = etree.SubElement(metadata, f'{{{NOVA}}}ports')
    for port in draw(port_lists):
        etree.SubElement(ports, f'{{{NOVA}}}port', uuid=port)
    metadata.append(draw(elements(1)))
    for _group in range(draw(st.integers(0, 1)) + 1):
        parent = _child(root, 'devices')
        for child in draw(st.lists(st.one_of(devices, devices, devices, comments(), instructions()), max_size=4)):
            child.tail = draw(st.none() | texts)
            parent.append(child)
    return root
