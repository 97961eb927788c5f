# SPDX-License-Identifier: Apache-2.0
"""The public errors of the agent.

There are five families, because clients have to handle them differently:

* :class:`InvalidRequest`: the request cannot be done as it is. A retry never helps.
* :class:`NotFound`: the agent could read everything, and the object does not exist.
* :class:`Conflict`: the request could be done only by harming something else.
* :class:`HypervisorError`: the agent could not read the state, or libvirt refused.
* :class:`CloudError`: a service of the cloud refused or did not answer.

The other errors are about the agent itself.

An error in reading is never a :class:`NotFound`.

Errors have keyword arguments only, so that oslo.messaging can send them and make them again at the client.
"""

from typing import ClassVar


class AliasAgentError(Exception):
    """An error with named details."""

    template: ClassVar[str] = 'an error happened'
    #: Whether the same request, unchanged, may succeed later.
    retryable: ClassVar[bool] = False

    def __init__(self, **details: object) -> None:
        #: The details by name; oslo.messaging reads this attribute to send the error.
        self.kwargs = {name: str(value) for name, value in details.items()}
        self.message = self.template.format(**self.kwargs)
        # NOTE: no positional arguments, or oslo.messaging could not make the error again at the client.
        super().__init__()

    def __str__(self) -> str:
        return self.message


def public(error: BaseException) -> AliasAgentError:
    """Return an error as clients receive it: as one of the classes of this module.

    An error of a class defined elsewhere becomes an error of its nearest base class in this module, with the same text.
    Any other error becomes an :class:`InternalError`.
    """
    if not isinstance(error, AliasAgentError):
        return InternalError(kind=type(error).__name__)
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ == __name__)
    return error if kind is type(error) else kind(**error.kwargs)


class InvalidRequest(AliasAgentError):
    """The request itself is not valid; the agent changed nothing, and a retry does not help."""


class InvalidInput(InvalidRequest):
    """A field of the request is not valid."""

    template = '{field}: {reason}'

    def __init__(self, *, field: str, reason: str) -> None:
        super().__init__(field=field, reason=reason)


class InvalidXML(InvalidRequest):
    """A text is not a valid libvirt definition."""

    template = 'not a usable libvirt definition: {reason}'


class Unsupported(InvalidRequest):
    """The agent or the hypervisor does not support the request."""

    template = '{what} is not supported: {reason}'


class ManagedByNova(InvalidRequest):
    """The guest is Nova's, the option ``manage`` leaves such guests to Nova, and the request does not say ``force``."""

    template = (
        'instance {instance} is a guest of Nova, and [DEFAULT] manage = aliases leaves {action} to Nova: use Nova, or '
        'repeat the request with force. With force, {cost}'
    )


class NotFound(AliasAgentError):
    """The agent could read everything, and the object does not exist."""


class InstanceNotFound(NotFound):
    template = 'instance {instance} is not on this host'


class DeviceNotFound(NotFound):
    template = 'instance {instance} has no device {device}'


class OperationNotFound(NotFound):
    template = 'operation {operation} is not in the journal of this host'


class Conflict(AliasAgentError):
    """The agent refused the request, because it would or could harm something else."""


class DeviceConflict(Conflict):
    """Another device already has this identity."""

    template = 'device {device} of instance {instance}: {reason}'


class AmbiguousDevice(Conflict):
    """More than one device matches the request; the agent changes none."""

    template = 'more than one device of instance {instance} could be {device}: {candidates}'


class OperationConflict(Conflict):
    """The operation id was used for another request."""

    template = 'operation {operation} was already used for another request'


class HypervisorError(AliasAgentError):
    """libvirt refused, or the guest did not do what the agent requested."""

    template = '{action}: {reason}'


class HypervisorUnavailable(HypervisorError):
    """The hypervisor cannot be reached, so that the state of its guests is unknown."""

    template = 'the hypervisor cannot be reached: {reason}'
    retryable = True


class GuestUnreadable(HypervisorError):
    """The guest exists, but its definition could not be read, so that its devices are unknown."""

    template = 'the definition of instance {instance} could not be read: {reason}'
    retryable = True


class GuestBusy(HypervisorError):
    """The state of the guest does not allow the change now, for example during a migration."""

    template = 'instance {instance} cannot be changed now: {reason}'
    retryable = True


class AttachFailed(HypervisorError):
    template = 'device {device} could not be attached to instance {instance}: {reason}'


class DetachFailed(HypervisorError):
    template = 'device {device} could not be detached from instance {instance}: {reason}'


class DetachTimeout(DetachFailed):
    """The guest did not release the device in time. It may still release it later."""

    template = (
        'instance {instance} did not release device {device} within {attempts} attempts of {timeout} s each; {left}'
    )
    retryable = True


class CloudError(AliasAgentError):
    """A service of the cloud did not answer, failed, or its answer is not valid."""

    template = '{service}: {step} failed: {reason}{request}'
    retryable = True


class CloudRefused(CloudError):
    """A service of the cloud refused a request, in its own words; nothing was changed there."""

    template = '{service}: {step} was refused: {reason}{request}'
    retryable = False


class ConnectionFailed(AliasAgentError):
    """The host could not connect a volume, or not disconnect it."""

    template = 'volume {volume}: {step} failed: {reason}'
    retryable = True


class ConnectionLeft(AliasAgentError):
    """The guest does not have the device, and what the agent made for it outside of the guest is not undone yet."""

    template = (
        'instance {instance} does not have device {device}, but its {kind} is still connected: {reason}; the agent '
        'repeats this step'
    )
    retryable = True


class ServiceBusy(AliasAgentError):
    """The agent accepts no more requests now, or a service that it needs does not answer."""

    template = 'busy, try again: {reason}'
    retryable = True


class JournalError(AliasAgentError):
    """The journal cannot be written or read, so that the agent accepts no operations."""

    template = 'the journal {path} cannot be used: {reason}'
    retryable = True


class InternalError(AliasAgentError):
    """An unexpected error in the agent. Its text is only in the log, because it may contain secrets."""

    template = "internal error ({kind}): see the agent's log for the traceback"


class NotificationNotSent(AliasAgentError):
    """The message broker did not accept a notification; the agent keeps it, and sends it later."""

    template = 'the notification could not be sent: {reason}'
    retryable = True
