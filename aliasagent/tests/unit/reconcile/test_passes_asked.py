# SPDX-License-Identifier: Apache-2.0
"""A pass asks the cloud about devices that nothing else identifies."""

from typing import Any

from lxml import etree

from aliasagent import exception
from aliasagent.devices.identity import Evidence
from aliasagent.reconcile.passes import Reconciler
from aliasagent.reconcile.plan import Outcome
from aliasagent.reconcile.plan import Record
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.tests.unit.reconcile import test_passes
from aliasagent.tests.unit.reconcile.test_passes import X
from aliasagent.tests.unit.reconcile.test_passes import Y
from aliasagent.tests.unit.reconcile.test_passes import disk

_HINT = Record(X, 'disk', Evidence.CLOUD, target='vda')


class AskedTestCase(test_passes.PassesBase):
    def setUp(self) -> None:
        super().setUp()
        #: The questions, and the answer to each.
        self.asked: list[tuple[str, bytes]] = []
        self.told: list[Record] = []

    def ask(self, instance: str, seen: bytes) -> list[Record]:
        self.asked.append((instance, seen))
        return self.told

    def asking(self, **more: Any) -> Reconciler:
        return self.reconciler(asked=self.ask, **more)

    def statuses(self, reconciler: Reconciler, guest: FakeGuest) -> list[tuple[Outcome, str]]:
        return [(it.outcome, it.reason) for it in reconciler.statuses()[guest.uuid].report.steps]

    def test_only_guests_with_devices_that_are_not_identified(self) -> None:
        self.guest()
        unsure = self.guest(disk(serial=''))
        disputed = self.guest(disk(f'/srv/volume-{Y}'))
        reconciler = self.asking()
        reconciler.run()
        self.assertEqual({unsure.uuid, disputed.uuid}, {instance for instance, _seen in self.asked})

    def test_an_answer_is_used_in_the_next_pass(self) -> None:
        guest = self.guest(disk(serial=''))
        reconciler = self.asking()
        reconciler.run()
        self.assertEqual([], self.updates(guest))
        self.told = [_HINT]
        reconciler.run()
        self.assertEqual(1, len(self.updates(guest)))
        self.assertEqual([(Outcome.ALIASED, 'by its alias')], self.statuses(reconciler, guest))
        self.asked.clear()
        reconciler.run()
        self.assertEqual([], self.asked)

    def test_an_answer_is_used_when_it_comes(self) -> None:
        guest = self.guest(disk(serial=''))
        reconciler = self.asking()
        reconciler.run()
        self.told = [_HINT]
        reconciler.changed(guest.uuid)
        self.wait_for(lambda: self.updates(guest), 'an alias')

    def test_an_answer_is_not_taken_while_nova_is_at_work(self) -> None:
        """It is given only once."""
        guest = self.guest(disk(serial=''))
        busy, left = {guest.uuid}, list[bool]()
        reconciler = self.asking(is_busy=busy.__contains__)
        reconciler.run()
        self.told = [_HINT]
        self.asked.clear()
        reconciler.changed(guest.uuid, lambda: left.append(True))
        self.wait_for(lambda: left, 'it is left')
        self.assertEqual([], self.asked)
        busy.clear()
        reconciler.changed(guest.uuid)
        self.wait_for(lambda: self.updates(guest), 'an alias')

    def test_about_a_card_that_may_be_of_a_port(self) -> None:
        """Nova lists a port that it attached to the running guest late."""
        card = (
            "<hostdev mode='subsystem' type='pci' managed='yes'><source>"
            "<address domain='0x0000' bus='0x06' slot='0x12' function='0x6'/></source></hostdev>"
        )
        nic = f"<interface type='bridge'><source bridge='br0'/><target dev='tap{X[:11]}'/></interface>"
        guest = self.fake.add_guest(nic + card)
        port = f"<n:port xmlns:n='http://openstack.org/xmlns/libvirt/nova/1.1' uuid='{X}'/>"
        assert guest.config is not None
        guest.config.insert(0, etree.fromstring(f'<metadata>{port}</metadata>'))
        reconciler = self.asking()
        reconciler.run()
        self.assertEqual([Outcome.ALIASED, Outcome.LOCAL], [it for it, _reason in self.statuses(reconciler, guest)])
        self.assertEqual([guest.uuid], [instance for instance, _seen in self.asked])

    def test_an_answer_about_another_definition_is_not_used(self) -> None:
        """Another client changes the definition after it was found unchanged: the answer was not about this one."""
        guest = self.guest(disk(serial=''))
        reconciler = self.asking()
        reconciler.run()

        def change(_instance: str, _seen: bytes) -> list[Record]:
            reconciler._asked = self.ask
            self.host.guest(guest.uuid).update_persistent(disk('/another', serial=''))
            return [_HINT]

        reconciler._asked = change
        reconciler.run()
        self.assertEqual([Outcome.UNIDENTIFIED], [outcome for outcome, _reason in self.statuses(reconciler, guest)])
        (update,) = self.updates(guest)
        self.assertIn('/another', update)

    def test_an_answer_that_does_not_fit_gives_nothing(self) -> None:
        guest = self.guest(disk(serial=''))
        reconciler = self.asking()
        reconciler.run()
        self.told = [Record(X, 'disk', Evidence.CLOUD, target='vdb')]
        reconciler.run()
        self.assertEqual([], self.updates(guest))
        self.assertEqual([(Outcome.UNIDENTIFIED, 'no evidence names its id')], self.statuses(reconciler, guest))

    def test_what_the_answer_decides_is_kept_before_the_write(self) -> None:
        """The alias of a migrated volume would be disputed without it."""
        guest = self.guest(disk(f'/srv/volume-{Y}', serial=''))
        kept: list[tuple[list[Record], int]] = []
        reconciler = self.asking(keep=lambda _instance, records: kept.append((records, len(self.updates(guest)))))
        reconciler.run()
        self.told = [_HINT]
        reconciler.run()
        settled = [Record(X, 'disk', Evidence.EARLIER_INVENTORY, source=f'/srv/volume-{Y}')]
        self.assertEqual([(settled, 0)], kept)
        self.assertEqual(1, len(self.updates(guest)))

    def test_an_answer_that_cannot_be_kept_changes_nothing(self) -> None:
        guest = self.guest(disk(f'/srv/volume-{Y}', serial=''))

        def keep(_instance: str, _records: list[Record]) -> None:
            raise exception.JournalError(path='journal', reason='disk full')

        reconciler = self.asking(keep=keep)
        reconciler.run()
        self.told = [_HINT]
        reconciler.run()
        self.assertEqual([], self.updates(guest))
        self.assertIn('disk full', reconciler.statuses()[guest.uuid].error)

    def test_a_guest_that_has_changed_is_asked_about_again(self) -> None:
        guest = self.guest(disk(serial=''))
        reconciler = self.asking()
        reconciler.run()
        self.host.guest(guest.uuid).update_persistent(disk('/another', serial=''))
        reconciler.run()
        self.assertEqual(2, len({seen for _instance, seen in self.asked}))

    def test_a_query_does_not_ask(self) -> None:
        guest = self.guest(disk(serial=''))
        reconciler = self.asking()
        reconciler.status(guest.uuid)
        reconciler.reconcile(guest.uuid)
        self.assertEqual([], self.asked)

