# SPDX-License-Identifier: Apache-2.0
"""Whatever fails, and wherever the agent is killed: a port is bound once, and has at the end what it had before."""

import threading
from collections.abc import Callable
from typing import Any

from aliasagent.cloud.service import Service
from aliasagent.exception import CloudError
from aliasagent.exception import CloudRefused
from aliasagent.ports.neutron import Neutron
from aliasagent.tests import ids
from aliasagent.tests.base import PATIENCE
from aliasagent.tests.fakes.cloud import Answer
from aliasagent.tests.unit.ports import base
from aliasagent.tests.unit.ports.base import GUEST
from aliasagent.tests.unit.ports.base import HOST
from aliasagent.tests.unit.ports.base import OWNER
from aliasagent.tests.unit.ports.base import Killed
from aliasagent.tests.unit.ports.base import Saves
from aliasagent.tests.unit.ports.test_backing import FREE

_WORDS = {'NeutronError': {'type': 'Why', 'message': 'in its own words', 'detail': ''}}
#: Statuses of failures, and whether a retry may help.
STATUSES = {400: False, 401: True, 403: False, 409: False, 429: True, 500: True, 503: True}
REFUSALS = [status for status, is_retryable in STATUSES.items() if not is_retryable]
BAD_ANSWERS: dict[str, Any] = {
    'nothing': b'',
    'html': b'<html>',
    'half': b'{"port": {',
    'list': [],
    'empty': {},
    'null': {'port': None},
    'text': {'port': 'x'},
    'no id': {'port': {'mac_address': ids.MAC}},
    'an id that is none': {'port': {'id': 7}},
    'another port': {'port': {'id': ids.OTHER_VOLUME, 'binding:host_id': HOST, 'binding:vif_type': 'ovs'}},
    'no device': {'port': {'binding:host_id': '', 'binding:vif_type': 'unbound'}},
    'a device that is none': {'port': {
        'binding:host_id': '', 'binding:vif_type': 'unbound', 'device_id': ['x'], 'device_owner': '',
    }},
    'a type that is none': {'port': {
        'binding:host_id': '', 'binding:vif_type': None, 'device_id': '', 'device_owner': '',
    }},
}  # fmt: skip


class KilledTestCase(base.PortsTestCase):
    def kill_everywhere(self, port: str, then: Callable[[], None]) -> None:
        """Call a function after the agent was killed at each save, with and without it in the journal."""
        before = self.neutron.shown(port)
        for is_saved in (False, True):
            for at in (1, 2):
                self.neutron.changes.clear()
                self.saves = Saves(at, is_saved=is_saved)
                self.assertRaises(Killed, self.prepare, port)
                then()
                self.assertEqual(before, self.neutron.shown(port), f'{is_saved} {at}')

    def test_prepared_again_it_is_bound_once(self) -> None:
        for name, members in FREE.items():
            if name == 'a failed binding':
                continue  # it is bound at the end
            port = self.neutron.add(**members)

            def go_on(port: str = port) -> None:
                self.assertEqual('ovs', self.prepare(port).port.vif_type)
                self.assertEqual(1, len(self.neutron.changes))
                self.assertEqual('bound', self.saves.details['state'])
                self.undo()
                self.assertEqual(2, len(self.neutron.changes))

            self.kill_everywhere(port, go_on)

    def test_undone_it_is_as_before(self) -> None:
        for name, members in FREE.items():
            if name != 'a failed binding':
                self.kill_everywhere(self.neutron.add(**members), self.undo_if_saved)

    def undo_if_saved(self) -> None:
        """Undo; without any details, nothing was done either."""
        if not self.saves.details:
            self.assertEqual([], self.neutron.changes)
        self.undo()
        self.assertIn(len(self.neutron.changes), (0, 2))

    def test_killed_in_every_life(self) -> None:
        """Each life gets one save further."""
        port = self.neutron.add()
        before = self.neutron.shown(port)
        details: dict[str, Any] = {}
        for life in range(1, 6):
            self.saves = Saves(life, is_saved=True)
            self.saves.details = details
            try:
                self.prepare(port)
            except Killed:
                details = self.saves.details
                continue
            break
        else:
            self.fail('It never ends')
        self.assertEqual(1, len(self.neutron.changes))
        self.undo()
        self.assertEqual(before, self.neutron.shown(port))

    def test_a_port_that_nova_gets_while_the_agent_is_down(self) -> None:
        """After the save and before the request: the binding is not the agent's."""
        for again in (True, False):
            port = self.neutron.add()
            self.saves = Saves(1, is_saved=True)
            self.assertRaises(Killed, self.prepare, port)
            self.neutron.change(port, binding_host_id=HOST, device_id=GUEST, device_owner='compute:nova')
            if again:
                self.prepare(port)
                self.assertEqual('found', self.saves.details['state'])
            self.undo()
            self.assertEqual((GUEST, HOST), self.holder(port))
        self.assertEqual([], self.neutron.changes)

    def test_a_port_that_others_get_while_the_agent_is_down(self) -> None:
        for at in (1, 2):
            port = self.neutron.add()
            self.saves = Saves(at, is_saved=True)
            self.assertRaises(Killed, self.prepare, port)
            self.neutron.change(port, binding_host_id='dpdk-1')
            self.assertRaises(CloudRefused, self.prepare, port)
            self.undo()
            self.assertEqual('dpdk-1', self.holder(port)[1])

    def test_a_port_that_is_unbound_while_the_agent_is_down(self) -> None:
        port = self.neutron.add()
        before = self.neutron.shown(port)
        self.saves = Saves(2, is_saved=True)
        self.assertRaises(Killed, self.prepare, port)
        self.neutron.change(port, binding_host_id='', device_id='', device_owner='')
        self.prepare(port)
        self.assertEqual((GUEST, HOST), self.holder(port))
        self.undo()
        self.assertEqual(before, self.neutron.shown(port))

    def holder(self, port: str) -> tuple[str, str]:
        shown = self.neutron.shown(port)
        return shown['device_id'], shown['binding:host_id']


class FailuresTestCase(base.PortsTestCase):
    def fail_at(self, wanted: str, answer: Answer, *, is_done: bool = False) -> None:
        """Answer requests of a method with a failure, after or instead of doing them."""

        def fail(method: str, _path: str) -> Answer | None:
            return answer if method == wanted else None

        self.neutron.before, self.neutron.after = ((_work, fail) if is_done else (fail, _work))

    def recover(self) -> None:
        self.neutron.before = self.neutron.after = _work

    def fail_everywhere(self, check: Callable[[CloudError, str], None], answer: Answer) -> None:
        """Let each step fail, check the error, and see that the next try makes it good."""
        for method in ('GET', 'PUT'):
            # A request that was refused is not done.
            for is_done in (False, True) if method == 'PUT' and answer[0] not in REFUSALS else (False,):
                self.saves = Saves()
                port = self.neutron.add()
                before = self.neutron.shown(port)
                self.neutron.changes.clear()
                self.fail_at(method, answer, is_done=is_done)
                check(self.assertRaises(CloudError, self.prepare, port), f'bind port {port}')
                self.recover()
                self.prepare(port)
                self.assertEqual(1, len(self.neutron.changes))
                self.fail_at(method, answer, is_done=is_done)
                check(self.assertRaises(CloudError, self.undo), f'unbind port {port}')
                self.recover()
                self.undo()
                self.assertEqual(before, self.neutron.shown(port))

    def test_statuses(self) -> None:
        for status, is_retryable in STATUSES.items():

            def check(error: CloudError, step: str, status: int = status, is_retryable: bool = is_retryable) -> None:
                self.assertEqual(is_retryable, error.retryable, str(error))
                self.assertEqual(not is_retryable, isinstance(error, CloudRefused))
                for words in (f'neutron: {step}', f'HTTP {status}: in its own words', '(request req-of-the-fake)'):
                    self.assertIn(words, str(error))
                self.assertNotIn('hush', str(error))

            self.fail_everywhere(check, (status, _WORDS))

    def test_answers_that_are_not_valid(self) -> None:
        for name, body in BAD_ANSWERS.items():
            for method in ('GET', 'PUT'):
                self.saves = Saves()
                port = self.neutron.add()
                before = self.neutron.shown(port)
                has_id = isinstance(body, dict) and isinstance(body.get('port'), dict) and 'id' in body['port']
                answer = {'port': {'id': port, **body['port']}} if 'that is none' in name and not has_id else body
                self.fail_at(method, (200, answer), is_done=method == 'PUT')
                error = self.assertRaises(CloudError, self.prepare, port)
                self.assertTrue(error.retryable, name)
                self.assertIn(f'neutron: bind port {port} failed', str(error))
                self.recover()
                self.undo()
                self.assertEqual(before, self.neutron.shown(port), name)

    def hang(self, port: str, *, is_done: bool = False) -> Callable[[], None]:
        """Let Neutron hang before or after it binds a port; return a function that ends this and waits for the end."""
        end, ended = threading.Event(), threading.Event()
        self.addCleanup(end.set)

        def wait(method: str, _path: str) -> None:
            if method == 'PUT':
                self.recover()
                end.wait(PATIENCE)

        def after(method: str, _path: str) -> None:
            if method == 'PUT' and end.is_set():
                ended.set()

        def go_on() -> None:
            self.neutron.after = after
            end.set()
            self.wait_for(lambda: is_done or ended.is_set(), 'the late request')
            self.recover()

        self.neutron.before, self.neutron.after = (_work, wait) if is_done else (wait, _work)
        error = self.assertRaises(CloudError, self.prepare, port)
        self.assertIn(f'bind port {port} failed: ', str(error))
        self.assertIn('timed out', str(error))
        self.assertEqual('binding', self.saves.details['state'])
        return go_on

    def test_an_answer_that_is_lost(self) -> None:
        port = self.neutron.add()
        before = self.neutron.shown(port)
        self.hang(port, is_done=True)()
        self.prepare(port)
        self.assertEqual(1, len(self.neutron.changes))
        self.undo()
        self.assertEqual(before, self.neutron.shown(port))

    def test_a_request_that_arrives_before_it_is_undone(self) -> None:
        port = self.neutron.add()
        before = self.neutron.shown(port)
        self.hang(port)()
        self.assertEqual(GUEST, self.neutron.shown(port)['device_id'])
        self.undo()
        self.assertEqual(before, self.neutron.shown(port))

    def test_a_request_that_arrives_after_it_was_undone(self) -> None:
        for members in ({}, {'device_owner': OWNER}, {'binding_host_id': HOST}):
            self.saves = Saves()
            port = self.neutron.add(**members)
            before = self.neutron.shown(port)
            go_on = self.hang(port)
            self.undo()
            self.assertEqual(before, self.neutron.shown(port))
            go_on()
            self.assertEqual(before, self.neutron.shown(port))

    def test_a_request_that_arrives_while_it_is_undone(self) -> None:
        port = self.neutron.add()
        before = self.neutron.shown(port)
        go_on = self.hang(port)

        def arrive(method: str, _path: str) -> None:
            if method == 'PUT':
                self.recover()
                go_on()

        self.neutron.before = arrive
        self.undo()
        self.assertEqual(before, self.neutron.shown(port))

    def test_a_request_that_arrives_after_the_next_try(self) -> None:
        port = self.neutron.add()
        before = self.neutron.shown(port)
        go_on = self.hang(port)
        self.prepare(port)
        go_on()
        self.assertEqual(1, len(self.neutron.changes))
        self.undo()
        self.assertEqual(before, self.neutron.shown(port))

    def test_an_undo_that_ends_halfway(self) -> None:
        """The port has another owner then, and no guest."""
        port = self.neutron.add()
        before = self.neutron.shown(port)
        self.saves = Saves(1, is_saved=True)
        self.assertRaises(Killed, self.prepare, port)
        self.neutron.before = lambda method, _path: (
            (503, {}) if method == 'PUT' and self.neutron.changes else None
        )  # fmt: skip
        self.assertRaises(CloudError, self.undo)
        self.assertNotEqual(before, self.neutron.shown(port))
        self.recover()
        self.undo()
        self.assertEqual(before, self.neutron.shown(port))

    def test_a_neutron_that_is_down(self) -> None:
        port = self.neutron.add()
        self.prepare(port)
        self.cloud.server.shutdown()
        self.cloud.server.server_close()
        error = self.assertRaises(CloudError, self.undo)
        self.assertIn(f'unbind port {port} failed: Unable to establish connection', str(error))
        self.assertTrue(error.retryable)

    def test_a_keystone_that_refuses(self) -> None:
        self.cloud.login = 401, {}
        self.client = Neutron(Service(self.conf, 'neutron'))
        self.backing = self.make()
        port = self.neutron.add()
        error = self.assertRaises(CloudError, self.prepare, port)
        self.assertIn(f'bind port {port} failed', str(error))
        self.assertEqual([], self.saves.states)


class RolesTestCase(base.PortsTestCase):
    def test_who_may_bind(self) -> None:
        for roles in ({'admin'}, {'service'}, {'admin', 'service'}):
            self.neutron.roles = roles
            self.saves = Saves()
            # Only the role service may write a profile, so the agent never does.
            port = self.neutron.add(binding_profile={'x': 'y'})
            before = self.neutron.shown(port)
            self.prepare(port)
            self.undo()
            self.assertEqual(before, self.neutron.shown(port))

    def test_an_ordinary_user(self) -> None:
        self.neutron.roles = {'member'}
        port = self.neutron.add()
        refused = self.assertRaises(CloudRefused, self.prepare, port)
        self.assertIn('needs the role admin or service', str(refused))
        self.assertEqual(([], []), (self.neutron.changes, self.saves.states))

    def test_a_user_who_may_only_read(self) -> None:
        port = self.neutron.add()
        self.neutron.before = lambda method, _path: (403, _WORDS) if method == 'PUT' else None
        refused = self.assertRaises(CloudRefused, self.prepare, port)
        self.assertIn('HTTP 403: in its own words', str(refused))
        self.assertIn('needs the role admin or service', str(refused))
        # There is nothing to undo, which the user may not do either.
        self.assertEqual(['binding', 'refused'], self.saves.states)
        self.undo()
        self.neutron.before = _work
        self.assertEqual('ovs', self.prepare(port).port.vif_type)

    def test_a_request_on_its_way_when_the_next_is_refused(self) -> None:
        port = self.neutron.add()
        before = self.neutron.shown(port)
        self.saves = Saves(1, is_saved=True)
        self.assertRaises(Killed, self.prepare, port)
        self.neutron.before = lambda method, _path: (409, _WORDS) if method == 'PUT' else None
        self.saves.killed_at = 0
        self.assertRaises(CloudRefused, self.prepare, port)
        self.neutron.before = _work
        self.neutron.change(port, binding_host_id=HOST, device_id=GUEST, device_owner=OWNER)
        self.undo()
        self.assertEqual(before, self.neutron.shown(port))

    def test_a_user_who_lost_the_role(self) -> None:
        port = self.neutron.add()
        self.prepare(port)
        self.neutron.roles = {'member'}
        refused = self.assertRaises(CloudRefused, self.undo)
        self.assertIn('needs the role admin or service', str(refused))
        self.assertEqual(GUEST, self.neutron.shown(port)['device_id'])


def _work(_method: str, _path: str) -> None:
    """Let the fake answer as it does."""
