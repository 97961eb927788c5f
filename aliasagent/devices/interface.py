# SPDX-License-Identifier: Apache-2.0
"""Network interfaces (libvirt, formatdomain, "Network interfaces")."""

from aliasagent.devices import base
from aliasagent.devices import properties


class Interface(base.Device):
    """A network interface of any type."""

    tag = 'interface'

    type = properties.text('@type')
    managed = properties.yes_no('@managed')
    mac = properties.text('mac/@address')
    model = properties.text('model/@type')
    mtu = properties.integer('mtu/@size')

    bridge = properties.text('source/@bridge')
    network = properties.text('source/@network')
    source_dev = properties.text('source/@dev')
    source_mode = properties.text('source/@mode')
    target_dev = properties.text('target/@dev')
    target_managed = properties.yes_no('target/@managed')

    virtualport_type = properties.text('virtualport/@type')
    interfaceid = properties.text('virtualport/parameters/@interfaceid')

    driver_name = properties.text('driver/@name')
    queues = properties.integer('driver/@queues')
    boot_order = properties.integer('boot/@order')

    @property
    def target(self) -> str | None:
        return self.target_dev

    @property
    def source(self) -> str | None:
        """What the interface is plugged into, in one word."""
        return self.bridge or self.network or self.source_dev

    def describe(self) -> str:
        words = [super().describe(), f'with MAC {self.mac}' if self.mac else '']
        return ' '.join(word for word in words if word)
