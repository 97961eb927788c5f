# SPDX-License-Identifier: Apache-2.0
"""A Cinder with its state, and a host that connects its volumes."""

from typing import Any

from aliasagent import exception
from aliasagent.tests import ids
from aliasagent.tests.fakes.cinder import FakeCinder
from aliasagent.tests.unit.cloud import base
from aliasagent.volumes import backing
from aliasagent.volumes import cinder

Json = dict[str, Any]
PASSWORD = 'x7Qm-hush-chap'
#: Waits that are as short as a test can have them.
PATIENCE = backing.Patience(search=0.3, pause=0.02, answer=0.1, turn=0.1)


class Request:
    """A request that has only the id of its volume."""

    def __init__(self, volume_id: str) -> None:
        self.volume_id = volume_id
        #: The last connection_info.
        self.info: Json = {}

    def with_connection(self, connection_info: Json) -> Json:
        self.info = connection_info
        return {'volume_id': self.volume_id, 'connection_info': connection_info}


class Host:
    """A connector that keeps which volumes it has connected."""

    def __init__(self) -> None:
        self.connected: set[str] = set()
        self.seen: list[tuple[Json, list[Json]]] = []

    def properties(self) -> Json:
        return {'ip': '192.0.2.10', 'multipath': False}

    def connect(
        self, volume_id: str, connection_info: Json, save: backing.Save, _details: Json | None, others: backing.Others
    ) -> Json:
        self.seen.append((connection_info, list(others())))
        save({'state': 'connecting'})
        self.connected.add(volume_id)
        save({'state': 'connected'})
        return connection_info

    def check(self, volume_id: str, details: Json) -> None:
        assert details['state'] == 'connected'
        if volume_id not in self.connected:
            raise exception.ConnectionFailed(volume=volume_id, step='checking the device', reason='there is none')

    def disconnect(
        self, volume_id: str, connection_info: Json, details: Json, save: backing.Save, others: backing.Others
    ) -> None:
        assert details['state'] in ('connecting', 'connected', 'leaving')
        save({**details, 'state': 'leaving'})
        self.seen.append((connection_info, list(others())))
        self.connected.discard(volume_id)


class CinderTestCase(base.CloudTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.fake = FakeCinder()
        self.cloud.services['volume'] = self.fake.answer
        self.volume = self.fake.add_volume(ids.VOLUME)
        self.cinder = self.client()

    def client(self, more: str = '') -> cinder.Cinder:
        """Return a client with further options."""
        return cinder.connected(self.configured('cinder', more=f'timeout = 1\n{more}'))
