# SPDX-License-Identifier: Apache-2.0
"""The contract of the whole agent: what it says of the requests that were made, when asked and unasked."""

import datetime
import threading
import time
import uuid
from typing import Any

import jsonschema
import oslo_messaging

from aliasagent import conf
from aliasagent import exception
from aliasagent import notifications
from aliasagent.client import rpc
from aliasagent.context import RequestContext
from aliasagent.tests.contract import agent
from aliasagent.tests.contract import harness


class Listener:
    """Hears notifications, as a control plane would."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, dict[str, Any]]] = []
        self._server: Any = None

    def start(self, url: str) -> None:
        transport = oslo_messaging.get_notification_transport(conf.CONF, url=url)
        target = oslo_messaging.Target(topic='notifications')
        # A pool of its own, so that listeners do not take each other's.
        self._server = oslo_messaging.get_notification_listener(
            transport, [target], [self], executor='threading', pool=uuid.uuid4().hex
        )
        self._server.start()

    def stop(self) -> None:
        self._server.stop()
        self._server.wait()

    def info(self, _ctxt: object, publisher: str, event_type: str, payload: dict[str, Any], _metadata: object) -> None:
        self.heard.append((publisher, event_type, payload))

    error = info

    def of(self, operation_id: str) -> set[str]:
        """What was heard of an operation. Errors come by a way of their own, and may overtake the rest."""
        return {event_type for _publisher, event_type, payload in self.heard if payload['operation_id'] == operation_id}


class OperationsContract(agent.AgentCase):
    def arguments(self, guest: str) -> dict[str, Any]:
        return {
            'instance_uuid': guest,
            'volume_id': harness.new_id(),
            'connection_info': harness.file_connection(self.hypervisor.new_file()),
            'disk_bus': 'scsi',
        }

    def test_what_was_submitted_is_known_at_once(self) -> None:
        guest, ctxt = self.hypervisor.new_guest(state='started'), RequestContext()
        arguments = self.arguments(guest)
        answer = self.api().submit(ctxt, 'attach_volume', **arguments)
        self.assertEqual((ctxt.operation_id, guest), (answer['id'], answer['instance']))
        self.assertIn(answer['state'], ('accepted', 'running', 'succeeded'))
        self.assertEqual(answer['accepted_at'], self.api().get_operation(ctxt, ctxt.operation_id)['accepted_at'])
        self.assert_succeeded(self.wait(self.api(), ctxt.operation_id))
        self.assert_on_both(guest, arguments['volume_id'])

    def test_asked_again_it_is_answered_and_not_repeated(self) -> None:
        guest, ctxt = self.hypervisor.new_guest(state='started'), RequestContext()
        arguments = self.arguments(guest)
        self.api().submit(ctxt, 'attach_volume', **arguments)
        self.assert_succeeded(self.wait(self.api(), ctxt.operation_id))
        self.assert_succeeded(self.done('detach_volume', guest, arguments['volume_id']))
        again = self.api().submit(ctxt, 'attach_volume', **arguments)
        self.assertEqual(('succeeded', 1), (again['state'], again['attempts']))
        self.assert_on_both(guest)
        other = {'instance_uuid': guest, 'device_id': arguments['volume_id']}
        self.assertRaises(exception.OperationConflict, self.api().submit, ctxt, 'detach', **other)

    def test_what_is_wrong_is_refused_with_its_field(self) -> None:
        guest, ctxt = self.hypervisor.new_guest(state='started'), RequestContext()
        before = self.xml(guest)
        for action, arguments, field in (
            ('attach_volume', {**self.arguments(guest), 'volume_id': 'a b'}, 'volume_id'),
            ('detach', {'instance_uuid': guest}, 'device_id'),
            ('dance', {'instance_uuid': guest}, 'operation.action'),
            ('submit', {'operation': {}}, 'operation.action'),
        ):
            error = self.assertRaises(exception.InvalidInput, self.api().submit, ctxt, action, **arguments)
            self.assertEqual(field, error.kwargs['field'])
        self.assertEqual(before, self.xml(guest))
        self.assertRaises(exception.OperationNotFound, self.api().get_operation, ctxt, ctxt.operation_id)

    def test_one_guests_requests_are_done_in_their_order(self) -> None:
        guest = self.hypervisor.new_guest(state='started')
        ids = []
        arguments = self.arguments(guest)
        detach = {'instance_uuid': guest, 'volume_id': arguments['volume_id']}
        for _round in range(3):
            for action, what in (('attach_volume', arguments), ('detach_volume', detach)):
                ctxt = RequestContext()
                self.api().submit(ctxt, action, **what)
                ids.append(ctxt.operation_id)
        for operation_id in ids:
            self.assert_succeeded(self.wait(self.api(), operation_id))
        listed = self.api().list_operations(RequestContext(), guest)
        self.assertEqual(ids, [operation['id'] for operation in listed])
        starts = [operation['started_at'] for operation in listed]
        ends = [operation['finished_at'] for operation in listed]
        self.assertEqual(starts, sorted(starts))
        self.assertEqual([], [start for start, end in zip(starts[1:], ends[:-1], strict=True) if start < end])

    def test_they_are_listed_by_guest_state_and_time(self) -> None:
        guest, other = (self.hypervisor.new_guest(state='shut off') for _number in range(2))
        begin = datetime.datetime.now(datetime.UTC)
        good = self.done('attach_volume', **self.arguments(guest))
        bad = self.done('detach', guest, 'no-such-device')
        elsewhere = self.done('detach', other, 'no-such-device')

        def listed(**filters: Any) -> list[str]:
            return [it['id'] for it in self.api().list_operations(RequestContext(), **filters)]

        self.assertEqual([good['id'], bad['id']], listed(instance_uuid=guest))
        self.assertEqual([bad['id']], listed(instance_uuid=guest, states=['failed']))
        self.assertEqual([good['id']], listed(instance_uuid=guest, states=['succeeded', 'accepted']))
        self.assertEqual([good['id'], bad['id'], elsewhere['id']], listed(since=begin.isoformat()))
        self.assertEqual([elsewhere['id']], listed(limit=1))
        self.assertEqual([], listed(instance_uuid=guest, until=begin.isoformat()))
        self.assertEqual([good['id']], listed(instance_uuid=guest, until=bad['accepted_at']))

    def test_an_older_client_is_answered_where_it_asks(self) -> None:
        guest = self.hypervisor.new_guest(state='shut off')
        client = rpc.client(self.transport, '1.0', timeout=10).prepare(server=self.host_name)
        listed = client.call(RequestContext(), 'list_instances')
        self.assertIn(guest, [instance['uuid'] for instance in listed])

    def test_what_becomes_of_requests_is_told(self) -> None:
        guest, listener = self.hypervisor.new_guest(state='started'), Listener()
        listener.start(self.transport.conf.transport_url)
        self.addCleanup(listener.stop)
        arguments = self.arguments(guest)
        attach = self.done('attach_volume', **arguments)
        failing = self.done('detach_interface', guest, arguments['volume_id'])
        refused = self.raw_cast('detach', instance_uuid=guest)
        wanted = {
            attach['id']: {'instance.volume_attach.start', 'instance.volume_attach.end'},
            failing['id']: {'instance.interface_detach.start', 'instance.interface_detach.error'},
            refused['id']: {'instance.device_detach.error'},
        }
        deadline = time.monotonic() + harness.SOON
        while time.monotonic() < deadline and any(listener.of(name) != events for name, events in wanted.items()):
            time.sleep(0.05)
        self.assertEqual(wanted, {name: listener.of(name) for name in wanted})
        for publisher, _event_type, payload in listener.heard:
            if payload['operation_id'] in wanted:
                jsonschema.validate(payload, notifications.PAYLOAD)
                self.assertEqual(f'aliasagent-compute:{self.host_name}', publisher)
        (error,) = [it for _p, event, it in listener.heard if event == 'instance.interface_detach.error']
        self.assertEqual(('DeviceConflict', failing['error']), (error['error_class'], error['error']))

    def test_many_ask_at_once(self) -> None:
        guests = [self.hypervisor.new_guest(state='shut off') for _number in range(3)]
        requests = [(RequestContext(), self.arguments(guest)) for guest in guests for _number in range(4)]
        threads = [
            threading.Thread(target=self.api().submit, args=(ctxt, 'attach_volume'), kwargs=arguments)
            for ctxt, arguments in requests
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for ctxt, _arguments in requests:
            self.assert_succeeded(self.wait(self.api(), ctxt.operation_id))
        for guest in guests:
            volumes = [arguments['volume_id'] for _ctxt, arguments in requests if arguments['instance_uuid'] == guest]
            self.assertEqual((set(), set(volumes)), self.ids(guest))
