# SPDX-License-Identifier: Apache-2.0
"""The contract of the secrets that the agent makes: repeatable, and no other client's is touched."""

import contextlib
from typing import Any

import libvirt

from aliasagent import exception
from aliasagent.tests.contract import harness
from aliasagent.tests.contract import hypervisor_secrets
from aliasagent.virt import errors
from aliasagent.virt.secrets import Secrets
from aliasagent.virt.secrets import Usage


class SecretsContract(harness.DriverCase):
    def set_up_driver(self) -> None:
        super().set_up_driver()
        self.secrets = Secrets(self.host)

    def new_secret(self) -> str:
        secret_uuid = harness.new_id()
        self.addCleanup(self._forget, secret_uuid)
        return secret_uuid

    def _forget(self, secret_uuid: str) -> None:
        with contextlib.suppress(libvirt.libvirtError):
            self.find(secret_uuid).undefine()

    def find(self, secret_uuid: str) -> Any:
        return self.host.connection().secretLookupByUUIDString(secret_uuid)

    def is_there(self, secret_uuid: str) -> bool:
        return secret_uuid in {secret.UUIDString() for secret in self.host.connection().listAllSecrets(0)}

    def test_each_kind_is_private_and_ephemeral(self) -> None:
        for usage, kind in (
            (Usage.CEPH, libvirt.VIR_SECRET_USAGE_TYPE_CEPH),
            (Usage.ISCSI, libvirt.VIR_SECRET_USAGE_TYPE_ISCSI),
            (Usage.VOLUME, libvirt.VIR_SECRET_USAGE_TYPE_VOLUME),
        ):
            secret_uuid = self.new_secret()
            for _again in range(2):
                self.secrets.ensure(secret_uuid, usage, b'hush\0\xff', 'for <this> & that')
                secret = self.find(secret_uuid)
                self.assertEqual((kind, f'aliasagent {secret_uuid}'), (secret.usageType(), secret.usageID()))
                xml = secret.XMLDesc(0)
                self.assertIn("ephemeral='yes' private='yes'", xml.replace('"', "'"))
                self.assertIn('<description>aliasagent: for &lt;this&gt; &amp; that</description>', xml)
                # That there is a value at all is seen by who asks for it.
                refused = self.assertRaises(libvirt.libvirtError, secret.value, 0)
                self.assertEqual('Invalid secret: secret is private', refused.get_error_message())
            for _again in range(2):
                self.secrets.remove(secret_uuid)
                self.assertFalse(self.is_there(secret_uuid))

    def test_letters_do_not_matter(self) -> None:
        secret_uuid = self.new_secret()
        self.secrets.ensure(secret_uuid.upper(), Usage.CEPH, b'a')
        self.secrets.ensure(secret_uuid, Usage.CEPH, b'b')
        self.secrets.remove(secret_uuid.upper())
        self.assertFalse(self.is_there(secret_uuid))

    def test_what_an_agent_that_was_killed_left_is_finished(self) -> None:
        """Defined, and without a value."""
        secret_uuid = self.new_secret()
        self.host.connection().secretDefineXML(
            hypervisor_secrets.secret_xml(secret_uuid, f'aliasagent {secret_uuid}'), 0
        )
        self.secrets.ensure(secret_uuid, Usage.CEPH, b'hush')
        self.secrets.remove(secret_uuid)
        self.assertFalse(self.is_there(secret_uuid))

    def test_a_secret_of_another_client_stays_as_it_is(self) -> None:
        for usage_id, words in (('client.cinder secret', ', for use with client.cinder secret'), ('', '')):
            secret_uuid = self.new_secret()
            xml = hypervisor_secrets.secret_xml(secret_uuid, usage_id, private='no')
            other = self.host.connection().secretDefineXML(xml, 0)
            other.setValue(b'theirs', 0)
            before = other.XMLDesc(0)
            refused = self.assertRaises(errors.SecretTaken, self.secrets.ensure, secret_uuid, Usage.CEPH, b'ours')
            words = f'libvirt has a secret with this UUID that the agent did not make{words}'
            self.assertEqual(f'define the secret {secret_uuid}: {words}', str(refused))
            self.assertEqual(exception.HypervisorError, type(exception.public(refused)))
            self.secrets.remove(secret_uuid)
            self.assertEqual((before, b'theirs'), (other.XMLDesc(0), other.value(0)))
            other.undefine()

    def test_the_usage_of_another_client_is_refused(self) -> None:
        secret_uuid, theirs = self.new_secret(), self.new_secret()
        self.host.connection().secretDefineXML(
            hypervisor_secrets.secret_xml(theirs, f'aliasagent {secret_uuid}'), 0
        )
        refused = self.assertRaises(
            exception.HypervisorError, self.secrets.ensure, secret_uuid, Usage.CEPH, b'ours'
        )
        self.assertIn(f'a secret with UUID {theirs} already defined for use with aliasagent', str(refused))
        self.assertFalse(self.is_there(secret_uuid))
        self.assertTrue(self.is_there(theirs))
