# SPDX-License-Identifier: Apache-2.0
"""``aliasagent operation ...``, and requests that are waited for."""

import fixtures

from aliasagent import exception
from aliasagent.tests.unit.shell import base

BUSY = 'aliasagent.shell.remote.agent.BUSY_SECONDS'


class OperationTestCase(base.ShellTestCase):
    def test_a_list(self) -> None:
        api = base.FakeComputeAPI('running', 'failed')
        done = self.run_command('operation', 'list', '-f', 'json', api=api)
        self.assertEqual(['one', 'two'], [row['id'] for row in done.json])
        self.assertEqual(['running', 'failed'], [row['state'] for row in done.json])

    def test_what_is_listed(self) -> None:
        api = base.FakeComputeAPI('running')
        options = ('--guest', 'web1', '--state', 'failed', '--state', 'running', '--limit', '7')
        self.run_command('operation', 'list', *options, '--since', '2026-01-31T12:00:00+01:00', api=api)
        self.assertEqual(base.WEB, api.filters['instance_uuid'])
        self.assertEqual((['failed', 'running'], 7, None), tuple(api.filters[n] for n in ('states', 'limit', 'until')))
        self.assertIn('2026-01-31T', api.filters['since'])

    def test_a_time_that_is_none(self) -> None:
        done = self.run_command('operation', 'list', '--since', 'yesterday')
        self.assertEqual(2, done.code)
        self.assertIn("'yesterday' is not a time", done.stderr)

    def test_one(self) -> None:
        done = self.run_command('operation', 'show', 'one', '-f', 'json', api=base.FakeComputeAPI('failed'))
        self.assertEqual(('failed', 'DeviceConflict'), (done.json['state'], done.json['error_class']))

    def test_one_that_is_not_known(self) -> None:
        unknown = base.rebuilt(exception.OperationNotFound(operation='one'))
        done = self.run_command('operation', 'show', 'one', api=base.FakeComputeAPI(unknown))
        self.assertEqual(5, done.code)
        self.assertIn('operation list', done.stderr)

    def test_one_is_followed_to_its_end(self) -> None:
        self.useFixture(fixtures.MonkeyPatch('aliasagent.shell.operation._INTERVAL', 0))
        for end, code in (('succeeded', 0), ('failed', 1)):
            api = base.FakeComputeAPI('accepted', 'running', 'running', end)
            done = self.run_command('operation', 'watch', 'one', api=api)
            self.assertEqual(code, done.code, done.stderr)
            states = [line.split()[5] for line in done.stdout.splitlines()]
            self.assertEqual(['accepted', 'running', end], states)

    def test_all_are_followed_until_interrupted(self) -> None:
        def interrupt(_seconds: float) -> None:
            raise KeyboardInterrupt

        self.useFixture(fixtures.MonkeyPatch('aliasagent.shell.operation.time.sleep', interrupt))
        done = self.run_command('operation', 'watch', api=base.FakeComputeAPI('running'))
        self.assertEqual((0, 2), (done.code, len(done.stdout.splitlines())))


class SubmitTestCase(base.ShellTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch(BUSY, 0.01))

    def test_who_waits_has_it_in_the_journal(self) -> None:
        api = base.FakeComputeAPI('succeeded')
        api.busy = 3
        done = self.run_command('volume', 'detach', 'web1', base.VOLUME, '--wait', api=api)
        self.assertEqual(0, done.code, done.stderr)
        self.assertEqual([('detach_volume', {'instance_uuid': base.WEB, 'volume_id': base.VOLUME})], api.casts)
        self.assertEqual([api.contexts[0].operation_id], api.asked)

    def test_an_agent_that_stays_busy(self) -> None:
        api = base.FakeComputeAPI('succeeded')
        api.busy = 1000
        done = self.run_command('volume', 'detach', 'web1', base.VOLUME, '--wait=0.05', api=api)
        self.assertEqual(1, done.code)
        self.assertIn('busy, try again: full', done.stderr)
