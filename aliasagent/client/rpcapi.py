# SPDX-License-Identifier: Apache-2.0
"""The client's side of the contract."""

import contextlib
from collections.abc import Sequence
from typing import Any

import oslo_messaging

from aliasagent import context
from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.client import rpc

Json = dict[str, Any]

_OLDEST = '1.0'
#: The version since which each method is there; the oldest for all others.
_SINCE = {
    **{action.value: action.since for action in Action},
    **dict.fromkeys(
        ('reconcile_plan', 'reconcile_status', 'reconcile_live_estimate', 'migration_progress', 'abort_migration'),
        '1.2',
    ),
    **dict.fromkeys(('submit', 'list_operations'), '1.3'),
}
#: The version since which calls have a topic of their own.
_SECOND_DOOR = '1.3'


def _version(method: str) -> str:
    return _SINCE.get(method, _OLDEST)


class ComputeAPI:
    """Speaks to the agent on one host: exchange ``aliasagent``, topic ``compute``, server the host's name.

    A cast returns as soon as the broker has it. What became of it can be asked with :meth:`get_operation` under the
    ``operation_id`` of the context it was made with; so each cast wants a context of its own.

    The casts of one sender to one guest take effect in the order in which they were made, and so do its requests by
    :meth:`submit`, each of which waits for its answer. Between the two there is no order: they go by different topics,
    and a :meth:`submit` can overtake a cast that was made before it. Make requests that depend on each other in one of
    the two ways, or make the next one when :meth:`get_operation` knows the cast.

    Version history:

    * 1.0 - attach_volume, attach_interface, detach_volume, detach_interface, detach, list_instances, list_devices,
      get_operation.
    * 1.1 - attach_hostdev; more kinds of ``connection_info`` and ``port``.
    * 1.2 - reconcile_instance, reconcile_plan, reconcile_status, reconcile_live, reconcile_live_estimate, live_migrate,
      migration_progress, abort_migration.
    * 1.3 - submit, list_operations; calls go to the topic ``compute-alt``.

    :param transport: from :func:`aliasagent.client.transport`.
    :param host: the name the agent goes by (its option ``host``).
    :param timeout: seconds to wait for the answer to a call; None for the option ``rpc_response_timeout``.
    :param version_cap: the latest version that the agents understand (the option ``[upgrade_levels] compute``). What
        needs a later one is not sent and raises :exc:`aliasagent.exception.Unsupported`. Without it, a call that the
        agent is too old for raises the same, and such a cast is lost: the agent's log alone tells.
    """

    #: What an agent of this version understands. Messages ask for no more than they need, for older agents.
    VERSION = '1.3'

    def __init__(
        self,
        transport: oslo_messaging.Transport,
        host: str,
        *,
        timeout: int | None = None,
        version_cap: str | None = None,
    ) -> None:
        self.host = host
        self._cap = version_cap

        def client(topic: str) -> Any:
            made = rpc.client(transport, _OLDEST, topic=topic, timeout=timeout, version_cap=version_cap)
            return made.prepare(server=host)

        self._casts = client(rpc.TOPIC)
        #: The agent's doors for calls: that of agents since 1.3, and the one that older agents have.
        self._calls = [client(topic) for topic in (rpc.ALT_TOPIC, rpc.TOPIC)]
        if not self._casts.can_send_version(_SECOND_DOOR):
            del self._calls[0]

    def can(self, method: str) -> bool:
        """Whether the agents are new enough for a method, as far as ``version_cap`` tells."""
        known: bool = self._casts.can_send_version(_version(method))
        return known

    def _cast(self, ctxt: context.RequestContext, method: str, **arguments: Any) -> None:
        self._check(method)
        self._casts.prepare(version=_version(method)).cast(ctxt, method, **arguments)

    def _call(self, ctxt: context.RequestContext, method: str, **arguments: Any) -> Any:
        self._check(method)
        *newer, last = (client.prepare(version=_version(method)) for client in self._calls)
        try:
            for client in newer:
                with contextlib.suppress(oslo_messaging.MessageUndeliverable):
                    return client.call(ctxt, method, **arguments)
            return last.call(ctxt, method, **arguments)
        except oslo_messaging.UnsupportedVersion as error:
            raise self._too_old(method) from error
        except oslo_messaging.RemoteError as error:
            if error.exc_type != oslo_messaging.UnsupportedVersion.__name__:
                raise
            raise self._too_old(method) from error

    def _check(self, method: str) -> None:
        if not self.can(method):
            raise exception.Unsupported(
                what=method,
                reason=f'it needs version {_version(method)} of the contract, and [upgrade_levels] compute lets pass '
                f'none after {self._cap}',
            )

    def _too_old(self, method: str) -> exception.Unsupported:
        return exception.Unsupported(
            what=method,
            reason=f'it needs version {_version(method)} of the contract, and the agent on host {self.host} is too old '
            'for that',
        )

    def attach_volume(
        self,
        ctxt: context.RequestContext,
        instance_uuid: str,
        volume_id: str,
        connection_info: Json,
        device_name: str | None = None,
        disk_bus: str | None = None,
        device_type: str = 'disk',
    ) -> None:
        """Plug a volume into a guest, live and persistent.

        :param connection_info: as Cinder's ``initialize_connection`` returns it.
        :param device_name: ``/dev/vdb`` or the like; chosen from what is free if None.
        :param disk_bus: ``virtio``, ``scsi``, ``sata`` or ``usb``; by ``device_name`` if None, else virtio.
        :param device_type: ``disk``, ``lun`` or ``cdrom``.
        """
        self._cast(
            ctxt,
            'attach_volume',
            instance_uuid=instance_uuid,
            volume_id=volume_id,
            connection_info=connection_info,
            device_name=device_name,
            disk_bus=disk_bus,
            device_type=device_type,
        )

    def attach_interface(self, ctxt: context.RequestContext, instance_uuid: str, port: Json) -> None:
        """Plug a network interface for a port into a guest, live and persistent."""
        self._cast(ctxt, 'attach_interface', instance_uuid=instance_uuid, port=port)

    def attach_hostdev(self, ctxt: context.RequestContext, instance_uuid: str, device_id: str, hostdev: Json) -> None:
        """Give a guest a device of the host, live and persistent.

        :param device_id: the id under which it will be known; its alias is made of it.
        :param hostdev: ``type`` (``pci``, ``mdev``, ``usb`` or ``scsi``) and what that type needs.
        """
        self._cast(ctxt, 'attach_hostdev', instance_uuid=instance_uuid, device_id=device_id, hostdev=hostdev)

    def detach_volume(self, ctxt: context.RequestContext, instance_uuid: str, volume_id: str) -> None:
        """Take the disk of a volume out of a guest."""
        self._cast(ctxt, 'detach_volume', instance_uuid=instance_uuid, volume_id=volume_id)

    def detach_interface(self, ctxt: context.RequestContext, instance_uuid: str, port_id: str) -> None:
        """Take the interface of a port out of a guest."""
        self._cast(ctxt, 'detach_interface', instance_uuid=instance_uuid, port_id=port_id)

    def detach(self, ctxt: context.RequestContext, instance_uuid: str, device_id: str) -> None:
        """Take whatever device carries this id out of a guest."""
        self._cast(ctxt, 'detach', instance_uuid=instance_uuid, device_id=device_id)

    def reconcile_instance(
        self, ctxt: context.RequestContext, instance_uuid: str, inventory: Json | None = None
    ) -> None:
        """Give the devices of a guest their aliases, in the persistent config.

        :param inventory: whose devices are whose, as far as the guest alone cannot tell: ``ports``, each with ``id``
            and ``address``, ``bridge``, ``network``, ``pci_slot``, ``devname`` or ``guest_pci_slot``; ``volumes``, each
            with ``id`` and ``target``, ``source``, ``serial`` or ``wwn``; ``hostdevs``, each with ``id`` and a
            ``hostdev`` as :meth:`attach_hostdev` takes it.
        """
        self._cast(ctxt, 'reconcile_instance', instance_uuid=instance_uuid, inventory=inventory)

    def reconcile_plan(self, ctxt: context.RequestContext, instance_uuid: str, inventory: Json | None = None) -> Json:
        """What :meth:`reconcile_instance` would do now; an entry of what :meth:`reconcile_status` returns."""
        planned: Json = self._call(ctxt, 'reconcile_plan', instance_uuid=instance_uuid, inventory=inventory)
        return planned

    def reconcile_status(self, ctxt: context.RequestContext, instance_uuid: str | None = None) -> list[Json]:
        """What was seen last at each guest, or at one.

        Each has ``instance``, ``name``, ``aliased`` and ``remaining`` (numbers of devices), ``pending`` (aliases that
        the running guest does not have yet), ``error``, and ``devices``, each with ``device``, ``outcome`` (a
        :class:`aliasagent.reconcile.plan.Outcome`), ``reason`` (in libvirt's words, where it refused) and ``alias``.
        """
        which = {} if instance_uuid is None else {'instance_uuid': instance_uuid}
        looks: list[Json] = self._call(ctxt, 'reconcile_status', **which)
        return looks

    def reconcile_live(self, ctxt: context.RequestContext, instance_uuid: str, inventory: Json | None = None) -> None:
        """Save a running guest and restore it with the aliases that its devices lack. It stands still meanwhile.

        :param inventory: as for :meth:`reconcile_instance`.
        """
        self._cast(ctxt, 'reconcile_live', instance_uuid=instance_uuid, inventory=inventory)

    def reconcile_live_estimate(self, ctxt: context.RequestContext, instance_uuid: str) -> Json:
        """About how long :meth:`reconcile_live` would have a guest stand still: ``seconds``, and ``bytes`` at most."""
        estimate: Json = self._call(ctxt, 'reconcile_live_estimate', instance_uuid=instance_uuid)
        return estimate

    def live_migrate(
        self,
        ctxt: context.RequestContext,
        instance_uuid: str,
        dest_uri: str,
        migrate_uri: str | None = None,
        bandwidth_mib: int | None = None,
        unsafe: bool = False,
        inventory: Json | None = None,
    ) -> None:
        """Send a running guest to another host, where its devices have the aliases that they lack here.

        :param dest_uri: the other host's libvirt URI, as the agent's host reaches it: ``qemu+TRANSPORT://HOST/system``.
        :param migrate_uri: where QEMU sends the guest's memory (``tcp://HOST``); libvirt's choice if None.
        :param bandwidth_mib: MiB per second at most.
        :param unsafe: even if libvirt fears for the guest's disks, which both hosts must have.
        :param inventory: as for :meth:`reconcile_instance`.
        """
        self._cast(
            ctxt,
            'live_migrate',
            instance_uuid=instance_uuid,
            dest_uri=dest_uri,
            migrate_uri=migrate_uri,
            bandwidth_mib=bandwidth_mib,
            unsafe=unsafe,
            inventory=inventory,
        )

    def migration_progress(self, ctxt: context.RequestContext, instance_uuid: str) -> Json | None:
        """How far a guest is: ``total``, ``processed``, ``remaining`` (bytes), ``elapsed`` (s); None if on no way."""
        progress: Json | None = self._call(ctxt, 'migration_progress', instance_uuid=instance_uuid)
        return progress

    def abort_migration(self, ctxt: context.RequestContext, instance_uuid: str) -> None:
        """Have a guest that is on its way stay where it is; its live_migrate fails then."""
        self._call(ctxt, 'abort_migration', instance_uuid=instance_uuid)

    def list_instances(self, ctxt: context.RequestContext) -> list[Json]:
        """The host's guests: ``uuid``, ``name``, ``state``, ``persistent``."""
        instances: list[Json] = self._call(ctxt, 'list_instances')
        return instances

    def list_devices(self, ctxt: context.RequestContext, instance_uuid: str) -> list[Json]:
        """A guest's devices: ``id``, ``kind``, ``alias``, ``target``, ``live``, ``persistent``.

        ``id`` is None for a device that nobody can name; ``alias`` is the user alias, or None before there is one.
        """
        devices: list[Json] = self._call(ctxt, 'list_devices', instance_uuid=instance_uuid)
        return devices

    def get_operation(self, ctxt: context.RequestContext, operation_id: str) -> Json:
        """What became of a request: ``id``, ``state``, ``error_class``, ``error``, times and what was asked.

        ``state`` is ``accepted``, ``running``, ``succeeded`` or ``failed``.

        :raises OperationNotFound: no agent on this host has accepted such a request (yet).
        """
        operation: Json = self._call(ctxt, 'get_operation', operation_id=operation_id)
        return operation

    def list_operations(
        self,
        ctxt: context.RequestContext,
        instance_uuid: str | None = None,
        states: Sequence[str] = (),
        since: str | None = None,
        until: str | None = None,
        limit: int = 100,
    ) -> list[Json]:
        """The newest requests that fit, each as :meth:`get_operation` returns it, in the order they were accepted.

        :param instance_uuid: to this guest only.
        :param states: in one of these states only.
        :param since: accepted then or later: a time with its zone, in ISO 8601.
        :param until: accepted before that.
        """
        bounds = {'instance_uuid': instance_uuid, 'since': since, 'until': until}
        filters = {name: value for name, value in bounds.items() if value is not None}
        operations: list[Json] = self._call(
            ctxt, 'list_operations', states=list(states), limit=limit, **filters
        )
        return operations

    def submit(self, ctxt: context.RequestContext, action: str, **arguments: Any) -> Json:
        """Make a request, of which this returns only when the agent has it on its disk.

        It is done then, whatever happens to the agent. It can overtake a cast that was made before it. If
        this fails for want of an answer, ask again with the same context: what has the same ``operation_id`` is not
        done twice.

        :param action: the name of a cast, whose arguments follow.
        :return: as :meth:`get_operation`.
        :raises InvalidInput: a field of the arguments is not as it must be.
        :raises ServiceBusy: too many requests wait; ask again.
        :raises OperationConflict: the context's id was used for another request.
        :raises JournalError: the agent cannot write to its disk.
        """
        operation = {'id': ctxt.operation_id, 'action': action, 'arguments': arguments}
        accepted: Json = self._call(ctxt, 'submit', operation=operation)
        return accepted
