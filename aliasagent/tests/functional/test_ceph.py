# SPDX-License-Identifier: Apache-2.0
"""An agent that has the key of a Ceph user: in libvirt at the start, after a reload and after a restart of libvirt."""

import base64
import logging
from typing import Any

import fixtures
from oslo_config import cfg

from aliasagent import conf
from aliasagent import exception
from aliasagent.conf import keyring
from aliasagent.context import RequestContext
from aliasagent.devices.disk import Disk
from aliasagent.tests import cases
from aliasagent.tests.contract import harness
from aliasagent.tests.contract.hypervisor_secrets import secret_xml
from aliasagent.tests.functional import test_agent
from sandbox import processes

SECRET = '1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed'


class CephTest(test_agent.FakeAgentCase):
    def setUp(self) -> None:
        self.logged = self.useFixture(fixtures.FakeLogger(level=logging.INFO))
        super().setUp()
        self.guest = self.side.new_guest()

    def start_agent(self, host: str) -> None:
        self.keyring = self.directory / 'keyring'
        self.keyring.touch(0o600)
        self.write_keyring(cinder=b'first')
        self.configuration = self.directory / 'ceph.conf'
        self.configure(user='cinder', keyring=self.keyring)
        conf.CONF([], project='aliasagent', default_config_files=[str(self.configuration)])
        super().start_agent(host)

    def write_keyring(self, **keys: bytes) -> None:
        lines = (f'[client.{user}]\n\tkey = {base64.b64encode(key).decode()}\n' for user, key in keys.items())
        self.keyring.write_text(''.join(lines))

    def configure(self, **options: object) -> None:
        self.configuration.write_text(''.join(['[ceph]\n', *(f'{name} = {it}\n' for name, it in options.items())]))

    def value(self, secret_uuid: str) -> bytes | None:
        stored = self.side.fake.secrets.stored.get(secret_uuid)
        return None if stored is None else stored.value

    def wait_value(self, value: bytes, secret_uuid: str = keyring.secret_uuid('cinder')) -> None:
        processes.wait_until(lambda: self.value(secret_uuid) == value, harness.SOON, 'the secret')

    def volume(self, **more: Any) -> dict[str, Any]:
        """A request for a volume, as Cinder answers it without its option rbd_secret_uuid."""
        info = {**cases.read('cinder-rbd')['attachment']['connection_info'], 'secret_uuid': None, **more}
        volume_id = harness.new_id()
        info |= {'name': f'volumes/volume-{volume_id}', 'volume_id': volume_id}
        return {'instance_uuid': self.guest, 'volume_id': volume_id, 'connection_info': info, 'disk_bus': 'scsi'}

    def attach_volume(self, **more: Any) -> str:
        """Attach a volume, and return the UUID of the secret by which QEMU logs in."""
        ctxt, asked = RequestContext(), self.volume(**more)
        self.api().submit(ctxt, 'attach_volume', **asked)
        self.assert_succeeded(self.wait(self.api(), ctxt.operation_id))
        (disk,) = self.persistent(self.guest).by_alias(f'ua-{asked["volume_id"]}')
        assert isinstance(disk, Disk)
        return str(disk.auth_secret_uuid)

    def refusal(self, **more: Any) -> str:
        return str(
            self.assertRaises(
                exception.InvalidInput, self.api().submit, RequestContext(), 'attach_volume', **self.volume(**more)
            )
        )

    def reload(self) -> str:
        """What is logged when the agent reads its options again."""
        before = len(self.logged.output)
        self.services[0]._reload()
        return str(self.logged.output[before:])

    def test_a_volume_without_a_secret(self) -> None:
        self.wait_value(b'first')
        self.assertEqual(keyring.secret_uuid('cinder'), self.attach_volume())
        self.assertEqual(SECRET, self.attach_volume(secret_uuid=SECRET))
        self.assertIn('gives QEMU the key of the Ceph user cinder', self.refusal(auth_username='glance'))

    def test_libvirt_was_restarted(self) -> None:
        for _restart in range(2):
            self.wait_value(b'first')
            self.side.fake.drop_connections()
        self.wait_value(b'first')

    def test_an_attach_right_after_a_restart_of_libvirt_finds_the_secret(self) -> None:
        self.wait_value(b'first')
        there: list[bytes | None] = []
        self.side.fake.before['attachDeviceFlags'] = lambda *_: there.append(self.value(keyring.secret_uuid('cinder')))
        self.side.fake.secrets.forget_ephemeral()
        self.attach_volume()
        self.assertEqual([b'first'], there)

    def test_a_reconcile_run_defines_it_again(self) -> None:
        self.wait_value(b'first')
        self.side.fake.secrets.forget_ephemeral()
        self.services[0]._reconcile()
        self.wait_value(b'first')

    def test_a_reload_takes_another_key_user_and_secret(self) -> None:
        self.wait_value(b'first')
        self.write_keyring(cinder=b'second', nova=b'third')
        self.assertIn('Reloaded the mutable options', self.reload())
        self.wait_value(b'second')
        self.configure(user='nova', keyring=self.keyring, secret_uuid=SECRET)
        said = self.reload()
        self.assertIn(f'QEMU logs in to Ceph as user nova, by the libvirt secret {SECRET}', said)
        self.wait_value(b'third', SECRET)
        self.assertEqual(SECRET, self.attach_volume(auth_username='nova'))
        # Guests that have it by now need it at their next start.
        self.assertEqual(b'second', self.value(keyring.secret_uuid('cinder')))
        self.configure()
        self.reload()
        self.assertIn('option [ceph] secret_uuid is not set', self.refusal())

    def test_a_reload_of_what_is_no_keyring_changes_nothing(self) -> None:
        self.wait_value(b'first')
        for user, keys, words in (
            ('cinder', {'glance': b'x'}, f'{self.keyring} has no section [client.cinder]'),
            ('nova', {'cinder': b'x'}, f'{self.keyring} has no section [client.nova]'),
            ('cinder', {'cinder': b''}, f'{self.keyring} has a key of client.cinder that is not valid base64'),
        ):
            self.write_keyring(**keys)
            self.configure(user=user, keyring=self.keyring)
            said = self.reload()
            self.assertIn(f'the agent keeps the previous ones: [ceph] keyring: {words}', said)
            self.assertEqual(1, len(said.splitlines()), said)
        self.assertEqual(keyring.secret_uuid('cinder'), self.attach_volume())
        self.wait_value(b'first')

    def test_a_keyring_that_others_can_read(self) -> None:
        self.keyring.chmod(0o644)
        said = self.reload()
        self.assertIn(f'may be known to others: {self.keyring} has mode 0644; only its owner should', said)
        self.assertIn('Reloaded the mutable options', said)

    def test_a_secret_of_another_client(self) -> None:
        """The operator's, as it was before there was a keyring; it may have the same key."""
        self.side.fake.secrets.define(secret_xml(SECRET, 'client.cinder secret', private='no')).value = b'theirs'
        self.configure(user='cinder', keyring=self.keyring, secret_uuid=SECRET)
        self.reload()
        words = 'libvirt has a secret with this UUID that the agent did not make, for use with client.cinder secret'
        processes.wait_until(lambda: words in self.logged.output, harness.SOON, 'the error')
        self.assertEqual(SECRET, self.attach_volume())
        self.assertEqual(b'theirs', self.value(SECRET))

    def test_an_agent_without_its_keyring_does_not_start(self) -> None:
        self.keyring.unlink()
        refused = self.assertRaises(cfg.Error, super().start_agent, 'second')
        self.assertIn(f'{self.keyring} cannot be read: No such file', str(refused))
        self.write_keyring(cinder=b'second')
        super().start_agent('second')
        self.wait_value(b'second')
