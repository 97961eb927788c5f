# SPDX-License-Identifier: Apache-2.0
"""An os-brick whose volumes are entries in a sysfs and a mountinfo of its own."""

import copy
import importlib.machinery
import logging
import os
import pathlib
import shutil
import sys
import threading
import types
from collections.abc import Callable
from typing import Any
from unittest import mock

import fixtures
from oslo_config import cfg

from aliasagent.volumes import mounts

Json = dict[str, Any]
#: As a WWID stands in sysfs, and as udev and os-brick write it.
WWID, WWN = 'naa.6001405b2a1c', '36001405b2a1c'


class InvalidConnectorProtocol(Exception):
    pass


class FakeBrick(fixtures.Fixture):
    """Puts itself in the place of os-brick. Disks are named sda, sdb and so on; a share has the files of ``files``."""

    def __init__(self, directory: str) -> None:
        super().__init__()
        self.directory = pathlib.Path(directory)
        self.sys, self.dev = self.directory / 'sys', self.directory / 'dev'
        self.nvme, self.by_id = self.directory / 'nvme', self.directory / 'disk' / 'by-id'
        self.proc, self.mountinfo = self.directory / 'proc', self.directory / 'mountinfo'
        #: The calls in their order: what was done, of which type, with which data.
        self.calls: list[tuple[str, str, Json]] = []
        #: The arguments of each connector that was made.
        self.made: list[Json] = []
        #: The device of each disk that this host has, by target and LUN.
        self.disks: dict[tuple[str, Any], str] = {}
        #: Called in place of what the name says, before anything changes: connect, connected, disconnect, umount.
        self.at: dict[str, Callable[[], None]] = {}
        #: What a disk answers with as its WWN; None for what the host has.
        self.live: str | None = None
        #: The WWID that the next disk has.
        self.wwid: str = WWID
        self.multipath_id: str | None = None
        self.files = ['volume-1']
        self.client_mode: dict[str, bool] = {}
        self.properties: Json = {'initiator': 'iqn.1993-08.org.debian:01:1', 'multipath': False}
        self.log = logging.getLogger('os_brick.initiator.connectors.fake')

    def _setUp(self) -> None:  # noqa: N802 - it is what fixtures calls
        for directory in (self.sys, self.dev, self.proc, self.nvme):
            directory.mkdir()
        self.mountinfo.write_text('22 28 0:21 / /proc rw shared:5 - proc proc rw\n')
        self.useFixture(fixtures.MonkeyPatch('aliasagent.volumes.blocks.SYS', self.sys))
        self.useFixture(fixtures.MonkeyPatch('aliasagent.volumes.blocks.NVME', self.nvme))
        self.useFixture(fixtures.MonkeyPatch('aliasagent.volumes.blocks.PROC', self.proc))
        self.useFixture(fixtures.MonkeyPatch('aliasagent.volumes.blocks.BY_ID', self.by_id))
        self.useFixture(fixtures.MonkeyPatch('aliasagent.volumes.mounts.MOUNTINFO', self.mountinfo))
        self.useFixture(fixtures.MonkeyPatch('aliasagent.volumes.blocks._number', self._number))
        patch = mock.patch.dict(sys.modules, self._modules())
        patch.start()
        self.addCleanup(patch.stop)

    def _modules(self) -> dict[str, types.ModuleType]:
        contents: dict[str, Json] = {
            'os_brick': {'setup': self._set_up},
            'os_brick.exception': {'InvalidConnectorProtocol': InvalidConnectorProtocol},
            'os_brick.initiator': {},
            'os_brick.initiator.connector': {
                'get_connector_properties': self._properties,
                'InitiatorConnector': types.SimpleNamespace(factory=self._factory),
            },
            'os_brick.initiator.linuxscsi': {
                'LinuxSCSI': lambda _helper: types.SimpleNamespace(get_scsi_wwn=lambda _path: self.live or WWN),
            },
            'os_brick.privileged': {
                name: types.SimpleNamespace(set_client_mode=lambda mode, name=name: self._mode(name, mode))
                for name in ('default', 'brick_privsep_hide_output')
            },
            'os_brick.privileged.rootwrap': {'execute': self._execute},
        }
        modules = {name: types.ModuleType(name) for name in contents}
        for name, module in modules.items():
            module.__spec__ = importlib.machinery.ModuleSpec(name, None)
            module.__dict__.update(contents[name])
            parent, _, child = name.rpartition('.')
            if parent:
                setattr(modules[parent], child, module)
        return modules

    def _mode(self, name: str, mode: bool) -> None:
        self.client_mode[name] = mode

    def _set_up(self, conf: cfg.ConfigOpts) -> None:
        conf.register_opts([cfg.StrOpt('lock_path')], group='os_brick')
        conf.set_default('lock_path', conf.oslo_concurrency.lock_path, group='os_brick')

    def _properties(self, _helper: None, ip: str, multipath: bool, enforced: bool, host: str) -> Json:
        self._reach('properties')
        return {**self.properties, 'ip': ip, 'host': host, 'multipath': multipath, 'enforce_multipath': enforced}

    def _factory(self, kind: str, _helper: None, use_multipath: bool, **more: Any) -> 'Connector':
        if kind == 'betamax':
            raise InvalidConnectorProtocol(kind)
        self.made.append({'kind': kind, 'use_multipath': use_multipath, **more})
        return Connector(self, kind, more)

    def _reach(self, place: str) -> None:
        if place in self.at:
            self.at[place]()

    def _execute(self, *command: str, run_as_root: bool, root_helper: None) -> None:
        assert run_as_root
        assert root_helper is None
        self.calls.append((command[0], '', {'directory': command[1]}))
        self._reach('umount')
        self.unmount(command[1])

    def mount(self, directory: str) -> None:
        """Mount a share with the files; as another program does."""
        os.makedirs(directory, exist_ok=True)
        for name in self.files:
            (pathlib.Path(directory) / name).touch()
        with self.mountinfo.open('a') as file:
            escaped = directory.replace(' ', '\\040')
            file.write(f'30 22 0:50 / {escaped} rw shared:9 - nfs4 192.0.2.1:/a rw\n')

    def unmount(self, directory: str) -> None:
        for file in pathlib.Path(directory).iterdir():
            file.unlink()
        lines = self.mountinfo.read_text().splitlines()
        self.mountinfo.write_text(''.join(f'{line}\n' for line in lines if line.split(' ')[4] != directory))

    def mounted(self) -> list[str]:
        return [line.split(' ')[4] for line in self.mountinfo.read_text().splitlines()[1:]]

    def plug(self, target: str, lun: Any) -> str:
        """Make a disk, and return its path."""
        if (target, lun) not in self.disks:
            name = f'sd{chr(ord("a") + len(self.disks))}'
            self.disks[target, lun] = name
            (self.dev / name).touch()
            self.identify(name, self.wwid)
            (self.nvme / name).mkdir()
            (self.nvme / name / 'subsysnqn').write_text(f'{target}\n')
            (self.sys / name / 'dev').write_text('8:0\n')
        return str(self.dev / self.disks[target, lun])

    def identify(self, name: str, wwid: str) -> None:
        """Change which disk a name stands for."""
        (self.sys / name / 'device').mkdir(parents=True, exist_ok=True)
        (self.sys / name / 'device' / 'wwid').write_text(f'{wwid}\n')

    def name(self, name: str, device: str) -> str:
        """Give a device a name after its id, as udev does, and return it."""
        self.by_id.mkdir(parents=True, exist_ok=True)
        link = self.by_id / name
        link.unlink(missing_ok=True)
        link.symlink_to(self.dev / device)
        return str(link)

    def unplug(self, target: str, lun: Any) -> None:
        name = self.disks.pop((target, lun), None)
        if name is not None:
            (self.dev / name).unlink()
            shutil.rmtree(self.sys / name)
            shutil.rmtree(self.nvme / name)

    def open_by(self, process: int, name: str, device: str) -> None:
        """Have a process, with its name, that has a device open."""
        (self.proc / str(process) / 'fd').mkdir(parents=True)
        (self.proc / str(process) / 'fd' / '3').symlink_to(device)
        (self.proc / str(process) / 'comm').write_text(f'{name}\n')

    def _number(self, path: pathlib.Path) -> str:
        target = os.readlink(path)
        return '8:0' if target == str(self.dev / 'sda') else ''

    def done(self, what: str) -> list[Json]:
        return [data for call, _kind, data in self.calls if call == what]


class Connector:
    """What os-brick's factory returns."""

    def __init__(self, brick: FakeBrick, kind: str, arguments: Json) -> None:
        self._brick, self._kind, self._arguments = brick, kind, arguments

    def connect_volume(self, data: Json) -> Json:
        self._brick.calls.append(('connect', self._kind, copy.deepcopy(data)))
        self._brick._reach('connect')
        if self._kind == 'nfs':
            directory = mounts.place(self._arguments['nfs_mount_point_base'], data['export'])
            if directory not in self._brick.mounted():
                self._brick.mount(directory)
            answer = {'path': f'{directory}/{data["name"]}'}
        else:
            answer = {'type': 'block', 'path': self._brick.plug(*_target(data)), 'scsi_wwn': WWN}
            if self._brick.multipath_id:
                answer['multipath_id'] = self._brick.multipath_id
        data.clear()  # the real one changes what it is given, too
        self._brick._reach('connected')
        return answer

    def disconnect_volume(self, data: Json, device: Json, force: bool, ignore_errors: bool) -> None:
        assert not force
        assert not ignore_errors
        self._brick.calls.append(('disconnect', self._kind, {'data': copy.deepcopy(data), 'device': device}))
        self._brick._reach('disconnect')
        if self._kind == 'nvmeof' and 'path' not in device:
            return
        self._brick.unplug(*_target(data))

    def get_volume_paths(self, data: Json) -> list[str]:
        if self._kind == 'fibre_channel':
            assert data['targets'] == [('5001ab', 3)]
        name = self._brick.disks.get(_target(data))
        return [str(self._brick.dev / name), '/nonexistent/by-path'] if name else []


def _target(data: Json) -> tuple[str, Any]:
    names = [data.get(member) for member in ('target_iqn', 'target_nqn', 'target_wwn', 'name')]
    return next((name for name in names if name), ''), data.get('target_lun')


class Hang:
    """A call that does not return before it is released."""

    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        self.release.wait()
