# SPDX-License-Identifier: Apache-2.0
"""A cloud, and a configuration for it."""

import pathlib

from oslo_config import cfg

from aliasagent import conf
from aliasagent.conf import openstack
from aliasagent.conf import reading
from aliasagent.tests import base
from aliasagent.tests.fakes.cloud import FakeCloud

PATIENCE = base.PATIENCE


class CloudTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.cloud = self.useFixture(FakeCloud())

    def parse(self, text: str) -> cfg.ConfigOpts:
        """Return the configuration of a file, with the agent's own options."""
        path = pathlib.Path(self.make_directory()) / 'a.conf'
        path.write_text(text)
        found = cfg.ConfigOpts()
        for module in conf.MODULES:
            module.register_opts(found)
        reading.parse(found, ['--config-file', str(path)])
        return found

    def configured(self, *groups: str, more: str = '') -> cfg.ConfigOpts:
        """Return a configuration for these services; ``more`` is added to the last section."""
        found = self.parse(self.cloud.configuration(*groups) + more)
        openstack.register(found)
        openstack.check(found)
        return found
