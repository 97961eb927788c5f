# SPDX-License-Identifier: Apache-2.0
"""Runs a real Keystone, with a SQLite database and the users that a cloud needs."""

import functools
from typing import Any

from sandbox import processes
from sandbox import rest
from sandbox import service

#: The password of all users.
PASSWORD = 'pw'
REGION = 'RegionOne'
#: The users beside the administrator, each with its project and its roles there.
USERS = {
    'cinder': ('service', ('service', 'admin')),
    'neutron': ('service', ('service', 'admin')),
    'aliasagent': ('service', ('service', 'admin')),
    'servicerole': ('service', ('service',)),
    'demo': ('demo', ('member',)),
}
_CONF = """\
[DEFAULT]
use_stderr = true
{database}
[fernet_tokens]
key_repository = {directory}/fernet
[fernet_receipts]
key_repository = {directory}/fernet
[credential]
key_repository = {directory}/credential
[identity]
# the cheapest that bcrypt allows
password_hash_rounds = 4
[cache]
# without a cache, a token costs 140 queries
enabled = true
backend = dogpile.cache.memory
[oslo_messaging_notifications]
driver = noop
"""


class Keystone(service.Service):
    """A Keystone with Fernet tokens."""

    name = 'keystone'

    @property
    def url(self) -> str:
        """The URL of version 3 of the API."""
        return f'http://{self.address}/v3'

    def start(self) -> None:
        if self.pid is not None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        fresh = not self._settings.exists()
        config = self.directory / 'keystone.conf'
        if fresh:
            self._save(port=processes.free_port())
            data = service.database(self.directory / 'keystone.sqlite')
            config.write_text(_CONF.format(directory=self.directory, database=data))
            self._run(self._command(config, 'set-up', self.url, PASSWORD, REGION))
        self._serve(self._command(config, 'serve', str(self.settings()['port'])), lambda: self._answers('/v3'))
        if fresh:
            self._make_users()

    def token(self, user: str, project: str | None = None, password: str = PASSWORD) -> str:
        """Return a new token of a user, for a project, by default the user's.

        :raises Refused: Keystone knows no such user
        """
        if project is None:
            project = USERS[user][0] if user in USERS else 'admin'
        domain = {'id': 'default'}
        answer = rest.call('POST', f'{self.url}/auth/tokens', {
            'auth': {
                'identity': {
                    'methods': ['password'],
                    'password': {'user': {'name': user, 'domain': domain, 'password': password}},
                },
                'scope': {'project': {'name': project, 'domain': domain}},
            }
        })
        if answer.status != 201:
            raise rest.Refused(f'a token for {user}', answer)
        return answer.headers['X-Subject-Token']

    def project(self, name: str) -> str:
        """Return the id of a project."""
        (found,) = self._admin('GET', f'/projects?name={name}')['projects']
        return str(found['id'])

    def register(self, kind: str, name: str, url: str) -> None:
        """Put the endpoint of a service into the catalog, in place of any before.

        :param kind: the type of the service, such as network
        """
        admin = self._admin
        found = admin('GET', f'/services?type={kind}')['services']
        if not found:
            found = [admin('POST', '/services', {'service': {'type': kind, 'name': name}})['service']]
        number = found[0]['id']
        for old in admin('GET', f'/endpoints?service_id={number}')['endpoints']:
            admin('DELETE', f'/endpoints/{old["id"]}')
        for interface in ('public', 'internal', 'admin'):
            endpoint = {'service_id': number, 'interface': interface, 'region_id': REGION, 'url': url}
            admin('POST', '/endpoints', {'endpoint': endpoint})

    def options(self, user: str) -> dict[str, object]:
        """Return the options by which keystoneauth1 gets tokens of a user."""
        return {
            'auth_type': 'password',
            'auth_url': self.url,
            'username': user,
            'password': PASSWORD,
            'project_name': USERS[user][0],
            'user_domain_id': 'default',
            'project_domain_id': 'default',
        }

    def authtoken(self, user: str) -> str:
        """Return the section by which a service checks tokens."""
        options = {
            'www_authenticate_uri': self.url,
            **self.options(user),
            'service_token_roles': 'service',
            'service_token_roles_required': 'true',
        }
        return '\n'.join(['[keystone_authtoken]', *(f'{name} = {value}' for name, value in options.items()), ''])

    @functools.cached_property
    def _admin(self) -> rest.Client:
        return rest.Client(self.url, {'X-Auth-Token': self.token('admin')})

    def _make_users(self) -> None:
        admin = self._admin
        roles = {role['name']: role['id'] for role in admin('GET', '/roles')['roles']}
        projects: dict[str, str] = {}
        for user, (project, granted) in USERS.items():
            if project not in projects:
                projects[project] = _made(admin, 'project', name=project)
            number = _made(admin, 'user', name=user, password=PASSWORD)
            for role in granted:
                admin('PUT', f'/projects/{projects[project]}/users/{number}/roles/{roles[role]}')


def _made(admin: rest.Client, kind: str, **members: Any) -> str:
    return str(admin('POST', f'/{kind}s', {kind: {'domain_id': 'default', **members}})[kind]['id'])
