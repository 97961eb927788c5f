# SPDX-License-Identifier: Apache-2.0
"""Load os-brick, and have it run in this process.

os-brick is optional. It must be imported after oslo.service's backend was chosen (:mod:`aliasagent.threads`).
"""

import dataclasses
import importlib.util
import os
import threading
from typing import Any

from aliasagent import exception

#: The extra of the package that installs os-brick.
EXTRA = 'aliasagent[brick]'


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the configuration says of connections.

    :param host: this host's name in Cinder
    :param lock_path: the directory of lock files; None for that of the group oslo_concurrency
    :param my_ip: this host's address in the storage network; None for that of its default route
    """

    host: str
    my_ip: str | None = None
    use_multipath: bool = False
    enforce_multipath: bool = False
    lock_path: str | None = None
    nfs_mount_point_base: str = '/var/lib/aliasagent/mnt'
    nfs_mount_options: str | None = None
    timeout: float = 180

    @classmethod
    def of(cls, options: Any, host: str) -> 'Settings':
        """Return the settings of the options of group brick."""
        names = [field.name for field in dataclasses.fields(cls) if field.name != 'host']
        return cls(host=host, **{name: getattr(options, name) for name in names})


def is_installed() -> bool:
    """Return whether os-brick is installed."""
    return importlib.util.find_spec('os_brick') is not None


class Brick:
    """os-brick, loaded at its first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loading = threading.Lock()
        self._loaded: Any = None

    def properties(self) -> dict[str, Any]:
        """Return what os-brick finds out about this host.

        :raises Unsupported: os-brick is not installed, or has no directory for its locks.
        """
        found: dict[str, Any] = self._module().get_connector_properties(
            None,
            self._settings.my_ip or _default_ip(),
            self._settings.use_multipath,
            self._settings.enforce_multipath,
            host=self._settings.host,
        )
        return found

    def connector(self, kind: str, use_multipath: bool, **more: Any) -> Any:
        """Return os-brick's connector for a type of volumes.

        :param kind: the ``driver_volume_type``
        :param more: further arguments of the connector
        :raises Unsupported: os-brick is not installed, or has no directory for its locks.
        :raises InvalidInput: os-brick does not know the type.
        """
        module = self._module()
        from os_brick import exception as errors

        try:
            return module.InitiatorConnector.factory(kind, None, use_multipath=use_multipath, **more)
        except errors.InvalidConnectorProtocol as error:
            raise exception.InvalidInput(
                field='connection_info.driver_volume_type', reason=f'os-brick cannot connect a volume of type {kind}'
            ) from error

    def wwn(self, device: str) -> str:
        """Ask a SCSI disk for its world wide name: the kernel's own may be that of an earlier disk."""
        self._module()
        from os_brick.initiator import linuxscsi

        found: str = linuxscsi.LinuxSCSI(None).get_scsi_wwn(device)
        return found

    def execute(self, *command: str) -> None:
        """Run a program as root, as os-brick does."""
        self._module()
        from os_brick.privileged import rootwrap

        rootwrap.execute(*command, run_as_root=True, root_helper=None)

    def _module(self) -> Any:
        with self._loading:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _load(self) -> Any:
        if not is_installed():
            raise exception.Unsupported(
                what='a volume that this host must connect', reason=f'os-brick is not installed: install {EXTRA}'
            )
        import os_brick
        from os_brick import privileged
        from os_brick.initiator import connector
        from oslo_concurrency import lockutils

        conf = lockutils.CONF
        path = self._settings.lock_path or conf.oslo_concurrency.lock_path
        if not path:
            raise exception.Unsupported(
                what='a volume that this host must connect',
                reason='os-brick needs a directory for its locks: set the option [brick] lock_path',
            )
        os.makedirs(path, exist_ok=True)
        os_brick.setup(conf)
        conf.set_default('lock_path', path, group='os_brick')
        if os.geteuid() == 0:
            # Otherwise os-brick starts a helper with sudo, for what this process may do by itself.
            privileged.default.set_client_mode(False)
            privileged.brick_privsep_hide_output.set_client_mode(False)
        return connector


def _default_ip() -> str:
    from oslo_utils import netutils

    found: str = netutils.get_my_ipv4()
    return found


def plain_properties(settings: Settings) -> dict[str, Any]:
    """Return what Cinder wants to know of a host without os-brick: enough for volumes that QEMU connects by itself."""
    return {
        'platform': os.uname().machine,
        'os_type': 'linux',
        'ip': settings.my_ip or _default_ip(),
        'host': settings.host,
        'multipath': False,
        'enforce_multipath': False,
    }
