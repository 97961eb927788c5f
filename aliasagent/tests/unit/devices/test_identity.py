# SPDX-License-Identifier: Apache-2.0
"""Whose a device is that has no alias."""

import dataclasses
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aliasagent.devices import alias
from aliasagent.devices import domain
from aliasagent.devices import identity
from aliasagent.devices import xml
from aliasagent.devices.base import Device
from aliasagent.devices.identity import Claim
from aliasagent.devices.identity import Evidence
from aliasagent.devices.identity import Identity
from aliasagent.devices.identity import Judgement
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.tests.ids import PORT
from aliasagent.tests.unit.devices import strategies

X = ids.VOLUME
Y = ids.OTHER_VOLUME
#: Its tap has the same name as PORT's.
TWIN = ids.TWIN_PORT


def device(text: str) -> Device:
    return domain.device(xml.parse(text))


def disk(source: str = '', serial: str | None = None, attribute: str = 'file') -> Device:
    inner = '' if serial is None else f'<serial>{serial}</serial>'
    return device(f"<disk><source {attribute}='{source}'/><target dev='vdb'/>{inner}</disk>")


def tap(name: str) -> Device:
    return device(f"<interface type='ethernet'><mac address='52:54:00:00:00:01'/><target dev='{name}'/></interface>")


class IdentifyTestCase(base.TestCase):
    def assert_nobodys(self, found: Device, *ports: str) -> None:
        self.assertIsNone(identity.identify(found, frozenset(ports)), found.to_xml())

    def assert_whose(self, device_id: str, evidence: Evidence, found: Device, *ports: str) -> None:
        self.assertEqual(Identity(device_id, evidence), identity.identify(found, frozenset(ports)))

    def test_a_disk_by_its_serial(self) -> None:
        self.assert_whose(X, Evidence.SERIAL, disk(serial=X))
        self.assert_whose(X, Evidence.SERIAL, disk(serial=f'\n  {X.upper()} '))

    def test_a_serial_that_is_no_uuid_says_nothing(self) -> None:
        for text in ('', 'WD-1234', X[:-1], X + '0', f'ua-{X}', X.replace('-', ''), f'x{X}'):
            self.assert_nobodys(disk(serial=text))
        self.assert_hint(Y, disk(f'/srv/volume-{Y}', 'WD-1234'))

    def assert_hint(self, device_id: str, found: Device) -> None:
        judgement = identity.judge(found, frozenset())
        self.assertEqual((None, device_id, False), (judgement.identity, judgement.unproven_id, judgement.is_disputed))
        self.assertEqual({device_id}, judgement.ids)

    def test_a_source_that_names_the_volume_is_a_hint(self) -> None:
        """After a volume migration it is another volume's name."""
        for attribute in ('file', 'dev', 'name', 'volume'):
            for name in (
                f'volume-{X}',
                f'/srv/volume-{X}',
                f'/srv/volume-{X}.qcow2',
                f'/srv/volume-{X}.{Y}',
                f'volumes/volume-{X}',
                f'/dev/cinder-volumes/volume-{X.upper()}',
                f'/dev/mapper/cinder--volumes-volume--{X.replace("-", "--")}',
                f'iqn.2010-10.org.openstack:volume-{X}/1',
                f'/dev/disk/by-path/ip-192.0.2.1:3260-iscsi-iqn.2010-10.org.openstack:volume-{X}-lun-1',
                f'/srv/volume-{X}/volume-{X}',
                f'/srv/volume-{Y}/volume-{X}',
            ):
                self.assert_hint(X, disk(name, attribute=attribute))

    def assert_nothing(self, found: Device) -> None:
        self.assertEqual(Judgement(None), identity.judge(found, frozenset()), found.to_xml())

    def test_a_source_that_does_not(self) -> None:
        for name in (
            X,
            f'/srv/{X}',
            f'/srv/{X}_disk',
            f'/srv/snapshot-{X}',
            f'/srv/xvolume-{X}',
            f'/srv/volume-{X}0',
            f'/srv/volume_{X}',
            'volume-',
            '',
            # of a copy, of a directory, of a snapshot, of a partition
            f'/srv/volume-{X}-copy.raw',
            f'/backup/volume-{X}/incremental-3.raw',
            f'/backup/volume-{X}/3',
            f'volumes/volume-{X}@backup.1',
            f'/dev/disk/by-path/ip-192.0.2.1:3260-iscsi-iqn.2010-10.org.openstack:volume-{X}-lun-1-part1',
            # of which device-mapper would double the dashes
            f'/dev/mapper/vg-volume-{X}',
            f'/dev/mapper/volume--{X.replace("-", "--")}',
            f'/dev/mapper/a-b-volume--{X.replace("-", "--")}',
        ):
            self.assert_nothing(disk(name))

    def test_a_snapshot_of_an_image_is_not_the_volume(self) -> None:
        text = f"<disk type='network'><source protocol='rbd' name='p/volume-{X}'><snapshot name='s'/></source></disk>"
        self.assert_nothing(device(text))

    def test_a_source_that_names_two_volumes_is_nobodys(self) -> None:
        self.assert_nothing(device(f"<disk><source dev='/dev/volume-{X}' name='volume-{Y}'/></disk>"))

    def test_the_target_says_nothing(self) -> None:
        self.assert_nobodys(device(f"<disk><target dev='volume-{X}'/></disk>"))
        self.assert_nobodys(device(f"<disk><backingStore><source file='/srv/volume-{X}'/></backingStore></disk>"))

    def test_an_interface_by_its_interfaceid(self) -> None:
        text = "<interface><virtualport><parameters interfaceid='{}'/></virtualport><target dev='tap{}'/></interface>"
        self.assert_whose(X, Evidence.INTERFACEID, device(text.format(X.upper(), PORT[:11])), PORT)
        self.assert_whose(PORT, Evidence.TAP_NAME, device(text.format('none', PORT[:11])), PORT)

    def test_an_interface_by_its_tap_and_the_list_of_ports(self) -> None:
        self.assert_whose(PORT, Evidence.TAP_NAME, tap(f'tap{PORT[:11]}'), PORT, Y)
        self.assert_nobodys(tap(f'tap{PORT[:11]}'))
        self.assert_nobodys(tap(f'tap{PORT[:11]}'), Y)
        for prefix in ('vhu', 'nic'):
            self.assert_whose(PORT, Evidence.TAP_NAME, tap(f'{prefix}{PORT[:11]}'), PORT, Y)
            self.assert_nobodys(tap(f'{prefix}{PORT[:11]}'), Y)
        socket = f"<interface type='vhostuser'><source type='unix' path='/run/vhu{PORT[:11]}'/></interface>"
        self.assert_whose(PORT, Evidence.TAP_NAME, device(socket), PORT)
        for name in ('vnet0', 'tap0', f'tap{PORT[:10]}', f'tap{PORT[:12]}', f'qvo{PORT[:11]}', f'xtap{PORT[:11]}'):
            self.assert_nobodys(tap(name), PORT)

    def test_an_interface_by_a_socket_named_by_the_whole_id(self) -> None:
        def vpp(port: str, target: str = '') -> Device:
            source = f"<source type='unix' path='/var/run/vpp/{port}' mode='server'/>"
            return device(f"<interface type='vhostuser'>{source}<target dev='{target}'/></interface>")

        self.assert_whose(PORT, Evidence.TAP_NAME, vpp(PORT.upper()), PORT, Y)
        self.assert_whose(PORT, Evidence.TAP_NAME, vpp(PORT, f'nic{PORT[:11]}'), PORT, TWIN)
        self.assert_whose(PORT, Evidence.TAP_NAME, vpp(X, f'nic{PORT[:11]}'), PORT, Y)
        self.assert_nobodys(vpp(PORT))
        self.assert_nobodys(vpp(PORT), Y, TWIN)
        self.assert_nobodys(vpp(PORT, f'nic{Y[:11]}'), PORT, Y)
        self.assert_nobodys(vpp('x'), 'x', PORT)
        self.assert_nobodys(tap(PORT), PORT)

    def test_a_tap_that_could_be_of_two_ports_is_nobodys(self) -> None:
        self.assert_nobodys(tap(f'tap{PORT[:11]}'), PORT, TWIN)

    def test_a_list_of_ports_that_holds_what_is_no_port(self) -> None:
        for junk in (f'{PORT[:11]} x', f'{PORT[:11]}', f'{PORT}<', f'{PORT[:11]}\n'):
            self.assert_nobodys(tap(f'tap{PORT[:11]}'), junk)
        for nobodys in (tap('vnet0'), device('<interface/>')):
            self.assert_nobodys(nobodys, '', PORT)

    def test_an_mdev_by_its_uuid(self) -> None:
        text = "<hostdev type='mdev'><source><address uuid='{}'/></source></hostdev>"
        self.assert_whose(X, Evidence.MDEV_UUID, device(text.format(X.upper())))
        for junk in ('', 'x y', X[:-1], '../x'):
            self.assert_nobodys(device(text.format(junk)))

    def test_a_pci_device_does_not_say_whose_it_is(self) -> None:
        self.assert_nobodys(device("<hostdev type='pci'><source><address bus='0x06'/></source></hostdev>"))

    def test_other_kinds_do_not(self) -> None:
        self.assert_nobodys(device(f'<filesystem><serial>{X}</serial><source dir="/volume-{X}"/></filesystem>'))

    def test_an_alias_is_all_that_is_listed(self) -> None:
        claimed = disk(f'/srv/volume-{Y}', Y)
        claimed.alias = f'ua-{X}'
        self.assert_whose(X, Evidence.ALIAS, claimed)
        claimed.alias = 'ua-'
        self.assert_nobodys(claimed)
        claimed.alias = 'virtio-disk0'
        self.assert_whose(Y, Evidence.SERIAL, claimed)

    @given(strategies.devices, strategies.port_lists)
    def test_what_is_identified_without_an_alias_can_have_one(self, element: xml.Element, ports: list[str]) -> None:
        view = domain.device(element)
        whose = identity.identify(view, frozenset(ports))
        if whose is not None and whose.evidence is not Evidence.ALIAS:
            self.assertFalse(view.is_claimed)
            self.assertTrue(alias.is_valid_id(whose.device_id), whose)

    @given(st.text(st.sampled_from('0123456789abcdef-') | st.sampled_from('volume-/'), max_size=80))
    def test_whatever_the_source(self, source: str) -> None:
        hint = identity.judge(disk(source), frozenset()).unproven_id
        if hint is not None:
            self.assertIn(f'volume-{hint}', source)


class SupportsTestCase(base.TestCase):
    def test_a_device_supports_its_own_claim(self) -> None:
        for view, evidence in (
            (disk('/srv/one'), Evidence.SOURCE),
            (tap('tap0'), Evidence.MAC),
            (device("<hostdev type='pci'><source><address bus='0x06'/></source></hostdev>"), Evidence.HOST_ADDRESS),
            (device(f"<hostdev type='mdev'><source><address uuid='{X}'/></source></hostdev>"), Evidence.MDEV_UUID),
        ):
            self.assertEqual(evidence, identity.supports(view, identity.claim(view)))

    def test_what_is_not_there_is_no_evidence(self) -> None:
        for text in ('<disk/>', '<interface/>', "<hostdev type='pci'/>", '<hostdev/>', '<rng/>'):
            view = device(text)
            self.assertIsNone(identity.supports(view, identity.claim(view)), text)
            self.assertIsNone(identity.supports(view, Claim(kind=view.kind)), text)

    def test_the_case_of_a_mac(self) -> None:
        view = device("<interface><mac address='FA:16:3E:00:00:01'/></interface>")
        self.assertEqual(Evidence.MAC, identity.supports(view, Claim(kind='interface', mac='fa:16:3e:00:00:01')))

    def test_a_network_source_is_told_by_its_hosts_too_unless_its_name_says_all(self) -> None:
        text = "<disk type='network'><source protocol='{}' name='pool/a'><host name='{}' port='1'/></source></disk>"
        view = device(text.format('nbd', 'one'))
        for other in (text.format('nbd', 'two'), text.format('rbd', 'one')):
            self.assertIsNone(identity.supports(view, identity.claim(device(other))))
        self.assertEqual(Evidence.SOURCE, identity.supports(view, identity.claim(device(text.format('nbd', 'one')))))

    def test_an_image_of_ceph_is_the_same_by_other_monitors(self) -> None:
        text = "<disk type='network'><source protocol='rbd' name='{}'>{}</source></disk>"
        host = "<host name='{}' port='6789'/>"
        view = device(text.format('pool/a', host.format('192.0.2.1') + host.format('192.0.2.2')))
        for hosts in ('', host.format('192.0.2.3'), host.format('fc00::1')):
            known = identity.claim(device(text.format('pool/a', hosts)))
            self.assertEqual(Evidence.SOURCE, identity.supports(view, known))
        for name in ('pool/b', 'other/a', 'pool/a@snap'):
            known = identity.claim(device(text.format(name, host.format('192.0.2.1'))))
            self.assertIsNone(identity.supports(view, known))

    @given(strategies.devices, strategies.devices)
    def test_another_kind_is_never_it(self, first: xml.Element, second: xml.Element) -> None:
        one, other = domain.device(first), domain.device(second)
        if one.kind != other.kind:
            self.assertIsNone(identity.supports(one, identity.claim(other)))


class ApartTestCase(base.TestCase):
    """Two devices that are known to be two."""

    claims = st.builds(
        identity.Claim,
        kind=st.sampled_from(['disk', 'interface', 'hostdev']),
        serial=st.sampled_from([None, 'a', 'b']),
        source=st.sampled_from([None, '/a', '/b']),
        mac=st.sampled_from([None, '52:54:00:00:00:01', '52:54:00:00:00:02']),
        host_address=st.sampled_from([None, '0000:01:00.0', '0000:01:00.1']),
        mdev_uuid=st.sampled_from([None, 'x', 'y']),
    )

    @given(claims, claims)
    def test_whoever_comes_first_and_never_from_itself(self, one: identity.Claim, other: identity.Claim) -> None:
        self.assertEqual(identity.are_apart(one, other), identity.are_apart(other, one))
        self.assertFalse(identity.are_apart(one, one))

    @given(claims, st.sampled_from([None, '/a', '/b']))
    def test_another_source_says_nothing(self, one: identity.Claim, source: str | None) -> None:
        self.assertFalse(identity.are_apart(one, dataclasses.replace(one, source=source)))

    @given(claims, st.sampled_from(['serial', 'mac', 'host_address', 'mdev_uuid']))
    def test_what_stays_with_a_device_tells_them_apart_if_both_have_it(self, one: identity.Claim, name: str) -> None:
        other = dataclasses.replace(one, **{name: 'another'})
        self.assertEqual(getattr(one, name) is not None, identity.are_apart(one, other))
        without: dict[str, Any] = {name: None}
        self.assertFalse(identity.are_apart(one, dataclasses.replace(one, **without)))
