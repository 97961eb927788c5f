# SPDX-License-Identifier: Apache-2.0
"""Connects real volumes with os-brick, kills the process that does it, and checks that nothing is left.

    python -m aliasagent.tests.vm.volumes iscsi|multipath|nvme|nfs

Each step runs in a process of its own, as an agent that was started again. A step's name is printed before it begins.
The exit code is 0 if all went as it must.
"""

import json
import os
import pathlib
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging

from aliasagent import exception
from aliasagent.tests.vm import storage
from aliasagent.volumes import blocks
from aliasagent.volumes import brick
from aliasagent.volumes import connector

Json = dict[str, Any]
STORAGE: dict[str, Callable[[], storage.Storage]] = {
    'iscsi': storage.Iscsi,
    'multipath': storage.Multipath,
    'nvme': storage.Nvme,
    'nfs': storage.Nfs,
}
VOLUME = storage.VOLUME
_TEXT = b'written by the test'
#: What the steps keep: the details of the connection, and what connect answered.
_DETAILS, _ANSWER = pathlib.Path('/run/details'), pathlib.Path('/run/answer')
_LOG = pathlib.Path('/run/log')


class Volumes:
    """The steps of a test on one kind of storage."""

    def __init__(self, at: storage.Storage) -> None:
        self.at = at

    # Steps, each in a process of its own

    def connect(self, others: Json | None = None) -> None:
        self.patiently(lambda: self._connect(others))

    def _connect(self, others: Json | None) -> None:
        details = self.details if _DETAILS.exists() else None
        answer = self.connector().connect(VOLUME, self.at.info, self.save, details, lambda: [others] if others else [])
        _ANSWER.write_text(json.dumps(answer))

    @staticmethod
    def patiently(connect: Callable[[], object]) -> None:
        """Connect, as a client would that repeats its request: os-brick fails if a map has no path yet."""
        for _try in range(2):
            try:
                connect()
                return
            except exception.ConnectionFailed as error:
                print(f'    again, because: {error}', flush=True)
                time.sleep(5)
        connect()

    def connect_and_die(self) -> None:
        """End as by kill -9 between os-brick's answer and the record of it."""

        def save(details: Json) -> None:
            if details['state'] == 'connected':
                os.kill(os.getpid(), signal.SIGKILL)
            self.save(details)

        self.patiently(lambda: self.connector().connect(VOLUME, self.at.info, save))

    def disconnect(self, others: Json | None = None) -> None:
        # as it is kept, without passwords
        info = {name: value for name, value in self.at.info.items() if name != 'auth_password'}
        self.connector().disconnect(VOLUME, info, self.details, self.save, lambda: [others] if others else [])

    def disconnect_and_die(self) -> None:
        """End as by kill -9 as soon as os-brick begins to disconnect."""
        made = self.connector()
        execute = made._brick.connector

        def die(*args: Any, **kwargs: Any) -> Any:
            found = execute(*args, **kwargs)
            found.disconnect_volume = lambda *_a, **_k: os.kill(os.getpid(), signal.SIGKILL)
            return found

        made._brick.connector = die  # type: ignore[method-assign]
        made._brick.execute = lambda *_command: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
        made.disconnect(VOLUME, self.at.info, self.details, self.save)

    def refused(self, step: Callable[[], None], words: str) -> None:
        try:
            step()
        except exception.ConnectionFailed as error:
            check(words in str(error), f'"{words}" is in: {error}')
        else:
            raise AssertionError('it was not refused')

    def a_server_that_is_down(self) -> None:
        self.at.info['export'] = '192.0.2.1:/'
        begin = time.monotonic()
        made = self.connector(timeout=5)
        try:
            made.connect(VOLUME, self.at.info, lambda _details: None)
        except exception.ConnectionFailed as error:
            check('still hangs' in str(error), f'the error says it: {error}')
        else:
            raise AssertionError('a server that does not answer was connected')
        check(time.monotonic() - begin < 30, 'it did not take long')

    def no_fibre_channel(self) -> None:
        info = {'driver_volume_type': 'fibre_channel', 'target_wwn': ['5001AB', '5001AC'], 'target_lun': '3'}
        details = {'state': 'connecting', 'units': ['5001ab lun 3'], 'multipath': False}
        self.connector().disconnect(VOLUME, info, details, lambda _details: None)

    # What they need

    def connector(self, timeout: float = 300) -> connector.BrickConnector:
        settings = brick.Settings(
            host='machine',
            my_ip='127.0.0.1',
            use_multipath=self.at.use_multipath,
            lock_path='/run/lock/os-brick',
            nfs_mount_point_base='/run/mnt',
            timeout=timeout,
        )
        return connector.BrickConnector(settings)

    @staticmethod
    def save(details: Json) -> None:
        _DETAILS.write_text(json.dumps(details))

    @property
    def details(self) -> Json:
        found: Json = json.loads(_DETAILS.read_text())
        return found

    @property
    def device(self) -> str:
        """The device that a guest gets, behind the name that stays the same disk."""
        return os.path.realpath(str(json.loads(_ANSWER.read_text())['device_path']))

    # The test

    def run(self) -> None:
        step('the storage starts', self.at.start)
        process('what Cinder wants to know of the host', lambda: print(self.connector().properties()))
        self.check_nothing_left()
        process('connect', self.connect)
        self.check_device()
        process('connect again', self.connect)
        process('disconnect while another guest has it', lambda: self.disconnect(self.details))
        self.check_device()
        process('disconnect', self.disconnect)
        self.check_nothing_left()
        process('disconnect again', self.disconnect)
        self.forget()
        process('connect, killed before the record', self.connect_and_die, killed=True)
        check(self.details['state'] == 'connecting', 'the record has only that it was begun')
        process('connect continues', self.connect)
        self.check_device()
        process('disconnect, killed', self.disconnect_and_die, killed=True)
        process('disconnect continues', self.disconnect)
        self.check_nothing_left()
        self.forget()
        process('connect, killed before the record', self.connect_and_die, killed=True)
        process('disconnect by the record of the begin', self.disconnect)
        self.check_nothing_left()
        self.forget()
        if not self.at.use_multipath:
            # With several portals, a kill of os-brick's own programs can leave records of iSCSI nodes without a session
            # (iscsiadm -m node): a known limit, in the documents.
            self.run_killed()
        match self.at:
            case storage.Nfs():
                self.run_busy()
                process('connect to a server that is down', self.a_server_that_is_down)
            case storage.Nvme():
                process('disconnect Fibre Channel on a host without it', self.no_fibre_channel)
            case storage.Multipath():
                self.run_open()
            case storage.Iscsi():
                self.run_open()
                self.run_exchanged(self.at)

    def run_killed(self) -> None:
        """The process is killed with all that it has started, as by systemd, while os-brick is at work."""
        whole = process('connect', self.connect)
        process('disconnect', self.disconnect)
        for part in (0.3, 0.6):
            self.forget()
            process(f'connect, killed after {part:.0%} of the time', self.connect, kill_after=whole * part)
            # what the daemons of the host have begun they end
            time.sleep(5)
            process('disconnect by the record of the begin', self.disconnect)
            self.check_nothing_left()
        self.forget()

    def run_busy(self) -> None:
        """A process has a file of the share open."""
        process('connect', self.connect)
        with open(self.device, 'rb'):
            process('disconnect while the share is in use', self.disconnect)
            check(bool(self.at.left()), 'the share is mounted')
        process('disconnect', self.disconnect)
        self.check_nothing_left()
        self.forget()

    def run_open(self) -> None:
        """A process has the device open."""
        process('connect', self.connect)
        with open(self.device, 'rb'):
            process('disconnect while it is open', lambda: self.refused(self.disconnect, ' is open in python'))
        process('disconnect', self.disconnect)
        self.check_nothing_left()
        self.forget()

    def run_exchanged(self, at: storage.Iscsi) -> None:
        """The storage puts another volume in the place of one that the host still has."""
        process('connect', self.connect)
        before = self.details
        step('another volume takes its place', at.exchange)
        process('connect with the old device there', lambda: self.refused(self.connect, 'is left over from another'))
        self.save(before)
        process('disconnect', self.disconnect)
        self.check_nothing_left()
        words = 'is not the disk that the volume was before'
        process('connect to the other volume', lambda: self.refused(self.connect, words))

    def check_device(self) -> None:
        """What is written to the device is in the volume, and the record of it has no password."""
        text = b'%s %d' % (_TEXT, time.monotonic_ns())
        with open(self.device, 'r+b') as disk:
            disk.write(text)
            disk.flush()
            os.fsync(disk.fileno())
        with self.at.backing.open('rb') as volume:
            check(volume.read(len(text)) == text, 'what was written to the device is in the volume')
        if not isinstance(self.at, storage.Nfs):
            check(self.details['identities'] == sorted(blocks.identities(self.device) | {self.details['wwn']}),
                  f'the record has the ids of the device: {self.details["identities"]}')
            check(bool(self.details['identities']), 'the device has an id')
        if self.at.use_multipath:
            check(os.path.basename(self.device).startswith('dm-'), f'{self.device} is a map')
            paths = f'/sys/class/block/{os.path.basename(self.device)}/slaves'
            # os-brick returns with the first; multipathd adds the other one
            storage.wait_until(lambda: len(os.listdir(paths)) == 2, 'the map has two paths')
            check(len(os.listdir(paths)) == 2, f'the map has two paths: {os.listdir(paths)}')

    def check_nothing_left(self) -> None:
        check(not self.at.left(), f'nothing is left: {self.at.left()}')

    @staticmethod
    def forget() -> None:
        _DETAILS.unlink()
        _ANSWER.unlink(missing_ok=True)


def check(good: bool, what: str) -> None:
    print(f'    {"yes" if good else "NO"}: {what}', flush=True)
    if not good:
        raise AssertionError(what)


def step(name: str, function: Callable[[], None]) -> float:
    """Do a step, and return how many seconds it took."""
    begin = time.monotonic()
    print(f'{name} ...', flush=True)
    function()
    seconds = time.monotonic() - begin
    print(f'    {seconds:.1f} s', flush=True)
    return seconds


def process(
    name: str, function: Callable[[], None], killed: bool = False, kill_after: float | None = None
) -> float:
    """Do a step in a process of its own, and return how many seconds it took.

    :param killed: whether it must end by SIGKILL
    :param kill_after: kill it, and the programs that it has started, after so many seconds
    """

    def child() -> None:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            try:
                function()
                os._exit(0)
            except BaseException:  # noqa: BLE001 - the process that waits has the exit code
                traceback.print_exc(file=sys.stdout)
                sys.stdout.flush()
                os._exit(1)
        if kill_after is not None:
            time.sleep(kill_after)
            os.killpg(pid, signal.SIGKILL)
        _pid, status = os.waitpid(pid, 0)
        # by then, it may have ended
        expected = (0, -signal.SIGKILL) if kill_after is not None else (-signal.SIGKILL if killed else 0,)
        if os.waitstatus_to_exitcode(status) not in expected:
            raise AssertionError(f'{name}: exit code {os.waitstatus_to_exitcode(status)}')

    return step(name, child)


def main() -> int:
    # all that os-brick logs, so that a password in it would be found
    logging.register_options(cfg.CONF)
    cfg.CONF([], project='aliasagent', default_config_files=[])
    cfg.CONF.set_override('debug', True)
    cfg.CONF.set_override('log_file', str(_LOG))
    logging.setup(cfg.CONF, 'aliasagent', fix_eventlet=False)
    # before the processes part: each would take seconds for it
    from os_brick.initiator import connector as _loaded  # noqa: F401

    try:
        Volumes(STORAGE[sys.argv[1]]()).run()
        text = _LOG.read_text(errors='replace')
        check('os_brick' in text, 'os-brick has logged')
        check(storage.PASSWORD not in text, 'no password is in its log')
    except BaseException:  # noqa: BLE001 - the test has the exit code and the output
        traceback.print_exc(file=sys.stdout)
        print(_LOG.read_text(errors='replace')[-20000:] if '--log' in sys.argv else '(the log: with --log)')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
