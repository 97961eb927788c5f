# SPDX-License-Identifier: Apache-2.0
"""What the ``oslo.config.opts`` entry point hands to the sample generator and the documents."""

from oslo_config import cfg

from aliasagent import conf


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """All options by group."""
    return [group for module in conf.MODULES for group in module.list_opts()]
