# SPDX-License-Identifier: Apache-2.0
"""Keep passwords of a volume's connection out of the log and out of errors.

os-brick and its libraries mask what they recognize as a password by its name. This module masks the values themselves,
wherever a library logs them: in a command line, in the output of a program, in a traceback.
"""

import collections
import contextlib
import logging
import re
import threading
import traceback
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Any

MASK = '***'
#: A member of a connection_info whose name contains one of these has a secret as its value.
_NAMES = ('password', 'passwd', 'secret', 'passphrase', 'keyring', 'token', 'credential', '_key')
#: Members with such a name that are not secret.
_PUBLIC = frozenset({'secret_type', 'secret_uuid', 'encryption_key_id'})
#: The members of a connection_info that os-brick needs to disconnect a volume, or that tell an operator which it is.
_KEPT = frozenset({
    'driver_volume_type', 'data', 'volume_id', 'device_path', 'multipath_id', 'encrypted', 'access_mode', 'discard',
    # iSCSI, Fibre Channel
    'target_discovered', 'target_portal', 'target_portals', 'target_iqn', 'target_iqns', 'target_lun', 'target_luns',
    'target_wwn', 'target_wwns', 'addressing_mode', 'initiator_target_map', 'initiator_target_lun_map',
    # NVMe
    'target_nqn', 'nqn', 'host_nqn', 'portals', 'target_port', 'transport_type', 'vol_uuid', 'volume_nguid', 'ns_id',
    'alias', 'volume_replicas', 'replica_count',
    # Shares, Ceph, LightOS, StorPool
    'export', 'name', 'format', 'mount_point_base', 'hosts', 'ports', 'cluster_name', 'uuid', 'volume', 'client_id',
    # PowerFlex, whose password is in a file of the host
    'scaleIO_volname', 'scaleIO_volume_id', 'hostIP', 'serverIP', 'serverPort', 'serverUsername', 'iopsLimit',
    'bandwidthLimit', 'config_group', 'failed_over', 'verify_certificate', 'certificate_path', 'sdc_guid',
})  # fmt: skip
#: A name of a port of Fibre Channel, which is the name of a member in the maps.
_WWN = re.compile('[0-9A-Fa-f:]{16,23}')

_lock = threading.Lock()
_hidden: collections.Counter[str] = collections.Counter()


def is_secret(name: str) -> bool:
    """Return whether a member of a connection_info with this name has a secret."""
    return name not in _PUBLIC and any(part in name.lower() for part in _NAMES)


def without_secrets(data: Any) -> Any:
    """Return a copy of a connection_info without the members that have secrets."""
    if isinstance(data, dict):
        return {name: without_secrets(value) for name, value in data.items() if not is_secret(name)}
    if isinstance(data, list):
        return [without_secrets(value) for value in data]
    return data


def kept(data: Any) -> Any:
    """Return a copy of a connection_info with what may be recorded: a member that is not known may be a secret."""
    if isinstance(data, dict):
        found = {name: kept(value) for name, value in data.items() if name in _KEPT or _WWN.fullmatch(name)}
        if isinstance(found.get('export'), str):
            # The name of a share may begin with a user and a password.
            found['export'] = found['export'].rpartition('@')[2]
        return found
    if isinstance(data, list | tuple):
        return [kept(value) for value in data]
    return data


def secrets_of(data: Any) -> set[str]:
    """Return the secrets of a connection_info."""
    if isinstance(data, dict):
        own = {value for name, value in data.items() if is_secret(name) and isinstance(value, str) and value}
        return own.union(*(secrets_of(value) for value in data.values()))
    if isinstance(data, list):
        return set[str]().union(*(secrets_of(value) for value in data))
    return set()


def redacted(text: str) -> str:
    """Return a text with each hidden secret masked."""
    with _lock:
        secrets = sorted(_hidden, key=len, reverse=True)
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


@contextlib.contextmanager
def hidden(secrets: AbstractSet[str]) -> Iterator[None]:
    """Mask secrets in the log, in all threads, until the context ends."""
    with _lock:
        _hidden.update(secrets)
    try:
        yield
    finally:
        with _lock:
            _hidden.subtract(secrets)
            for secret in [secret for secret, count in _hidden.items() if count <= 0]:
                del _hidden[secret]


def _install() -> None:
    """Have all records of the log masked when they are made: a filter would miss the loggers that are made later."""
    make = logging.getLogRecordFactory()

    def made(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = make(*args, **kwargs)
        if _hidden:
            _mask(record)
        return record

    logging.setLogRecordFactory(made)


def _mask(record: logging.LogRecord) -> None:
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that do not fit the message, which the log reports with both
        text = f'{record.msg} {record.args!r}'
    if record.exc_info and record.exc_info[1] is not None:
        text = '\n'.join((text, ''.join(traceback.format_exception(record.exc_info[1])).rstrip()))
    masked = redacted(text)
    if masked != text:
        record.msg, record.args, record.exc_info, record.exc_text = masked, (), None, None


_install()
