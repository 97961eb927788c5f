# SPDX-License-Identifier: Apache-2.0
"""Guests that Nova's releases defined, on a real libvirt: what the agent gives, what it leaves, and what it reports.

ALIASAGENT_NOVA_GUESTS=1000 defines so many instead of a hundred.
"""

import collections
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from typing import Any
from typing import NamedTuple

import libvirt
import testtools
from prometheus_client import parser

from aliasagent.devices.domain import Domain
from aliasagent.reconcile import plan
from aliasagent.tests.integration import base
from aliasagent.tests.unit.reconcile import test_nova_guests
from aliasagent.virt import host
from sandbox import environment
from sandbox import processes
from sandbox.agent import Agent


class Made(NamedTuple):
    """A definition as libvirt made it from Nova's, and whose its devices are."""

    text: str
    devices: list[dict[str, Any]]

    @property
    def is_settled(self) -> bool:
        """Whether the definition alone says whose each volume and port is."""
        return all(one['id'] is None or (one['documented'] and not one['contradicted']) for one in self.devices)


def all_made() -> list[Made]:
    return [
        Made(path.read_text(), devices)
        for path, devices in test_nova_guests.definitions()
        if path.parent.name == 'defined'
    ]


class NovaGuestsTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.daemon = base.own_daemon(type(self))
        self.connection = host.open_libvirt(self.daemon.uri)
        self.addCleanup(self.connection.close)
        #: Each guest with whose its devices are.
        self.guests: dict[str, Made] = {}
        directory = pathlib.Path(tempfile.mkdtemp(dir=environment.read().directory))
        self.port = processes.free_port()
        self.agent = Agent(
            directory,
            host=directory.name,
            rabbit_url=environment.read().rabbit_url,
            libvirt_uri=self.daemon.uri,
            options={'metrics': {'port': self.port}, 'reconcile': {'startup_timeout': 300}},
        )
        self.agent.write_config()
        self.addCleanup(self.agent.kill)

    def define(self, made: Made) -> None:
        """Define another guest like one that Nova made: with an id and a name of its own."""
        root = Domain.parse(made.text)
        instance = str(uuid.uuid4())
        name = f'instance-{len(self.guests):08x}'
        text = made.text.replace(root.uuid, instance)
        before = root.root.findtext('name') or ''
        self.connection.defineXML(text.replace(f'<name>{before}</name>', f'<name>{name}</name>', 1))
        self.guests[instance] = made

    def check(self) -> tuple[int, dict[str, str]]:
        """Return the exit code of the upgrade check, and what it says about the guests where all is not well."""
        command = [sys.executable, '-m', 'aliasagent.cmd.status', '--config-file', str(self.agent.config)]
        done = subprocess.run(
            [*command, 'upgrade', 'check', '-f', 'json'], capture_output=True, text=True, timeout=120, check=False
        )
        found = {it['check']: it for it in json.loads(done.stdout)['checks']}
        # In a container the tests may not see the host's mounts.
        del found['Host mounts']
        return done.returncode, {name: str(it['details']) for name, it in found.items() if it['result']}

    def counted(self) -> dict[str, int]:
        """Return how many devices have each outcome, as the agent's metrics tell."""
        with urllib.request.urlopen(f'http://127.0.0.1:{self.port}/metrics', timeout=30) as page:
            families = list(parser.text_string_to_metric_families(page.read().decode()))
        return {
            sample.labels['outcome']: int(sample.value)
            for family in families
            for sample in family.samples
            if sample.name == 'aliasagent_reconcile_devices' and sample.value
        }

    def assert_true(self) -> collections.Counter[str]:
        """Each device has its own alias or none, by whose it is; return how many of which."""
        counts: collections.Counter[str] = collections.Counter()
        for instance, made in self.guests.items():
            text = self.connection.lookupByUUIDString(instance).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
            devices = [device for device in Domain.parse(text).devices() if device.kind in plan.KINDS]
            for device, one in zip(devices, made.devices, strict=True):
                if device.is_claimed and device.alias != one['user_alias']:
                    self.assertEqual(f'ua-{one["id"]}', device.alias, f'{instance}: {one}')
                counts['nobody' if one['id'] is None else 'aliased' if device.is_claimed else 'none'] += 1
        return counts

    def test_a_host_full_of_them(self) -> None:
        """Where each definition says all, nothing is left to report; the upgrade check only says what will be done."""
        settled = [made for made in all_made() if made.is_settled]
        count = int(os.environ.get('ALIASAGENT_NOVA_GUESTS', '100'))
        for made in itertools.islice(itertools.cycle(settled), count):
            self.define(made)
        code, trouble = self.check()
        self.assertEqual((1, {'Guests'}), (code, set(trouble)), str(trouble))
        self.assertNotIn('cannot be identified', trouble['Guests'])
        self.assertIn("devices get their alias at the agent's next start", trouble['Guests'])
        self.agent.start(timeout=300)
        counts = self.assert_true()
        self.assertEqual(0, counts['none'])
        self.assertEqual({'aliased': counts['aliased'], 'local': counts['nobody']}, self.counted())
        self.assertEqual((0, {}), self.check())

    def test_what_the_definition_does_not_say(self) -> None:
        """The devices that get no alias are reported, each with a reason; none gets another's."""
        for made in all_made():
            self.define(made)
        self.agent.start(timeout=300)
        counts = self.assert_true()
        found = self.counted()
        left = found['unidentified'] + found['conflict']
        self.assertEqual(sum(counts.values()), found['aliased'] + found['local'] + left)
        # After a swap or a migration of a volume, a disk that has an alias is in conflict, too.
        self.assertLessEqual(counts['none'], left)
        code, trouble = self.check()
        self.assertEqual((1, {'Guests'}), (code, set(trouble)), str(trouble))
        self.assertRegex(trouble['Guests'], rf'^{left} devices have no alias and cannot be identified')
