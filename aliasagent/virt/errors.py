# SPDX-License-Identifier: Apache-2.0
"""libvirt's error codes into our exceptions. Nobody else reads a code.

Codes are ``virErrorNumber`` (libvirt, virterror.h). A device that is not there has no code of its own (an unknown alias
is an "internal error"), so it has no exception here either: whoever wants to know reads the guest again.
"""

import contextlib
from collections.abc import Callable
from collections.abc import Iterator

import libvirt

from aliasagent import exception


class ConnectionLost(exception.HypervisorUnavailable):
    """The connection that the call was made over was lost, though the first one stands."""


class UnplugPending(exception.HypervisorError):
    """The guest was already asked to release the device, and has not answered yet."""


class UnplugBusy(exception.HypervisorError):
    """The guest's hot-plug controller is busy for some seconds; ask again."""

    retryable = True


class InvalidOperation(exception.HypervisorError):
    """Not as things are: the guest was started or stopped since it was looked at, or a target name is taken."""


class LeftInQemu(exception.HypervisorError):
    """QEMU has something of an attach in the middle of which libvirtd was killed, and libvirt does not know of it.

    It stays there, and is in the way, for as long as the guest's QEMU process runs.
    """


class NameLeft(LeftInQemu):
    """It has a name that libvirt chose, and chooses otherwise the next time."""


class PlaceLeft(LeftInQemu):
    """It is where the new device was to go."""


#: QEMU's own words, which no locale translates, for what has no code.
_BY_WORDS: dict[str, type[exception.HypervisorError]] = {
    'already in the process of unplug': UnplugPending,
    'guest is busy': UnplugBusy,
    'Duplicate nodes with node-name': NameLeft,
    'lun already used by': PlaceLeft,
    'Duplicate device ID': LeftInQemu,
}
_UNAVAILABLE = frozenset({libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_INVALID_CONN})
_UNSUPPORTED = frozenset({libvirt.VIR_ERR_OPERATION_UNSUPPORTED, libvirt.VIR_ERR_NO_SUPPORT})


@contextlib.contextmanager
def translated(action: str, instance: str, is_alive: Callable[[], bool]) -> Iterator[None]:
    """Turn what libvirt raises inside into our exceptions.

    :param action: what is being done, for the error's words.
    :param instance: the guest's UUID, empty if it is not about one guest.
    :param is_alive: whether the connection still stands after the error.
    """
    try:
        yield
    except libvirt.libvirtError as error:
        raise _translate(error, action, instance, is_alive()) from error


def _translate(error: libvirt.libvirtError, action: str, instance: str, alive: bool) -> exception.AliasAgentError:
    code, reason = error.get_error_code(), error.get_error_message() or str(error)
    if not alive or code in _UNAVAILABLE:
        return exception.HypervisorUnavailable(reason=reason)
    if code == libvirt.VIR_ERR_NO_DOMAIN:
        return exception.InstanceNotFound(instance=instance)
    if code in _UNSUPPORTED:
        return exception.Unsupported(what=action, reason=reason)
    if code == libvirt.VIR_ERR_OPERATION_TIMEOUT:
        return exception.GuestBusy(instance=instance, reason=reason)
    if code == libvirt.VIR_ERR_OPERATION_INVALID:
        return InvalidOperation(action=action, reason=reason)
    for words, kind in _BY_WORDS.items():
        if words in reason:
            return kind(action=action, reason=reason)
    return exception.HypervisorError(action=action, reason=reason)
