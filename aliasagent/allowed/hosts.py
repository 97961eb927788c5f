# SPDX-License-Identifier: Apache-2.0
"""Patterns for the hosts that a request may name.

A pattern is a network (``192.0.2.0/24``), an address, or a name as in a shell (``ceph-*.example.org``, ``*`` for any
host). A pattern that begins with ``!`` excludes hosts that other patterns allow.
"""

import fnmatch
import ipaddress
from collections.abc import Collection

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def address(host: str) -> Address | None:
    """Parse an address; return None for a name, and for a form that only a resolver accepts (``127.1``)."""
    try:
        found = ipaddress.ip_address(host.strip('[]'))
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def may_be_allowed(host: str, patterns: Collection[str]) -> bool:
    """Return whether a host may be allowed, judged by its name alone; its addresses may still exclude it."""
    allowed, excluded = _split(patterns)
    if _matches_any(host, excluded):
        return False
    return _matches_any(host, allowed) or (address(host) is None and any(map(_network, allowed)))


def must_be_resolved(host: str, patterns: Collection[str]) -> bool:
    """Return whether the addresses of a host decide whether it is allowed."""
    allowed, excluded = _split(patterns)
    return address(host) is None and (any(map(_network, excluded)) or not _matches_any(host, allowed))


def allows(host: str, addresses: Collection[str], patterns: Collection[str]) -> bool:
    """Return whether a host is allowed: by its name or else by all its addresses, and excluded by none of them."""
    allowed, excluded = _split(patterns)
    if not may_be_allowed(host, patterns) or any(_matches_any(one, excluded) for one in addresses):
        return False
    networks = [pattern for pattern in allowed if _network(pattern)]
    by_address = bool(addresses) and all(_matches_any(one, networks) for one in addresses)
    return _matches_any(host, allowed) or by_address


def _split(patterns: Collection[str]) -> tuple[list[str], list[str]]:
    excluded = [pattern[1:].strip() for pattern in patterns if pattern.startswith('!')]
    return [pattern for pattern in patterns if not pattern.startswith('!')], excluded


def _matches_any(host: str, patterns: Collection[str]) -> bool:
    return any(_matches(host, pattern) for pattern in patterns)


def _matches(host: str, pattern: str) -> bool:
    network = _network(pattern)
    if network is None:
        return fnmatch.fnmatchcase(host.strip('[]').lower(), pattern.lower())
    found = address(host)
    return found is not None and found.version == network.version and found in network


def _network(pattern: str) -> Network | None:
    try:
        return ipaddress.ip_network(pattern.strip('[]'), strict=False)
    except ValueError:
        return None
