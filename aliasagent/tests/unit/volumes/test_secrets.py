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


class KeptTestCase(base.TestCase):
    """What is recorded has known members only."""

    @hypothesis.given(
        strategies.dictionaries(
            strategies.text('xyz_', min_size=1, max_size=6) | _SECRET,
            strategies.just(_HUSH) | strategies.lists(strategies.just(_HUSH)),
        )
    )
    def test_members_that_are_not_known_are_dropped(self, unknown: dict[str, Any]) -> None:
        known = {'driver_volume_type': 'iscsi', 'target_lun': 1, 'portals': [['192.0.2.7', 4420, 'tcp']]}
        nested = {**unknown, 'target_nqn': 'nqn', 'hosts': [unknown]}
        info = {**unknown, **known, 'volume_replicas': [nested], 'data': nested}
        expected = {'target_nqn': 'nqn', 'hosts': [{}]}
        self.assertEqual({**known, 'volume_replicas': [expected], 'data': expected}, redaction.kept(info))

    def test_where_passwords_may_be(self) -> None:
        names = ('auth_key', 'access_key', 'dhchap_key', 'credentials', 'passwd', 'private_key', 'auth_username')
        info = {
            **dict.fromkeys(names, _HUSH),
            'discovery_auth_method': 'CHAP',
            'options': f'-o username=u,password={_HUSH}',
            'export': f'//u:{_HUSH}@192.0.2.8/share',
            'qos_specs': {'note': _HUSH},
            'initiator_target_map': {'500143802426baf4': ['5001CD'], 'face': _HUSH},
        }
        expected = {'export': '192.0.2.8/share', 'initiator_target_map': {'500143802426baf4': ['5001CD']}}
        self.assertEqual(expected, redaction.kept(info))
        self.assertEqual({_HUSH}, redaction.secrets_of(dict.fromkeys(names[:-1], _HUSH)))
        self.assertEqual(set(), redaction.secrets_of({'encryption_key_id': 'x', 'auth_username': 'u'}))

    def test_what_a_disconnect_needs(self) -> None:
        for info in (
            {
                'driver_volume_type': 'iscsi', 'target_portals': ['a:3260'], 'target_iqns': ['iqn'], 'target_luns': [1],
                'target_portal': 'a:3260', 'target_iqn': 'iqn', 'target_lun': 1, 'target_discovered': False,
                'volume_id': 'v', 'device_path': '/dev/sda', 'encrypted': False, 'access_mode': 'rw', 'discard': True,
            },
            {'driver_volume_type': 'fibre_channel', 'target_wwn': ['50:01'], 'target_lun': 3,
             'initiator_target_lun_map': {'50:01:43:80:24:26:BA:F4': [['5001cd', 3]]}},
            {'driver_volume_type': 'nvmeof', 'data': {'nqn': 'n', 'transport_type': 'tcp', 'target_portal': 'a',
             'target_port': 4420, 'volume_nguid': 'g', 'ns_id': 1, 'host_nqn': 'h', 'vol_uuid': 'u', 'alias': 'r',
             'replica_count': 1, 'volume_replicas': [{'target_nqn': 'n', 'portals': [['a', 1, 'tcp']]}]}},
            {'driver_volume_type': 'nfs', 'export': '192.0.2.8:/srv', 'name': 'volume-1', 'format': 'raw'},
        ):  # fmt: skip
            self.assertEqual(info, redaction.kept(info))
