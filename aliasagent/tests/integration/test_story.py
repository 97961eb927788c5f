# SPDX-License-Identifier: Apache-2.0
"""What happens to an agent on real parts, as its metrics, its report and its log tell it."""

import re

import testtools

from aliasagent.context import RequestContext
from aliasagent.tests.stress import story


class StoryTest(testtools.TestCase):
    def assert_said(self, ctxt: RequestContext, *words: str) -> None:
        """The agent's log has these, in this order, in lines of that request."""
        ids = f'[- {ctxt.request_id} {ctxt.operation_id}] '
        lines = [line for line in self.story.agent.said().splitlines() if ctxt.operation_id in line and ids in line]
        for each in words:
            while lines and each not in lines[0]:
                del lines[0]
            self.assertTrue(lines, f'not said: {each}')

    def test_a_reconcile_an_attach_a_stuck_detach_and_a_lost_broker(self) -> None:
        with story.Story(timeout=1.5, attempts=3) as self.story:
            it = self.story
            # A guest from before aliases has got its alias.
            page = it.page()
            self.assertEqual(1, page['reconcile_devices', ('aliased',)])
            self.assertEqual(2, page['reconcile_guests', ('read',)])
            self.assertEqual((1, 1), (page['broker_connected', ()], page['hypervisor_connected', ()]))
            said = it.agent.said()
            self.assertRegex(said, r'Reconciled 2 guests: 1 devices have their alias, 1 of them new; 0 devices do not')
            self.assertRegex(said, rf'Instance {it.old_guest}: .*{it.old_volume}')

            volume, attach = it.attach()
            detach = it.detach(volume)
            page = it.wait_page('unplugs_pending', 1)
            self.assertEqual(1, page['operations_total', ('attach_volume', 'succeeded')])
            self.assertEqual((1, 0), (page['operations_running', ()], page['operations_waiting', ()]))
            self.check_report(it.ask_report(), volume, detach)

            it.broker.kill()
            page = it.wait_page('broker_connected', 0)
            self.assertEqual(1, page['hypervisor_connected', ()])
            self.assertIn('message broker = not connected', it.ask_report())

            # What was taken in goes on all the same.
            page = it.wait_page('operations_total', 1, 'detach_volume', 'failed')
            self.assertEqual((2, 1), (page['unplug_retries_total', ()], page['unplug_timeouts_total', ()]))
            self.assertEqual((0, 0), (page['unplugs_pending', ()], page['operations_running', ()]))
            self.assertLessEqual(4.5, page['operation_duration_seconds_sum', ('detach_volume',)])

            it.broker.start()
            it.wait_page('broker_connected', 1, timeout=30)
            failed = it.bench.operation(detach.operation_id)
            assert failed is not None
            self.assertEqual('DetachTimeout', failed['error_class'])
            self.assertRegex(it.ask_report(), r'Operations under way +=+\n=+\nnone = -\n')
            self.assert_said(attach, 'Accepted attach_volume', 'Attached disk', 'Succeeded: attach_volume')
            self.assert_said(
                detach,
                'Accepted detach_volume',
                'is asked again: attempt 2 of 3',
                'is asked again: attempt 3 of 3',
                'Failed: detach_volume',
            )
            self.assertRegex(it.agent.said(), r'(?s)AMQP server on .* is unreachable.*Reconnected to AMQP server')
            # Every line about one of the requests is that request's.
            for line in it.agent.said().splitlines():
                for ctxt in (attach, detach):
                    if re.match(r'\S+ \S+ \d+ [A-Z]+ aliasagent\.', line) and ctxt.operation_id in line:
                        self.assertIn(f'[- {ctxt.request_id} {ctxt.operation_id}] ', line)

    def check_report(self, report: str, volume: str, detach: RequestContext) -> None:
        it = self.story
        for lines in (
            f'{detach.operation_id} = \n'
            '  action = detach_volume\n'
            f'  device = {volume}\n'
            f'  instance = {it.guest}\n'
            f'  request_id = {detach.request_id}\n'
            '  since = 2',
            '  state = running\n',
            f'ua-{volume} = \n  attempts = 1 of 3, of 1.5 s each\n  instance = {it.guest}\n',
            f'hypervisor = {it.bench.daemon.uri}: connected\n',
            'message broker = connected\n',
            f'{it.old_guest} = \n  error = -\n  name = guest-{it.old_guest[:8]}\n',
            '  not live yet = -\n  with alias = 1\n',
            'transport_url = ***\n',
        ):
            self.assertIn(lines, report)
        self.assertNotIn(it.broker.url, report)
