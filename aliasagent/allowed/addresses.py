# SPDX-License-Identifier: Apache-2.0
"""Resolves the host names of a request to addresses, where the addresses decide whether a host is allowed.

QEMU and libvirt resolve the name again. Only the operator of the name service can change the answer in between.
"""

import socket

from aliasagent import exception
from aliasagent.allowed import hosts
from aliasagent.allowed import rules

#: Errors that say that a name server, or this host, cannot answer at the moment; the name itself may be valid.
_TEMPORARY = frozenset({socket.EAI_AGAIN, socket.EAI_MEMORY, socket.EAI_SYSTEM})


def check(need: rules.Need, within: rules.Bounds) -> None:
    """Refuse a host whose addresses are not allowed.

    :raises InvalidInput: the host is not allowed, or has no address that this host can find.
    :raises ServiceBusy: the host's addresses cannot be looked up at the moment.
    """
    patterns = within.of(need.kind)
    if not hosts.must_be_resolved(need.name, patterns):
        return
    found = _resolve(need)
    if not hosts.allows(need.name, found, patterns):
        raise need.refused(
            f'{need.name} has the address {", ".join(sorted(found))}, which the option [allowed] {need.kind} does not '
            'let pass'
        )


def _resolve(need: rules.Need) -> set[str]:
    try:
        found = socket.getaddrinfo(need.name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = f'the addresses of {need.name} cannot be looked up: {error}'
        if isinstance(error, socket.gaierror) and error.errno in _TEMPORARY:
            raise exception.ServiceBusy(reason=reason) from error
        raise need.refused(reason) from error
    # Without the zone of a link-local address.
    return {str(address[0]).partition('%')[0] for _family, _type, _protocol, _name, address in found}
