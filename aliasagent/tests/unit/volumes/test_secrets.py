# SPDX-License-Identifier: Apache-2.0
"""What is kept of a connection_info has no passwords, whatever its form."""

import json
from typing import Any

import hypothesis
from hypothesis import strategies

from aliasagent.tests import base
from aliasagent.volumes import redaction

#: A password, which nothing else contains.
_HUSH = 'x7Qm-hush'
_SECRET = strategies.sampled_from(
    ['auth_password', 'discovery_auth_password', 'keyring', 'Password', 'serverPassword', 'secret', 'client_secret',
     'passphrase', 'auth_token']
)  # fmt: skip
_PLAIN = strategies.sampled_from(
    ['secret_uuid', 'secret_type', 'auth_username', 'auth_method', 'target_iqn', 'hosts', 'name', 'qos_specs', 'data']
)
_LEAVES = strategies.none() | strategies.booleans() | strategies.integers() | strategies.text('abc', max_size=5)


def _objects(values: Any) -> Any:
    secrets = strategies.dictionaries(_SECRET, strategies.one_of(strategies.just(_HUSH), _around(values)), max_size=3)
    plain = strategies.dictionaries(_PLAIN, values, max_size=4)
    return strategies.builds(lambda one, other: {**one, **other}, secrets, plain)


def _around(values: Any) -> Any:
    return strategies.lists(values | strategies.just(_HUSH), max_size=2)


_INFOS = _objects(strategies.recursive(_LEAVES, lambda inner: strategies.lists(inner, max_size=3) | _objects(inner)))


def _without(value: Any) -> Any:
    """Return a value without secret members, by their full names."""
    if isinstance(value, dict):
        return {name: _without(it) for name, it in value.items() if name in _KEPT}
    return [_without(it) for it in value] if isinstance(value, list) else value


_KEPT = frozenset(
    ['secret_uuid', 'secret_type', 'auth_username', 'auth_method', 'target_iqn', 'hosts', 'name', 'qos_specs', 'data']
)


class SecretsTestCase(base.TestCase):
    @hypothesis.given(_INFOS)
    def test_secrets_are_dropped_and_all_else_is_kept(self, info: dict[str, Any]) -> None:
        before = json.dumps(info)
        kept = redaction.without_secrets(info)
        self.assertNotIn(_HUSH, json.dumps(kept))
        self.assertEqual(_without(info), kept)
        self.assertEqual(before, json.dumps(info))
