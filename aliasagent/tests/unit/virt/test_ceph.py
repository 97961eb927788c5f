# SPDX-License-Identifier: Apache-2.0
"""The secret of the Ceph user: there whenever it is needed, and an attach does not fail for it."""

import threading
from typing import Any

import libvirt

from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.conf.keyring import Login
from aliasagent.requests import catalog
from aliasagent.requests.base import Attach
from aliasagent.tests import base
from aliasagent.tests import on_fake
from aliasagent.tests.contract.hypervisor_secrets import secret_xml
from aliasagent.tests.fakes.libvirt import errors
from aliasagent.tests.ids import new_id
from aliasagent.virt.ceph import CephSecret

SECRET = '1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed'
OTHER = '2c0a7d71-8d2e-4b1c-9e57-9a3f60a51a02'
LOGIN = Login('cinder', SECRET, b'x7Qm-hush')


def attach(secret_uuid: str | None = SECRET, **data: Any) -> Attach:
    """A request for a volume of Ceph."""
    rbd = {'name': 'volumes/a', 'auth_enabled': True, 'auth_username': 'cinder', 'secret_uuid': secret_uuid, **data}
    made = catalog.parse(
        Action.ATTACH_VOLUME,
        {'volume_id': new_id(), 'connection_info': {'driver_volume_type': 'rbd', 'data': rbd}},
    )
    assert isinstance(made, Attach)
    return made


def other_attaches() -> list[Attach]:
    """Requests that do not need the secret."""
    port = {'id': new_id(), 'vif_type': 'bridge', 'bridge': 'br0', 'address': '52:54:00:12:34:56'}
    made = catalog.parse(Action.ATTACH_INTERFACE, {'port': port})
    info = {'driver_volume_type': 'local', 'data': {'device_path': '/dev/sdb'}}
    local = catalog.parse(Action.ATTACH_VOLUME, {'volume_id': new_id(), 'connection_info': info})
    assert isinstance(made, Attach)
    assert isinstance(local, Attach)
    return [made, local, attach(OTHER), attach(auth_enabled=False), attach(None, auth_enabled=None)]


class CephSecretTestCase(on_fake.HostTestCase):
    def value(self, secret_uuid: str = SECRET) -> bytes | None:
        """The value of a secret as libvirt has it; None without one."""
        stored = self.fake.secrets.stored.get(secret_uuid)
        return None if stored is None else stored.value

    def wait_value(self, value: bytes = LOGIN.key, secret_uuid: str = SECRET) -> None:
        self.wait_for(lambda: self.value(secret_uuid) == value, 'the value of the secret')

    def keep(self, login: Login | None = LOGIN) -> CephSecret:
        return CephSecret(self.host, login)

    def test_it_is_defined_at_each_connection(self) -> None:
        self.keep()
        self.assertEqual({}, self.fake.secrets.stored)
        for _loss in range(2):
            self.fake.drop_connections()
            self.wait_value()
        self.assertIn('QEMU logs in to Ceph as user cinder, by the libvirt secret 1b9d6bcd', self.log.output)
        self.assertNotIn('known to others', self.log.output)

    def test_it_is_defined_with_another_key_when_the_options_are_read_again(self) -> None:
        secret = self.keep(None)
        self.assertIsNone(secret.login)
        secret.refresh()
        for login in (LOGIN, Login('cinder', SECRET, b'new', doubt='it is open'), Login('nova', OTHER, b'other')):
            secret.use(login)
            self.assertIs(login, secret.login)
            self.wait_value(login.key, login.secret_uuid)
        self.assertIn('The key of the Ceph user may be known to others: it is open', self.log.output)
        secret.use(None)
        self.assertIsNone(secret.login)
        secret.before_attach(attach())
        # Guests need the secrets of before at their next start.
        self.assertEqual((b'new', b'other'), (self.value(SECRET), self.value(OTHER)))

    def test_it_is_defined_before_an_attach_that_needs_it(self) -> None:
        secret = self.keep()
        for request in other_attaches():
            secret.before_attach(request)
            self.assertIsNone(self.value())
        for secret_uuid in (SECRET, SECRET.upper()):
            secret.before_attach(attach(secret_uuid))
            self.assertEqual(LOGIN.key, self.value())
            self.fake.secrets.forget_ephemeral()

    def test_an_attach_waits_for_a_lost_hypervisor(self) -> None:
        secret = self.keep()
        self.fake.drop_connections(down=True)
        self.assertRaises(exception.HypervisorUnavailable, secret.before_attach, attach())
        self.fake.down = False
        self.wait_value()

    def test_a_secret_of_another_client_is_used_as_it_is(self) -> None:
        secret = self.keep()
        self.fake.secrets.define(secret_xml(SECRET, 'client.cinder secret')).value = b'theirs'
        for _again in range(2):
            secret.before_attach(attach())
        self.assertEqual(b'theirs', self.value())
        words = 'The key of the Ceph user cinder is not given to libvirt: define the secret'
        self.assertEqual(1, self.log.output.count(words))
        self.fake.secrets.forget_ephemeral()
        secret.before_attach(attach())
        self.assertIn('The key of the Ceph user cinder is given to libvirt now', self.log.output)

    def test_a_hypervisor_without_secrets(self) -> None:
        secret = self.keep()
        unsupported = errors.error(libvirt.VIR_ERR_NO_SUPPORT, 'virSecretDefineXML', libvirt.VIR_FROM_NONE)
        self.fake.fail_next('secretDefineXML', unsupported)
        secret.before_attach(attach())
        self.assertIn('is not given to libvirt: define the secret', self.log.output)

    def test_a_call_that_hangs_holds_up_no_event_and_is_made_once(self) -> None:
        secret, hanging = self.keep(), threading.Event()
        self.addCleanup(hanging.set)
        self.fake.before['secretDefineXML'] = lambda *_arguments: hanging.wait(base.PATIENCE)
        for _again in range(3):
            secret.refresh()
        self.wait_for(lambda: self.fake.count('secretDefineXML'), 'the call')
        self.wait_events()
        self.assertEqual(1, self.fake.count('secretDefineXML'))
        secret.use(Login('cinder', SECRET, b'new'))
        hanging.set()
        self.wait_value(b'new')

    def test_no_thread_can_be_started(self) -> None:
        secret = self.keep()
        with base.no_thread_once():
            secret.refresh()
        self.assertIn('No thread could be started', self.log.output)
        secret.refresh()
        self.wait_value()

    def test_an_internal_error_does_not_end_it(self) -> None:
        secret = self.keep()
        self.fake.fail_next('secretDefineXML', KeyError('broken'))
        secret.refresh()
        self.wait_for(lambda: 'could not be defined' in self.log.output, 'the error')
        self.fake.drop_connections()
        self.wait_value()

    def test_no_error_has_the_key(self) -> None:
        secret = self.keep()
        for method in ('secretDefineXML', 'secret.setValue', 'secretLookupByUUIDString'):
            self.fake.fail_next(method, errors.internal('broken', libvirt.VIR_FROM_SECRET))
            secret.before_attach(attach())
        self.assertIn('broken', self.log.output)
        self.assertNotIn('hush', self.log.output)
