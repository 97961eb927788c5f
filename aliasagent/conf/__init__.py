# SPDX-License-Identifier: Apache-2.0
"""The options, one module per group, all registered on the global ``cfg.CONF`` that oslo.messaging needs."""

from oslo_config import cfg

from aliasagent.conf import allowed
from aliasagent.conf import brick
from aliasagent.conf import ceph
from aliasagent.conf import default
from aliasagent.conf import libvirt
from aliasagent.conf import metrics
from aliasagent.conf import operations
from aliasagent.conf import reconcile
from aliasagent.conf import unplug
from aliasagent.conf import upgrade_levels

CONF = cfg.CONF

MODULES = (allowed, brick, ceph, default, libvirt, metrics, operations, reconcile, unplug, upgrade_levels)

for _module in MODULES:
    _module.register_opts(CONF)
