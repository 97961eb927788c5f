# SPDX-License-Identifier: Apache-2.0
"""Requests that change something in a service."""

import json
import threading
from typing import Any

from aliasagent.cloud import service
from aliasagent.cloud.service import ObjectNotFound
from aliasagent.cloud.service import Service
from aliasagent.exception import CloudError
from aliasagent.exception import CloudRefused
from aliasagent.tests.fakes.cloud import Answer
from aliasagent.tests.unit.cloud import base

BODY = {'attachment': {'volume_uuid': 'x'}}
STEP = 'attach volume x'


class ChangesTestCase(base.CloudTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.answer: Answer = 200, {'attachment': {}}
        #: The method, the path, the headers and the body of each request.
        self.seen: list[tuple[str, str, dict[str, str], Any]] = []
        self.counted: list[tuple[str, bool]] = []
        self.cloud.services['volume'] = self.serve
        self.service = self.make()

    def serve(self, method: str, path: str, headers: Any, body: Any) -> Answer:
        self.seen.append((method, path, {name.lower(): value for name, value in headers.items()}, body))
        return self.answer

    def make(self, more: str = '', **options: Any) -> Service:
        conf = self.configured('cinder', more=f'timeout = 1\n{more}')
        return Service(conf, 'cinder', on_answer=lambda *what: self.counted.append(what), **options)

    def send(self, method: str = 'POST', **more: Any) -> dict[str, Any] | None:
        return self.service.send(method, '/attachments', STEP, BODY if method != 'DELETE' else None, **more)

    def failure(self, kind: type[CloudError] = CloudError, method: str = 'POST') -> CloudError:
        error = self.assertRaises(kind, self.send, method)
        self.assertEqual(kind, type(error))
        self.assertTrue(str(error).startswith(f'cinder: {STEP} '), str(error))
        self.assertNotIn('hush', str(error))
        self.assertEqual(not isinstance(error, CloudRefused), error.retryable)
        return error


class AnsweredTestCase(ChangesTestCase):
    def test_what_is_sent(self) -> None:
        for method, body in (('POST', BODY), ('PUT', BODY), ('DELETE', None)):
            self.assertEqual({'attachment': {}}, self.send(method, params=[('a', 'b')]))
            self.assertEqual((method, '/v3/attachments?a=b', body), (*self.seen[-1][:2], self.seen[-1][3]))
            self.assertEqual({}, {name: it for name, it in self.seen[-1][2].items() if 'version' in name})
            self.assertNotIn('x-service-token', self.seen[-1][2])
        self.assertEqual({('cinder', True)}, set(self.counted))

    def test_an_answer_without_a_body(self) -> None:
        for status in (200, 202, 204):
            self.answer = status, b''
            self.assertIsNone(self.send())

    def test_a_microversion(self) -> None:
        self.service = self.make(microversion='3.48')
        self.send()
        self.service.get('/volumes/x', STEP)
        self.assertEqual(['volume 3.48'] * 2, [it['openstack-api-version'] for _method, _path, it, _body in self.seen])

    def test_a_service_token(self) -> None:
        self.service = self.make(service_token=True)
        self.send('DELETE')
        self.cloud.token = 'x7Qm-hush-another'
        self.send('DELETE')
        tokens = [(it['x-auth-token'], it['x-service-token']) for _method, _path, it, _body in self.seen]
        self.assertEqual([('x7Qm-hush-token',) * 2, ('x7Qm-hush-another',) * 2], tokens)

    def test_catalogs_of_older_clouds(self) -> None:
        """The service's type is block-storage today; catalogs that were made earlier have others."""
        log_in = self.cloud.log_in
        for kind in ('volumev3', 'block-store', 'volume'):
            status, answer = log_in({'auth': {'identity': {'password': {'user': {'password': self.cloud.password}}}}})
            for it in answer['token']['catalog']:
                it['type'] = kind if it['type'] == 'block-storage' else it['type']
            self.cloud.login = status, answer
            self.service = self.make(microversion='3.48')
            self.send()
            self.assertEqual('volume 3.48', self.seen[-1][2]['openstack-api-version'])


class FailuresTestCase(ChangesTestCase):
    def test_refusals(self) -> None:
        words = 'Invalid volume: its status\n must be available'
        self.answer = 400, {'badRequest': {'message': words, 'code': 400}}
        for status in (400, 405, 409, 413):
            self.answer = status, self.answer[1]
            reason = f'HTTP {status}: Invalid volume: its status must be available (request req-of-the-fake)'
            self.assertEqual(f'cinder: {STEP} was refused: {reason}', str(self.failure(CloudRefused)))
        self.assertEqual({('cinder', True)}, set(self.counted))

    def test_an_object_that_is_not_there(self) -> None:
        self.answer = 404, {'itemNotFound': {'message': 'no such thing', 'code': 404}}
        for method in ('POST', 'PUT', 'DELETE'):
            self.assertIn('HTTP 404: no such thing', str(self.failure(ObjectNotFound, method)))

    def test_failures(self) -> None:
        self.answer = 500, {'computeFault': {'message': 'erred', 'code': 500}}
        for status in (301, 302, 401, 408, 429, 500, 503, 504):
            self.answer = status, self.answer[1]
            self.assertIn(f' failed: HTTP {status}: erred (request req-of-the-fake)', str(self.failure()))
        self.assertEqual({('cinder', False)}, set(self.counted))
        self.assertEqual({'/v3/attachments'}, {path for _method, path, _headers, _body in self.seen})

    def test_refusals_without_words(self) -> None:
        bodies: tuple[Any, ...] = (b'', b'<html>', b'[' * 100_000, [], {}, {'x': 1}, {'x': {'message': None}}, 'x')
        for body in bodies:
            self.answer = 409, body
            self.assertIn('refused: HTTP 409 (request', str(self.failure(CloudRefused)))

    def test_words_that_are_long_or_have_a_password(self) -> None:
        self.answer = 409, {'x': {'message': "it has {'auth_password': 'x7Qm-hush-chap'} " + 'x' * 10_000}}
        self.assertLess(len(str(self.failure(CloudRefused))), 1200)

    def test_answers_that_are_not_valid(self) -> None:
        bodies: tuple[Any, ...] = (b'<html>', b'{', b'[' * 100_000, [], 'x', 1)
        for body in bodies:
            self.answer = 200, body
            self.assertIn('(request req-of-the-fake)', str(self.failure()))

    def test_a_post_is_never_repeated(self) -> None:
        self.service = self.make('connect_retries = 2\nstatus_code_retries = 2\nstatus_code_retry_delay = 0.01\n')
        self.answer = 503, b''
        for method, expected in (('POST', 1), ('PUT', 1), ('DELETE', 3)):
            self.seen.clear()
            self.failure(method=method)
            self.assertEqual(expected, len(self.seen), method)

    def test_an_answer_that_breaks_off(self) -> None:
        self.send()
        self.cloud.shortage = 10
        self.assertIn('IncompleteRead', str(self.failure()))

    def test_an_answer_that_is_too_long(self) -> None:
        self.patch(service, '_MAX_BYTES', 1000)
        self.answer = 200, {'x': 'x' * 1000}
        self.assertIn('has more than 1000 bytes', str(self.failure()))

    def test_one_that_hangs(self) -> None:
        end = threading.Event()
        self.addCleanup(end.set)

        def hang(_path: str) -> None:
            end.wait(base.PATIENCE)

        self.cloud.before = hang
        self.assertIn('timed out', str(self.failure()))

    def test_a_time_limit_of_its_own(self) -> None:
        self.send()
        self.cloud.drip = 1
        self.answer = 200, {'x': 'x' * 100}
        error = self.assertRaises(CloudError, self.send, timeout=0.5)
        self.assertIn('no whole answer within 1.5 s', str(error))

    def test_a_service_that_is_down(self) -> None:
        self.send()
        self.cloud.server.shutdown()
        self.cloud.server.server_close()
        self.assertIn('failed: ', str(self.failure()))

    def test_a_wrong_password(self) -> None:
        self.service = self.make('password = x7Qm-hush-wrong\n')
        self.assertIn('HTTP 401', str(self.failure()))
        self.assertEqual([], self.seen)

    def test_nothing_secret_is_logged(self) -> None:
        self.answer = 200, {'attachment': {'connection_info': {'auth_password': 'x7Qm-hush-chap'}}}
        self.assertIn('hush-chap', json.dumps(self.send()))
        self.assertNotIn('hush-chap', self.log.output)
