# SPDX-License-Identifier: Apache-2.0
"""A Keystone, a Nova and a Neutron in one HTTP server, as far as the agent asks them."""

import http.server
import json
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import fixtures

#: An answer: the status, and an object of JSON or bytes.
Answer = tuple[int, Any]
#: Answers a request with a valid token: its method, its path with the query, its headers and its body.
Answers = Callable[[str, str, Mapping[str, str], Any], Answer]
_EXPIRES = '2099-01-01T00:00:00.000000Z'


class FakeCloud(fixtures.Fixture):
    """The services, on a free port. Its answers are those of real ones, with fewer members."""

    #: The password of the only user, and the token that the user gets for it.
    password = 'x7Qm-hush-password'
    token = 'x7Qm-hush-token'

    def __init__(self) -> None:
        super().__init__()
        self.servers: dict[str, dict[str, Any]] = {}
        self.volumes: dict[str, list[dict[str, Any]]] = {}
        self.ports: list[dict[str, Any]] = []
        #: The actions on each server, the newest first: what was done, and the times when its events ended.
        self.actions: dict[str, Sequence[tuple[str, Sequence[str | None]]]] = {}
        #: The paths of the requests, without those to Keystone.
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        #: The answer of Keystone to a login; None for the true one.
        self.login: Answer | None = None
        #: Called before an answer of Nova or Neutron, with the path; returns an answer of its own, or None.
        self.before: Callable[[str], Answer | None] = lambda _path: None
        #: Services that keep more than the above, by the first part of their paths: ``network`` for Neutron.
        self.services: dict[str, Answers] = {}
        #: Bytes of a body between pauses of a tenth of a second; 0 for all at once.
        self.drip = 0
        #: Bytes at the end of each body that are announced and never sent.
        self.shortage = 0

    def _setUp(self) -> None:  # noqa: N802 - it is what fixtures calls
        cloud = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(*cloud.get(self.path, dict(self.headers)))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers['Content-Length'] or 0)) or b'null')
                self.answer(*cloud.change(self.command, self.path, dict(self.headers), body))

            do_PUT = do_DELETE = do_POST  # noqa: N815 - what http.server calls

            def answer(self, status: int, body: Any) -> None:
                text = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header('Content-Type', 'application/json')
                self.send_header('Content-Length', str(len(text) + cloud.shortage))
                self.send_header('x-openstack-request-id', 'req-of-the-fake')
                self.send_header('X-Subject-Token', cloud.token)
                if status in (301, 302):
                    self.send_header('Location', cloud.url + '/elsewhere')
                self.end_headers()
                step = cloud.drip or len(text) or 1
                for start in range(0, len(text), step):
                    self.wfile.write(text[start : start + step])
                    if cloud.drip:
                        time.sleep(0.1)
                self.close_connection = cloud.shortage > 0

            def log_message(self, *_arguments: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_arguments: object) -> None:
                pass  # the agent has closed the connection

        self.server = Server(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.server.server_port}'
        thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def configuration(self, *groups: str) -> str:
        """Return the sections of a configuration file for these services."""
        return ''.join(
            f'[{group}]\nauth_type = password\nauth_url = {self.url}/identity/v3\nusername = aliasagent\n'
            f'password = {self.password}\nproject_name = service\nuser_domain_id = default\n'
            f'project_domain_id = default\ntimeout = 2\n'
            for group in groups
        )

    # The content

    def add_server(self, server_id: str = '', *, host: str = 'first', volumes: dict[str, str | None]) -> str:
        """Add a server; the volumes by id, with their targets."""
        server_id = server_id or str(uuid.uuid4())
        self.servers[server_id] = {
            'id': server_id,
            'OS-EXT-STS:task_state': None,
            'OS-EXT-STS:vm_state': 'active',
            'OS-EXT-SRV-ATTR:host': host,
            'OS-EXT-SRV-ATTR:hypervisor_hostname': f'{host}.example.org',
        }
        self.volumes[server_id] = [
            {'id': volume, 'volumeId': volume, 'serverId': server_id, 'device': device}
            for volume, device in volumes.items()
        ]
        return server_id

    def add_port(self, server_id: str, mac: str, **more: Any) -> str:
        """Add a bound port."""
        port_id = str(uuid.uuid4())
        self.ports.append(
            {
                'id': port_id, 'mac_address': mac, 'device_id': server_id, 'binding:vif_type': 'ovs',
                'binding:vnic_type': 'normal', 'binding:profile': {}, **more,
            }
        )  # fmt: skip
        return port_id

    # The answers

    def log_in(self, body: dict[str, Any]) -> Answer:
        if self.login is not None:
            return self.login
        if body['auth']['identity']['password']['user']['password'] != self.password:
            return 401, {'error': {'message': 'wrong password', 'code': 401}}
        catalog = [
            {
                'type': kind, 'name': kind,
                'endpoints': [{'interface': 'internal', 'region': 'one', 'region_id': 'one', 'url': self.url + path}],
            }
            for kind, path in (('compute', '/compute/v2.1'), ('network', '/network'), ('block-storage', '/volume/v3'))
        ]  # fmt: skip
        return 201, {'token': {'expires_at': _EXPIRES, 'methods': ['password'], 'catalog': catalog, 'user': {}}}

    def get(self, target: str, headers: dict[str, str]) -> Answer:
        path, _mark, query = target.partition('?')
        if path.startswith('/identity'):
            return self._versions()
        self.asked.append(target)
        self.headers.append(headers)
        if (answer := self.before(target)) is not None:
            return answer
        if headers.get('X-Auth-Token') != self.token:
            return 401, {}
        if (service := self.services.get(path.split('/')[1])) is not None:
            return service('GET', target.removeprefix(f'/{path.split("/")[1]}'), headers, None)
        match path.strip('/').split('/'):
            case ['compute', 'v2.1', 'servers']:
                return 200, {'servers': list(self.servers.values())[:1]}
            case ['compute', 'v2.1', 'servers', server] if server in self.servers:
                return 200, {'server': self.servers[server]}
            case ['compute', 'v2.1', 'servers', server, 'os-volume_attachments'] if server in self.servers:
                return 200, {'volumeAttachments': self.volumes[server]}
            case ['compute', 'v2.1', 'servers', server, 'os-instance-actions'] if server in self.servers:
                found = enumerate(self.actions.get(server, []))
                return 200, {
                    'instanceActions': [{'action': it, 'request_id': f'req-{number}'} for number, (it, _ends) in found]
                }
            case ['compute', 'v2.1', 'servers', server, 'os-instance-actions', request] if server in self.servers:
                what, ends = self.actions[server][int(request.removeprefix('req-'))]
                events = [{'event': f'compute_{what}', 'finish_time': end} for end in ends]
                return 200, {'instanceAction': {'action': what, 'request_id': request, 'events': events}}
            case ['network', 'v2.0', 'ports']:
                wanted = urllib.parse.parse_qs(query).get('device_id')
                return 200, {'ports': [it for it in self.ports if wanted is None or it['device_id'] in wanted]}
        return 404, {'itemNotFound': {'message': 'no such thing', 'code': 404}}

    def change(self, method: str, target: str, headers: dict[str, str], body: Any) -> Answer:
        if target.startswith('/identity'):
            return self.log_in(body)
        if (answer := self.before(target)) is not None:
            return answer
        if headers.get('X-Auth-Token') != self.token:
            return 401, {}
        name = target.split('/')[1]
        if name not in self.services:
            return 404, {'itemNotFound': {'message': 'no such thing', 'code': 404}}
        return self.services[name](method, target.removeprefix(f'/{name}'), headers, body)

    def _versions(self) -> Answer:
        link = {'rel': 'self', 'href': f'{self.url}/identity/v3/'}
        return 200, {'version': {'id': 'v3.14', 'status': 'stable', 'links': [link]}}
