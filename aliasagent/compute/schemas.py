# SPDX-License-Identifier: Apache-2.0
"""The published schema of every message (JSON Schema, draft 2020-12).

The schema of a request is with its type in :mod:`aliasagent.requests`. ``connection_info`` has a form that Cinder
sends, and may have more fields than the schema lists; so may a ``port`` in the form that Neutron sends. A ``port`` in
the agent's own form and ``hostdev`` have names of Neutron, os-vif and libvirt, and may have no other fields.
:mod:`aliasagent.requests.formats` defines each ``format``.
"""

from aliasagent.actions import Action
from aliasagent.operations.model import State
from aliasagent.requests import base
from aliasagent.requests import catalog
from aliasagent.requests import inventory
from aliasagent.requests import schema as parts
from aliasagent.requests.schema import Schema

#: The arguments of each method, by its name.
METHODS: dict[str, Schema] = {
    **{action.value: request.schema for action, request in catalog.TYPES.items()},
    'reconcile_plan': parts.whole(base.INSTANCE, {'inventory': parts.nullable(inventory.SCHEMA)}),
    'reconcile_live_estimate': parts.whole(base.INSTANCE),
    'migration_progress': parts.whole(base.INSTANCE),
    'abort_migration': parts.whole(base.INSTANCE),
    'reconcile_status': parts.whole({}, base.INSTANCE),
    'list_connections': parts.whole({}, base.INSTANCE),
    'remove_connection': parts.whole({**base.INSTANCE, 'device_id': base.DEVICE_ID}),
    'get_volume_connector': parts.whole({}),
    'list_instances': parts.whole({}),
    'list_devices': parts.whole(base.INSTANCE),
    'get_operation': parts.whole({'operation_id': base.DEVICE_ID}),
    'list_operations': parts.whole(
        {},
        {
            **base.INSTANCE,
            'states': {'type': 'array', 'items': {'enum': list(State)}},
            'since': parts.string('time'),
            'until': parts.string('time'),
            'limit': parts.integer(1, 1000),
        },
    ),
    'submit': parts.whole(
        {
            'operation': parts.whole(
                {'id': base.DEVICE_ID, 'action': {'enum': list(Action)}, 'arguments': {'type': 'object'}}
            )
        }
    ),
}
