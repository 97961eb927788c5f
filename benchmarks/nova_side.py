# SPDX-License-Identifier: Apache-2.0
"""Nova's side of the benchmarks: runs in an environment with Nova, unmodified, and measures itself.

A request is a line of JSON on standard input, ``[function, arguments]``; the answer is a line on standard output.
"""

import functools
import gc
import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

from nova import conf as nova_conf
from nova.virt.libvirt import config
from nova.virt.libvirt import driver
from nova.virt.libvirt import event as libvirtevent
from nova.virt.libvirt import guest

from benchmarks import stub

_state: dict[str, Any] = {}


def _measured(function: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    """As :func:`benchmarks.harness.cpu_seconds`, which needs more than there is here."""
    gc.disable()
    try:
        begin = time.process_time()
        for _ in range(repeat):
            returned = function()
        return (time.process_time() - begin) / repeat, returned
    finally:
        gc.enable()


def versions() -> dict[str, str]:
    """What runs here."""
    names = ('nova', 'lxml', 'libvirt-python')
    return {'python': platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def lookup(text: str, device: str, fallback: bool, repeat: int) -> dict[str, Any]:
    """Find a device by its alias in a definition, and by its target if that is not there and it shall."""

    class Domain:
        def XMLDesc(self, _flags: int) -> str:  # noqa: N802 - libvirt's
            return text

    nova_guest = guest.Guest(Domain())
    libvirt_driver = driver.LibvirtDriver.__new__(driver.LibvirtDriver)

    def find() -> Any:
        if fallback:
            return libvirt_driver._get_guest_disk_device(nova_guest, 'sdzzz', volume_uuid=device)
        return nova_guest.get_device_by_alias(config.make_libvirt_device_alias(device))

    seconds, found = _measured(find, repeat)
    return {
        'seconds': seconds,
        'outcome': None if found is None else [found.root_name, found.target_dev, found.alias],
    }


def build(kind: str, values: dict[str, Any], repeat: int) -> dict[str, Any]:
    """Make a device's XML."""
    seconds, text = _measured(functools.partial(_BUILDERS[kind], values), repeat)
    return {'seconds': seconds, 'text': text}


def _build(make: Callable[[], Any], values: dict[str, Any]) -> str:
    device = make()
    for name, value in values.items():
        setattr(device, name, value)
    return str(device.to_xml())


_BUILDERS: dict[str, Callable[[dict[str, Any]], str]] = {
    'disk': functools.partial(_build, config.LibvirtConfigGuestDisk),
    'interface': functools.partial(_build, config.LibvirtConfigGuestInterface),
    'pci': functools.partial(_build, config.LibvirtConfigGuestHostdevPCI),
    'mdev': functools.partial(_build, config.LibvirtConfigGuestHostdevMDEV),
}


def prepare_detach(instance: str, device: str, target: str, before: dict[str, str], after: dict[str, str]) -> None:
    """Make a guest, and a driver as far as a detach needs one."""
    # NOTE: of the driver's many parts a detach uses one; the rest would want a whole cloud.
    libvirt_driver = driver.LibvirtDriver.__new__(driver.LibvirtDriver)
    libvirt_driver._host = None
    libvirt_driver._device_event_handler = driver.AsyncDeviceEventsHandler()

    def on_removed(_domain: object, alias: str) -> None:
        libvirt_driver._device_event_handler.notify_waiters(libvirtevent.DeviceRemovedEvent(instance, alias))

    domain = stub.Domain(instance, config.make_libvirt_device_alias(device), before, after, on_removed)
    _state['detach'] = (libvirt_driver, domain, instance, device, target)


def detach(repeat: int) -> dict[str, Any]:
    """Take the device out as Nova's detach_volume does it."""
    libvirt_driver, domain, instance, device, target = _state['detach']

    def whole() -> None:
        domain.refill()
        nova_guest = guest.Guest(domain)
        get_dev = functools.partial(libvirt_driver._get_guest_disk_device, nova_guest, target, volume_uuid=device)
        libvirt_driver._detach_with_retry(nova_guest, instance, get_dev, device_name=target)

    seconds, _nothing = _measured(whole, repeat)
    return {'seconds': seconds, 'outcome': domain.outcome(), 'calls': domain.calls}


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    'versions': versions,
    'lookup': lookup,
    'build': build,
    'prepare_detach': prepare_detach,
    'detach': detach,
}


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr
    nova_conf.CONF([], project='nova', default_config_files=[])
    for line in sys.stdin:
        name, arguments = json.loads(line)
        answers.write(json.dumps(_FUNCTIONS[name](**arguments)) + '\n')
        answers.flush()


if __name__ == '__main__':
    main()
