# SPDX-License-Identifier: Apache-2.0
"""The errors that real libvirt raises, with the code, domain and words it uses.

Every number and text here was seen on libvirt 9.0.0 with QEMU 7.2. They are real ``libvirt.libvirtError`` objects, so
that code under test cannot tell where they came from.
"""

import libvirt


def error(
    code: int,
    detail: str,
    domain: int = libvirt.VIR_FROM_DOMAIN,
    prefix: str = '',
    number: int = -1,
) -> libvirt.libvirtError:
    """One error as libvirt-python would raise it; ``number`` is the errno or HTTP-like extra that some carry."""
    text = f'{prefix}: {detail}' if prefix else detail
    made = libvirt.libvirtError(text)
    # The constructor takes the thread's last real error if there is one; this one is ours.
    made.args = (text,)
    made.err = (
        code,
        domain,
        text,
        libvirt.VIR_ERR_ERROR,
        f'{prefix}: %s' if prefix else '%s',
        detail,
        None,
        number,
        -1,
    )
    return made


def internal(detail: str, domain: int = libvirt.VIR_FROM_DOMAIN) -> libvirt.libvirtError:
    return error(libvirt.VIR_ERR_INTERNAL_ERROR, detail, domain, 'internal error')


def qemu_refused(command: str, detail: str) -> libvirt.libvirtError:
    """QEMU answered a monitor command with an error."""
    return internal(f"unable to execute QEMU command '{command}': {detail}", libvirt.VIR_FROM_QEMU)


def no_alias(alias: str) -> libvirt.libvirtError:
    """An alias nobody carries: code 1, and not the DEVICE_MISSING one would expect."""
    return internal(f'no device found with alias {alias}')


def guest_busy() -> libvirt.libvirtError:
    """A PCIe slot whose guest is still dealing with the previous request (QEMU, hw/pci/pcie.c)."""
    return qemu_refused('device_del', 'Hot-unplug failed: guest is busy (power indicator blinking)')


def already_unplugging(alias: str) -> libvirt.libvirtError:
    """A second request while the first is pending, from QEMU versions that mind (softmmu/qdev-monitor.c)."""
    return qemu_refused('device_del', f'Device {alias} is already in the process of unplug')


def no_free_slot() -> libvirt.libvirtError:
    """No PCIe root port is left for hot-plug."""
    return internal('No more available PCI slots')


def invalid_state(detail: str, domain: int = libvirt.VIR_FROM_DOMAIN) -> libvirt.libvirtError:
    return error(libvirt.VIR_ERR_OPERATION_INVALID, detail, domain, 'Requested operation is not valid')


def not_running(domain: int = libvirt.VIR_FROM_DOMAIN) -> libvirt.libvirtError:
    return invalid_state('domain is not running', domain)


def no_config() -> libvirt.libvirtError:
    return invalid_state('transient domains do not have any persistent config')


def unsupported_config(detail: str, domain: int = libvirt.VIR_FROM_DOMAIN) -> libvirt.libvirtError:
    return error(libvirt.VIR_ERR_CONFIG_UNSUPPORTED, detail, domain, 'unsupported configuration')


def duplicate_alias(alias: str) -> libvirt.libvirtError:
    return unsupported_config(f'non unique alias detected: {alias}')


def unsupported(detail: str) -> libvirt.libvirtError:
    """The driver cannot do this with this kind of device, now or ever."""
    return error(libvirt.VIR_ERR_OPERATION_UNSUPPORTED, detail, libvirt.VIR_FROM_QEMU, 'Operation not supported')


def failed(detail: str, domain: int = libvirt.VIR_FROM_DOMAIN) -> libvirt.libvirtError:
    return error(libvirt.VIR_ERR_OPERATION_FAILED, detail, domain, 'operation failed')


def forbidden(detail: str) -> libvirt.libvirtError:
    return error(libvirt.VIR_ERR_OPERATION_DENIED, detail, libvirt.VIR_FROM_DOMAIN, 'operation forbidden')


def missing_device(detail: str, domain: int = libvirt.VIR_FROM_QEMU) -> libvirt.libvirtError:
    return error(libvirt.VIR_ERR_DEVICE_MISSING, detail, domain, 'device not found')


def bad_xml(detail: str) -> libvirt.libvirtError:
    """Well-formed XML that makes no sense to libvirt."""
    return error(libvirt.VIR_ERR_XML_ERROR, detail, libvirt.VIR_FROM_DOMAIN, 'XML error')


def broken_xml(what: str, detail: str) -> libvirt.libvirtError:
    """XML that is not well-formed."""
    return error(libvirt.VIR_ERR_XML_DETAIL, f'({what}):1: {detail}', libvirt.VIR_FROM_DOMAIN)


def bad_argument(detail: str, domain: int = libvirt.VIR_FROM_QEMU) -> libvirt.libvirtError:
    return error(libvirt.VIR_ERR_INVALID_ARG, detail, domain, 'invalid argument')


def bad_uuid() -> libvirt.libvirtError:
    return error(libvirt.VIR_ERR_INVALID_ARG, 'Invalid UUID')


def source_missing(path: str) -> libvirt.libvirtError:
    return error(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        f"Cannot access storage file '{path}': No such file or directory",
        libvirt.VIR_FROM_STORAGE,
        number=2,
    )


def bridge_missing(bridge: str) -> libvirt.libvirtError:
    return error(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        f"Cannot get interface MTU on '{bridge}': No such device",
        libvirt.VIR_FROM_NONE,
        number=19,
    )


def no_domain(detail: str) -> libvirt.libvirtError:
    return error(libvirt.VIR_ERR_NO_DOMAIN, detail, libvirt.VIR_FROM_QEMU, 'Domain not found')


def no_secret(detail: str) -> libvirt.libvirtError:
    return error(libvirt.VIR_ERR_NO_SECRET, detail, libvirt.VIR_FROM_SECRET, 'Secret not found')


def private_secret() -> libvirt.libvirtError:
    return error(libvirt.VIR_ERR_INVALID_SECRET, 'secret is private', libvirt.VIR_FROM_SECRET, 'Invalid secret')


def lock_timeout() -> libvirt.libvirtError:
    """Another job holds the guest: a migration, mostly."""
    return error(
        libvirt.VIR_ERR_OPERATION_TIMEOUT,
        'cannot acquire state change lock (held by monitor=remoteDispatchDomainMigratePerform3Params)',
        libvirt.VIR_FROM_QEMU,
        'Timed out during operation',
    )


def socket_closed() -> libvirt.libvirtError:
    """Every call on a connection whose libvirtd died. Code 1, so only the error domain (RPC) gives it away."""
    return internal('client socket is closed', libvirt.VIR_FROM_RPC)


def cut_off() -> libvirt.libvirtError:
    """The call that was under way when libvirtd died: whether it was done is not known."""
    return error(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        'End of file while reading data: Input/output error',
        libvirt.VIR_FROM_RPC,
        number=5,
    )


def cannot_connect(refused: bool = True) -> libvirt.libvirtError:
    """Nobody listens: the socket is there but refuses (killed), or is not there at all (stopped)."""
    why, number = ('Connection refused', 111) if refused else ('No such file or directory', 2)
    return error(
        libvirt.VIR_ERR_SYSTEM_ERROR,
        f"Failed to connect socket to '/var/run/libvirt/libvirt-sock': {why}",
        libvirt.VIR_FROM_RPC,
        number=number,
    )


def closed_connection(function: str) -> libvirt.libvirtError:
    """A call on a connection after our own close()."""
    return error(libvirt.VIR_ERR_INVALID_CONN, f'invalid connection pointer in {function}')
