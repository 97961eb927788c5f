# SPDX-License-Identifier: Apache-2.0
"""Every command of the page on how to install is run, one after the other."""

import pathlib
import re
import tempfile

import testtools

from aliasagent.tests import documents
from aliasagent.tests.integration import base
from sandbox import environment
from sandbox import installation

PAGE = documents.SOURCE / 'install.rst'
CHECK = 'aliasagent-status upgrade check\n'


class InstallPageTest(testtools.TestCase):
    def test_its_commands_install_an_agent_that_works(self) -> None:
        parts = environment.read()
        # its own: the agent reconciles whatever guests there are
        uri = base.own_daemon(type(self)).uri
        side = base.RealSide(uri)
        self.addCleanup(side.close)
        guest = side.new_guest(state='shut off')
        text = PAGE.read_text()
        blocks = documents.blocks(text, 'bash')
        self.assertIn(CHECK, blocks)
        # a warning is no reason to stop
        script = ''.join(block if block != CHECK else f'{CHECK.strip()} || [ $? = 1 ]\n' for block in blocks)
        for example, real in (
            ('rabbit://user:password@broker:5672/', parts.rabbit_url),
            ('qemu:///system', uri),
        ):
            self.assertEqual(1, script.count(example), example)
            script = script.replace(example, real)
        brought = re.findall(r'^``((?:etc|lib|share)/\S+)``', text, re.MULTILINE)
        self.assertLess(3, len(brought))
        script += ''.join(f'test -e /opt/aliasagent/{path} && echo there: {path}\n' for path in brought)
        script += 'ls /opt/aliasagent/share/man/man*\n'
        directory = pathlib.Path(tempfile.mkdtemp(dir=parts.directory))
        done = installation.Installation(directory, documents.ROOT).run(script, timeout=240)
        self.assertEqual(0, done.returncode, done.stdout[-5000:])
        for words in ('hypervisor  healthy', 'broker      healthy', 'agent       healthy', 'queue       healthy'):
            self.assertIn(words, done.stdout)
        # in the list of guests, and in that of what would be done about them
        self.assertEqual(2, done.stdout.count(guest), done.stdout[-5000:])
        for words in ('aliasagent.1', 'aliasagent-status.1', 'aliasagent-compute.8', *brought):
            self.assertIn(words, done.stdout)
