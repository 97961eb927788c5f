# SPDX-License-Identifier: Apache-2.0
"""The client side of the RPC contract."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any
from typing import Union

from aliasagent import context
from aliasagent import exception
from aliasagent.actions import Action
from aliasagent.client import sending

if TYPE_CHECKING:
    # Not loaded where another sender is used.
    import oslo_messaging

Json = dict[str, Any]

_OLDEST = '1.0'
#: The version that first has a method; methods that are not listed are in the oldest one.
_SINCE = {
    **{action.value: action.since for action in Action},
    **dict.fromkeys(
        ('reconcile_plan', 'reconcile_status', 'reconcile_live_estimate', 'migration_progress', 'abort_migration'),
        '1.2',
    ),
    **dict.fromkeys(('submit', 'list_operations'), '1.3'),
    **dict.fromkeys(('list_connections', 'remove_connection', 'get_volume_connector'), '1.5'),
}
#: The version that first has a field; a message without the field needs only the version of its method.
_FIELDS_SINCE = {'force': '1.4'}
#: The fields without which an attach needs 1.5: the agent then asks Cinder or Neutron.
_REQUIRED_BEFORE = {
    Action.ATTACH_VOLUME.value: 'connection_info',
    Action.ATTACH_INTERFACE.value: 'port',
}
#: The version that first has a separate topic for calls.
_SINCE_ALT_TOPIC = '1.3'


def _needed(method: str, arguments: Json) -> tuple[str, str]:
    """Return what a message needs, for an error, and the oldest version that has it."""
    submitted = arguments['operation'] if method == 'submit' else {}
    given: Json = submitted.get('arguments', arguments)
    left_out = _REQUIRED_BEFORE.get(submitted.get('action', method))
    if left_out is not None and left_out not in given:
        return f'{method} without {left_out}', '1.5'
    for field, version in _FIELDS_SINCE.items():
        if field in given:
            return f'{method} with {field}', version
    return method, _SINCE.get(method, _OLDEST)


def _forced(force: bool) -> Json:
    """Return the field ``force`` if it is set: agents before 1.4 refuse a field that they do not know."""
    return {'force': True} if force else {}


def _is_allowed(version: str, cap: str | None) -> bool:
    """Return whether a cap allows a version: the same major version, and no later minor version."""
    if cap is None:
        return True
    major, minor = map(int, version.split('.'))
    cap_major, cap_minor = map(int, cap.split('.')[:2])
    return major == cap_major and minor <= cap_minor


def _sender(transport: Union['oslo_messaging.Transport', sending.Sender]) -> sending.Sender:
    if isinstance(transport, sending.Sender):
        return transport
    from aliasagent.client import rpc

    return rpc.Messaging(transport)


class ComputeAPI:
    """Sends requests to the agent on one host: exchange ``aliasagent``, topic ``compute``, server the host's name.

    A cast returns as soon as the broker has it. :meth:`get_operation` returns its outcome, by the ``operation_id`` of
    the context that the cast was sent with; each cast needs its own context.

    The casts of one client to one guest take effect in the order in which the client sent them, and so do its requests
    by :meth:`submit`, each of which waits for its answer. There is no order between casts and :meth:`submit`: they use
    different topics, and a :meth:`submit` can overtake an earlier cast. Send requests that depend on each other in the
    same way, or send the next one when :meth:`get_operation` finds the operation of the cast.

    Version history:

    * 1.0 - attach_volume, attach_interface, detach_volume, detach_interface, detach, list_instances, list_devices,
      get_operation.
    * 1.1 - attach_hostdev; more kinds of ``connection_info`` and ``port``.
    * 1.2 - reconcile_instance, reconcile_plan, reconcile_status, reconcile_live, reconcile_live_estimate, live_migrate,
      migration_progress, abort_migration.
    * 1.3 - submit, list_operations; calls go to the topic ``compute-alt``.
    * 1.4 - ``force`` in attach_volume, attach_interface, attach_hostdev, reconcile_live and live_migrate. With ``manage
      = aliases``, an agent refuses these requests in guests of Nova, unless they say ``force``.
      A ``connection_info`` and a ``port`` as Cinder and Neutron answer them; such a message is sent as 1.0.
    * 1.5 - attach_volume without ``connection_info``, and attach_interface with ``port_id`` in place of ``port``: the
      agent asks Cinder or Neutron. list_connections, remove_connection, get_volume_connector.

    :param transport: from :func:`aliasagent.client.transport`, or a sender.
    :param host: the name of the agent (its option ``host``).
    :param timeout: seconds to wait for the answer to a call; None for the option ``rpc_response_timeout``.
    :param version_cap: the latest version that all agents support (the option ``[upgrade_levels] compute``). A request
        that needs a later one is not sent and raises :exc:`aliasagent.exception.Unsupported`. Without a cap, a call to
        an agent that is too old raises the same error, and such a cast is lost: only the log of the agent reports it.
    """

    #: The version of an agent of this release. A message carries the oldest version that it needs, for older agents.
    VERSION = '1.5'

    def __init__(
        self,
        transport: Union['oslo_messaging.Transport', sending.Sender],
        host: str,
        *,
        timeout: int | None = None,
        version_cap: str | None = None,
    ) -> None:
        self.host = host
        self._cap = version_cap
        self._timeout = timeout
        self._sender = _sender(transport)
        #: The topics for calls: the one of agents since 1.3, and the one of older agents.
        self._topics = [sending.ALT_TOPIC, sending.TOPIC]
        if not _is_allowed(_SINCE_ALT_TOPIC, version_cap):
            del self._topics[0]

    def can(self, method: str) -> bool:
        """Return whether ``version_cap`` allows a method."""
        return _is_allowed(_SINCE.get(method, _OLDEST), self._cap)

    def _cast(self, ctxt: context.RequestContext, method: str, **arguments: Any) -> None:
        self._check(method, arguments)
        self._sender.cast(self._request(sending.TOPIC, ctxt, method, arguments))

    def _call(self, ctxt: context.RequestContext, method: str, **arguments: Any) -> Any:
        self._check(method, arguments)
        *newer, last = (self._request(topic, ctxt, method, arguments) for topic in self._topics)
        may_have_arrived = False
        try:
            for request in newer:
                try:
                    return self._sender.call(request, self._timeout)
                except self._sender.undeliverable as error:
                    may_have_arrived |= getattr(error, 'may_have_arrived', False)
            return self._sender.call(last, self._timeout)
        except self._sender.refused as error:
            if not self._sender.is_unsupported(error):
                raise
            raise self._too_old(method, arguments) from error
        except sending.SendingError as error:
            # An agent may have had the request by the first topic before the connection broke.
            error.may_have_arrived |= may_have_arrived
            raise

    def _request(
        self, topic: str, ctxt: context.RequestContext, method: str, arguments: dict[str, Any]
    ) -> sending.Request:
        _what, version = _needed(method, arguments)
        return sending.Request(topic, self.host, version, ctxt, method, arguments)

    def _check(self, method: str, arguments: Json) -> None:
        what, version = _needed(method, arguments)
        if not _is_allowed(version, self._cap):
            raise exception.Unsupported(
                what=what,
                reason=f'it needs version {version} of the contract, and [upgrade_levels] compute allows none after '
                f'{self._cap}',
            )

    def _too_old(self, method: str, arguments: Json) -> exception.Unsupported:
        what, version = _needed(method, arguments)
        return exception.Unsupported(
            what=what,
            reason=f'it needs version {version} of the contract, and the agent on host {self.host} is too old for that',
        )

    def attach_volume(
        self,
        ctxt: context.RequestContext,
        instance_uuid: str,
        volume_id: str,
        connection_info: Json | None = None,
        device_name: str | None = None,
        disk_bus: str | None = None,
        device_type: str = 'disk',
        force: bool = False,
    ) -> None:
        """Attach a volume to a guest, live and persistent.

        :param connection_info: as Cinder's attachments API or its ``initialize_connection`` answers it. If None, the
            agent makes the attachment in Cinder, and deletes it after the detach.
        :param device_name: ``/dev/vdb`` or the like; a free one if None.
        :param disk_bus: ``virtio``, ``scsi``, ``sata`` or ``usb``; if None, the bus of ``device_name``, or virtio.
        :param device_type: ``disk``, ``lun`` or ``cdrom``.
        :param force: attach to a guest of Nova, too, if the agent's option ``manage`` is ``aliases``.
        """
        self._cast(
            ctxt,
            'attach_volume',
            instance_uuid=instance_uuid,
            volume_id=volume_id,
            **({} if connection_info is None else {'connection_info': connection_info}),
            device_name=device_name,
            disk_bus=disk_bus,
            device_type=device_type,
            **_forced(force),
        )

    def attach_interface(
        self,
        ctxt: context.RequestContext,
        instance_uuid: str,
        port: Json | None = None,
        force: bool = False,
        port_id: str | None = None,
    ) -> None:
        """Attach a network interface for a port to a guest, live and persistent.

        :param port: as Neutron answers it, or in the form of the contract.
        :param force: as for :meth:`attach_volume`.
        :param port_id: in place of ``port``: the agent binds this port of Neutron, and unbinds it after the detach.
        """
        which = {'port_id': port_id} if port is None else {'port': port}
        self._cast(ctxt, 'attach_interface', instance_uuid=instance_uuid, **which, **_forced(force))

    def attach_hostdev(
        self, ctxt: context.RequestContext, instance_uuid: str, device_id: str, hostdev: Json, force: bool = False
    ) -> None:
        """Attach a device of the host to a guest, live and persistent.

        :param device_id: the id of the device, from which its alias is made.
        :param hostdev: ``type`` (``pci``, ``mdev``, ``usb`` or ``scsi``) and the fields of that type.
        :param force: as for :meth:`attach_volume`.
        """
        self._cast(
            ctxt,
            'attach_hostdev',
            instance_uuid=instance_uuid,
            device_id=device_id,
            hostdev=hostdev,
            **_forced(force),
        )

    def detach_volume(self, ctxt: context.RequestContext, instance_uuid: str, volume_id: str) -> None:
        """Detach the disk of a volume from a guest."""
        self._cast(ctxt, 'detach_volume', instance_uuid=instance_uuid, volume_id=volume_id)

    def detach_interface(self, ctxt: context.RequestContext, instance_uuid: str, port_id: str) -> None:
        """Detach the interface of a port from a guest."""
        self._cast(ctxt, 'detach_interface', instance_uuid=instance_uuid, port_id=port_id)

    def detach(self, ctxt: context.RequestContext, instance_uuid: str, device_id: str) -> None:
        """Detach the device with this id, of any kind, from a guest."""
        self._cast(ctxt, 'detach', instance_uuid=instance_uuid, device_id=device_id)

    def list_connections(self, ctxt: context.RequestContext, instance_uuid: str | None = None) -> list[Json]:
        """Return the attachments in Cinder and bindings in Neutron that the agent made, of all guests or of one.

        Each entry has ``instance``, ``device``, ``kind`` (``volume`` or ``port``), ``stage`` (``preparing``, ``given``
        or ``undoing``), ``complete``, ``in_use`` (whether the guest has the device; None if that is unknown),
        ``operation``, ``problem`` and ``details``.
        """
        which = {} if instance_uuid is None else {'instance_uuid': instance_uuid}
        found: list[Json] = self._call(ctxt, 'list_connections', **which)
        return found

    def remove_connection(self, ctxt: context.RequestContext, instance_uuid: str, device_id: str) -> None:
        """Undo the connection of a device that its guest does not have.

        If the guest has left the host, this client vouches that the guest does not have the device elsewhere.
        """
        self._call(ctxt, 'remove_connection', instance_uuid=instance_uuid, device_id=device_id)

    def get_volume_connector(self, ctxt: context.RequestContext) -> Json:
        """Return the host's ``connector``, for a client that makes an attachment in Cinder itself."""
        connector: Json = self._call(ctxt, 'get_volume_connector')
        return connector

    def reconcile_instance(
        self, ctxt: context.RequestContext, instance_uuid: str, inventory: Json | None = None
    ) -> None:
        """Write the aliases of a guest's devices into the persistent config.

        :param inventory: the ids of devices that the guest alone does not identify: ``ports``, each with ``id`` and
            ``address``, ``bridge``, ``network``, ``pci_slot``, ``devname`` or ``guest_pci_slot``; ``volumes``, each
            with ``id`` and ``target``, ``source``, ``serial`` or ``wwn``; ``hostdevs``, each with ``id`` and a
            ``hostdev`` as :meth:`attach_hostdev` takes it.
        """
        self._cast(ctxt, 'reconcile_instance', instance_uuid=instance_uuid, inventory=inventory)

    def reconcile_plan(self, ctxt: context.RequestContext, instance_uuid: str, inventory: Json | None = None) -> Json:
        """Return what :meth:`reconcile_instance` would do now, as one entry of :meth:`reconcile_status`."""
        planned: Json = self._call(ctxt, 'reconcile_plan', instance_uuid=instance_uuid, inventory=inventory)
        return planned

    def reconcile_status(self, ctxt: context.RequestContext, instance_uuid: str | None = None) -> list[Json]:
        """Return the last reconcile status of all guests, or of one.

        Each entry has ``instance``, ``name``, ``aliased`` and ``remaining`` (numbers of devices), ``pending`` (aliases
        that the running guest does not have yet), ``error``, ``nova`` (whether Nova made the guest; agents of 1.4 or
        later), and ``devices``, each with ``device``, ``outcome`` (a :class:`aliasagent.reconcile.plan.Outcome`),
        ``reason`` (libvirt's error, if libvirt refused) and ``alias``.
        """
        which = {} if instance_uuid is None else {'instance_uuid': instance_uuid}
        looks: list[Json] = self._call(ctxt, 'reconcile_status', **which)
        return looks

    def reconcile_live(
        self, ctxt: context.RequestContext, instance_uuid: str, inventory: Json | None = None, force: bool = False
    ) -> None:
        """Save a running guest and restore it with the aliases that its devices lack. The guest is paused meanwhile.

        :param inventory: as for :meth:`reconcile_instance`.
        :param force: as for :meth:`attach_volume`.
        """
        self._cast(ctxt, 'reconcile_live', instance_uuid=instance_uuid, inventory=inventory, **_forced(force))

    def reconcile_live_estimate(self, ctxt: context.RequestContext, instance_uuid: str) -> Json:
        """Estimate how long :meth:`reconcile_live` would pause a guest: ``seconds``, and ``bytes`` at most."""
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
        force: bool = False,
    ) -> None:
        """Migrate a running guest to another host, where its devices get the aliases that they lack here.

        :param dest_uri: the other host's libvirt URI, as seen from the agent's host: ``qemu+TRANSPORT://HOST/system``.
        :param migrate_uri: where QEMU sends the guest's memory (``tcp://HOST``); libvirt's choice if None.
        :param bandwidth_mib: the limit in MiB per second.
        :param unsafe: migrate even if libvirt considers it unsafe for the guest's disks, which both hosts must have.
        :param inventory: as for :meth:`reconcile_instance`.
        :param force: as for :meth:`attach_volume`.
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
            **_forced(force),
        )

    def migration_progress(self, ctxt: context.RequestContext, instance_uuid: str) -> Json | None:
        """Return ``total``, ``processed``, ``remaining`` (bytes) and ``elapsed`` (s); None if no migration runs."""
        progress: Json | None = self._call(ctxt, 'migration_progress', instance_uuid=instance_uuid)
        return progress

    def abort_migration(self, ctxt: context.RequestContext, instance_uuid: str) -> None:
        """Abort the migration of a guest; its live_migrate fails then."""
        self._call(ctxt, 'abort_migration', instance_uuid=instance_uuid)

    def list_instances(self, ctxt: context.RequestContext) -> list[Json]:
        """Return the host's guests: ``uuid``, ``name``, ``state``, ``persistent``."""
        instances: list[Json] = self._call(ctxt, 'list_instances')
        return instances

    def list_devices(self, ctxt: context.RequestContext, instance_uuid: str) -> list[Json]:
        """Return a guest's devices: ``id``, ``kind``, ``alias``, ``target``, ``live``, ``persistent``.

        ``id`` is None for a device that the agent cannot identify; ``alias`` is the user alias, if there is one.
        """
        devices: list[Json] = self._call(ctxt, 'list_devices', instance_uuid=instance_uuid)
        return devices

    def get_operation(self, ctxt: context.RequestContext, operation_id: str) -> Json:
        """Return an operation: ``id``, ``state``, ``error_class``, ``error``, times, and the action and its ids.

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
        """Return the newest operations that match, each as :meth:`get_operation` does, in the order of acceptance.

        :param instance_uuid: only operations on this guest.
        :param states: only operations in these states.
        :param since: only operations accepted at this time or later: ISO 8601, with a time zone.
        :param until: only operations accepted before this time.
        """
        bounds = {'instance_uuid': instance_uuid, 'since': since, 'until': until}
        filters = {name: value for name, value in bounds.items() if value is not None}
        operations: list[Json] = self._call(
            ctxt, 'list_operations', states=list(states), limit=limit, **filters
        )
        return operations

    def submit(self, ctxt: context.RequestContext, action: str, **arguments: Any) -> Json:
        """Send a request, and return when the agent has it in its journal.

        From then on the request survives a crash of the agent. It can overtake an earlier cast. If no answer arrives,
        retry with the same context: the agent does not run the same ``operation_id`` twice.

        :param action: the name of a cast, whose arguments follow; ``force`` is sent only if it is true.
        :return: as :meth:`get_operation`.
        :raises InvalidInput: a field of the arguments is not valid.
        :raises ServiceBusy: too many requests wait; retry.
        :raises OperationConflict: the context's id was used for another request.
        :raises JournalError: the agent cannot write to its disk.
        """
        arguments |= _forced(arguments.pop('force', False))
        operation = {'id': ctxt.operation_id, 'action': action, 'arguments': arguments}
        accepted: Json = self._call(ctxt, 'submit', operation=operation)
        return accepted
