# SPDX-License-Identifier: Apache-2.0
"""Reads the key of the Ceph user ``[ceph] user`` from the file ``[ceph] keyring``.

A keyring is a text with a section for each user (Ceph, ``ceph-authtool``)::

    [client.cinder]
        key = AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==
        caps mon = "profile rbd"

No error has a part of the file, because it may be a key.
"""

import base64
import binascii
import dataclasses
import os
import re
import stat
import uuid

from oslo_config import cfg

#: The namespace of the UUIDs that the agent derives for its secrets. Guests' definitions have these UUIDs: never change
#: it.
_NAMESPACE = uuid.UUID('ac73001c-63ae-4938-9e63-edce04bccce6')
#: A keyring with thousands of users is smaller.
_MOST_BYTES = 1 << 20
_COMMENT = re.compile('[#;]')


@dataclasses.dataclass(frozen=True)
class Login:
    """A Ceph user with the user's key, and the libvirt secret that is to have the key."""

    user: str
    secret_uuid: str
    #: The key as libvirt takes it: not in base64.
    key: bytes = dataclasses.field(repr=False)
    #: Why the key may be known to others; None if only the owner of the file can read it.
    doubt: str | None = dataclasses.field(default=None, compare=False)


def login(conf: cfg.ConfigOpts) -> Login | None:
    """Read the key that the options name; None without the option ``keyring``.

    :raises cfg.Error: the file cannot be read, or does not have the key of the user.
    """
    options = conf.ceph
    if not options.keyring:
        return None
    if not options.user:
        raise cfg.Error('[ceph] keyring needs [ceph] user, the name of a user in it without "client."')
    try:
        text, mode = _read(options.keyring)
        key = find_key(text, options.user)
    except OSError as error:
        raise cfg.Error(f'[ceph] keyring: {options.keyring} cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise cfg.Error(f'[ceph] keyring: {options.keyring} {error}') from None
    doubt = None
    if mode & 0o077:
        doubt = f'{options.keyring} has mode {mode:04o}; only its owner should be able to read it: chmod 600'
    return Login(options.user, (options.secret_uuid or secret_uuid(options.user)).lower(), key, doubt)


def secret_uuid(user: str) -> str:
    """Return the UUID of the secret of a Ceph user.

    The UUID is the same on every host, because a guest needs the secret on the host to which it is migrated, too.
    """
    return str(uuid.uuid5(_NAMESPACE, f'ceph client.{user}'))


def find_key(text: str, user: str) -> bytes:
    """Find the key of a user in the text of a keyring.

    :raises ValueError: the keyring does not have exactly one key of the user, or the key is not valid.
    """
    name = f'client.{user}'
    found: set[str] = set()
    section, is_there = None, False
    for line in text.split('\n'):
        line = _COMMENT.split(line, maxsplit=1)[0].strip()
        if line.startswith('['):
            section = line[1:-1].strip() if line.endswith(']') else None
            is_there |= section == name
        elif section == name:
            field, _equals, value = line.partition('=')
            if field.strip() == 'key':
                found.add(value.strip().strip('"'))
    if not is_there:
        raise ValueError(f'has no section [{name}]')
    if len(found) != 1:
        raise ValueError(f'has {"different keys" if found else "no key"} of {name}')
    try:
        key = base64.b64decode(found.pop(), validate=True)
    except (binascii.Error, ValueError):
        key = b''
    if not key:
        raise ValueError(f'has a key of {name} that is not valid base64')
    return key


def _read(path: str) -> tuple[str, int]:
    """Read a file, and return its text and its permissions.

    :raises ValueError: this is not a small regular file.
    """
    # Not blocking, because the path may be a pipe.
    with open(path, 'rb', opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise ValueError('is not a regular file')
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f'has more than {_MOST_BYTES} bytes, and is no keyring')
    # A byte that is not UTF-8 belongs to no key.
    return content.decode(errors='replace'), stat.S_IMODE(mode)
