# SPDX-License-Identifier: Apache-2.0
"""When the cloud is asked about a guest, and when its answer counts."""

import threading
from concurrent import futures
from typing import Any

from aliasagent.cloud import circuit
from aliasagent.cloud import questions as questions_module
from aliasagent.cloud.ports import Ports
from aliasagent.cloud.questions import Pace
from aliasagent.cloud.questions import Questions
from aliasagent.cloud.servers import Servers
from aliasagent.cloud.service import Service
from aliasagent.devices.identity import Evidence
from aliasagent.devices.identity import Record
from aliasagent.tests import base as tests_base
from aliasagent.tests import ids
from aliasagent.tests.unit.cloud import base

SEEN = b'definition'


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class QuestionsTestCase(base.CloudTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.answered: list[str] = []
        self.volume = ids.new_id()
        self.guest = self.cloud.add_server(host='compute-1', volumes={self.volume: '/dev/vdb'})
        self.hint = Record(self.volume, 'disk', Evidence.CLOUD, target='vdb')

    def questions(self, *, pace: Pace | None = None, groups: tuple[str, ...] = ('nova', 'neutron'), **more: Any) -> Any:
        conf = self.configured(*groups)
        made = Questions(
            Servers(Service(conf, 'nova')),
            Ports(Service(conf, 'neutron')) if 'neutron' in groups else None,
            pace=pace or Pace(settle=0.02),
            **{'host': 'Compute-1', 'most': 10, 'on_answer': self.answered.append, **more},
        )
        made.start()
        self.addCleanup(made.close)
        return made

    def wait_asked(self, count: int) -> None:
        self.wait_for(lambda: len(self.cloud.asked) >= count, f'{count} requests')

    def test_an_answer_is_given_once(self) -> None:
        port = self.cloud.add_port(self.guest, ids.MAC)
        questions = self.questions()
        self.assertEqual(frozenset(), questions.records(self.guest, SEEN))
        self.wait_for(lambda: self.answered, 'an answer')
        hints = {self.hint, Record(port, 'interface', Evidence.CLOUD, mac=ids.MAC)}
        self.assertEqual(hints, questions.records(self.guest, SEEN))
        self.assertEqual(frozenset(), questions.records(self.guest, SEEN))
        self.assertEqual([self.guest], self.answered)
        # Twice: the server, its volumes, its ports, its actions, and the server again.
        paths = [path.partition('?')[0] for path in self.cloud.asked]
        server = f'/compute/v2.1/servers/{self.guest}'
        volumes, actions = f'{server}/os-volume_attachments', f'{server}/os-instance-actions'
        self.assertEqual([server, volumes, '/network/v2.0/ports', actions, server] * 2, paths)

    def test_nova_alone(self) -> None:
        questions = self.questions(groups=('nova',))
        questions.records(self.guest, SEEN)
        self.wait_for(lambda: self.answered, 'an answer')
        self.assertEqual({self.hint}, questions.records(self.guest, SEEN))

    def test_an_answer_of_another_definition_does_not_count(self) -> None:
        questions = self.questions()
        questions.records(self.guest, SEEN)
        self.wait_for(lambda: self.answered, 'an answer')
        self.assertEqual(frozenset(), questions.records(self.guest, b'another'))
        self.wait_for(lambda: len(self.answered) == 2, 'a second answer')
        self.assertEqual(frozenset(), questions.records(self.guest, SEEN))

    def test_an_answer_that_changes_does_not_count_yet(self) -> None:
        other = ids.new_id()
        changes = iter([other, self.volume, other, self.volume])

        def change(path: str) -> None:
            if path.endswith('os-volume_attachments'):
                self.cloud.volumes[self.guest][0]['volumeId'] = next(changes, self.volume)

        self.cloud.before = change
        questions = self.questions()
        questions.records(self.guest, SEEN)
        self.wait_for(lambda: self.answered, 'an answer')
        self.assertEqual({self.hint}, questions.records(self.guest, SEEN))
        self.assertEqual(5 * 5, len(self.cloud.asked))

    def test_servers_whose_word_does_not_count(self) -> None:
        questions = self.questions()
        for more in (
            {'OS-EXT-STS:task_state': 'rebooting'},
            {'OS-EXT-STS:vm_state': 'rescued'},
            {'OS-EXT-SRV-ATTR:host': 'compute-2', 'OS-EXT-SRV-ATTR:hypervisor_hostname': 'compute-2'},
            {'OS-EXT-SRV-ATTR:host': None, 'OS-EXT-SRV-ATTR:hypervisor_hostname': None},
        ):
            guest = self.cloud.add_server(host='compute-1', volumes={ids.new_id(): '/dev/vdb'})
            self.cloud.servers[guest].update(more)
            questions.records(guest, SEEN)
        unknown = ids.new_id()
        questions.records(unknown, SEEN)
        self.wait_for(lambda: any(unknown in path for path in self.cloud.asked), 'the last question')
        last = self.cloud.add_server(host='compute-1', volumes={ids.new_id(): '/dev/vdb'})
        questions.records(last, SEEN)
        self.wait_for(lambda: self.answered, 'an answer')
        self.assertEqual([last], self.answered)
        for where in ('compute-2', 'a host that it hides from this user'):
            self.assertEqual(1, self.log.output.count(f'Nova has it on {where}, not on compute-1'))
        # One answer is enough: a server of another cloud is not asked about again.
        count = len(self.cloud.asked)
        questions.records(unknown, SEEN)
        questions.records(ids.new_id(), SEEN)
        self.wait_asked(count + 1)
        self.assertEqual(1, sum(unknown in path for path in self.cloud.asked))

    def test_work_that_begins_between_the_requests(self) -> None:
        def begin(path: str) -> None:
            if 'ports' in path:
                self.cloud.servers[self.guest]['OS-EXT-STS:task_state'] = 'resize_prep'

        self.cloud.before = begin
        questions = self.questions()
        questions.records(self.guest, SEEN)
        self.wait_asked(5)
        self.cloud.before = lambda _path: None
        other = self.cloud.add_server(host='compute-1', volumes={ids.new_id(): '/dev/vdb'})
        questions.records(other, SEEN)
        self.wait_for(lambda: self.answered, 'an answer')
        self.assertEqual([other], self.answered)

    def test_devices_that_nova_is_changing(self) -> None:
        """Nova sets no task for that. It lists a volume before the guest has it, maybe at the place of another disk."""
        done = '2026-01-31T12:00:00.000000'
        questions = self.questions()
        guests = []
        cases: list[list[tuple[str, list[str | None]]]] = [
            [('attach_volume', [None])],
            [('reboot', [done]), ('detach_volume', [done, None])],
            # The compute service has not begun.
            [('swap_volume', [])],
            [('attach_interface', [None]), ('attach_volume', [done])],
            [('attach_interface', [done]), ('swap_volume', [None])],
            [('attach_volume', [done]), ('detach_volume', [None])],
            [('reboot', [None])],
            [],
        ]
        for actions in cases:
            guest = self.cloud.add_server(host='compute-1', volumes={ids.new_id(): '/dev/vdb'})
            self.cloud.actions[guest] = actions
            questions.records(guest, SEEN)
            guests.append(guest)
        self.wait_for(lambda: guests[-1] in self.answered, 'the last answer')
        self.assertEqual(guests[5:], self.answered)

    def test_answers_age(self) -> None:
        clock = Clock()
        questions = self.questions(pace=Pace(settle=0.0), clock=clock)
        questions.records(self.guest, SEEN)
        self.wait_for(lambda: self.answered, 'an answer')
        questions.records(self.guest, SEEN)
        count = len(self.cloud.asked)
        clock.now += 3599
        questions.records(self.guest, SEEN)
        clock.now += 1
        questions.records(self.guest, SEEN)
        self.wait_for(lambda: len(self.answered) == 2, 'a second answer')
        self.assertEqual(2 * count, len(self.cloud.asked))

    def test_at_most_so_many_guests(self) -> None:
        questions = self.questions(pace=Pace(settle=1000.0), most=3)
        guests = [self.cloud.add_server(host='compute-1', volumes={}) for _ in range(10)]
        for _round in range(2):
            for guest in guests:
                questions.records(guest, SEEN)
        self.wait_asked(3 * 5)
        self.assertEqual(3, len({path.split('/')[4] for path in self.cloud.asked if 'servers' in path}))
        self.assertEqual(3, len(questions._questions))

    def test_services_that_fail_are_left_alone_for_a_while(self) -> None:
        clock = Clock()
        self.cloud.before = lambda _path: (503, {})
        circuit_ = circuit.Circuit(clock)
        questions = self.questions(clock=clock, circuit=circuit_)
        guests = [ids.new_id() for _ in range(9)]
        for guest in guests:
            questions.records(guest, SEEN)
        self.wait_asked(3)
        self.wait_for(lambda: 'in a row failed' in self.log.output, 'the warning')
        self.assertFalse(questions.is_busy(self.guest))
        self.assertEqual(3, len(self.cloud.asked))
        self.assertIn(
            'Nova and Neutron are not asked about guests for 60 s, because 3 questions in a row failed: '
            f'nova: show server {guests[2]} failed: HTTP 503 (request req-of-the-fake)',
            self.log.output,
        )
        # One more question, and a longer pause.
        clock.now += 61
        questions.records(ids.new_id(), SEEN)
        self.wait_for(lambda: self.log.output.count('no answer about its devices') == 4, 'the fourth failure')
        self.assertEqual(4, len(self.cloud.asked))
        self.wait_for(lambda: circuit_.wait() == 120, 'the longer pause')
        self.cloud.before = lambda _path: None
        clock.now += 121
        questions.records(self.guest, SEEN)
        self.wait_for(lambda: 'Nova and Neutron answer again' in self.log.output, 'the end of the failure')
        self.assertEqual(1, self.log.output.count('in a row failed'))
        self.assertNotIn('hush', self.log.output)

    def test_an_error_of_the_agent_does_not_end_the_questions(self) -> None:
        wrong = [KeyError('x')]

        def answered(instance: str) -> None:
            if wrong:
                raise wrong.pop()
            self.answered.append(instance)

        questions = self.questions(on_answer=answered)
        questions.records(self.guest, SEEN)
        self.wait_for(lambda: not wrong, 'the error')
        other = self.cloud.add_server(host='compute-1', volumes={ids.new_id(): '/dev/vdb'})
        questions.records(other, SEEN)
        self.wait_for(lambda: self.answered, 'an answer')
        self.assertEqual([other], self.answered)

    def test_whether_nova_is_at_work(self) -> None:
        questions = self.questions()
        for task, expected in ((None, False), ('powering-off', True)):
            self.cloud.servers[self.guest]['OS-EXT-STS:task_state'] = task
            self.assertEqual(expected, questions.is_busy(self.guest))
        self.assertFalse(questions.is_busy(ids.new_id()))
        self.cloud.before = lambda _path: (500, {})
        self.assertFalse(questions.is_busy(self.guest))

    def test_a_nova_that_hangs_does_not_keep_many_guests(self) -> None:
        end = threading.Event()
        self.addCleanup(end.set)
        self.patch(questions_module, '_TURN_SECONDS', 0.01)

        def hang(_path: str) -> None:
            end.wait(base.PATIENCE)

        self.cloud.before = hang
        questions = self.questions()
        pool = futures.ThreadPoolExecutor(4)
        self.addCleanup(pool.shutdown)
        self.addCleanup(end.set)
        first = [pool.submit(questions.is_busy, self.guest) for _number in range(4)]
        self.wait_asked(4)
        self.assertFalse(questions.is_busy(self.guest))
        self.assertFalse(any(it.done() for it in first))
        end.set()
        futures.wait(first)

    def test_who_asks_does_not_wait(self) -> None:
        end = threading.Event()
        self.addCleanup(end.set)

        def hang(_path: str) -> None:
            end.wait(base.PATIENCE)

        self.cloud.before = hang
        questions = self.questions()
        questions.records(self.guest, SEEN)
        self.wait_asked(1)
        self.assertEqual(frozenset(), questions.records(self.guest, SEEN))
        questions.close()


class CircuitTestCase(tests_base.TestCase):
    def test_pauses(self) -> None:
        clock = Clock()
        found = circuit.Circuit(clock)
        pauses = []
        for _failure in range(9):
            found.failed('why')
            pauses.append(found.wait())
            clock.now += found.wait()
        self.assertEqual([0, 0, 60, 120, 240, 480, 900, 900, 900], pauses)
        found.worked()
        found.failed('why')
        self.assertEqual(0, found.wait())
