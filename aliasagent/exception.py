# SPDX-License-Identifier: Apache-2.0
"""Every error that leaves a room of the house.

Four families, because they ask for different things of whoever gets them:

* :class:`InvalidRequest`: what was asked cannot be done as asked. Never retried.
* :class:`NotFound`: we looked, could read everything, and it is not there.
* :class:`Conflict`: it could be done only at the cost of something else.
* :class:`HypervisorError`: could not tell, or libvirt refused.

The few others are about the agent itself.

"Could not tell" is never a :class:`NotFound`.

Each error is made of keyword details only, so that oslo.messaging can carry it to the caller and build it anew there.
"""

from typing import ClassVar


class AliasAgentError(Exception):
    """An error with named details."""

    template: ClassVar[str] = 'an error happened'
    #: Whether the same request may succeed later with nothing changed in it.
    retryable: ClassVar[bool] = False

    def __init__(self, **details: object) -> None:
        #: The details by name; oslo.messaging reads this attribute to send the error.
        self.kwargs = {name: str(value) for name, value in details.items()}
        self.message = self.template.format(**self.kwargs)
        # NOTE: no positional arguments, or oslo.messaging could not make the error anew from what it sends.
        super().__init__()

    def __str__(self) -> str:
        return self.message


def public(error: BaseException) -> AliasAgentError:
    """Return an error as those know it who get it over RPC: one of this module's classes.

    An error that a room raises for itself becomes the nearest of its bases here, in the same words. Any other one
    becomes an :class:`InternalError`.
    """
    if not isinstance(error, AliasAgentError):
        return InternalError(kind=type(error).__name__)
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ == __name__)
    return error if kind is type(error) else kind(**error.kwargs)


class InvalidRequest(AliasAgentError):
    """The request itself is wrong; nothing was changed and asking again does not help."""


class InvalidInput(InvalidRequest):
    """A field of the request does not hold what it must."""

    template = '{field}: {reason}'

    def __init__(self, *, field: str, reason: str) -> None:
        super().__init__(field=field, reason=reason)


class InvalidXML(InvalidRequest):
    """A text that should be a libvirt definition is none."""

    template = 'not a usable libvirt definition: {reason}'


class Unsupported(InvalidRequest):
    """Neither this agent nor the hypervisor can do this to such a device."""

    template = '{what} is not supported: {reason}'


class NotFound(AliasAgentError):
    """We could read everything, and it is not there."""


class InstanceNotFound(NotFound):
    template = 'instance {instance} is not on this host'


class DeviceNotFound(NotFound):
    template = 'instance {instance} has no device {device}'


class OperationNotFound(NotFound):
    template = 'no operation {operation} is known on this host'


class Conflict(AliasAgentError):
    """It is refused, because it would harm or could take something else."""


class DeviceConflict(Conflict):
    """Another device already goes by this identity."""

    template = 'device {device} of instance {instance}: {reason}'


class AmbiguousDevice(Conflict):
    """More than one device could be the one that is meant; none is touched."""

    template = 'more than one device of instance {instance} could be {device}: {candidates}'


class OperationConflict(Conflict):
    """An operation id that was used for something else."""

    template = 'operation {operation} was already used for another request'


class HypervisorError(AliasAgentError):
    """libvirt refused, or the device did not do what was asked of it."""

    template = '{action}: {reason}'


class HypervisorUnavailable(HypervisorError):
    """The hypervisor cannot be reached; nothing is known about its guests meanwhile."""

    template = 'the hypervisor cannot be reached: {reason}'
    retryable = True


class GuestUnreadable(HypervisorError):
    """The guest is there but its definition could not be read, so nothing can be said about its devices."""

    template = 'the definition of instance {instance} could not be read: {reason}'
    retryable = True


class GuestBusy(HypervisorError):
    """The guest is in a state that does not allow the change now, being migrated for one."""

    template = 'instance {instance} cannot be changed now: {reason}'
    retryable = True


class AttachFailed(HypervisorError):
    template = 'device {device} could not be attached to instance {instance}: {reason}'


class DetachFailed(HypervisorError):
    template = 'device {device} could not be detached from instance {instance}: {reason}'


class DetachTimeout(DetachFailed):
    """The guest was not seen to let go of the device in time. It may still do so later."""

    template = (
        'device {device} of instance {instance} was not seen to be released by the guest within {attempts} '
        'attempts of {timeout} s each; {left}'
    )
    retryable = True


class ServiceBusy(AliasAgentError):
    """The agent takes no more work at the moment, or what it has to ask does not answer."""

    template = 'busy, try again: {reason}'
    retryable = True


class JournalError(AliasAgentError):
    """The record of operations cannot be written or read, so no work is accepted."""

    template = 'the journal {path} cannot be used: {reason}'
    retryable = True


class InternalError(AliasAgentError):
    """An error that the agent did not expect. Its own words stay in the log, for they may hold anything."""

    template = "internal error ({kind}): see the agent's log for the traceback"


class NotificationNotSent(AliasAgentError):
    """The message broker did not take a notification; it is kept, and sent later."""

    template = 'the notification could not be sent: {reason}'
    retryable = True
