# SPDX-License-Identifier: Apache-2.0
"""How QEMU logs in to Ceph for a volume whose request does not say it."""

from oslo_config import cfg

GROUP = 'ceph'

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'user',
        mutable=True,
        help='The Ceph user that QEMU logs in as for an RBD volume whose connection_info has auth_enabled and no '
        'auth_username, such as cinder. By default such a request is refused.',
    ),
    cfg.StrOpt(
        'keyring',
        regex='^/',
        mutable=True,
        help='The keyring file that has the key of the Ceph user, such as /etc/ceph/ceph.client.cinder.keyring; mode '
        '0600 keeps it from others. For RBD volumes whose connection_info has auth_enabled and no secret_uuid, the '
        'agent defines the key in libvirt as a private and ephemeral secret, at its start and again after libvirtd was '
        'restarted. The file is read at the start and at each reload. Needs the option user. By default the agent '
        'defines no secret, and uses the one that secret_uuid names.',
    ),
    cfg.StrOpt(
        'secret_uuid',
        regex='^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$',
        mutable=True,
        help="The UUID of the libvirt secret that has the Ceph user's key, for an RBD volume whose connection_info has "
        'auth_enabled and no secret_uuid: Cinder sends none unless its option rbd_secret_uuid is set. With the option '
        'keyring, the agent defines the secret, and by default derives the UUID from the option user, the same on '
        'every host. Without keyring, the operator defines the secret on this host, with virsh secret-define and '
        "secret-set-value; the value is that of rbd_secret_uuid in Nova's group [libvirt], and by default such a "
        'request is refused.',
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register the options on a configuration."""
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options for the sample and the documents."""
    return [(GROUP, OPTS)]
