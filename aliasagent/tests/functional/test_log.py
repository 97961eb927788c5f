# SPDX-License-Identifier: Apache-2.0
"""The log of a whole agent: whose each line is."""

import io
import logging
import re
import threading

from oslo_log import formatters
from oslo_log import log

from aliasagent import conf
from aliasagent.conf import logs
from aliasagent.context import RequestContext
from aliasagent.tests.contract import harness
from aliasagent.tests.functional import test_agent
from sandbox import processes

#: What stands between the name of the logger and the words; the instance only if the line is about one.
_LINE = re.compile(r'\S+ \S+ \d+ [A-Z]+ \S+ \[(?P<ids>[^]]*)\] (\[instance: (?P<instance>[^]]+)\] )?(?P<words>.*)')


class LogTest(test_agent.FakeAgentCase):
    def setUp(self) -> None:
        self.said = io.StringIO()
        log.register_options(conf.CONF)
        conf.CONF.set_override('logging_context_format_string', logs.CONTEXT_FORMAT)
        self.addCleanup(conf.CONF.clear_override, 'logging_context_format_string')
        handler = logging.StreamHandler(self.said)
        handler.setFormatter(formatters.ContextFormatter(config=conf.CONF))
        root = logging.getLogger()
        before = root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        self.addCleanup(root.removeHandler, handler)
        self.addCleanup(root.setLevel, before)
        for name, value in (('timeout', 0.1), ('attempts', 3)):
            conf.CONF.set_override(name, value, 'unplug')
            self.addCleanup(conf.CONF.clear_override, name, 'unplug')
        super().setUp()

    def lines(self) -> list[re.Match[str]]:
        found = []
        for text in self.said.getvalue().splitlines():
            line = _LINE.fullmatch(text)
            assert line is not None, text
            found.append(line)
        return found

    def begin(self) -> None:
        """Forget what was said until now."""
        self.said.seek(0)
        self.said.truncate()

    def ask_attach(self, guest: str, volume: str) -> RequestContext:
        ctxt, api = RequestContext(), self.api()
        connection = harness.file_connection(self.side.new_file())
        api.attach_volume(ctxt, guest, volume, connection, disk_bus='virtio')
        return ctxt

    def test_two_guests_at_once(self) -> None:
        """A device comes, does not go for all that it is asked to, and goes after all: on each of two guests."""
        api = self.api()
        pairs = [(self.side.deaf_guest(), harness.new_id()) for _time in range(2)]
        self.begin()
        asked: list[tuple[str, str, list[RequestContext]]] = []
        for guest, volume in pairs:
            asked.append((guest, volume, [self.ask_attach(guest, volume), RequestContext()]))
        for guest, volume, (_attach, detach) in asked:
            api.detach_volume(detach, guest, volume)
        for _guest, _volume, contexts in asked:
            states = [self.wait(api, ctxt.operation_id)['state'] for ctxt in contexts]
            self.assertEqual(['succeeded', 'failed'], states)
        for guest, _volume, _contexts in asked:
            self.side.reset(guest)
        processes.wait_until(
            lambda: self.said.getvalue().count('after all') == 2, harness.SOON, 'the devices to be released'
        )
        lines = self.lines()
        everything = {
            ids for guest, volume, contexts in asked for ids in (guest, volume, *(it.operation_id for it in contexts))
        }
        for guest, volume, (attach, detach) in asked:
            by_request = {it.request_id: it.operation_id for it in (attach, detach)}
            words: dict[str, str] = dict.fromkeys(by_request, '')
            for line in lines:
                about = line['words'] + (line['instance'] or '')
                own = [ids for ids in (guest, volume, *by_request.values()) if ids in about]
                given = [(request, operation) for request, operation in by_request.items() if request in line['ids']]
                if own:
                    self.assertEqual(1, len(given), line[0])
                for request, operation in given:
                    # and not one that says something of somebody else
                    self.assertFalse(any(ids in about for ids in everything - {guest, volume, *by_request.values()}))
                    self.assertEqual(f'- {request} {operation}', line['ids'])
                    self.assertIn(line['instance'], (guest, None))
                    words[request] += line['words'] + '\n'
            for request, told in (
                (attach.request_id, ('Accepted attach_volume', 'Attached ', 'Succeeded: attach_volume')),
                (
                    detach.request_id,
                    (
                        'Accepted detach_volume',
                        'is asked again: attempt 2 of 3',
                        'is asked again: attempt 3 of 3',
                        'Failed: detach_volume',
                        'has released',
                    ),
                ),
            ):
                for each in told:
                    self.assertEqual(1, words[request].count(each), f'{each}: {words}')

    def test_what_is_nobodys_request_has_no_request(self) -> None:
        """The threads that did something for somebody go on to something else."""
        unknown = "<disk type='file'><source file='/srv/mine'/><target dev='vdz' bus='virtio'/></disk>"
        guest = self.side.new_guest(unknown)
        self.wait(self.api(), self.ask_attach(guest, harness.new_id()).operation_id)
        self.begin()
        looking = threading.Thread(target=self.services[0]._reconcile)
        looking.start()
        looking.join()
        # from that thread, and from the one that had attached
        for words in ('Reconciled 1 guests', guest):
            self.assertEqual({'-'}, {line['ids'] for line in self.lines() if words in line['words']}, words)
