# SPDX-License-Identifier: Apache-2.0
"""Real storage on the loopback address: targets of iSCSI and of NVMe over TCP, and an NFS server."""

import abc
import os
import pathlib
import subprocess
import time
from typing import Any

Json = dict[str, Any]
VOLUME = 'ada5af06-300e-4d07-931d-3cc2bff8a8a9'
USER, PASSWORD = 'user1', 'x7Qm-hush-chap'
_SIZE = 64 * 2**20
_MEMORY = pathlib.Path('/dev/shm')
#: Seconds that anything may take: there is no KVM.
PATIENCE = 60


class StorageFailed(Exception):
    """A part of the storage does not work, or something is left of a connection."""


def run(*command: str, check: bool = True) -> str:
    """Run a program, and return its output.

    :raises StorageFailed: the exit code is not 0
    """
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if check and done.returncode:
        raise StorageFailed(f'{" ".join(command)}: exit code {done.returncode}: {done.stdout}')
    return done.stdout.strip()


def wait_until(condition: Any, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise StorageFailed(f'still not: {what}')
        time.sleep(0.5)


def start_udev() -> None:
    """Start the daemon that makes the links in /dev/disk."""
    run('/lib/systemd/systemd-udevd', '--daemon')


def disks() -> list[str]:
    """Return the names of all block devices but those that the machine has without any storage."""
    own = ('loop', 'ram', 'vd', 'zram')
    return [name for name in sorted(os.listdir('/sys/class/block')) if not name.startswith(own)]


class Storage(abc.ABC):
    """A volume in storage, and how to connect it."""

    #: As Cinder's attachments API answers.
    info: Json
    use_multipath = False
    #: The file that has what is written to the volume.
    backing: pathlib.Path

    @abc.abstractmethod
    def start(self) -> None:
        """Start the storage, and what the host needs for it."""

    @abc.abstractmethod
    def left(self) -> list[str]:
        """Return what of a connection is left on the host."""


class Iscsi(Storage):
    """A target with a volume, which asks for a password."""

    IQN = f'iqn.2010-10.org.openstack:volume-{VOLUME}'

    def __init__(self) -> None:
        self.backing = _MEMORY / 'lun'
        self.info = {
            'driver_volume_type': 'iscsi',
            'target_discovered': False,
            'target_portal': '127.0.0.1:3260',
            'target_iqn': self.IQN,
            'target_lun': '1',
            'volume_id': VOLUME,
            'auth_method': 'CHAP',
            'auth_username': USER,
            'auth_password': PASSWORD,
            'access_mode': 'rw',
            'encrypted': False,
            'enforce_multipath': False,
        }

    def start(self) -> None:
        run('modprobe', '-a', 'iscsi_tcp', 'sd_mod')
        os.makedirs('/run/lock/iscsi', exist_ok=True)
        pathlib.Path('/etc/iscsi/initiatorname.iscsi').write_text('InitiatorName=iqn.1993-08.org.debian:01:abc\n')
        start_udev()
        run('iscsid')
        with self.backing.open('wb') as file:
            file.truncate(_SIZE)
        # as a daemon it keeps its output open
        subprocess.Popen(['tgtd', '-f'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        show = ('tgtadm', '--lld', 'iscsi', '--op', 'show', '--mode', 'sys')
        wait_until(lambda: 'State: ready' in run(*show, check=False), 'tgtd answers')
        self.admin('target', 'new', '--tid', '1', '-T', self.IQN)
        self.admin('logicalunit', 'new', '--tid', '1', '--lun', '1', '-b', str(self.backing))
        self.admin('target', 'bind', '--tid', '1', '-I', 'ALL')
        self.admin('account', 'new', '--user', USER, '--password', PASSWORD)
        self.admin('account', 'bind', '--tid', '1', '--user', USER)

    @staticmethod
    def admin(mode: str, operation: str, *options: str) -> None:
        run('tgtadm', '--lld', 'iscsi', '--mode', mode, '--op', operation, *options)

    def exchange(self) -> None:
        """Put another volume in the place of this one, while the host may be connected."""
        other = 'scsi_id=IET-00990099,scsi_sn=other'
        self.admin('logicalunit', 'update', '--tid', '1', '--lun', '1', '--params', other)

    def left(self) -> list[str]:
        found = [*disks(), *run('iscsiadm', '-m', 'session', check=False).splitlines()]
        found += run('iscsiadm', '-m', 'node', check=False).splitlines()
        return [line for line in found if 'No active sessions' not in line and 'No records found' not in line]


class Multipath(Iscsi):
    """The same volume by two portals, under multipathd."""

    use_multipath = True

    def __init__(self) -> None:
        super().__init__()
        self.info |= {
            'target_portals': ['127.0.0.1:3260', '127.0.0.2:3260'],
            'target_iqns': [self.IQN, self.IQN],
            'target_luns': ['1', '1'],
        }

    def start(self) -> None:
        run('modprobe', '-a', 'dm_multipath', 'dm_round_robin', 'dm_service_time')
        pathlib.Path('/etc/multipath.conf').write_text(
            'defaults {\n user_friendly_names no\n find_multipaths no\n}\n'
        )
        run('ip', 'address', 'replace', '127.0.0.2/8', 'dev', 'lo')
        super().start()
        run('multipathd')
        show = ('multipathd', 'show', 'status')
        wait_until(lambda: 'path checker states' in run(*show, check=False), 'multipathd answers')

    def left(self) -> list[str]:
        return super().left() + run('multipath', '-ll', check=False).splitlines()


class Nvme(Storage):
    """A subsystem of the kernel's own target, with a volume as its namespace."""

    NQN = f'nqn.2014-08.org.nvmexpress:uuid:{VOLUME}'

    def __init__(self) -> None:
        self.backing = _MEMORY / 'namespace'
        self.info = {
            'driver_volume_type': 'nvmeof',
            'target_nqn': self.NQN,
            'portals': [['127.0.0.1', '4420', 'tcp']],
            'vol_uuid': VOLUME,
            'ns_id': 1,
            'volume_id': VOLUME,
            'access_mode': 'rw',
        }

    def start(self) -> None:
        run('modprobe', '-a', 'nvmet-tcp', 'nvme-tcp', 'loop')
        start_udev()
        if not os.path.ismount('/sys/kernel/config'):
            run('mount', '-t', 'configfs', 'none', '/sys/kernel/config')
        with self.backing.open('wb') as file:
            file.truncate(_SIZE)
        loop = run('losetup', '-f', '--show', str(self.backing))
        target = pathlib.Path('/sys/kernel/config/nvmet')
        subsystem, port = target / 'subsystems' / self.NQN, target / 'ports' / '1'
        (subsystem / 'namespaces' / '1').mkdir(parents=True)
        for name, value in (
            ('attr_allow_any_host', '1'),
            ('namespaces/1/device_path', loop),
            ('namespaces/1/device_uuid', VOLUME),
            ('namespaces/1/enable', '1'),
        ):
            (subsystem / name).write_text(value)
        port.mkdir()
        for name, value in (('trtype', 'tcp'), ('adrfam', 'ipv4'), ('traddr', '127.0.0.1'), ('trsvcid', '4420')):
            (port / f'addr_{name}').write_text(value)
        (port / 'subsystems' / self.NQN).symlink_to(subsystem)

    def left(self) -> list[str]:
        return [*disks(), *(line for line in run('nvme', 'list-subsys').splitlines() if self.NQN in line)]


class Nfs(Storage):
    """A share of the kernel's own server, with a volume as a file."""

    EXPORT = _MEMORY / 'export'

    def __init__(self) -> None:
        self.backing = self.EXPORT / f'volume-{VOLUME}'
        self.info = {
            'driver_volume_type': 'nfs',
            'export': '127.0.0.1:/',
            'name': self.backing.name,
            'format': 'raw',
            'options': None,
            'mount_point_base': '/var/lib/cinder/mnt',
        }

    def start(self) -> None:
        run('modprobe', '-a', 'nfsd', 'nfs', 'nfsv4')
        self.EXPORT.mkdir()
        with self.backing.open('wb') as file:
            file.truncate(_SIZE)
        os.makedirs('/var/lib/nfs/v4recovery', exist_ok=True)
        pathlib.Path('/etc/exports').write_text(
            # as the root of the server: the directories above cannot be exported
            f'{self.EXPORT} 127.0.0.1(rw,sync,fsid=0,no_root_squash,no_subtree_check,insecure)\n'
        )
        run('mount', '-t', 'nfsd', 'nfsd', '/proc/fs/nfsd')
        # otherwise, no file can be opened for 90 s
        for name in ('nfsv4leasetime', 'nfsv4gracetime'):
            pathlib.Path('/proc/fs/nfsd', name).write_text('10\n')
        run('exportfs', '-ra')
        run('rpc.nfsd', '-N', '3', '-V', '4.2', '2')
        run('rpc.mountd', '-N', '3')
        # packets to these addresses are lost, as those to a server that is down
        run('ip', 'route', 'add', '192.0.2.0/24', 'dev', 'lo')

    def left(self) -> list[str]:
        lines = pathlib.Path('/proc/self/mountinfo').read_text().splitlines()
        return [line for line in lines if ' - nfs' in line and ' - nfsd ' not in line]
