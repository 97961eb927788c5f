# SPDX-License-Identifier: Apache-2.0
"""The checks of Nova, Neutron and Cinder before an upgrade."""

import threading

from aliasagent.status import checks
from aliasagent.tests import base as tests_base
from aliasagent.tests import ids
from aliasagent.tests.fakes.cinder import FakeCinder
from aliasagent.tests.unit.cloud import base

Code = checks.Code


class CloudCheckTestCase(base.CloudTestCase):
    def assert_said(
        self, code: int, *words: str, groups: tuple[str, ...] = ('nova', 'neutron'), more: str = ''
    ) -> None:
        made = checks.Checks(self.configured(*groups, more=more), lambda: 5.0)
        result = dict(checks.Checks._upgrade_checks)['Nova and Neutron'](made)
        self.assertEqual(code, result.code, result.details)
        for word in words:
            self.assertIn(word, str(result.details))
        self.assertNotIn('hush', str(result.details))

    def test_services_that_answer(self) -> None:
        self.cloud.add_server(volumes={})
        self.cloud.add_port('', '52:54:00:00:00:01')
        self.assert_said(Code.SUCCESS, 'nova, neutron')
        self.assertEqual(
            {'/compute/v2.1/servers?all_tenants=1&limit=1', '/network/v2.0/ports?limit=1'}, set(self.cloud.asked)
        )

    def test_no_sections(self) -> None:
        self.assert_said(Code.SUCCESS, 'no section [nova]', groups=())
        self.assertEqual([], self.cloud.asked)

    def test_a_section_that_is_missing(self) -> None:
        self.assert_said(Code.SUCCESS, 'section [nova] is missing', groups=('neutron',))

    def test_services_that_do_not_answer(self) -> None:
        for status in (403, 404, 500):
            self.cloud.before = lambda _path, status=status: (status, {})  # type: ignore[misc]
            self.assert_said(Code.WARNING, 'nova: list the servers', 'neutron: list a port')

    def test_one_that_hides_the_bindings(self) -> None:
        self.cloud.ports.append({'id': 'x'})
        self.assert_said(Code.WARNING, "neutron: list a port failed: the answer is not valid: KeyError: 'binding:vif_")

    def test_a_wrong_password(self) -> None:
        self.assert_said(Code.WARNING, 'neutron: list a port failed', 'HTTP 401', more='password = x7Qm-hush-wrong\n')

    def test_one_that_hangs(self) -> None:
        end = threading.Event()
        self.addCleanup(end.set)

        def hang(_path: str) -> None:
            end.wait(tests_base.PATIENCE)

        self.cloud.before = hang
        made = checks.Checks(self.configured('nova'), lambda: 0.1)
        self.assertEqual('nova: no answer within 0.1 s', checks.Checks._cloud(made).details)


class CinderCheckTestCase(base.CloudTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.fake = FakeCinder()
        self.cloud.services['volume'] = self.fake.answer

    def assert_said(self, code: int, words: str, *groups: str, more: str = '') -> None:
        made = checks.Checks(self.configured(*groups, more=more), lambda: 5.0)
        result = dict(checks.Checks._upgrade_checks)['Cinder'](made)
        self.assertEqual(code, result.code, result.details)
        self.assertIn(words, str(result.details))
        self.assertNotIn('hush', str(result.details))

    def test_one_that_answers(self) -> None:
        self.fake.add_attachment(self.fake.add_volume(ids.VOLUME))
        self.assert_said(Code.SUCCESS, '', 'cinder')
        path = '/volume/v3/attachments?all_tenants=1&limit=1'
        self.assertEqual([path, f'{path}&mountpoint=aliasagent'], self.cloud.asked)

    def test_no_section(self) -> None:
        self.assert_said(Code.SUCCESS, 'no section [cinder]', 'nova')
        self.assertEqual([], self.cloud.asked)

    def test_nova_and_neutron_are_not_configured_by_it(self) -> None:
        result = checks.Checks._cloud(checks.Checks(self.configured('cinder'), lambda: 5.0))
        self.assertEqual('no section [nova]; Nova and Neutron are not asked about guests', result.details)

    def test_one_that_does_not_answer(self) -> None:
        for status, words in ((403, 'was refused: HTTP 403'), (404, 'no such page'), (500, 'failed: HTTP 500')):
            self.cloud.before = lambda _path, status=status: (status, {})  # type: ignore[misc]
            self.assert_said(Code.WARNING, words, 'cinder')

    def test_a_user_who_is_no_administrator(self) -> None:
        self.fake.is_admin = False
        self.assert_said(Code.WARNING, 'HTTP 400: Invalid filters mountpoint', 'cinder')

    def test_an_old_one(self) -> None:
        words = 'Version 3.48 is not supported by the API. Minimum is 3.0 and maximum is 3.27.'
        self.cloud.before = lambda _path: (406, {'computeFault': {'message': words, 'code': 406}})
        self.assert_said(Code.WARNING, f'administrator was refused: HTTP 406: {words}', 'cinder')

    def test_a_wrong_password(self) -> None:
        self.assert_said(Code.WARNING, 'HTTP 401', 'cinder', more='password = x7Qm-hush-wrong\n')
