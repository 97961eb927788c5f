# SPDX-License-Identifier: Apache-2.0
"""Translates libvirt's error codes into the agent's exceptions. No other module reads a code.

Codes are ``virErrorNumber`` (libvirt, virterror.h). libvirt has no code for a missing device (an unknown alias is an
"internal error"), so there is no exception for it here either: the caller reads the guest again.
"""

from collections.abc import Callable

import libvirt

from aliasagent import exception


class ConnectionLost(exception.HypervisorUnavailable):
    """The connection that the call was made over was lost, while the first connection is up."""


class UnplugPending(exception.HypervisorError):
    """The guest was already asked to release the device, and has not answered yet."""


class UnplugBusy(exception.HypervisorError):
    """The guest's hot-plug controller is busy for some seconds; ask again."""

    retryable = True


class InvalidOperation(exception.HypervisorError):
    """Not possible in the guest's state: it was started or stopped since it was read, or a target name is taken."""


class LeftInQemu(exception.HypervisorError):
    """QEMU has a leftover of an attach during which libvirtd was killed, and libvirt does not know of it.

    The leftover blocks other attaches for as long as the guest's QEMU process runs.
    """


class NameLeft(LeftInQemu):
    """The leftover has a name that libvirt chose; libvirt chooses another name at the next attach."""


class PlaceLeft(LeftInQemu):
    """The leftover has the place that the new device was to have."""


class SecretTaken(exception.HypervisorError):
    """libvirt has another client's secret under the UUID of one that the agent makes."""


#: Errors without a code of their own, by QEMU's message, which no locale translates.
_BY_WORDS: dict[str, type[exception.HypervisorError]] = {
    'already in the process of unplug': UnplugPending,
    'guest is busy': UnplugBusy,
    'Duplicate nodes with node-name': NameLeft,
    'lun already used by': PlaceLeft,
    'Duplicate device ID': LeftInQemu,
}
_UNAVAILABLE = frozenset({libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_INVALID_CONN})
_UNSUPPORTED = frozenset({libvirt.VIR_ERR_OPERATION_UNSUPPORTED, libvirt.VIR_ERR_NO_SUPPORT})


def is_no_secret(error: libvirt.libvirtError) -> bool:
    """Return whether libvirt answered that it has no such secret."""
    return bool(error.get_error_code() == libvirt.VIR_ERR_NO_SECRET)


class translated:  # noqa: N801 - used like a function, by each call to libvirt
    """Raise the agent's exceptions for the libvirt errors of this context.

    :param action: what is being done, for the error message.
    :param instance: the guest's UUID; empty if the call is not about one guest.
    :param is_alive: returns whether the connection is still up after the error.
    """

    def __init__(self, action: str, instance: str, is_alive: Callable[[], bool]) -> None:
        self._action = action
        self._instance = instance
        self._is_alive = is_alive

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, libvirt.libvirtError):
            raise _translate(error, self._action, self._instance, self._is_alive()) from error


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
