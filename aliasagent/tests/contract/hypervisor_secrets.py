# SPDX-License-Identifier: Apache-2.0
"""Secrets: whose they are, and who gets to know them.

libvirt's embedded driver crashes at the first of them, so the real ones need a daemon.
"""

import contextlib

import libvirt

from aliasagent.tests.contract import hypervisor
from aliasagent.tests.ids import new_id

_SECRET = libvirt.VIR_FROM_SECRET
_ELEMENTS = {'ceph': 'name', 'iscsi': 'target', 'volume': 'volume'}


def secret_xml(
    secret_uuid: str, usage_id: str = '', kind: str = 'ceph', *, private: str = 'yes', ephemeral: str = 'yes'
) -> str:
    """A secret; without a usage's id, for no use."""
    element = _ELEMENTS[kind]
    usage = f"<usage type='{kind}'><{element}>{usage_id}</{element}></usage>" if usage_id else ''
    return f"<secret ephemeral='{ephemeral}' private='{private}'><uuid>{secret_uuid}</uuid>{usage}</secret>"


class SecretsContract(hypervisor.HypervisorContract):
    def new_secret(self) -> str:
        """The UUID of a secret that is gone after the test."""
        secret_uuid = new_id()
        self.addCleanup(self._forget, secret_uuid)
        return secret_uuid

    def _forget(self, secret_uuid: str) -> None:
        with contextlib.suppress(libvirt.libvirtError):
            self.connection().secretLookupByUUIDString(secret_uuid).undefine()

    def test_a_secret_that_is_not_there(self) -> None:
        secret_uuid = new_id()
        with self.refused(66, f"Secret not found: no secret with matching uuid '{secret_uuid}'", _SECRET):
            self.connection().secretLookupByUUIDString(secret_uuid)

    def test_a_private_secret_is_told_to_no_client(self) -> None:
        secret_uuid = self.new_secret()
        secret = self.connection().secretDefineXML(secret_xml(secret_uuid, f'one {secret_uuid}'), 0)
        self.assertEqual(0, secret.setValue(b'hush\0', 0))
        with self.refused(65, 'secret is private', _SECRET):
            secret.value(0)
        with self.refused(1, 'cannot change private flag on existing secret', _SECRET):
            self.connection().secretDefineXML(secret_xml(secret_uuid, f'one {secret_uuid}', private='no'), 0)
        self.assertNotIn('hush', secret.XMLDesc(0))

    def test_another_is(self) -> None:
        secret_uuid = self.new_secret()
        secret = self.connection().secretDefineXML(secret_xml(secret_uuid, private='no'), 0)
        self.assertEqual('', secret.usageID())
        self.assertEqual(libvirt.VIR_SECRET_USAGE_TYPE_NONE, secret.usageType())
        with self.refused(66, 'does not have a value', _SECRET):
            secret.value(0)
        secret.setValue(b'hush\0', 0)
        self.assertEqual(b'hush\0', secret.value(0))
        with self.refused(8, 'value in virSecretSetValue must not be NULL', _SECRET):
            secret.setValue(b'', 0)

    def test_a_secret_keeps_its_usage(self) -> None:
        secret_uuid, other = self.new_secret(), self.new_secret()
        define = self.connection().secretDefineXML
        first = define(secret_xml(secret_uuid, f'one {secret_uuid}'), 0)
        self.assertEqual(first.XMLDesc(0), define(secret_xml(secret_uuid.upper(), f'one {secret_uuid}'), 0).XMLDesc(0))
        for usage_id in ('', f'two {secret_uuid}'):
            with self.refused(1, f'is already defined for use with one {secret_uuid}', _SECRET):
                define(secret_xml(secret_uuid, usage_id), 0)
        with self.refused(1, f'a secret with UUID {secret_uuid} already defined for use with', _SECRET):
            define(secret_xml(other, f'one {secret_uuid}'), 0)
        # The type belongs to it.
        define(secret_xml(other, f'one {secret_uuid}', 'volume'), 0)
        kinds = [self.connection().secretLookupByUUIDString(it).usageType() for it in (secret_uuid, other)]
        self.assertEqual([libvirt.VIR_SECRET_USAGE_TYPE_CEPH, libvirt.VIR_SECRET_USAGE_TYPE_VOLUME], kinds)

    def test_a_secret_without_usage_keeps_none(self) -> None:
        secret_uuid = self.new_secret()
        self.connection().secretDefineXML(secret_xml(secret_uuid), 0)
        with self.refused(1, 'is already defined for use with (null)', _SECRET):
            self.connection().secretDefineXML(secret_xml(secret_uuid, 'one'), 0)

    def test_a_secret_is_removed(self) -> None:
        secret_uuid = self.new_secret()
        secret = self.connection().secretDefineXML(secret_xml(secret_uuid, f'one {secret_uuid}'), 0)
        self.assertEqual(0, secret.undefine())
        for call in (secret.undefine, lambda: secret.XMLDesc(0), lambda: secret.setValue(b'x', 0)):
            with self.refused(66, 'Secret not found', _SECRET):
                call()


class SecretsLossContract(hypervisor.HypervisorContract):
    """The daemon dies, and with it what it has in memory only."""

    def kill_daemon(self) -> None:
        raise NotImplementedError

    def start_daemon(self) -> None:
        raise NotImplementedError

    def test_an_ephemeral_secret_ends_with_the_daemon(self) -> None:
        gone, kept = new_id(), new_id()
        define = self.connection().secretDefineXML
        define(secret_xml(gone, f'one {gone}'), 0).setValue(b'hush', 0)
        define(secret_xml(kept, f'one {kept}', private='no', ephemeral='no'), 0).setValue(b'hush', 0)
        self.kill_daemon()
        self.start_daemon()
        connection = self.new_connection()
        with self.refused(66, 'Secret not found', _SECRET):
            connection.secretLookupByUUIDString(gone)
        secret = connection.secretLookupByUUIDString(kept)
        self.assertEqual(b'hush', secret.value(0))
        secret.undefine()
