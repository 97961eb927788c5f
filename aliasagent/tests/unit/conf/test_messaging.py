# SPDX-License-Identifier: Apache-2.0
"""What is said of options that oslo.messaging cannot understand, and what is not."""

import traceback

from oslo_config import cfg
from oslo_config import fixture as config_fixture

from aliasagent import conf
from aliasagent.conf import messaging
from aliasagent.tests import base

#: A part of a password.
MARK = 'x7Qm-hush'
#: What comes out of what was not encoded in a password, or has been forgotten.
BAD_URLS = (
    f'rabbit://nova:{MARK}#x@broker:5672/',
    f'rabbit://nova:{MARK}/x@broker:5672/',
    f'rabbit://nova:{MARK}?x@broker:5672/',
    f'rabbit://nova:[{MARK}@broker:5672/',
    f'rabbit://nova:secret@broker:{MARK}/',
    f'//nova:{MARK}@broker/',
    f'nova@{MARK}',
)


class MessagingTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.conf = self.useFixture(config_fixture.Config(conf.CONF))
        self.conf.load_raw_values()
        messaging.check(conf.CONF)  # which makes the options known

    def refusal(self, url: str, group: str | None = None) -> str:
        """What is told of a transport_url, in a traceback, too."""
        self.conf.config(transport_url=url, group=group)
        with self.assertRaises(cfg.Error) as raised:
            messaging.check(conf.CONF)
        return ''.join(traceback.format_exception(raised.exception))

    def test_good_ones(self) -> None:
        for url in ('rabbit://', 'rabbit://nova:secret%23x@a:5672,nova:secret@b/nova', 'kombu+memory://', 'fake:/'):
            self.conf.config(transport_url=url)
            messaging.check(conf.CONF)

    def test_what_cannot_be_understood_is_not_repeated(self) -> None:
        for url in BAD_URLS:
            told = self.refusal(url)
            self.assertNotIn(MARK, told, url)
            self.assertIn('transport_url is not valid', told)
            self.assertIn('# is %23', told)

    def test_a_password_that_looks_like_a_port_is_not_taken_for_one(self) -> None:
        url = 'rabbit://nova:31337#x@broker:5672/'
        for group in (None, 'oslo_messaging_notifications'):
            told = self.refusal(url, group)
            self.assertIn('transport_url is not valid', told)
            self.assertNotIn('31337', told)
            self.conf.config(transport_url='rabbit://', group=group)

    def test_that_of_the_notifications_is_looked_at_too(self) -> None:
        told = self.refusal(BAD_URLS[0], 'oslo_messaging_notifications')
        self.assertIn('[oslo_messaging_notifications] transport_url is not valid', told)
        self.assertNotIn(MARK, told)

    def test_an_unknown_transport_is_named(self) -> None:
        told = self.refusal(f'nodriver://nova:{MARK}@broker/')
        self.assertIn('transport_url: Failed to load transport driver "nodriver"', told)
        self.assertNotIn(MARK, told)

    def test_a_value_of_the_library_that_cannot_be_understood(self) -> None:
        self.conf.load_raw_values('oslo_messaging_rabbit', rabbit_qos_prefetch_count='ten')
        with self.assertRaisesRegex(cfg.Error, 'option rabbit_qos_prefetch_count .* is not valid'):
            messaging.check(conf.CONF)
