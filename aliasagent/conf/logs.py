# SPDX-License-Identifier: Apache-2.0
"""Our defaults for options of oslo.log."""

from oslo_log import log

#: The ids of the caller's own request, of ours and of the operation stand in each line; the instance follows.
CONTEXT_FORMAT = (
    '%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s '
    '[%(global_request_id)s %(request_id)s %(operation_id)s] %(instance)s%(message)s'
)


def set_defaults() -> None:
    """Replace oslo.log's defaults by ours, in the sample configuration, too."""
    log.set_defaults(logging_context_format_string=CONTEXT_FORMAT)
