# SPDX-License-Identifier: Apache-2.0
"""Which hints of the cloud count: those that a definition as a whole bears out."""

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aliasagent.devices import identity
from aliasagent.devices.domain import Domain
from aliasagent.devices.identity import Evidence
from aliasagent.devices.identity import Record
from aliasagent.reconcile import plan
from aliasagent.reconcile.plan import Outcome
from aliasagent.tests import base
from aliasagent.tests import ids

A = ids.VOLUME
B = ids.OTHER_VOLUME
C = ids.THIRD_VOLUME
P = ids.PORT
Q = 'c7b1e5d0-0f6a-4f0e-8a55-7d9a6b1e4f21'
SLOT = '0000:06:12.5'


def disk(target: str, source: str = '', serial: str = '', alias: str = '', device: str = 'disk') -> str:
    inner = f'<serial>{serial}</serial>' if serial else ''
    inner += f"<alias name='ua-{alias}'/>" if alias else ''
    source = '' if source == '-' else f"<source file='{source or f'/srv/{target}'}'/>"
    return f"<disk type='file' device='{device}'>{source}<target dev='{target}'/>{inner}</disk>"


def interface(mac: str = ids.MAC, tap: str = '', port: str = '', alias: str = '') -> str:
    inner = f"<target dev='{tap}'/>" if tap else ''
    inner += f"<virtualport type='openvswitch'><parameters interfaceid='{port}'/></virtualport>" if port else ''
    inner += f"<alias name='ua-{alias}'/>" if alias else ''
    return f"<interface type='bridge'><mac address='{mac}'/><source bridge='br-int'/>{inner}</interface>"


def domain(*devices: str) -> Domain:
    return Domain.parse(f"<domain><uuid>{ids.GUEST}</uuid><devices>{''.join(devices)}</devices></domain>")


def volume(device_id: str, target: str | None) -> Record:
    return Record(device_id, 'disk', Evidence.CLOUD, target=target)


def port(device_id: str, mac: str = ids.MAC, **more: Any) -> Record:
    return Record(device_id, 'interface', Evidence.CLOUD, mac=mac, **more)


def planned(*devices: str, told: list[Record]) -> list[str | None]:
    """Return the alias of each device, without "ua-", or the name of the outcome without one."""
    return [
        step.alias.removeprefix('ua-')
        if step.alias and step.outcome in (Outcome.ALIASED, Outcome.GETS_ALIAS)
        else step.outcome.name
        for step in plan.plan(domain(*devices), told)
    ]


class VolumesTestCase(base.TestCase):
    def test_disks_that_say_nothing_are_known_by_their_targets(self) -> None:
        devices = disk('vda', f'/var/lib/nova/{ids.GUEST}/disk'), disk('vdb'), disk('vdc')
        self.assertEqual(['LOCAL', A, B], planned(*devices, told=[volume(A, 'vdb'), volume(B, 'vdc')]))
        (_local, step, _other) = plan.plan(domain(*devices), [volume(A, 'vdb'), volume(B, 'vdc')])
        self.assertEqual('as the cloud says', step.reason)

    def test_an_answer_that_does_not_fit_counts_for_nothing(self) -> None:
        nothing = ['UNIDENTIFIED', 'UNIDENTIFIED']
        for told in (
            [],
            [volume(A, 'vdb')],
            [volume(A, 'vdb'), volume(B, 'vdd')],
            [volume(A, 'vdb'), volume(B, None)],
            [volume(A, 'vdb'), volume(B, 'vdc'), volume(C, 'vdd')],
            [volume(A, 'vdb'), volume(B, 'vdc'), volume(C, None)],
            [volume(A, 'vdb'), volume(B, 'vdc'), volume(C, 'vdc')],
            [volume(A, 'vdb'), volume(A, 'vdc')],
        ):
            self.assertEqual(nothing, planned(disk('vdb'), disk('vdc'), told=told), str(told))

    def test_one_that_has_a_volume_at_the_place_of_another_disk(self) -> None:
        """A rescued server has the image's disk there; an empty drive has none."""
        for other in (disk('vda', f'/var/lib/nova/{ids.GUEST}/disk.rescue'), disk('vda', '-', device='cdrom')):
            found = planned(other, disk('vdb'), told=[volume(A, 'vda'), volume(B, 'vdb')])
            self.assertEqual('UNIDENTIFIED', found[1])

    def test_one_that_moves_a_proven_volume(self) -> None:
        """The targets of the answer are not those of the definition."""
        for proven in (disk('vdb', serial=A), disk('vdb', alias=A), disk('vdb', serial=A, alias=A)):
            found = planned(proven, disk('vdc'), told=[volume(B, 'vdb'), volume(A, 'vdc')])
            self.assertEqual([A, 'UNIDENTIFIED'], found)
            # The other's target may be unknown.
            found = planned(proven, disk('vdc'), told=[volume(B, 'vdb'), volume(A, None), volume(C, 'vdc')])
            self.assertEqual([A, 'UNIDENTIFIED'], found)
        claimed = disk('vdb', alias=A)
        self.assertEqual([A, 'UNIDENTIFIED'], planned(claimed, disk('vdc'), told=[volume(A, 'vdx'), volume(B, 'vdc')]))
        self.assertEqual([A, 'UNIDENTIFIED'], planned(claimed, disk('vdc'), told=[volume(A, 'vdc')]))

    def test_a_source_named_after_another_volume_of_the_server(self) -> None:
        found = planned(disk('vdb', f'/srv/volume-{B}'), disk('vdc'), told=[volume(A, 'vdb'), volume(B, 'vdc')])
        self.assertEqual(['UNIDENTIFIED', 'UNIDENTIFIED'], found)

    def test_a_migrated_volume_has_the_name_of_another_that_the_server_does_not_have(self) -> None:
        found = planned(disk('vdb', f'/srv/volume-{C}'), disk('vdc'), told=[volume(A, 'vdb'), volume(B, 'vdc')])
        self.assertEqual([A, B], found)

    def test_a_proof_and_the_answer_agree(self) -> None:
        told = [volume(A, 'vdb'), volume(B, 'vdc')]
        self.assertEqual([A, B], planned(disk('vdb', serial=A), disk('vdc'), told=told))
        self.assertEqual([A, B], planned(disk('vdb', alias=A), disk('vdc'), told=told))
        # Nova may not know the target of a volume that the definition knows.
        self.assertEqual([A, 'UNIDENTIFIED'], planned(disk('vdb', serial=A), disk('vdc'), told=[volume(A, None)]))
        told = [volume(A, None), volume(B, 'vdc')]
        self.assertEqual(['UNIDENTIFIED', 'UNIDENTIFIED'], planned(disk('vdb'), disk('vdc'), told=told))

    def test_a_swapped_volume(self) -> None:
        """Its serial, and since Nova 29 its alias, are those of the old volume."""
        told = [volume(B, 'vdb')]
        self.assertEqual([B], planned(disk('vdb', f'/srv/volume-{B}', serial=A), told=told))
        others = disk('vdb', f'/srv/volume-{B}', serial=A), disk('vdc')
        self.assertEqual([B, C], planned(*others, told=[*told, volume(C, 'vdc')]))
        # The alias is never changed.
        self.assertEqual(['CONFLICT'], planned(disk('vdb', f'/srv/volume-{B}', serial=A, alias=A), told=told))
        # The source says nothing: the serial alone does not count against the answer.
        self.assertEqual(['CONFLICT'], planned(disk('vdb', serial=A), told=told))
        self.assertEqual(
            ['CONFLICT', 'UNIDENTIFIED'], planned(disk('vdb', serial=A), disk('vdc'), told=[*told, volume(C, 'vdc')])
        )

    def test_an_alias_that_another_client_gave_beside_nova(self) -> None:
        self.assertEqual([C, A], planned(disk('vdb', alias=C), disk('vdc'), told=[volume(A, 'vdc')]))

    def test_an_operator_ranks_above_the_answer(self) -> None:
        for word in (Evidence.INVENTORY, Evidence.EARLIER_INVENTORY, Evidence.ATTACH):
            said = Record(C, 'disk', word, source='/srv/vdb')
            self.assertEqual([C], planned(disk('vdb'), told=[said, volume(C, 'vdb')]))
            self.assertEqual([C], planned(disk('vdb'), told=[said, volume(A, 'vdb')]))
            found = planned(disk('vdb'), disk('vdc'), told=[said, volume(A, 'vdb'), volume(B, 'vdc')])
            self.assertEqual([C, 'UNIDENTIFIED'], found)

    def test_what_an_answer_decides_is_kept(self) -> None:
        """The alias of a migrated volume is disputed without it."""
        definition = domain(disk('vdb', f'/srv/volume-{C}'))
        steps = plan.plan(definition, [volume(A, 'vdb')])
        kept = Record(A, 'disk', Evidence.EARLIER_INVENTORY, source=f'/srv/volume-{C}')
        self.assertEqual([kept], plan.settled(definition, steps))

    def test_other_hints_are_left_alone(self) -> None:
        said = frozenset({Record(A, 'disk', Evidence.INVENTORY, target='vdx'), Record(B, 'rng', Evidence.ATTACH)})
        self.assertEqual(said, identity.borne_out(domain(), said))
        self.assertEqual(said, identity.borne_out(domain(), [*said, volume(C, 'vdb'), port(P)]))


class PortsTestCase(base.TestCase):
    def test_a_mac_address_of_one_port_and_one_interface(self) -> None:
        told = [port(P), port(Q, ids.OTHER_MAC)]
        self.assertEqual([P, Q], planned(interface(), interface(ids.OTHER_MAC), told=told))
        # An interface that no port has is another client's.
        self.assertEqual([P, 'UNIDENTIFIED'], planned(interface(), interface(ids.OTHER_MAC), told=[port(P)]))

    def test_an_interface_that_is_named_after_another_port(self) -> None:
        """A port was deleted, and another one made with its MAC address."""
        for prefix in ('tap', 'vhu', 'nic'):
            self.assertEqual(['UNIDENTIFIED'], planned(interface(tap=f'{prefix}{Q[:11]}'), told=[port(P)]))
            self.assertEqual([P], planned(interface(tap=f'{prefix}{P[:11]}'), told=[port(P)]))

    def test_two_interfaces_with_one_mac_address(self) -> None:
        nothing = ['UNIDENTIFIED', 'UNIDENTIFIED']
        self.assertEqual(nothing, planned(interface(), interface(), told=[port(P)]))
        self.assertEqual(nothing, planned(interface(), interface(), told=[port(P), port(Q)]))

    def test_two_ports_with_one_mac_address(self) -> None:
        self.assertEqual(['UNIDENTIFIED'], planned(interface(), told=[port(P), port(Q)]))
        told = [port(it, target=f'{prefix}{it[:11]}') for it in (P, Q) for prefix in ('tap', 'vhu', 'nic')]
        taps = [interface(tap=f'tap{P[:11]}'), interface(tap=f'tap{Q[:11]}')]
        self.assertEqual([P, Q], planned(*taps, told=told))
        self.assertEqual(['UNIDENTIFIED', Q], planned(interface(), taps[1], told=told))
        # The ids of both ports begin with the same eleven characters.
        twins = [port(it, target=f'tap{it[:11]}') for it in (P, ids.TWIN_PORT)]
        self.assertEqual(['UNIDENTIFIED', 'UNIDENTIFIED'], planned(*taps, told=twins))

    def test_a_proof_is_not_doubted(self) -> None:
        self.assertEqual([Q], planned(interface(port=Q), told=[port(P)]))
        self.assertEqual([Q, 'UNIDENTIFIED'], planned(interface(ids.OTHER_MAC, port=Q), interface(), told=[port(Q)]))
        self.assertEqual([P, 'UNIDENTIFIED'], planned(interface(alias=P), interface(ids.OTHER_MAC), told=[port(P)]))

    def test_a_function_of_a_network_card(self) -> None:
        address = "<address domain='0x0000' bus='0x06' slot='0x12' function='0x5'/>"
        one = f"<interface type='hostdev'><mac address='{ids.MAC}'/><source>{address}</source></interface>"
        other = f"<hostdev mode='subsystem' type='pci'><source>{address}</source></hostdev>"
        told = [port(P, host_address=SLOT), Record(P, 'hostdev', Evidence.CLOUD, host_address=SLOT)]
        self.assertEqual([P], planned(one, told=told))
        self.assertEqual([P], planned(other, told=told))
        self.assertEqual(['UNIDENTIFIED', 'UNIDENTIFIED'], planned(one, other, told=told))


TARGETS = ('vda', 'vdb', 'vdc', 'vdd')
VOLUMES = (A, B, C, Q)


@st.composite
def disks(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Disks with the ids of their volumes, each with true evidence or none."""
    count = draw(st.integers(1, 4))
    found = []
    for target, owner in zip(TARGETS, draw(st.permutations(VOLUMES))[:count], strict=False):
        evidence = draw(st.sampled_from(['', 'serial', 'alias', 'named']))
        found.append(
            (
                disk(
                    target,
                    f'/srv/volume-{owner}' if evidence == 'named' else '',
                    owner if evidence == 'serial' else '',
                    owner if evidence == 'alias' else '',
                ),
                owner,
            )
        )
    return found


told_volumes = st.lists(st.builds(volume, st.sampled_from(VOLUMES), st.sampled_from([*TARGETS, None])), max_size=5)


class AnyAnswerTestCase(base.TestCase):
    @given(disks())
    def test_a_true_answer_identifies_every_disk(self, guest: list[tuple[str, str]]) -> None:
        told = [volume(owner, target) for target, (_xml, owner) in zip(TARGETS, guest, strict=False)]
        self.assertEqual([owner for _xml, owner in guest], planned(*(xml for xml, _owner in guest), told=told))

    @given(disks(), st.randoms(use_true_random=False), st.sampled_from(['missing', 'one more', 'moved']))
    def test_an_answer_that_cannot_be_true_identifies_none(
        self, guest: list[tuple[str, str]], rolled: random.Random, wrong: str
    ) -> None:
        devices = [xml for xml, _owner in guest]
        owners = {target: owner for target, (_xml, owner) in zip(TARGETS, guest, strict=False)}
        chosen = rolled.choice(list(owners))
        xml = devices[TARGETS.index(chosen)]
        if wrong == 'missing' and 'alias' not in xml:
            del owners[chosen]
        elif wrong == 'moved' and ('serial' in xml or 'alias' in xml) and len(owners) > 1:
            other = rolled.choice([it for it in owners if it != chosen])
            owners[chosen], owners[other] = owners[other], owners[chosen]
        else:
            owners['vdx'] = ids.new_id()
        told = [volume(owner, target) for target, owner in owners.items()]
        self.assertEqual(planned(*devices, told=[]), planned(*devices, told=told))

    @given(disks(), told_volumes)
    def test_no_answer_overrules_a_proof(self, guest: list[tuple[str, str]], told: list[Record]) -> None:
        for (xml, owner), found in zip(guest, planned(*(xml for xml, _owner in guest), told=told), strict=True):
            if 'alias' in xml:
                self.assertEqual(owner, found)
            elif 'serial' in xml:
                self.assertIn(found, (owner, 'CONFLICT'))
