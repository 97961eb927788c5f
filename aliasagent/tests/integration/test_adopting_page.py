# SPDX-License-Identifier: Apache-2.0
"""Every command of the page on how to adopt a Nova cloud is run, on a host with guests that Nova made."""

import json
import pathlib
import re
import tempfile

import libvirt
import testtools

from aliasagent.devices import interface
from aliasagent.devices.domain import Domain
from aliasagent.tests import documents
from aliasagent.tests.integration import base
from aliasagent.tests.unit.reconcile import test_nova_guests
from aliasagent.virt import host
from sandbox import environment
from sandbox import installation

PAGE = documents.SOURCE / 'admin' / 'adopting-nova.rst'
INSTALL = documents.SOURCE / 'install.rst'
CHECK = 'aliasagent-status upgrade check\n'
#: A guest whose ports its definition does not name, and one whose ports it does.
UNSAID, SAID = '17.0.13/defined/vif-bridge.xml', '17.0.13/defined/vif-ovs.xml'


class AdoptingPageTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.parts = environment.read()
        # its own: the agent reconciles whatever guests there are
        self.uri = base.own_daemon(type(self)).uri
        self.connection = host.open_libvirt(self.uri)
        self.addCleanup(self.connection.close)

    def define(self, file: str) -> Domain:
        """Define a guest that Nova made."""
        text = (test_nova_guests.GUESTS / file).read_text()
        # Each was the first one of its host.
        name = pathlib.PurePath(file).stem
        self.connection.defineXML(re.sub('<name>.*?</name>', f'<name>{name}</name>', text, count=1))
        return Domain.parse(text)

    def aliases(self, guest: Domain) -> set[str | None]:
        text = self.connection.lookupByUUIDString(guest.uuid).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        return {device.alias for device in Domain.parse(text).devices() if device.is_claimed}

    def script(self, guest: Domain, ports: dict[str, str]) -> str:
        """Return the commands of the page that installs an agent, without its start, and those of this page.

        :param ports: the ids of the guest's ports, by MAC address.
        """
        install = ''.join(documents.blocks(INSTALL.read_text().partition('\nThe service\n')[0], 'bash'))
        text = PAGE.read_text()
        commands = ''.join(documents.blocks(text, 'bash'))
        self.assertIn(CHECK, commands)
        (inventory,) = documents.blocks(text, 'json', 'inventory')
        self.assertEqual({'id', 'address'}, set(json.loads(inventory)['ports'][0]))
        whose = {'ports': [{'id': port, 'address': mac} for mac, port in ports.items()]}
        for example, real in (
            ('rabbit://user:password@broker:5672/', self.parts.rabbit_url),
            ('qemu:///system', self.uri),
        ):
            self.assertEqual(1, install.count(example), example)
            install = install.replace(example, real)
        # a warning is no reason to stop
        script = (install + commands).replace(CHECK, f'{CHECK.strip()} || [ $? = 1 ]\n')
        return f"echo '{json.dumps(whose)}' >whose.json\n" + script.replace('GUEST', guest.uuid)

    def test_its_commands_give_every_device_its_alias(self) -> None:
        said, unsaid = self.define(SAID), self.define(UNSAID)
        whose = json.loads((test_nova_guests.GUESTS / UNSAID).with_name('whose.json').read_text())['vif-bridge.xml']
        nics = [device for device in unsaid.devices() if isinstance(device, interface.Interface)]
        ids = [one['id'] for one in whose if one['kind'] == 'interface']
        ports = {str(nic.mac): port for nic, port in zip(nics, ids, strict=True)}
        directory = pathlib.Path(tempfile.mkdtemp(dir=self.parts.directory))
        done = installation.Installation(directory, documents.ROOT).run(self.script(unsaid, ports), timeout=240)
        self.assertEqual(0, done.returncode, done.stdout[-5000:])
        for words in ('agent       healthy', '4 devices get their alias', 'no proof'):
            self.assertIn(words, done.stdout)
        self.assertLessEqual({f'ua-{port}' for port in ports.values()}, self.aliases(unsaid))
        self.assertEqual(3, len(self.aliases(said)))
        self.assertIn('Stopped', (directory / 'log').read_text())
