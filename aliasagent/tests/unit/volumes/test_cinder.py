# SPDX-License-Identifier: Apache-2.0
"""Volumes and attachments, as Cinder answers them."""

import copy
from typing import Any

from aliasagent.cloud.service import ObjectNotFound
from aliasagent.exception import CloudError
from aliasagent.exception import CloudRefused
from aliasagent.tests import base as tests_base
from aliasagent.tests import ids
from aliasagent.tests.fakes.cinder import FakeCinder
from aliasagent.tests.unit.cloud import base
from aliasagent.volumes import cinder
from aliasagent.volumes.cinder import Attachment
from aliasagent.volumes.cinder import Holder
from aliasagent.volumes.cinder import Volume

ATTACHMENT = '4fff28f8-5eb3-42b5-bc6e-f141cba69999'
SERVICE = '96dc9dac-d584-41ef-9140-2f23737d03b4'
#: What Cinder 29 answers, without members that are not read.
VOLUME: dict[str, Any] = {
    'volume': {
        'id': ids.VOLUME,
        'status': 'in-use',
        'size': 1,
        'encrypted': False,
        'multiattach': False,
        'attachments': [
            {
                'id': ids.VOLUME,
                'attachment_id': ATTACHMENT,
                'volume_id': ids.VOLUME,
                'server_id': None,
                'host_name': 'compute-1',
                'device': '/dev/vdb',
                'attached_at': '2026-11-26T20:23:55.204583',
            }
        ],
        'shared_targets': False,
        'service_uuid': SERVICE,
    }
}
INFO: dict[str, Any] = {
    'name': f'volumes/volume-{ids.VOLUME}',
    'hosts': ['127.0.0.1'],
    'ports': ['36437'],
    'auth_enabled': True,
    'driver_volume_type': 'rbd',
    'attachment_id': ATTACHMENT,
}
ANSWER: dict[str, Any] = {
    'attachment': {
        'id': ATTACHMENT,
        'status': 'reserved',
        'instance': None,
        'volume_id': ids.VOLUME,
        'attached_at': '',
        'detached_at': '',
        'attach_mode': 'null',
        'connection_info': INFO,
    }
}


def changed(answer: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return an answer with other members."""
    (name,) = answer
    return {name: {**copy.deepcopy(answer[name]), **more}}


class ReadingTestCase(tests_base.TestCase):
    def test_a_volume(self) -> None:
        holder = Holder(ATTACHMENT, None, 'compute-1', '/dev/vdb')
        expected = Volume(ids.VOLUME, 'in-use', False, False, SERVICE, False, (holder,))
        self.assertEqual(expected, cinder.volume_of(VOLUME))
        for shared in (True, False, None):
            self.assertIs(shared, cinder.volume_of(changed(VOLUME, shared_targets=shared)).shared_targets)

    def test_a_volume_as_its_owner_sees_it(self) -> None:
        answer = changed(VOLUME)
        answer['volume']['attachments'][0]['host_name'] = None
        answer['volume']['attachments'][0]['server_id'] = ids.GUEST
        (holder,) = cinder.volume_of(answer).attachments
        self.assertEqual((None, ids.GUEST), (holder.host_name, holder.server_id))

    def test_volumes_that_are_not_valid(self) -> None:
        changes: tuple[dict[str, Any], ...] = (
            {'status': None},
            {'multiattach': 'false'},
            {'encrypted': None},
            {'shared_targets': 'x'},
            {'service_uuid': 1},
            {'attachments': None},
            {'attachments': [{}]},
            {'attachments': [{'attachment_id': 'x', 'server_id': None}]},
        )
        for more in changes:
            self.assertRaises((KeyError, TypeError, ValueError), cinder.volume_of, changed(VOLUME, **more))

    def test_an_attachment(self) -> None:
        found = cinder.attachment_of(ANSWER['attachment'])
        self.assertEqual(Attachment(ATTACHMENT, ids.VOLUME, 'reserved', None, INFO), found)
        self.assertNotIn('rbd', repr(found))
        empty: tuple[Any, ...] = (None, {})
        for info in empty:
            read = cinder.attachment_of(changed(ANSWER, connection_info=info)['attachment'])
            self.assertIsNone(read.connection_info)

    def test_attachments_that_are_not_valid(self) -> None:
        changes: tuple[dict[str, Any], ...] = (
            {'id': '../x'},
            {'status': None},
            {'volume_id': 1},
            {'instance': {}},
            {'connection_info': 'x'},
            {'connection_info': {'name': 'x'}},
            {'connection_info': {'driver_volume_type': 1}},
        )
        for more in changes:
            self.assertRaises(
                (KeyError, TypeError, ValueError), cinder.attachment_of, changed(ANSWER, **more)['attachment']
            )

    def test_attachments_of_other_volumes(self) -> None:
        answer = {'attachments': [ANSWER['attachment']]}
        self.assertEqual([ATTACHMENT], [it.id for it in cinder.attachments_of(answer, ids.VOLUME)])
        self.assertRaises(ValueError, cinder.attachments_of, answer, ids.OTHER_VOLUME)


class CinderTestCase(base.CloudTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.fake = FakeCinder()
        self.cloud.services['volume'] = self.fake.answer
        self.fake.add_volume(ids.VOLUME)
        self.counted: list[tuple[str, bool]] = []
        self.cinder = cinder.connected(self.configured('cinder'), lambda *what: self.counted.append(what))

    def test_from_available_to_available(self) -> None:
        connector = {'host': 'compute-1', 'mountpoint': 'here'}
        attachment, info = self.cinder.create_attachment(ids.VOLUME, connector, None)
        self.assertEqual('rbd', info['driver_volume_type'])
        self.assertEqual(info, self.cinder.attachment(attachment).connection_info)
        (listed,) = self.cinder.attachments_of(ids.VOLUME, mountpoint='here')
        self.assertEqual(Attachment(attachment, ids.VOLUME, 'attaching', None), listed)
        self.assertEqual([], self.cinder.attachments_of(ids.VOLUME, mountpoint='there'))
        self.assertEqual((), self.cinder.volume(ids.VOLUME).attachments)
        for _ in range(2):
            self.cinder.complete(attachment)
        expected = Holder(attachment, None, 'compute-1', 'here')
        self.assertEqual((expected,), self.cinder.volume(ids.VOLUME).attachments)
        for _ in range(2):
            self.cinder.delete(attachment)
        self.assertEqual('available', self.cinder.volume(ids.VOLUME).status)
        self.assertEqual({('cinder', True)}, set(self.counted))
        versions = {headers['OpenStack-API-Version'] for _method, _target, headers in self.fake.requests}
        self.assertEqual({'volume 3.48'}, versions)
        self.assertNotIn('X-Service-Token', {name for _method, _target, it in self.fake.requests for name in it})

    def test_with_a_service_token(self) -> None:
        found = cinder.connected(self.configured('cinder', more='send_service_token = true\n'))
        attachment, _info = found.create_attachment(ids.VOLUME, {}, ids.GUEST)
        self.assertEqual(ids.GUEST, found.attachment(attachment).server_id)
        self.assertRaises(CloudError, self.cinder.delete, attachment)
        found.delete(attachment)
        self.assertEqual({}, self.fake.attachments)

    def test_what_does_not_exist(self) -> None:
        for ask, word in ((self.cinder.volume, 'volume'), (self.cinder.attachment, 'attachment')):
            error = self.assertRaises(ObjectNotFound, ask, 'a/../b')
            self.assertIn(f'cinder: show {word} a/../b was refused: there is no such {word}', str(error))
        self.assertRaises(ObjectNotFound, self.cinder.complete, ATTACHMENT)
        self.assertRaises(ObjectNotFound, self.cinder.create_attachment, ids.OTHER_VOLUME, {}, None)
        self.assertIn('/volume/v3/volumes/a%2F..%2Fb', self.cloud.asked)

    def test_answers_that_are_not_valid(self) -> None:
        asks = (
            lambda: self.cinder.volume(ids.VOLUME),
            lambda: self.cinder.attachment(ATTACHMENT),
            lambda: self.cinder.attachments_of(ids.VOLUME),
            lambda: self.cinder.create_attachment(ids.VOLUME, {}, None),
            self.cinder.check,
        )
        answers: tuple[dict[str, Any], ...] = (
            {},
            {'volume': None, 'attachment': None, 'attachments': None},
            {'volume': 1, 'attachment': 'x', 'attachments': [1]},
            {'volume': {}, 'attachment': {}, 'attachments': [{}]},
        )
        for answer in answers:
            self.cloud.before = lambda _path, answer=answer: (200, answer)  # type: ignore[misc]
            for ask in asks:
                self.assertIn('the answer is not valid', str(self.assertRaises(CloudError, ask)))
        self.cloud.before = lambda _path: (200, changed(ANSWER, connection_info=None))
        error = self.assertRaises(CloudError, asks[3])
        self.assertIn('it has no connection_info', str(error))

    def test_an_endpoint_of_something_else(self) -> None:
        self.cloud.before = lambda _path: (404, {})
        for ask in (self.cinder.check, lambda: self.cinder.attachments_of(ids.VOLUME)):
            error = self.assertRaises(CloudError, ask)
            self.assertNotIsInstance(error, CloudRefused)
            self.assertIn('is this the endpoint of Cinder?', str(error))
