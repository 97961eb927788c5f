# SPDX-License-Identifier: Apache-2.0
"""What can happen in a history beside the agent's own doing: each step, carried out on the fake."""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import libvirt

from aliasagent.tests.fakes.libvirt import Unplug
from aliasagent.tests.fakes.libvirt import aliases
from aliasagent.tests.fakes.libvirt import definition
from aliasagent.tests.fakes.libvirt import hotplug
from aliasagent.tests.fakes.libvirt.guest import FakeGuest
from aliasagent.tests.history import chronicle
from aliasagent.tests.history.plan import THINGS
from aliasagent.tests.history.plan import Step
from aliasagent.tests.history.plan import guest_uuid
from aliasagent.tests.history.plan import root_source

if TYPE_CHECKING:
    from aliasagent.tests.history.world import World

LIVE, CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG


class Impossible(Exception):
    """The step makes no sense as things are."""


def carry_out(world: 'World', step: Step) -> None:
    """Do it.

    :raises Impossible: it makes no sense as things are, and nothing was done.
    :raises libvirtError: the fake refused.
    """
    _STEPS[step.what](world, step)


def _guest(world: 'World', step: Step) -> FakeGuest:
    guest = world.hypervisor.guests.get(guest_uuid(step.guest))
    if guest is None:
        raise Impossible
    world.oracle.facts.touched(guest.uuid)
    return guest


def _on_guest(method: str) -> Callable[['World', Step], None]:
    return lambda world, step: getattr(_guest(world, step), method)()


# Requests


def _ask(world: 'World', step: Step, method: str, arguments: dict[str, object]) -> None:
    world.request(method, {'instance_uuid': guest_uuid(step.guest), **arguments}, is_call=step.word == 'submit')


def _attach(world: 'World', step: Step) -> None:
    if _elsewhere(world, step):
        raise Impossible
    thing = THINGS[step.thing]
    method = {'disk': 'attach_volume', 'interface': 'attach_interface', 'hostdev': 'attach_hostdev'}[thing.kind]
    _ask(world, step, method, thing.arguments())


def _attach_what_is_there(world: 'World', step: Step) -> None:
    """Ask for what the guest has as its first disk: under the id of a volume, the guest must not get it twice."""
    connection = {'driver_volume_type': 'file', 'data': {'device_path': root_source(step.guest), 'format': 'raw'}}
    _ask(world, step, 'attach_volume', {'volume_id': step.thing, 'connection_info': connection, 'disk_bus': 'virtio'})


def _detach(world: 'World', step: Step) -> None:
    thing = THINGS[step.thing]
    method, name = {
        'disk': ('detach_volume', 'volume_id'),
        'interface': ('detach_interface', 'port_id'),
        'hostdev': ('detach', 'device_id'),
    }[thing.kind]
    if step.value:
        method, name = 'detach', 'device_id'
    _ask(world, step, method, {name: thing.id})


def _reconcile(world: 'World', step: Step) -> None:
    arguments: dict[str, object] = {}
    if step.value:
        arguments['inventory'] = _inventory(world, step)
    _ask(world, step, 'reconcile_live' if step.what == 'reconcile live' else 'reconcile_instance', arguments)


def _inventory(world: 'World', step: Step) -> dict[str, object]:
    """What a control plane would say of the guest's devices."""
    guest = world.hypervisor.guests.get(guest_uuid(step.guest))
    there = {device for tree in (guest and guest.config, guest and guest.live) for device, _ in chronicle.found(tree)}
    things = [THINGS[device] for device in sorted(there)]
    return {
        'volumes': [{'id': thing.id, 'source': thing.source} for thing in things if thing.kind == 'disk'],
        'ports': [{'id': thing.id, 'address': thing.mac} for thing in things if thing.kind == 'interface'],
    }


def _live_migrate(world: 'World', step: Step) -> None:
    world.hypervisor.migrations.manners[guest_uuid(step.guest)] = (step.value, step.word)
    arguments = {'instance_uuid': guest_uuid(step.guest), 'dest_uri': 'qemu+tcp://other/system'}
    world.request('live_migrate', arguments, is_call=False)


# Guests


def _behave(world: 'World', step: Step) -> None:
    guest = _guest(world, step)
    world.oracle.facts.is_untold |= step.word == 'event lost'
    guest.unplug = {
        'quick': Unplug(),
        'slow': Unplug(delay=step.value, scsi_too=True),
        'never': Unplug(never=True, scsi_too=True),
        'refuse': Unplug(refuse=int(step.value), scsi_too=True),
        'lost': Unplug(lost=int(step.value)),
        'event lost': Unplug(delay=step.value, event_lost=True),
        'event late': Unplug(event_delay=step.value),
        'busy': Unplug(busy=int(step.value)),
        'already': Unplug(delay=step.value, already=True),
    }[step.word]


def _start(world: 'World', step: Step) -> None:
    guest = _guest(world, step)
    if guest.active:
        raise Impossible
    if guest.managed_save is not None:
        path, guest.managed_save = guest.managed_save, None
        world.hypervisor.restore(path, None)
    else:
        guest.start()


def _save(world: 'World', step: Step) -> None:
    guest = _guest(world, step)
    path = f'saved/{guest.uuid}'
    if step.what == 'managed save':
        guest.managed_save = path
    guest.begin_save(path)
    guest.end_save()


def _restore(world: 'World', step: Step) -> None:
    uuid = guest_uuid(step.guest)
    guest, saved = world.hypervisor.guests.get(uuid), world.hypervisor.saved
    paths = [path for path in saved if saved[path][0] == uuid and path in saved]
    # The memory of a guest that has run since does not fit its disks any more: nobody sane restores it.
    if not paths or (guest is not None and guest.managed_save) or not world.chronicle.is_saved(uuid):
        raise Impossible
    world.oracle.facts.touched(uuid)
    world.hypervisor.restore(paths[-1], None)
    if not paths[-1].startswith('/'):
        del saved[paths[-1]]


def _undefine(world: 'World', step: Step) -> None:
    guest = _guest(world, step)
    if not guest.persistent:
        raise Impossible
    guest.config = None
    guest._transient_base = guest.live if guest.live is not None else guest._transient_base
    if not guest.active:
        world.hypervisor.forget(guest)
        world.chronicle.over(guest)


# Another client


def _elsewhere(world: 'World', step: Step) -> bool:
    """Whether a device is in another guest, or saved with one."""
    return any(
        stay.device == step.thing and stay.guest != guest_uuid(step.guest)
        and (stay.until is None or stay.how in chronicle.CARRIED_ON)
        for stay in world.chronicle.stays
    )


def _is_free(world: 'World', thing: str) -> bool:
    return not any(
        stay.device == thing and (stay.until is None or stay.how in chronicle.CARRIED_ON)
        for stay in world.chronicle.stays
    )


def _free_target(guest: FakeGuest) -> str:
    taken = {
        definition.target_of(element)
        for tree in (guest.config, guest.live) if tree is not None
        for element in tree.iterfind('devices/disk')
    }
    return next(name for name in (f'vd{letter}' for letter in 'bcdefghijk') if name not in taken)


def _other_attaches(world: 'World', step: Step) -> None:
    guest = _guest(world, step)
    if _elsewhere(world, step):
        raise Impossible
    flags = {'live': LIVE, 'config': CONFIG, 'both': LIVE | CONFIG}[step.word]
    if flags == LIVE | CONFIG and not guest.active:
        flags = CONFIG
    sides = [tree for flag, tree in ((LIVE, guest.live), (CONFIG, guest.config)) if flags & flag]
    if any(chronicle.element_of(tree, step.thing) is not None for tree in sides):
        raise Impossible
    xml = THINGS[step.thing].xml(bool(step.value), _free_target(guest), None)
    hotplug.attach(guest, xml, flags)


def _other_detaches(world: 'World', step: Step) -> None:
    guest = _guest(world, step)
    if step.word == 'config':
        element = chronicle.element_of(guest.config, step.thing)
        if element is None:
            raise Impossible
        element.getparent().remove(element)
        return
    element = chronicle.element_of(guest.live, step.thing)
    if element is None:
        raise Impossible
    alias = aliases.alias_of(element) or ''
    world.oracle.facts.asked_by_other(guest, step.thing)
    hotplug.detach_alias(guest, alias, LIVE)


def _redefine(world: 'World', step: Step) -> None:
    """Somebody writes the definition anew, with another description or without the aliases that he does not know."""
    guest = _guest(world, step)
    if guest.config is None:
        raise Impossible
    config = copy.deepcopy(guest.config)
    if step.word == 'without aliases':
        for element in aliases.devices(config):
            aliases.set_alias(element, None)
    else:
        config.insert(2, config.makeelement('description', {}))
    guest.config = config
    world.hypervisor.emit(
        libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, guest, libvirt.VIR_DOMAIN_EVENT_DEFINED,
        libvirt.VIR_DOMAIN_EVENT_DEFINED_UPDATED,
    )  # fmt: skip


def _swap(world: 'World', step: Step) -> None:
    """Another volume, or another port with the same MAC address, comes where a device was, and the guest is started."""
    guest = _guest(world, step)
    other = THINGS[step.word]
    if not _is_free(world, other.id) or guest.config is None:
        raise Impossible
    was_active = guest.active
    if was_active:
        guest.destroy()
        world.hypervisor.observe_all()
    old = chronicle.element_of(guest.config, step.thing)
    target = '' if old is None else definition.target_of(old)
    config = copy.deepcopy(guest.config)
    if old is not None:
        there = chronicle.element_of(config, step.thing)
        there.getparent().remove(there)
    guest.config = config
    world.hypervisor.observe_all()
    if other.kind == 'disk' and not target:
        target = _free_target(guest)
    hotplug.attach(guest, other.xml(False, target, None), CONFIG)
    if was_active or step.value:
        guest.start()


def _swap_live(world: 'World', step: Step) -> None:
    """A device has left the running guest, and another one comes to sit where it sat."""
    guest = _guest(world, step)
    other, element = THINGS[step.word], chronicle.element_of(guest.live, step.thing)
    if element is None or not _is_free(world, other.id):
        raise Impossible
    target = definition.target_of(element)
    world.oracle.facts.asked_by_other(guest, step.thing)
    world.oracle.facts.is_untold |= bool(step.value)
    guest.remove_live(aliases.alias_of(element) or '', told=not step.value)
    world.hypervisor.observe_all()
    hotplug.attach(guest, other.xml(False, target or _free_target(guest), None), LIVE)


# The agent, the connection and the disk


def _lose(world: 'World', step: Step) -> None:
    world.hypervisor.lose_connections()
    if step.value:
        world.hypervisor.down = True
        world.scheduler.at(step.value, world.hypervisor_is_up)


def _libvirtd_restarts(world: 'World', step: Step) -> None:
    """A libvirtd that is started anew has forgotten why a guest does not run."""
    for guest in world.hypervisor.guests.values():
        if not guest.active:
            guest.reason = 0
    _lose(world, step)


def _full(world: 'World', step: Step) -> None:
    world.fill_disk(step.value)


def _kill(world: 'World', step: Step) -> None:
    world.kill(step.value)


def _stop(world: 'World', step: Step) -> None:
    world.stop(step.value)


def _nothing(world: 'World', step: Step) -> None:
    pass


_STEPS: dict[str, Callable[['World', Step], None]] = {
    'attach': _attach,
    'attach what is there': _attach_what_is_there,
    'detach': _detach,
    'reconcile': _reconcile,
    'reconcile live': _reconcile,
    'live migrate': _live_migrate,
    'behave': _behave,
    'start': _start,
    'stop': _on_guest('destroy'),
    'power off': _on_guest('power_off'),
    'crash': _on_guest('crash'),
    'reset': _on_guest('reset'),
    'suspend': _on_guest('suspend'),
    'resume': _on_guest('resume'),
    'save': _save,
    'managed save': _save,
    'restore': _restore,
    'migrate away': _on_guest('migrate_away'),
    'undefine': _undefine,
    'other attaches': _other_attaches,
    'other detaches': _other_detaches,
    'redefine': _redefine,
    'swap': _swap,
    'swap live': _swap_live,
    'lose connection': _lose,
    'restart libvirtd': _libvirtd_restarts,
    'disk full': _full,
    'kill': _kill,
    'stop agent': _stop,
    'wait': _nothing,
}
