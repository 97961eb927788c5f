# SPDX-License-Identifier: Apache-2.0
"""Our defaults for options of other projects, as the ``oslo.config.opts.defaults`` entry point hands them out."""

from aliasagent.conf import logs
from aliasagent.messaging import options


def set_defaults() -> None:
    """Set them for the sample configuration and the documents."""
    logs.set_defaults()
    options.set_defaults()
