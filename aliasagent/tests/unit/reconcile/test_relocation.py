# SPDX-License-Identifier: Apache-2.0
"""What is known from elsewhere reaches the definition with which a guest goes on."""

import functools
import pathlib
from collections.abc import Iterable
from unittest import mock

import libvirt

from aliasagent import exception
from aliasagent.allowed.rules import Bounds
from aliasagent.devices.domain import Domain
from aliasagent.reconcile.plan import Record
from aliasagent.reconcile.relocation import Relocation
from aliasagent.requests.guest import LiveMigrate
from aliasagent.requests.inventory import Inventory
from aliasagent.requests.inventory import InventoryPort
from aliasagent.requests.inventory import records_of
from aliasagent.tests import ids
from aliasagent.tests import on_fake
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.virt import migrate

MACS = (ids.MAC, ids.OTHER_MAC)
PORTS = (ids.PORT, ids.TWIN_PORT)
NICS = ''.join(
    f"<interface type='bridge'><mac address='{mac}'/><source bridge='br'/><model type='virtio'/></interface>"
    for mac in MACS
)
DEST = 'qemu+tls://there/system'


def inventory(*macs: str) -> Inventory:
    """Of each NIC, with these addresses, whose it is."""
    return Inventory(tuple(InventoryPort(port, mac) for port, mac in zip(PORTS, macs, strict=True)))


def known(*macs: str) -> list[Record]:
    """What that says."""
    return inventory(*macs).records()


class RelocationTestCase(on_fake.HostTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = self.make_directory()
        self.asked: list[str] = []
        self.fake.after['saveFlags'] = lambda _uuid, path, *_rest: pathlib.Path(path).write_text('memory')
        self.fake.destinations.add(DEST)

    def start(self, records: Iterable[Record] = ()) -> Relocation:
        """A relocation on the fake, and an agent that knows this of each guest."""

        def ask(instance: str) -> Iterable[Record]:
            self.asked.append(instance)
            return records

        return Relocation(self.host, self.directory, ask, within=Bounds.everything)

    def aliases(self, guest: FakeGuest) -> list[str]:
        return self.fake.guests[guest.uuid].aliases()

    def assert_aliases_there(self, parameter: str) -> None:
        """The definition that the migration takes along has the ports' aliases."""
        ((_guest, _uri, parameters, _flags),) = [
            arguments for method, arguments in self.fake.calls if method == 'migrateToURI3'
        ]
        assert isinstance(parameters, dict)
        definition = Domain.parse(parameters[parameter])
        self.assertEqual(
            [f'ua-{port}' for port in PORTS], [device.alias for device in definition.devices() if device.is_claimed]
        )

    def test_a_guest_that_alone_cannot_tell_has_aliases_with_an_inventory(self) -> None:
        relocation = self.start()
        for persistent in (False, True):
            guest = self.fake.add_guest(NICS, persistent=persistent)
            relocation.save_and_restore(guest.uuid)
            self.assertEqual([], self.aliases(guest))
            relocation.save_and_restore(guest.uuid, known(*MACS))
            self.assertEqual([f'ua-{port}' for port in PORTS], self.aliases(guest))

    def test_what_an_inventory_says_is_kept_before_the_guest_is_saved(self) -> None:
        kept: list[tuple[str, list[Record], int]] = []
        relocation = self.start()
        relocation._keep = lambda *what: kept.append((*what, self.fake.count('saveFlags')))
        disk = "<disk type='file' device='disk'><source file='/srv/volume-{}'/><target dev='sda' bus='scsi'/></disk>"
        guest = self.fake.add_guest(disk.format(PORTS[0]), persistent=False)
        told = records_of(Inventory.of({'volumes': [{'id': PORTS[1], 'target': 'sda'}]}))
        relocation.save_and_restore(guest.uuid, told)
        self.assertEqual([f'ua-{PORTS[1]}'], self.aliases(guest))
        ((instance, (record,), saves),) = kept
        self.assertEqual((guest.uuid, PORTS[1], 0), (instance, record.device_id, saves))
        self.assertEqual(f'/srv/volume-{PORTS[0]}', record.source)

    def test_what_the_agent_knows_counts_as_an_inventory_does(self) -> None:
        relocation = self.start(known(*MACS))
        for persistent in (False, True):
            guest = self.fake.add_guest(NICS, persistent=persistent)
            relocation.save_and_restore(guest.uuid)
            self.assertEqual([f'ua-{port}' for port in PORTS], self.aliases(guest))
        self.assertEqual({guest.uuid for guest in self.fake.guests.values()}, set(self.asked))

    def test_what_the_agent_knows_goes_with_a_guest_that_moves(self) -> None:
        guest = self.fake.add_guest(NICS)
        self.start(known(*MACS)).migrate(guest.uuid, LiveMigrate(DEST))
        self.assert_aliases_there(libvirt.VIR_MIGRATE_PARAM_DEST_XML)

    def test_a_guest_that_is_down_is_restored_whatever_the_agent_can_know(self) -> None:
        relocation = self.start()
        guest = self.fake.add_guest(NICS)
        path = pathlib.Path(self.directory, f'{guest.uuid}.relive').resolve()
        self.fake.open().lookupByUUIDString(guest.uuid).saveFlags(str(path), None, 0)
        # With its start still to be told, it would not be proven that it has not run since.
        self.wait_events()
        relocation._hints_of = mock.Mock(side_effect=exception.JournalError(path='journal', reason='locked'))
        self.assertRaises(exception.HypervisorError, relocation.save_and_restore, guest.uuid, begun_before=True)
        self.assertTrue(guest.active)

    def test_an_inventory_that_does_not_tell_one_from_the_other_gives_none(self) -> None:
        relocation = self.start()
        guest = self.fake.add_guest(NICS, persistent=False)
        relocation.save_and_restore(guest.uuid, known(MACS[0], MACS[0]))
        self.assertEqual([], self.aliases(guest))
        self.assertEqual(0, self.fake.count('saveFlags'))

    def test_a_guest_that_moves_has_them_there_on_both_sides(self) -> None:
        guest = self.fake.add_guest(NICS)
        self.start().migrate(guest.uuid, LiveMigrate(DEST, inventory=inventory(*MACS)))
        self.assert_aliases_there(libvirt.VIR_MIGRATE_PARAM_DEST_XML)
        self.assert_aliases_there(libvirt.VIR_MIGRATE_PARAM_PERSIST_XML)

    def test_a_guest_goes_to_no_host_that_is_not_allowed(self) -> None:
        host, guest = self.host, self.fake.add_guest(NICS)
        begun: list[None] = []
        begin = functools.partial(begun.append, None)
        within = Bounds(migration_hosts=('10.0.0.0/8', 'there'))
        for relocation, dest_uri, migrate_uri, field in (
            (Relocation(host, self.directory), DEST, None, 'dest_uri'),
            (Relocation(host, self.directory, within=lambda: within), 'qemu+tls://192.0.2.1/system', None, 'dest_uri'),
            (Relocation(host, self.directory, within=lambda: within), 'qemu+tls://127.1/system', None, 'dest_uri'),
            (Relocation(host, self.directory, within=lambda: within), f'{DEST}?command=/bin/sh', None, 'dest_uri'),
            (Relocation(host, self.directory, within=lambda: within), DEST, 'tcp://127.0.0.1', 'migrate_uri'),
            (Relocation(host, self.directory, within=lambda: within), DEST, 'unix:///run/x', 'migrate_uri'),
        ):
            error = self.assertRaises(
                exception.InvalidInput, relocation.migrate, guest.uuid, LiveMigrate(dest_uri, migrate_uri), begin=begin
            )
            self.assertEqual(field, error.kwargs['field'])
        self.assertEqual([], begun)
        self.assertEqual(0, self.fake.count('migrateToURI3'))
        Relocation(host, self.directory, within=lambda: within).migrate(guest.uuid, LiveMigrate(DEST, 'tcp://10.0.0.2'))

    def test_one_that_was_on_its_way_when_the_agent_ended_is_not_sent_again(self) -> None:
        relocation = self.start()
        guest = self.fake.add_guest(NICS)
        self.patch(migrate, '_INTERVAL', 0.001)
        request = LiveMigrate(DEST, inventory=inventory(*MACS))
        self.assertRaises(exception.HypervisorError, relocation.migrate, guest.uuid, request, begun_before=True)
        self.assertEqual([], self.fake.guests[guest.uuid].aliases(live=False))
        self.assertTrue(guest.active)
