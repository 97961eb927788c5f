# SPDX-License-Identifier: Apache-2.0
"""The check of Nova and Neutron before an upgrade."""

import threading

from aliasagent.status import checks
from aliasagent.tests import base as tests_base
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
        self.assert_said(Code.WARNING, 'section [nova] is missing', groups=('neutron',))

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
