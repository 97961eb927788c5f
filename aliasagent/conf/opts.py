# SPDX-License-Identifier: Apache-2.0
"""All options, as the ``oslo.config.opts`` entry point returns them to the sample generator and the documents."""

from oslo_config import cfg

from aliasagent import conf
from aliasagent.conf import openstack


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return all options by group."""
    return [group for module in (*conf.MODULES, openstack) for group in module.list_opts()]
