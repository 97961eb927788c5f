# SPDX-License-Identifier: Apache-2.0
"""The secrets that the agent makes in libvirt, with which QEMU logs in to storage or decrypts a volume.

Each secret is private and ephemeral (libvirt, formatsecret): libvirt gives its value to QEMU and to no client, and has
it in memory only. libvirt forgets the secret when the daemon that has it stops. A guest that has the device keeps
working then, but needs the secret again at its next start.

A secret belongs to the agent if its usage has the id that the agent gives: ``aliasagent`` and the secret's UUID.
libvirt never changes the usage of a secret, and refuses two secrets with the same usage. The agent neither changes nor
removes any other secret.
"""

import enum
import logging
from typing import Any

import libvirt
from lxml import etree

from aliasagent.virt import errors
from aliasagent.virt.host import Host

LOG = logging.getLogger(__name__)


class Usage(enum.Enum):
    """What a secret is for: the type of its usage, and the element that has the id of the usage."""

    #: The key of a Ceph user.
    CEPH = ('ceph', 'name')
    #: A CHAP password.
    ISCSI = ('iscsi', 'target')
    #: The passphrase of an encrypted volume.
    VOLUME = ('volume', 'volume')


class Secrets:
    """Makes and removes the agent's secrets in the libvirt of a host. Each method can be repeated."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def ensure(self, secret_uuid: str, usage: Usage, value: bytes, description: str = '') -> None:
        """Define a secret, and set its value.

        :param value: must not be empty.
        :param description: what the secret is for, as ``virsh secret-dumpxml`` shows it.
        :raises SecretTaken: libvirt has another client's secret with this UUID; the agent leaves it as it is.
        :raises HypervisorError: libvirt refused.
        :raises Unsupported: this hypervisor has no secrets.
        :raises HypervisorUnavailable: the hypervisor did not answer.
        """
        action = f'define the secret {secret_uuid}'
        with self._host.calling(action) as connection:
            # If another client defines a secret with this UUID after this check, libvirt refuses the definition,
            # because the usages differ.
            found = _find(connection, secret_uuid)
            if found is not None and not _is_ours(found):
                use = f', for use with {found.usageID()}' if found.usageID() else ''
                reason = f'libvirt has a secret with this UUID that the agent did not make{use}'
                raise errors.SecretTaken(action=action, reason=reason)
            connection.secretDefineXML(_xml(secret_uuid, usage, description), 0).setValue(value, 0)

    def remove(self, secret_uuid: str) -> None:
        """Remove a secret if there is one; another client's secret stays.

        :raises HypervisorError: libvirt refused.
        :raises HypervisorUnavailable: the hypervisor did not answer.
        """
        with self._host.calling(f'remove the secret {secret_uuid}') as connection:
            found = _find(connection, secret_uuid)
            if found is None:
                return
            if not _is_ours(found):
                LOG.warning('The secret %s stays in libvirt, because the agent did not make it', secret_uuid)
                return
            try:
                found.undefine()
            except libvirt.libvirtError as error:
                if not errors.is_no_secret(error):
                    raise


def _find(connection: Any, secret_uuid: str) -> Any:
    """Look up a secret; None if there is none."""
    try:
        return connection.secretLookupByUUIDString(secret_uuid)
    except libvirt.libvirtError as error:
        if errors.is_no_secret(error):
            return None
        raise


def _is_ours(secret: Any) -> bool:
    return bool(secret.usageID() == _usage_id(secret.UUIDString()))


def _usage_id(secret_uuid: str) -> str:
    return f'aliasagent {secret_uuid.lower()}'


def _xml(secret_uuid: str, usage: Usage, description: str) -> str:
    kind, element = usage.value
    secret = etree.Element('secret', ephemeral='yes', private='yes')
    etree.SubElement(secret, 'uuid').text = secret_uuid
    etree.SubElement(secret, 'description').text = f'aliasagent: {description or kind}'
    etree.SubElement(etree.SubElement(secret, 'usage', type=kind), element).text = _usage_id(secret_uuid)
    return etree.tostring(secret, encoding='unicode')
