# SPDX-License-Identifier: Apache-2.0
"""Each integration test is run, by one worker: what no worker is given would not be run at all."""

import ast
import pathlib
import re

import yaml

import aliasagent
from aliasagent.tests import base

INTEGRATION = pathlib.Path(aliasagent.__file__).parent / 'tests' / 'integration'


def tests() -> list[str]:
    """A test of each class of the integration tests, by its name."""
    return [
        f'aliasagent.tests.integration.{path.stem}.{node.name}.test_it'
        for path in sorted(INTEGRATION.glob('test_*.py'))
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    ]


class WorkersTestCase(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        workers = yaml.safe_load((INTEGRATION / 'workers.yaml').read_text())
        self.workers = [[re.compile(pattern) for pattern in worker['worker']] for worker in workers]

    def those_of(self, test: str) -> list[int]:
        """The numbers of the workers that run a test, found as stestr finds them."""
        return [
            number
            for number, patterns in enumerate(self.workers)
            if any(pattern.search(test) for pattern in patterns)
        ]

    def test_each_test_has_one(self) -> None:
        self.assertEqual({1}, {len(self.those_of(test)) for test in tests()})

    def test_each_worker_has_tests(self) -> None:
        self.assertEqual({0, 1, 2}, {number for test in tests() for number in self.those_of(test)})

    def test_what_is_new_is_for_the_last(self) -> None:
        self.assertEqual([2], self.those_of('aliasagent.tests.integration.test_something_new.NewTest.test_it'))
