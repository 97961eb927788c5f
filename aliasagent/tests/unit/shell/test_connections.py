# SPDX-License-Identifier: Apache-2.0
"""``aliasagent volume connection ...`` and ``aliasagent interface connection ...``"""

from typing import Any

from aliasagent import context
from aliasagent import exception
from aliasagent.tests.unit.shell import base


class FakeAPI(base.FakeComputeAPI):
    def __init__(self) -> None:
        super().__init__()
        self.removed: list[tuple[str, str]] = []

    def list_connections(self, _ctxt: context.RequestContext, instance_uuid: str | None) -> list[dict[str, Any]]:
        self._fail()
        found = [
            {'instance': base.WEB, 'device': base.VOLUME, 'kind': 'volume'},
            {'instance': base.WEB, 'device': base.PORT, 'kind': 'port'},
            {'instance': base.TWIN_1, 'device': base.VOLUME, 'kind': 'volume'},
        ]
        more = {'stage': 'given', 'complete': True, 'in_use': None, 'problem': None, 'changed_at': 'now', 'details': {}}
        return [it | more for it in found if instance_uuid in (None, it['instance'])]

    def remove_connection(self, _ctxt: context.RequestContext, instance_uuid: str, device_id: str) -> None:
        self._fail()
        self.removed.append((instance_uuid, device_id))


class ConnectionsTestCase(base.ShellTestCase):
    def listed(self, *argv: str) -> list[tuple[str, str]]:
        rows = self.run_command(*argv, '-f', 'json', api=FakeAPI()).json
        return [(row['instance'], row['device']) for row in rows]

    def test_lists(self) -> None:
        self.assertEqual(
            [(base.WEB, base.VOLUME), (base.TWIN_1, base.VOLUME)], self.listed('volume', 'connection', 'list')
        )
        self.assertEqual(
            [(base.WEB, base.VOLUME)], self.listed('volume', 'connection', 'list', '--guest', 'web1')
        )
        self.assertEqual([(base.WEB, base.PORT)], self.listed('interface', 'connection', 'list'))

    def test_remove(self) -> None:
        for kind, device in (('volume', base.VOLUME), ('interface', base.PORT)):
            api = FakeAPI()
            done = self.run_command(kind, 'connection', 'remove', base.WEB, device, api=api)
            self.assertEqual((0, ''), (done.code, done.stdout), done.stderr)
            self.assertEqual([(base.WEB, device)], api.removed)

    def test_one_that_the_guest_has_is_not_removed(self) -> None:
        api = FakeAPI()
        api.error = base.rebuilt(
            exception.DeviceConflict(instance=base.WEB, device=base.VOLUME, reason='the guest has it: detach it')
        )
        done = self.run_command('volume', 'connection', 'remove', base.WEB, base.VOLUME, api=api)
        self.assertEqual(1, done.code)
        self.assertIn('the guest has it: detach it', done.stderr)
