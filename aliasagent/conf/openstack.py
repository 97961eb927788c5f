# SPDX-License-Identifier: Apache-2.0
"""The options of the services of OpenStack, groups cinder, neutron and nova: keystoneauth1's and the agent's own.

keystoneauth1 is optional: it is loaded, and its options are registered, only for a group that the configuration has.
"""

import importlib.util
from typing import Any

from oslo_config import cfg

#: The group of each service, with the service's type in Keystone's catalog.
SERVICES = {'nova': 'compute', 'neutron': 'network', 'cinder': 'block-storage'}
#: The extra of the package that installs keystoneauth1.
EXTRA = 'aliasagent[openstack]'
#: Seconds that the agent waits for an answer; keystoneauth1 would wait for ever. Cinder answers an attachment only
#: after its storage has exported the volume, and gives up on that itself after 60 s (its rpc_response_timeout).
_TIMEOUTS = {'nova': 10, 'neutron': 10, 'cinder': 90}

#: The agent's own options, by group.
_OWN: dict[str, list[cfg.Opt]] = {
    'nova': [
        cfg.StrOpt(
            'host',
            help="This host's name in Nova, such as compute-1 (host or hypervisor_hostname of Nova). The agent uses "
            'answers about servers on this host only. The default is [DEFAULT] host.',
        ),
    ],
    'neutron': [
        cfg.StrOpt(
            'host',
            help="This host's name in Neutron, such as compute-1: the host of its agent in \"openstack network agent "
            'list". The agent binds ports to it. The default is [DEFAULT] host.',
        ),
        cfg.StrOpt(
            'device_owner',
            default='compute:aliasagent',
            regex='^compute:.',
            max_length=255,
            help='The device_owner of a port that the agent binds to this host. It must begin with "compute:", by '
            "which Neutron knows the ports of guests; Nova's are compute: with the availability zone. With a name of "
            'its own, the agent can tell its bindings from those of others.',
        ),
        cfg.IntOpt(
            'bind_timeout',
            default=30,
            min=1,
            help='Seconds to wait until Neutron has decided the binding of a port, which it usually does with its '
            'first answer. After that, the attach fails, and the port is unbound again.',
        ),
        cfg.IntOpt(
            'active_timeout',
            default=0,
            min=0,
            help="Seconds to wait for a port's status ACTIVE once the guest has the interface, such as 60. A port that "
            "is not ACTIVE by then is logged as a warning, and stays attached. By default the agent does not wait: "
            "the status is set by Neutron's agent, which some networks do not have, and the guest's next request would "
            'wait, too.',
        ),
    ],
    'cinder': [
        cfg.BoolOpt(
            'send_instance',
            default=False,
            help="Whether the agent's attachments in Cinder name the guest as their server (instance_uuid), so that "
            'openstack volume show names it. Cinder then asks Nova before it deletes such an attachment, unless the '
            'request has a service token: set send_service_token, too. Without Nova and without the token Cinder '
            'answers each detach with error 500.',
        ),
        cfg.BoolOpt(
            'send_service_token',
            default=False,
            help='Whether each request to Cinder has a service token (X-Service-Token), which is the token of the same '
            'user. The user needs the role service for it, beside a role that may attach volumes (admin). Needed for '
            'send_instance.',
        ),
    ],
}
#: One of these options makes a group configured. The header of a section, as in the sample, does not.
_MARKS = ('auth_type', 'auth_section', 'auth_url', 'username', 'password', 'endpoint_override')


def is_installed() -> bool:
    """Return whether the package is installed that the options need."""
    return importlib.util.find_spec('keystoneauth1') is not None


def configured(conf: cfg.ConfigOpts) -> list[str]:
    """Return the groups of services that the configuration has."""
    # In a configuration of its own: these options are not registered yet, and keystoneauth1 may not be installed.
    fresh = cfg.ConfigOpts()
    for group in SERVICES:
        fresh.register_opts([cfg.StrOpt(name) for name in _MARKS], group=group)
    fresh([], project='aliasagent', default_config_files=conf.config_file, default_config_dirs=conf.config_dir)
    return [group for group in SERVICES if any(fresh[group][name] for name in _MARKS)]


def register(conf: cfg.ConfigOpts) -> None:
    """Register the options of the configured groups.

    :raises cfg.Error: keystoneauth1 is not installed.
    """
    for group in configured(conf):
        if not is_installed():
            raise cfg.Error(f'[{group}] needs the package keystoneauth1: install {EXTRA}, or remove the section')
        from keystoneauth1 import loading

        conf.register_opts([*_OWN[group], *_of_connection(group)], group=group)
        loading.register_auth_conf_options(conf, group)


def registered(conf: cfg.ConfigOpts) -> list[str]:
    """Return the groups that :func:`register` has found configured."""
    return [group for group in SERVICES if getattr(conf, group, None) is not None]


def check(conf: cfg.ConfigOpts) -> None:
    """Check that the options of each configured group, which are registered, suffice to log in.

    :raises cfg.Error: options are missing, or contradict each other.
    """
    for group in registered(conf):
        _check_login(conf, group)


def _check_login(conf: cfg.ConfigOpts, group: str) -> None:
    from keystoneauth1 import exceptions
    from keystoneauth1 import loading

    try:
        auth = loading.load_auth_from_conf_options(conf, group)
        session = loading.load_session_from_conf_options(conf, group)
        loading.load_adapter_from_conf_options(conf, group, session=session)
    except (exceptions.ClientException, TypeError, ValueError) as error:
        raise cfg.Error(f'[{group}] {error}') from error
    if auth is None:
        raise cfg.Error(f'[{group}] auth_type is missing, such as "password"')


def _of_connection(group: str) -> list[cfg.Opt]:
    """Return keystoneauth1's options of a group, other than those of the login, with the agent's defaults."""
    from keystoneauth1 import loading

    options: list[cfg.Opt] = [
        *loading.get_session_conf_options(),
        *loading.get_adapter_conf_options(include_deprecated=False),
    ]
    cfg.set_defaults(
        options, timeout=_TIMEOUTS[group], service_type=SERVICES[group], valid_interfaces=['internal', 'public']
    )
    return options


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options for the sample and the documents; none without keystoneauth1."""
    if not is_installed():
        return []
    from keystoneauth1 import loading

    login: list[Any] = [*loading.get_auth_common_conf_options(), *loading.get_auth_plugin_conf_options('password')]
    return [(group, [*_OWN[group], *login, *_of_connection(group)]) for group in SERVICES]
