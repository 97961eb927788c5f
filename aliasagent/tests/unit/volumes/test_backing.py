# SPDX-License-Identifier: Apache-2.0
"""Attaching a volume of Cinder, whenever it is interrupted."""

import copy
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from aliasagent import exception
from aliasagent.exception import CloudError
from aliasagent.exception import CloudRefused
from aliasagent.tests import ids
from aliasagent.tests.base import PATIENCE
from aliasagent.tests.fakes import cinder as fakes
from aliasagent.tests.fakes.cloud import Answer
from aliasagent.tests.unit.volumes import base
from aliasagent.tests.unit.volumes.base import Json
from aliasagent.volumes.backing import CinderBacking
from aliasagent.volumes.backing import Patience


class Crash(BaseException):
    """The agent is killed."""


class Record:
    """What an agent has saved; it is killed at a save, before or after the details are on the disk."""

    def __init__(self, *, killed_at: int = 0, is_written: bool = False) -> None:
        self.details: Json = {}
        self.saves: list[Json] = []
        self.kill_at(killed_at, is_written=is_written)

    def kill_at(self, number: int, *, is_written: bool) -> None:
        self._killed_at = number
        self._is_written = is_written

    def save(self, details: Json) -> None:
        is_killed = len(self.saves) + 1 == self._killed_at
        self.saves.append(copy.deepcopy(details))
        if not is_killed or self._is_written:
            self.details = json.loads(json.dumps(details))
        if is_killed:
            raise Crash


class BackingTestCase(base.CinderTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = base.Host()
        self.request = base.Request(self.volume)
        self.backing = self.make()

    def make(self, *, more: str = '', patience: Patience = base.PATIENCE, **options: Any) -> CinderBacking:
        """Return the backing of an agent that was just started."""
        return CinderBacking(self.client(more), self.host, host='compute-1', patience=patience, **options)

    def prepare(self, record: Record, instance: str = ids.GUEST) -> None:
        self.backing.prepare(instance, self.request, record.details, record.save)

    def assert_attached(self) -> Json:
        """Check that the volume has one attachment, which has not been completed, and that the host is connected."""
        (found,) = self.fake.of_volume(self.volume)
        self.assertEqual(('attaching', 'compute-1'), (found['status'], found['attached_host']))
        self.assertEqual({self.volume}, self.host.connected)
        return found

    def assert_free(self) -> None:
        """Check that nothing is left of an attachment."""
        self.assertEqual([], self.fake.of_volume(self.volume))
        self.assertEqual('available', self.fake.volumes[self.volume]['status'])
        self.assertEqual(set(), self.host.connected)

    def lose(self, method: str, answer: Answer = (504, b'<html>')) -> None:
        """Lose the answer to the next request of a method; what it asks for is done."""

        def after(used: str, _path: str, given: Answer) -> Answer:
            if used != method:
                return given
            self.fake.after = lambda _method, _path, given: given
            return answer

        self.fake.after = after

    def then(self, count: int, do: Callable[[], object]) -> None:
        """Do something before the answer to the count-th list of attachments."""
        seen: list[str] = []

        def before(path: str) -> None:
            if '/attachments?' in path:
                seen.append(path)
                if len(seen) == count:
                    do()

        self.cloud.before = before


class AttachTestCase(BackingTestCase):
    def test_attach_complete_and_give_back(self) -> None:
        self.fake.connection |= {'auth_password': base.PASSWORD, 'keyring': base.PASSWORD}
        record = Record()
        self.prepare(record)
        found = self.assert_attached()
        self.assertEqual(found['id'], record.details['attachment_id'])
        self.assertEqual(f'volumes/volume-{self.volume}', self.request.info['name'])
        self.assertEqual(base.PASSWORD, self.host.seen[0][0]['auth_password'])
        self.assertNotIn('hush', json.dumps(record.saves))
        self.backing.complete(ids.GUEST, record.details)
        self.assertEqual('in-use', self.fake.volumes[self.volume]['status'])
        (shown,) = self.cinder.volume(self.volume).attachments
        assert shown.device is not None
        self.assertTrue(shown.device.startswith(f'aliasagent:compute-1:{ids.GUEST}:'), shown.device)
        self.backing.undo(ids.GUEST, record.details, record.save)
        self.assert_free()
        self.backing.undo(ids.GUEST, record.details, record.save)

    def test_a_volume_that_this_host_does_not_have_any_more(self) -> None:
        record = Record()
        self.backing.check(ids.GUEST, record.details)
        self.prepare(record)
        self.backing.check(ids.GUEST, record.details)
        self.host.connected.clear()
        self.assertRaises(exception.ConnectionFailed, self.backing.check, ids.GUEST, record.details)

    def test_a_volume_that_is_complete_is_not_completed_again(self) -> None:
        record = Record()
        self.prepare(record)
        for _ in range(2):
            self.backing.complete(ids.GUEST, record.details)
        self.assertEqual(1, sum(target.endswith('/action') for _method, target, _headers in self.fake.requests))

    def test_completing_what_another_client_has_deleted(self) -> None:
        record = Record()
        self.prepare(record)
        self.fake.attachments.clear()
        refused = self.assertRaises(CloudRefused, self.backing.complete, ids.GUEST, record.details)
        self.assertIn('there is no such attachment', str(refused))

    def test_a_shared_volume_is_attached_as_one(self) -> None:
        self.fake.volumes[self.volume]['multiattach'] = True
        self.prepare(Record())
        self.assertIs(True, self.request.info['multiattach'])

    def test_a_host_with_a_long_name(self) -> None:
        """Cinder fails to attach a volume with a mountpoint of more than 255 characters."""
        self.backing = CinderBacking(self.cinder, self.host, host='x' * 253)
        self.prepare(Record())
        (found,) = self.fake.of_volume(self.volume)
        self.assertLess(len(found['mountpoint']), 200)
        self.assertEqual('x' * 253, found['attached_host'])

    def test_the_connector_learns_of_the_other_connections(self) -> None:
        asked = []

        def others(instance: str, volume_id: str) -> list[Json]:
            asked.append((instance, volume_id))
            return [{'volume_id': 'x'}, {'host': {'state': 'connected'}}]

        self.backing = self.make(others=others)
        record = Record()
        self.prepare(record)
        self.backing.undo(ids.GUEST, record.details, record.save)
        self.assertEqual([[{'state': 'connected'}]] * 2, [seen for _info, seen in self.host.seen])
        self.assertEqual({(ids.GUEST, self.volume)}, set(asked))


class RefusedTestCase(BackingTestCase):
    def refused(self, record: Record) -> str:
        error = self.assertRaises(CloudRefused, self.prepare, record)
        self.assertFalse(error.retryable)
        self.assertIn('(request req-of-the-fake)', str(error))
        return str(error)

    def test_a_volume_in_use_elsewhere(self) -> None:
        other = self.fake.add_attachment(self.volume, 'attached', attached_host='compute-2', instance=ids.OTHER_GUEST)
        record = Record()
        words = self.refused(record)
        self.assertIn('status must be available or downloading to reserve, but the current status is in-use', words)
        self.assertIn(f'with attachment {other} to host compute-2 for server {ids.OTHER_GUEST}', words)
        self.backing.undo(ids.GUEST, record.details, record.save)
        self.assertEqual({other}, set(self.fake.attachments))

    def test_a_volume_that_another_client_reserves_first(self) -> None:
        self.then(1, lambda: self.fake.add_attachment(self.volume))
        record = Record()
        self.assertIn('the current status is reserved', self.refused(record))
        self.backing.undo(ids.GUEST, record.details, record.save)
        self.assertEqual(1, len(self.fake.attachments))

    def test_a_volume_that_does_not_exist(self) -> None:
        self.fake.volumes.clear()
        record = Record()
        error = self.assertRaises(CloudRefused, self.prepare, record)
        self.assertIn('there is no such volume', str(error))
        self.assertEqual({}, record.details)
        self.backing.undo(ids.GUEST, record.details, record.save)

    def test_a_host_that_cannot_connect(self) -> None:
        self.patch(self.host, 'connect', self.fail_to_connect)
        record = Record()
        self.assertRaises(exception.ConnectionFailed, self.prepare, record)
        self.assertEqual(1, len(self.fake.attachments))
        self.backing.undo(ids.GUEST, record.details, record.save)
        self.assert_free()

    def fail_to_connect(self, *_arguments: object) -> Json:
        raise exception.ConnectionFailed(volume=self.volume, step='connecting the host', reason='no path')


class ServerTestCase(BackingTestCase):
    """With ``send_instance``."""

    def test_it_needs_a_service_token_without_nova(self) -> None:
        self.backing = self.make(send_instance=True)
        record = Record()
        self.prepare(record)
        self.assertEqual(ids.GUEST, self.assert_attached()['instance'])
        error = self.assertRaises(CloudError, self.backing.undo, ids.GUEST, record.details, record.save)
        self.assertIn('delete attachment', str(error))
        self.backing = self.make(send_instance=True, more='send_service_token = true\n')
        self.backing.undo(ids.GUEST, record.details, record.save)
        self.assert_free()

    def test_a_guest_that_has_the_volume(self) -> None:
        self.backing = self.make(send_instance=True)
        other = self.fake.add_attachment(self.volume, 'attached', instance=ids.GUEST)
        error = self.assertRaises(CloudRefused, self.prepare, Record())
        self.assertIn(f'attachment {other} (attached) of server {ids.GUEST} exists already', str(error))
        self.assertEqual({other}, set(self.fake.attachments))

    def test_the_attachment_of_another_server_is_not_in_doubt(self) -> None:
        self.backing = self.make(send_instance=True)
        record = Record()
        self.fake.export = lambda _attachment: self.fail('it must not be made')
        self.then(1, lambda: self.fake.add_attachment(self.volume, instance=ids.OTHER_GUEST))
        self.assertNotIn('left over', str(self.assertRaises(CloudRefused, self.prepare, record)))


class KilledTestCase(BackingTestCase):
    def saves(self) -> int:
        """Return how many saves an attach has."""
        record = Record()
        self.prepare(record)
        number = len(record.saves)
        self.backing.undo(ids.GUEST, record.details, record.save)
        return number

    def killed(self) -> list[tuple[int, bool]]:
        return [(number, is_written) for number in range(1, self.saves() + 1) for is_written in (False, True)]

    def test_at_each_save_the_next_agent_continues(self) -> None:
        for number, is_written in self.killed():
            with self.subTest(f'save {number}, written: {is_written}'):
                record = Record(killed_at=number, is_written=is_written)
                self.assertRaises(Crash, self.prepare, record)
                self.backing = self.make()
                self.prepare(record)
                found = self.assert_attached()
                self.assertEqual(found['id'], record.details['attachment_id'])
                self.backing.complete(ids.GUEST, record.details)
                self.backing.undo(ids.GUEST, record.details, record.save)
                self.assert_free()

    def test_at_each_save_the_next_agent_undoes(self) -> None:
        for number, is_written in self.killed():
            with self.subTest(f'save {number}, written: {is_written}'):
                record = Record(killed_at=number, is_written=is_written)
                self.assertRaises(Crash, self.prepare, record)
                self.backing = self.make()
                for _ in range(2):
                    self.backing.undo(ids.GUEST, record.details, record.save)
                self.assert_free()

    def test_while_it_undoes(self) -> None:
        record = Record()
        self.prepare(record)
        self.lose('DELETE')
        self.assertRaises(CloudError, self.backing.undo, ids.GUEST, record.details, record.save)
        self.make().undo(ids.GUEST, record.details, record.save)
        self.assert_free()

    def test_while_it_disconnects(self) -> None:
        for is_written in (False, True):
            record = Record()
            self.prepare(record)
            record.kill_at(len(record.saves) + 1, is_written=is_written)
            self.assertRaises(Crash, self.backing.undo, ids.GUEST, record.details, record.save)
            self.assertEqual('leaving' if is_written else 'connected', record.details['host']['state'])
            self.make().undo(ids.GUEST, record.details, record.save)
            self.assert_free()

    def killed_while_requesting(self) -> Record:
        """Return the record of an agent that was killed before it had sent its request."""
        record = Record(killed_at=2, is_written=True)
        self.assertRaises(Crash, self.prepare, record)
        self.assertTrue(record.details['requested'])
        self.assertEqual({}, self.fake.attachments)
        return record

    def test_while_cinder_is_still_at_work(self) -> None:
        """The next agent asks when the storage has not exported the volume yet."""
        record = self.killed_while_requesting()
        made = self.fake.add_attachment(self.volume)

        def finish() -> None:
            self.fake.attachments[made] |= {
                'status': 'attaching', 'mountpoint': record.details['marker'], 'attached_host': 'compute-1',
                'connection_info': {**self.fake.connection, 'name': f'volumes/volume-{self.volume}'},
            }  # fmt: skip

        self.then(3, finish)
        self.prepare(record)
        self.assertEqual(made, self.assert_attached()['id'])
        self.backing.undo(ids.GUEST, record.details, record.save)
        self.assert_free()

    def test_before_cinder_has_the_request(self) -> None:
        record = self.killed_while_requesting()
        marker = record.details['marker']
        self.then(2, lambda: self.fake.add_attachment(self.volume, 'attaching', mountpoint=marker))
        self.backing.undo(ids.GUEST, record.details, record.save)
        self.assert_free()

    def test_an_attachment_whose_answer_cinder_has_lost_itself(self) -> None:
        record = self.killed_while_requesting()
        self.fake.add_attachment(self.volume, 'attaching', mountpoint=record.details['marker'])
        self.prepare(record)
        self.assert_attached()

    def test_an_attachment_made_by_hand_meanwhile(self) -> None:
        record = self.killed_while_requesting()
        other = self.fake.add_attachment(self.volume)
        refused = self.assertRaises(CloudRefused, self.prepare, record)
        self.assertIn('the current status is reserved', str(refused))
        self.assertIn(f'attachment {other} (reserved) may be left over', str(refused))
        error = self.assertRaises(CloudError, self.backing.undo, ids.GUEST, record.details, record.save)
        self.assertIn(f'openstack volume attachment delete {other}', str(error))
        self.assertEqual({other}, set(self.fake.attachments))
        # Once its storage has exported it, it is certainly not the agent's.
        self.fake.attachments[other] |= {'status': 'attaching', 'mountpoint': '/dev/vdb'}
        self.backing.undo(ids.GUEST, record.details, record.save)
        self.assertEqual({other}, set(self.fake.attachments))

    def test_two_guests_with_one_volume(self) -> None:
        self.fake.volumes[self.volume]['multiattach'] = True
        first = Record()
        self.prepare(first, ids.OTHER_GUEST)
        self.backing.complete(ids.OTHER_GUEST, first.details)
        second = Record(killed_at=3)
        self.assertRaises(Crash, self.prepare, second)
        third = self.fake.add_attachment(self.volume, 'attached', mountpoint=first.details['marker'])
        self.prepare(second)
        own = {first.details['attachment_id'], second.details['attachment_id'], third}
        self.assertEqual(own, set(self.fake.attachments))
        self.backing.undo(ids.GUEST, second.details, second.save)
        self.assertEqual(own - {second.details['attachment_id']}, set(self.fake.attachments))

    def test_an_attachment_that_another_client_has_deleted(self) -> None:
        record = Record(killed_at=3, is_written=True)
        self.assertRaises(Crash, self.prepare, record)
        self.fake.attachments.clear()
        error = self.assertRaises(CloudRefused, self.prepare, record)
        self.assertIn('there is no such attachment', str(error))

    def test_where_own_attachments_cannot_be_told(self) -> None:
        """A user who may not filter by the marker, and a Cinder that ignores it: nothing is taken or deleted."""
        record = self.killed_while_requesting()
        made = self.fake.add_attachment(self.volume, 'attaching', mountpoint=record.details['marker'])

        def ignore(_method: str, path: str, answer: Answer) -> Answer:
            return (200, {'attachments': [dict(it) for it in self.fake.attachments.values()]}) if (
                path.endswith('/attachments')
            ) else answer

        for is_admin, after in ((False, self.fake.after), (True, ignore)):
            self.fake.is_admin, self.fake.after = is_admin, after
            error = self.assertRaises(CloudError, self.backing.undo, ids.GUEST, record.details, record.save)
            self.assertIn(f'attachment {made} (attaching) may be left over', str(error))
            self.assertEqual({made}, set(self.fake.attachments))
        self.assertEqual(1, self.log.output.count('Invalid filters mountpoint are found'))


class FailedTestCase(BackingTestCase):
    def failed(self, record: Record) -> str:
        error = self.assertRaises(CloudError, self.prepare, record)
        self.assertNotIsInstance(error, CloudRefused)
        self.assertIn(f'cinder: attach volume {self.volume} failed', str(error))
        return str(error)

    def refuse(self, words: str) -> None:
        def export(_attachment: Json) -> None:
            raise fakes.StorageError(words)

        self.fake.export = export

    def test_a_storage_that_refuses(self) -> None:
        self.refuse(fakes.FAILED)
        record = Record()
        words = self.failed(record)
        self.assertIn(fakes.FAILED, words)
        self.assertNotIn('left over', words)
        self.assert_free()
        self.backing.undo(ids.GUEST, record.details, record.save)

    def test_a_storage_that_refuses_while_two_are_in_doubt(self) -> None:
        self.fake.volumes[self.volume]['multiattach'] = True

        def export(_attachment: Json) -> None:
            self.fake.add_attachment(self.volume)
            raise fakes.StorageError(fakes.FAILED)

        self.fake.export = export
        self.assertIn('may be left over', self.failed(Record()))
        self.assertEqual(2, len(self.fake.attachments))

    def test_a_storage_that_refuses_a_volume_that_others_may_attach(self) -> None:
        """The only attachment in doubt is another client's: the agent's own is gone already."""
        self.fake.volumes[self.volume]['multiattach'] = True
        self.refuse(fakes.FAILED)
        others: list[str] = []

        def after(method: str, _path: str, answer: Answer) -> Answer:
            if method == 'POST':
                self.fake.attachments.clear()
                others.append(self.fake.add_attachment(self.volume))
            return answer

        self.fake.after = after
        words = self.failed(Record())
        (other,) = others
        self.assertIn(f'attachment {other} (reserved) may be left over', words)
        self.assertEqual({other}, set(self.fake.attachments))

    def test_it_is_searched_for_once_only(self) -> None:
        self.refuse(fakes.TIMED_OUT)
        record = Record()
        self.failed(record)
        self.backing = self.make(patience=Patience(search=PATIENCE, pause=PATIENCE))
        for _ in range(2):
            asked = len(self.fake.requests)
            self.assertRaises(CloudError, self.backing.undo, ids.GUEST, record.details, record.save)
            # all of the volume, then those with the marker
            self.assertEqual(2, len(self.fake.requests) - asked)

    def test_an_agent_that_is_killed_while_it_searches_begins_again(self) -> None:
        self.refuse(fakes.TIMED_OUT)
        record = Record()
        record.kill_at(3, is_written=False)
        self.assertRaises(Crash, self.prepare, record)
        self.assertFalse(record.details['searched'])

    def test_a_storage_that_takes_too_long(self) -> None:
        """Cinder does not know what becomes of it, and the storage may still finish it."""
        self.refuse(fakes.TIMED_OUT)
        record = Record()
        self.assertIn('(reserved) may be left over', self.failed(record))
        self.assertEqual(1, len(self.fake.attachments))
        self.assertRaises(CloudError, self.backing.undo, ids.GUEST, record.details, record.save)
        for it in self.fake.attachments.values():
            it |= {'status': 'attaching', 'mountpoint': record.details['marker']}
        self.backing.undo(ids.GUEST, record.details, record.save)
        self.assert_free()

    def test_an_answer_that_is_lost_on_the_way(self) -> None:
        for answer in ((504, b'<html>'), (200, {}), (200, {'attachment': None}), (200, b''), (500, b'')):
            with self.subTest(str(answer)):
                self.lose('POST', answer)
                record = Record()
                self.assertNotIn('left over', self.failed(record))
                self.assert_free()
                self.backing.undo(ids.GUEST, record.details, record.save)

    def test_a_cinder_that_does_not_answer_in_time(self) -> None:
        end = threading.Event()
        self.addCleanup(end.set)
        self.fake.export = lambda _attachment: self.assertTrue(end.wait(PATIENCE))
        record = Record()
        self.assertIn('(reserved) may be left over', self.failed(record))
        end.set()
        deadline = time.monotonic() + PATIENCE
        while any(it['status'] == 'reserved' for it in self.fake.of_volume(self.volume)):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        self.backing.undo(ids.GUEST, record.details, record.save)
        self.assert_free()

    def test_a_cinder_that_is_down(self) -> None:
        def close() -> Json:
            self.cloud.server.shutdown()
            self.cloud.server.server_close()
            return {}

        record = Record()
        self.patch(self.host, 'properties', close)
        words = self.failed(record)
        self.assertIn('an attachment may be left over, because Cinder could not be asked: cinder: list', words)
        self.assertTrue(record.details['requested'])
        self.assertRaises(CloudError, self.backing.undo, ids.GUEST, record.details, record.save)


class TurnsTestCase(BackingTestCase):
    """Volumes whose storage shares its targets."""

    def setUp(self) -> None:
        super().setUp()
        self.first, self.second = Record(), Record()
        self.begun, self.end = threading.Event(), threading.Event()
        self.addCleanup(self.end.set)
        self.other = base.Request(self.fake.add_volume(ids.OTHER_VOLUME))

    def connect_both(self, patience: Patience, **fields: Any) -> None:
        """Connect a volume, and another one as long as the connector is busy with the first."""
        for volume in self.fake.volumes.values():
            volume |= fields
        self.backing = self.make(patience=patience)
        connect = self.host.connect

        def slow(volume_id: str, *arguments: Any) -> Json:
            if volume_id == self.volume:
                self.begun.set()
                self.assertTrue(self.end.wait(PATIENCE))
            return connect(volume_id, *arguments)

        self.patch(self.host, 'connect', slow)
        thread = threading.Thread(target=self.prepare, args=(self.first,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.end.set)
        self.assertTrue(self.begun.wait(PATIENCE))
        self.backing.prepare(ids.OTHER_GUEST, self.other, {}, self.second.save)

    def test_they_take_turns(self) -> None:
        timer = threading.Timer(0.2, self.end.set)
        timer.start()
        self.addCleanup(timer.join)
        self.connect_both(Patience(turn=PATIENCE), shared_targets=True)
        self.assertEqual({self.volume, self.other.volume_id}, self.host.connected)

    def test_one_that_does_not_end(self) -> None:
        error = self.assertRaises(
            exception.ConnectionFailed, self.connect_both, base.PATIENCE, shared_targets=None
        )
        self.assertIn('waiting for another volume of the same storage failed', str(error))

    def test_others_do_not(self) -> None:
        self.connect_both(base.PATIENCE, shared_targets=False)
        self.assertEqual({self.other.volume_id}, self.host.connected)
