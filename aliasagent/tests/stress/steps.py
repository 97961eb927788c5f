# SPDX-License-Identifier: Apache-2.0
"""The steps between the intake of an operation and its outcome, at each of which an agent may die."""

import dataclasses

from aliasagent.actions import Action
from aliasagent.tests.contract import harness
from aliasagent.tests.stress import scene as scenes
from aliasagent.tests.stress.scene import ADDED
from aliasagent.tests.stress.scene import REMOVED
from aliasagent.tests.stress.script import Json
from aliasagent.tests.stress.script import Outcome


@dataclasses.dataclass(frozen=True)
class Step:
    """One step: a call of a method."""

    name: str
    #: ``package.module:Class.method`` or ``package.module:function``
    place: str
    #: Which call of it.
    call: int = 1
    #: The ways in which a request comes by here; None for all.
    way: str | None = None


CAST, SUBMIT = 'cast', 'submit'
_OPERATIONS = 'aliasagent.operations'

INTAKE = (
    Step('cast taken in', f'{_OPERATIONS}.intake:Intake.take', way=CAST),
    Step('submit taken in', f'{_OPERATIONS}.intake:Intake.submit', way=SUBMIT),
    Step('message acknowledged', 'oslo_messaging._drivers.impl_rabbit:RabbitMessage.acknowledge'),
    Step('runner accepts', f'{_OPERATIONS}.runner:Runner.accept'),
    Step('journal accepts', f'{_OPERATIONS}.journal:Journal.accept'),
    Step('put on its queue', f'{_OPERATIONS}.queues:GuestQueues.submit'),
    Step('submit answered', 'oslo_messaging._drivers.amqpdriver:AMQPIncomingMessage.reply', way=SUBMIT),
)
BEGIN = (
    Step('taken off its queue', f'{_OPERATIONS}.runner:Runner._run'),
    Step('looked at', 'aliasagent.virt.host:Host.guest'),
)
STARTED = (
    Step('journal starts', f'{_OPERATIONS}.journal:Journal.start'),
    Step('start is told', 'aliasagent.notifications:Sender._send'),
    Step('start was told', f'{_OPERATIONS}.journal:Journal.sent'),
)
ATTACH = (
    Step('attach', 'aliasagent.virt.attach:Attacher.attach'),
    Step('libvirt attaches', 'aliasagent.virt.guest:Guest.attach'),
    Step('read back', 'aliasagent.virt.attach:Attacher._read_back'),
)
#: What a detach does until it is up to the guest.
ASK = (
    Step('libvirt detaches, persistent', 'aliasagent.virt.guest:Guest.detach', 1),
    Step('unplug starts', 'aliasagent.virt.unplug:Unplugs.start'),
    Step('libvirt detaches, live', 'aliasagent.virt.guest:Guest.detach', 2),
)
#: What it does when the guest has answered.
ANSWER = (
    Step('looked whether it is gone', 'aliasagent.virt.unplug:Unplugs._check'),
    Step('unplug ends', 'aliasagent.virt.unplug:Unplugs._end'),
)
SHUT_OFF = (Step('libvirt detaches, persistent', 'aliasagent.virt.guest:Guest.detach', 1),)
RELIVE = (
    Step('libvirt saves', 'aliasagent.virt.guest:Guest.save'),
    Step('libvirt restores', 'aliasagent.virt.saved_guest:SavedGuest.restore'),
    Step('looked at again, file removed', 'aliasagent.virt.save_restore:_end'),
)
FINISH = (
    Step('finished', f'{_OPERATIONS}.runner:Runner._finish'),
    Step('outcome is written', f'{_OPERATIONS}.late:LateWriter.write'),
    Step('journal finishes', f'{_OPERATIONS}.journal:Journal.finish'),
    Step('next on its queue', f'{_OPERATIONS}.queues:GuestQueues._next'),
    Step('end was told', f'{_OPERATIONS}.journal:Journal.sent', 2),
)
_ALL_BEFORE, _ALL_AFTER = (*INTAKE, *BEGIN, *STARTED), FINISH


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of operation, where it happens, and what must come of it."""

    name: str
    steps: tuple[Step, ...]
    action: Action
    #: ``paused``, ``running``, ``booted`` or ``shut off``.
    guest: str
    #: ``disk``, ``interface`` or nothing: what the guest has under the id before.
    there: str = ''
    outcome: Outcome = dataclasses.field(default_factory=Outcome)
    #: Whether the device goes out of the running guest while there is no agent.
    goes_meanwhile: bool = False
    #: Whether what the guest has before has its alias.
    aliased: bool = True

    def arguments(self, device_id: str, device: scenes.Device, bridge: str) -> Json:
        """What is asked of the agent, without the guest."""
        match self.action:
            case Action.ATTACH_VOLUME:
                info = harness.file_connection(device.what)
                # All of them, as a cast sends them: else asking by submit again would be another request.
                more = {'disk_bus': 'scsi', 'device_name': None, 'device_type': 'disk'}
                return {'volume_id': device_id, 'connection_info': info, **more}
            case Action.ATTACH_INTERFACE:
                port = {'id': device_id, 'address': device.what, 'vif_type': 'bridge', 'bridge': bridge}
                return {'port': port}
            case Action.RECONCILE_LIVE:
                return {'inventory': None}
            case Action.DETACH_VOLUME:
                return {'volume_id': device_id}
            case Action.DETACH_INTERFACE:
                return {'port_id': device_id}
            case _:
                return {'device_id': device_id}


_added, _removed = Outcome(effect=ADDED), Outcome(effect=REMOVED)
_attach = (*_ALL_BEFORE, *ATTACH, *_ALL_AFTER)
_detach = (*_ALL_BEFORE, *ASK, *ANSWER, *_ALL_AFTER)
_never_begun = (*INTAKE, *BEGIN, *_ALL_AFTER)

KINDS = (
    Kind('attach volume', _attach, Action.ATTACH_VOLUME, 'paused', outcome=_added),
    Kind('detach volume', _detach, Action.DETACH_VOLUME, 'paused', 'disk', _removed),
    Kind('attach interface', _attach, Action.ATTACH_INTERFACE, 'paused', outcome=_added),
    Kind('detach interface', _detach, Action.DETACH_INTERFACE, 'booted', 'interface', _removed),
    Kind(
        'detach, shut off',
        (*_ALL_BEFORE, *SHUT_OFF, *_ALL_AFTER),
        Action.DETACH,
        'shut off',
        'disk',
        _removed,
    ),
    Kind(
        'detach, goes meanwhile',
        (*_ALL_BEFORE, *ASK),
        Action.DETACH,
        'paused',
        'interface',
        _removed,
        goes_meanwhile=True,
    ),
    Kind(
        'detach of nothing',
        _never_begun,
        Action.DETACH_VOLUME,
        'paused',
        outcome=Outcome('DeviceNotFound', 'has no device'),
    ),
    Kind(
        'attach of another',
        (*INTAKE, *BEGIN, *STARTED, ATTACH[0], *_ALL_AFTER),
        Action.ATTACH_VOLUME,
        'paused',
        'disk',
        Outcome('DeviceConflict', 'it is attached with source'),
    ),
    Kind(
        'reconcile live',
        (*_ALL_BEFORE, *RELIVE, *_ALL_AFTER),
        Action.RECONCILE_LIVE,
        'running',
        'disk',
        aliased=False,
    ),
)
