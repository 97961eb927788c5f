# SPDX-License-Identifier: Apache-2.0
"""What inventories said is known later, until the device goes."""

import json
import pathlib
import sqlite3

import fixtures

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.devices.fingerprint import DeviceFingerprint
from aliasagent.operations import hints
from aliasagent.operations import inspection
from aliasagent.operations.journal import Journal
from aliasagent.reconcile.plan import Record
from aliasagent.tests import base
from aliasagent.tests import ids
from aliasagent.tests.ids import GUEST
from aliasagent.tests.ids import OTHER_GUEST
from aliasagent.tests.unit.operations.runner_base import operation

A = ids.VOLUME
B = ids.OTHER_VOLUME


def record(device_id: str, source: str = '/srv/volume-x', serial: str | None = None) -> Record:
    return Record(device_id, 'disk', 'earlier inventory', source=source, serial=serial)


class ToldTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = str(pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'journal.sqlite')
        self.journal = Journal(self.path)
        self.addCleanup(lambda: self.journal.close())

    def assert_kept(self, *records: Record) -> None:
        self.assertEqual(list(records), hints.records(self.journal, GUEST))

    def test_it_is_kept_over_a_restart(self) -> None:
        hints.keep(self.journal, GUEST, [record(A), record('disk_1', '/srv/y')])
        hints.keep(self.journal, OTHER_GUEST, [record(B)])
        self.journal.close()
        self.journal = Journal(self.path)
        self.assert_kept(record(A), record('disk_1', '/srv/y'))

    def test_the_last_word_on_an_id_and_on_a_device_counts(self) -> None:
        hints.keep(self.journal, GUEST, [record(A), record('other', '/srv/y')])
        hints.keep(self.journal, GUEST, [record(A, '/srv/z')])
        self.assert_kept(record('other', '/srv/y'), record(A, '/srv/z'))
        hints.keep(self.journal, GUEST, [record(B, '/srv/z')])
        self.assert_kept(record('other', '/srv/y'), record(B, '/srv/z'))
        # It is another device, or the same that has changed; both together fit none.
        hints.keep(self.journal, GUEST, [record(A, '/srv/z', serial=A)])
        self.assert_kept(record('other', '/srv/y'), record(B, '/srv/z'), record(A, '/srv/z', serial=A))

    def test_what_an_earlier_release_kept_and_the_next_device_has_is_left_out(self) -> None:
        only_serial = Record(A, 'disk', 'earlier inventory', serial='DATA')
        hints.keep(self.journal, GUEST, [only_serial, record(B, 'iscsi:iqn/1')])
        self.assert_kept()

    def test_it_ends_with_the_device(self) -> None:
        for number, (action, device) in enumerate(
            ((Action.DETACH_VOLUME, A), (Action.DETACH, A.upper()), (Action.ATTACH_VOLUME, A), (Action.DETACH, A))
        ):
            hints.keep(self.journal, GUEST, [record(A), record(B, '/srv/b')])
            one = f'operation-{number}'
            self.journal.accept(operation(one, action, device=device))
            self.journal.start(one, DeviceFingerprint(run='boot/7', alias='virtio-disk1'))
            self.assert_kept(record(A), record(B, '/srv/b'))
            self.journal.finish(one, exception.DeviceNotFound(instance=GUEST, device=A) if number == 3 else None)
            self.assert_kept(*([record(A)] if number == 3 else []), record(B, '/srv/b'))
        self.journal.release(GUEST, A)
        self.assert_kept(record(B, '/srv/b'))

    def test_a_move_or_a_reconcile_ends_nothing(self) -> None:
        hints.keep(self.journal, GUEST, [record(A)])
        for action in (Action.RECONCILE_INSTANCE, Action.RECONCILE_LIVE, Action.LIVE_MIGRATE):
            self.journal.accept(operation(action, action, device=A))
            self.journal.finish(action)
        self.assert_kept(record(A))

    def test_nonsense_is_logged_and_left_out(self) -> None:
        log = self.useFixture(fixtures.FakeLogger())
        hints.keep(self.journal, GUEST, [record(A), record(B, '/srv/b')])
        whole = {'device_id': A, 'kind': 'disk', 'told_by': 'earlier inventory', 'source': '/x'}
        broken = [{**whole, 'device_id': 'a b'}, {**whole, 'told_by': 'nobody'}, {**whole, 'source': 1}]
        for text in ('', 'x', '[]', '3', '{"device_id": "x"}', '{"later": 1}', *map(json.dumps, broken)):
            with self.journal.transaction() as db:
                db.execute('UPDATE told SET record = ? WHERE device = ?', (text, A))
            self.assert_kept(record(B, '/srv/b'))
        self.assertIn(f'hint about {A} is not valid', log.output)
        hints.keep(self.journal, GUEST, [record(A)])
        self.assert_kept(record(B, '/srv/b'), record(A))

    def test_an_attach_in_force_is_not_forgotten_for_its_age(self) -> None:
        """Its record can be all that tells whose a device is; what it became is of no interest any more after that."""
        for name, action, device, error in (
            ('replaced', Action.ATTACH_VOLUME, A, None),
            ('in-force', Action.ATTACH_VOLUME, A, None),
            ('failed', Action.ATTACH_VOLUME, A, exception.AttachFailed(instance=GUEST, device=A, reason='x')),
            ('refused', Action.DETACH, A, exception.DeviceConflict(instance=GUEST, device=A, reason='x')),
            ('over', Action.ATTACH_INTERFACE, B, None),
            ('gone', Action.DETACH, B, None),
            ('other', Action.RECONCILE_INSTANCE, '', None),
        ):
            self.journal.accept(operation(name, action, device=device))
            self.journal.finish(name, error)
        self.assertEqual(6, self.journal.prune(-1, 100))
        self.assertEqual(['in-force'], [it.id for it in self.journal.attached(GUEST)])
        self.assertEqual(['in-force'], [it.id for it in self.journal.select()])
        self.journal.accept(operation('late', Action.DETACH, device=A))
        self.journal.finish('late', exception.DetachTimeout(instance=GUEST, device=A, attempts=1, timeout=1, left=''))
        self.journal.release(GUEST, A)
        self.assertEqual(2, self.journal.prune(-1, 100))
        self.assertEqual([], self.journal.select())

    def test_not_more_are_kept_than_may_be(self) -> None:
        for number in range(5):
            self.journal.accept(operation(str(number), Action.ATTACH_VOLUME, device=f'{number}'))
            self.journal.finish(str(number))
        self.assertEqual(3, self.journal.prune(1000, 2))

    def test_the_upgrade_check_knows_of_it(self) -> None:
        self.assertEqual(frozenset(), inspection.recorded(self.path + '-other'))
        hints.keep(self.journal, GUEST, [record(A)])
        self.journal.accept(operation('one', Action.ATTACH_VOLUME, device=B.upper()))
        self.assertEqual({(GUEST, A)}, inspection.recorded(self.path))
        self.journal.finish('one')
        self.assertEqual({(GUEST, A), (GUEST, B)}, inspection.recorded(self.path))
        self.journal.close()
        with sqlite3.connect(self.path) as db:
            db.execute('DROP TRIGGER told_ends')
            db.execute('DROP TABLE told')
        self.assertEqual({(GUEST, B)}, inspection.recorded(self.path))
