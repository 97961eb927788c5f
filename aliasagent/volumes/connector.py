# SPDX-License-Identifier: Apache-2.0
"""Connect volumes to this host with os-brick, and disconnect them.

What a connection needs for its disconnect are its *details*, a JSON object without passwords:

``state``
    ``connecting`` before os-brick is called, ``connected`` once it returned, ``leaving`` once its disconnect has begun.
``units``
    What the volume is in its storage: targets with LUNs, or the mount point of its share. Two connections with a unit
    in common are the same to this host: only the last one that leaves takes the device with it.
``multipath``
    Whether os-brick was asked for all paths.
``device_path``, ``multipath_id``, ``wwn``
    As os-brick returned them.
``lasting_path``
    The name that the guest gets in place of the ``device_path``: it is the same disk after the next start of the host.
    None if there is none.
``identities``
    The world wide ids of the device. A name such as /dev/sda may be another disk's tomorrow.
``mount_point``, ``mounted``
    Of a share: where it is mounted, and whether the agent has mounted it.
"""

import contextlib
import copy
import os
import stat
import time
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

from oslo_log import log as logging

from aliasagent import exception
from aliasagent.volumes import blocks
from aliasagent.volumes import brick
from aliasagent.volumes import mounts
from aliasagent.volumes import redaction
from aliasagent.volumes import turns
from aliasagent.volumes import units

LOG = logging.getLogger(__name__)

Json = dict[str, Any]
Save = Callable[[Json], None]
#: Returns the details of the other connections of this host.
Others = Callable[[], Iterable[Json]]

#: QEMU connects to these by itself, or they are on this host already.
_READY = frozenset({'rbd', 'local', 'gpfs'})
#: File systems that os-brick mounts at :func:`mounts.place`.
_SHARES = frozenset({'nfs', 'glusterfs', 'quobyte'})
#: File systems that os-brick mounts elsewhere, or with a password in the name of the share.
_REFUSED = frozenset({'scality', 'vzstorage'})

_LEAVING = 'leaving'

#: Seconds that a process may take to close a device.
CLOSING = 5.0

#: Types whose devices are SCSI disks.
_SCSI = frozenset({'iscsi', 'iser', 'fibre_channel'})

#: Seconds that udev may take to name a device.
NAMING = 3.0

_CHECK = 'checking the device'
_CONNECT = 'connecting the host'
_DISCONNECT = 'disconnecting the host'
_PROPERTIES = 'reading the connector of the host'


def _no_others() -> Iterable[Json]:
    return ()


class BrickConnector:
    """Connects volumes to this host.

    All methods block, for about twice the option ``timeout`` at most. Each is safe to repeat.
    """

    def __init__(self, settings: brick.Settings) -> None:
        self._settings = settings
        self._brick = brick.Brick(settings)
        self._turns = turns.Turns(settings.timeout)

    def properties(self) -> Json:
        """Return the *connector* of this host: what Cinder wants to know of it to make an attachment.

        Without os-brick it is enough for volumes that QEMU connects by itself, such as RBD.

        :raises ConnectionFailed: os-brick failed, or did not return in time.
        :raises Unsupported: os-brick has no directory for its locks.
        """
        if not brick.is_installed():
            return brick.plain_properties(self._settings)
        with self._turns.take('properties', '(any)', _PROPERTIES) as turn:
            return turn.call(self._brick.properties)

    def connect(
        self,
        volume_id: str,
        connection_info: Json,
        save: Save,
        details: Json | None = None,
        others: Others = _no_others,
    ) -> Json:
        """Connect a volume, and return its ``connection_info`` with the resulting ``device_path``, without passwords.

        A volume that needs no connection is returned unchanged.

        :param connection_info: as Cinder's attachments API answers it, or with its members in ``data``
        :param save: keeps the details of the connection; called before and after os-brick
        :param details: the details that were saved last, if an earlier call did not end
        :param others: returns the details of the other connections of this host; called while no other connection of
            the same volume or share changes
        :raises InvalidInput: the connection_info is not valid, or os-brick does not know its type.
        :raises Unsupported: os-brick is not installed, or has no directory for its locks.
        :raises ConnectionFailed: os-brick failed or did not return in time, or the device is not that of the volume.
        """
        kind, data = _split(connection_info)
        if kind in _READY:
            return connection_info
        if kind in _REFUSED:
            raise exception.InvalidInput(
                field='connection_info.driver_volume_type', reason=f'the agent cannot connect a volume of type {kind}'
            )
        if kind in _SHARES:
            path = self._connect_share(volume_id, kind, data, save, details or {}, others)
        else:
            path = self._connect_device(volume_id, kind, data, save, details or {}, others)
        return _with_device(connection_info, path)

    def disconnect(
        self, volume_id: str, connection_info: Json, details: Json, save: Save, others: Others = _no_others
    ) -> None:
        """Disconnect a volume that its guest does not have any more.

        Does nothing if the volume is not connected, or while another connection of this host uses the same one. Does
        not force anything: a device that cannot be flushed stays.

        :param connection_info: as given to :meth:`connect`; passwords are not needed
        :param details: the details that were saved last
        :param save: as for :meth:`connect`; called before anything is disconnected
        :param others: as for :meth:`connect`
        :raises InvalidInput: the connection_info is not valid, or os-brick does not know its type.
        :raises Unsupported: os-brick is not installed, or has no directory for its locks.
        :raises ConnectionFailed: os-brick failed or did not return in time, a process has the device open, or the
            device is another volume's now.
        """
        if not details.get('state'):  # it is saved before anything is connected
            return
        kind, data = _split(connection_info)
        if kind in _READY:
            return
        key = details['mount_point'] if kind in _SHARES else volume_id
        with self._turns.take(key, volume_id, _DISCONNECT) as turn:
            # Saved first: of two that leave at once, the second must not leave the device to the first.
            save({**details, 'state': _LEAVING})
            if any(it['state'] != _LEAVING for it in _sharing(details['units'], others())):
                LOG.info('Volume %s stays connected: another guest on this host uses it or its share.', volume_id)
            elif kind in _SHARES:
                turn.call(lambda: self._leave_share(details))
            else:
                turn.call(lambda: self._remove_device(volume_id, kind, data, details), redaction.secrets_of(data))

    def check(self, volume_id: str, details: Json) -> None:
        """Check that a connected volume still is what it was when it was connected.

        Does not touch the storage, which may not answer.

        :param details: the details that were saved last
        :raises ConnectionFailed: it is not connected any more, or its device is another disk.
        """
        path = _path(details)
        if details.get('state') != 'connected' or path is None:
            return
        known, now = set(details.get('identities', ())), blocks.identities(path)
        reason = ''
        if 'mount_point' in details:
            if not mounts.is_mounted(details['mount_point']):
                reason = f'its share is not mounted at {details["mount_point"]}'
        elif known and now and known.isdisjoint(now):
            reason = f'{path} is another disk now: it has the ids {_list(now)}, not {_list(known)}'
        elif not now and (known or not os.path.exists(path)):
            reason = f'there is no disk {path}'
        if reason:
            raise _failed(volume_id, _CHECK, f'{reason}; detach the volume and attach it again')

    # Shares

    def _connect_share(
        self, volume_id: str, kind: str, data: Json, save: Save, details: Json, others: Others
    ) -> str:
        export, name = _member(data, 'export'), _member(data, 'name')
        if '/' in name or name in ('.', '..'):
            raise exception.InvalidInput(field='connection_info.name', reason='is not the name of a file')
        base = self._settings.nfs_mount_point_base.rstrip('/')
        directory = mounts.place(base, export)
        with self._turns.take(directory, volume_id, _CONNECT) as turn:
            same = _sharing([directory], others())
            mounted = any(of.get('mounted') for of in (details, *same)) or not mounts.is_mounted(directory)
            found = {'units': [directory], 'mount_point': directory, 'mounted': mounted}
            save({**details, **found, 'state': 'connecting'})
            path = turn.call(lambda: self._mount(volume_id, kind, data, base), redaction.secrets_of(data))
            if os.path.dirname(path) != directory:
                raise _failed(volume_id, _CONNECT, f'os-brick mounted at {os.path.dirname(path)}, not at {directory}')
            save({**details, **found, 'state': 'connected', 'device_path': path})
        return path

    def _mount(self, volume_id: str, kind: str, data: Json, base: str) -> str:
        more: Json = {
            f'{kind}_mount_point_base': base,
            # os-brick warns without it; its own directory is that of Cinder's host
            'conn': {**data, 'mount_point_base': base},
        }
        if kind == 'nfs':
            more['nfs_mount_options'] = self._settings.nfs_mount_options
        if not os.path.isdir(base):
            os.makedirs(base)
            # QEMU, which runs as another user, goes through it
            os.chmod(base, 0o711)  # nosec B103
        answer = self._brick.connector(kind, False, **more).connect_volume(copy.deepcopy(data))
        path: str = answer['path']
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise _failed(volume_id, _CONNECT, f'{path} is not a regular file')
        return path

    def _leave_share(self, details: Json) -> None:
        directory = details['mount_point']
        if not details.get('mounted'):
            LOG.info('Share at %s stays mounted: the agent did not mount it.', directory)
            return
        if mounts.is_mounted(directory):
            try:
                self._brick.execute('umount', directory)
            except Exception as error:
                # Two answers mean that another program uses it, or has unmounted it meanwhile.
                if 'busy' in str(error):
                    LOG.warning('Share at %s stays mounted: another program has a file of it open.', directory)
                    return
                if mounts.is_mounted(directory):
                    raise
        with contextlib.suppress(OSError):
            os.rmdir(directory)

    # Devices

    def _connect_device(
        self, volume_id: str, kind: str, data: Json, save: Save, details: Json, others: Others
    ) -> str:
        found: Json = {'units': units.of(volume_id, kind, data), 'multipath': self._settings.use_multipath}
        with self._turns.take(volume_id, volume_id, _CONNECT) as turn:
            answer = _device_of([details, *_sharing(found['units'], others())])
            if answer is None:
                save({**details, **found, 'state': 'connecting'})
                answer = turn.call(lambda: self._make_device(volume_id, kind, data), redaction.secrets_of(data))
            elif kind in _SCSI and (wwn := answer['wwn']):
                there: str = answer['device_path']
                turn.call(lambda: self._check_live(volume_id, there, wwn))
            known = set(details.get('identities', ()))
            if known and known.isdisjoint(answer['identities']):
                raise _failed(
                    volume_id,
                    _CONNECT,
                    f'{answer["device_path"]} is not the disk that the volume was before: it has the ids '
                    f'{_list(answer["identities"])}, not {_list(known)}',
                )
            save({**details, **found, **answer, 'state': 'connected'})
        path: str = answer['lasting_path'] or answer['device_path']
        return path

    def _make_device(self, volume_id: str, kind: str, data: Json) -> Json:
        connector = self._brick.connector(kind, self._settings.use_multipath)
        answer = connector.connect_volume(_for_brick(data))
        path = answer['path']
        path = path.decode() if isinstance(path, bytes) else path
        wwn = answer.get('scsi_wwn')
        if wwn:
            self._check_live(volume_id, path, wwn)
        found = blocks.identities(path)
        if wwn:
            found.add(wwn)
        return {
            'device_path': path,
            'lasting_path': _lasting_path(path, found) or _lasting_place(path, _places(kind, connector, data)),
            'multipath_id': answer.get('multipath_id'),
            'wwn': wwn or next(iter(sorted(found)), None),
            'identities': sorted(found),
        }

    def _check_live(self, volume_id: str, path: str, wwn: str) -> None:
        """Compare what a disk answers now with what the host knows of it.

        :raises ConnectionFailed: the storage has put another volume in the place of one that this host still has.
        """
        live = self._brick.wwn(path)
        if live and live != wwn:
            raise _failed(
                volume_id,
                _CONNECT,
                f'{path} is left over from another volume: the disk answers with the WWN {live}, and this host has it '
                f'as {wwn}; disconnect the other volume first',
            )

    def _remove_device(self, volume_id: str, kind: str, data: Json, details: Json) -> None:
        connector = self._brick.connector(kind, bool(details.get('multipath')))
        known = set(details.get('identities', ()))
        # Its name may be another disk's now, or free.
        path = _known_path(details) if known else details.get('device_path')
        places = _places(kind, connector, data)
        if kind == 'nvmeof' and not path:
            if not blocks.nvme_controllers(units.subsystems(data)):
                return
            # os-brick disconnects nothing without a path. It is connected, so this only returns the path; if it fails,
            # os-brick disconnects.
            path = connector.connect_volume(_for_brick(data))['path']
            places = [path]
        for place in places:
            if known and known.isdisjoint(now := blocks.identities(place)):
                raise _failed(
                    volume_id,
                    _DISCONNECT,
                    f'{place} is another disk now: it has the ids {_list(now)}, not {_list(known)}',
                )
        for device in [path, *places] if path else places:
            if processes := _users(device):
                raise _failed(volume_id, _DISCONNECT, f'{device} is open in {", ".join(processes)}')
        properties = _for_brick(data)
        answer = {'type': 'block'}
        if path:
            properties['device_path'] = answer['path'] = path
            for name, value in (('multipath_id', details.get('multipath_id')), ('scsi_wwn', details.get('wwn'))):
                if value:
                    answer[name] = value
        connector.disconnect_volume(properties, answer, force=False, ignore_errors=False)


def _split(connection_info: Json) -> tuple[str, Json]:
    """Return the type and the members of a ``connection_info`` of either form.

    :raises InvalidInput: it has no type.
    """
    kind = connection_info.get('driver_volume_type')
    if not isinstance(kind, str) or not kind:
        raise exception.InvalidInput(field='connection_info.driver_volume_type', reason='is missing')
    data = connection_info.get('data')
    if data is None:
        data = {name: value for name, value in connection_info.items() if name != 'driver_volume_type'}
    return kind.lower(), data


def _with_device(connection_info: Json, path: str) -> Json:
    """Return a ``connection_info``, in its own form, with the device and without passwords."""
    info: Json = redaction.without_secrets(connection_info)
    (info if info.get('data') is None else info['data'])['device_path'] = path
    return info


def _for_brick(data: Json) -> Json:
    """Return a copy of a connection's members as os-brick expects them; it changes what it is given."""
    made = copy.deepcopy(data)
    for name in ('target_lun', 'target_luns'):
        made[name] = _numbers(made.get(name))
        if made[name] is None:
            del made[name]
    # QEMU decrypts; with this, os-brick would make a link of its own for cryptsetup.
    made['encrypted'] = False
    # os-brick would disconnect the device that has this name now.
    made.pop('device_path', None)
    return made


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(one) for one in value]
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _member(data: Json, name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise exception.InvalidInput(field=f'connection_info.{name}', reason='is missing')
    return value


def _sharing(wanted: Iterable[str], others: Iterable[Json]) -> list[Json]:
    """Return the connections that have a unit in common with these."""
    return [other for other in others if other.get('state') and not set(wanted).isdisjoint(other.get('units', ()))]


def _device_of(connections: list[Json]) -> Json | None:
    """Return the device that one of these connections has, if it certainly is there.

    os-brick is not called for it again: if it fails, it removes the device by force, from a guest that has it as well.
    """
    for one in connections:
        if one.get('state') == 'connected' and (path := _known_path(one)):
            found = {name: one[name] for name in ('multipath', 'multipath_id', 'wwn', 'identities')}
            lasting = one.get('lasting_path')
            if not lasting or os.path.realpath(lasting) != os.path.realpath(path):
                lasting = None
            return {**found, 'device_path': path, 'lasting_path': lasting or _lasting_path(path, found['identities'])}
    return None


def _path(details: Json) -> str | None:
    """Return the path that a guest has of a connection."""
    return details.get('lasting_path') or details.get('device_path')


def _known_path(details: Json) -> str | None:
    """Return a path by which the device of a connection certainly is there; None if there is none."""
    known = set(details.get('identities', ()))
    lasting = details.get('lasting_path')
    for path in (details.get('device_path'), os.path.realpath(lasting) if lasting else None):
        if path and not known.isdisjoint(blocks.identities(path)):
            return str(path)
    return None


def _lasting_path(path: str, identities: Iterable[str]) -> str | None:
    """Return the lasting name of a device, once udev has given it one."""
    known = list(identities)
    end = time.monotonic() + NAMING
    while (found := blocks.lasting_path(path, known)) is None:
        # Without any link to a disk, as in a container, there is no udev to wait for.
        if not known or not blocks.BY_ID.parent.is_dir() or time.monotonic() >= end:
            break
        time.sleep(0.1)
    return found


def _lasting_place(path: str, places: list[str]) -> str | None:
    """Return the name of a device that says where in the storage it is: it lasts longer than the order of devices."""
    real = os.path.realpath(path)
    return next((place for place in places if place != path and os.path.realpath(place) == real), None)


def _places(kind: str, connector: Any, data: Json) -> list[str]:
    """Return the paths by which os-brick finds the devices that it is going to remove."""
    if kind not in _SCSI:
        return []
    wanted = _for_brick(data)
    if kind == 'fibre_channel':
        # os-brick adds them by itself in its other methods only
        wanted['targets'] = [(name.lower(), lun) for name, lun in units.targets(wanted, 'target_wwn')]
    return [path for path in connector.get_volume_paths(wanted) if os.path.exists(path)]


def _users(device: str) -> list[str]:
    """Return the processes that keep a device open; others, such as the rules of udev, have it open for a moment."""
    end = time.monotonic() + CLOSING
    while (found := blocks.users(device)) and time.monotonic() < end:
        time.sleep(0.2)
    return found


def _list(ids: Iterable[str]) -> str:
    return ', '.join(sorted(ids)) or '(none)'


def _failed(volume_id: str, step: str, reason: str) -> exception.ConnectionFailed:
    return exception.ConnectionFailed(volume=volume_id, step=step, reason=reason)
