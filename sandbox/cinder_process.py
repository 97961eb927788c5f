# SPDX-License-Identifier: Apache-2.0
"""Cinder itself; run by :mod:`sandbox.cinder` in the environment of the services."""

import os
import pathlib
import sys

from sandbox import serving

#: Where Debian's packages put their modules, for Debian's own Python.
_PACKAGES = pathlib.Path('/usr/lib/python3/dist-packages')


def link_rbd() -> None:
    """Show rados and rbd to this environment: they are in no package index, only in a package of the distribution."""
    site = next(pathlib.Path(path) for path in sys.path if path.startswith(sys.prefix) and path.endswith('-packages'))
    version = f'cpython-{sys.version_info[0]}{sys.version_info[1]}'
    for name in ('rados', 'rbd'):
        found = sorted(_PACKAGES.glob(f'{name}.{version}-*.so'))
        if not found:
            sys.exit(f'{_PACKAGES} has no {name} for {version}: install the package python3-rbd')
        link = site / found[0].name
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(found[0])


def set_up(config: str) -> None:
    """Make the database."""
    link_rbd()
    from cinder.cmd import manage

    sys.argv = ['cinder-manage', '--config-file', config, 'db', 'sync']
    manage.main()


def serve(config: str, port: str) -> None:
    """Serve the API beside the scheduler and the volume services, on native threads."""
    os.environ['OS_CINDER_DISABLE_EVENTLET_PATCHING'] = '1'
    from cinder import monkey_patch

    monkey_patch.patch('threading')
    import cinder.privsep
    import os_brick
    import os_brick.privileged
    from cinder import coordination
    from cinder import i18n
    from cinder import objects
    from cinder import rpc
    from cinder import service
    from cinder import version
    from cinder.cmd import volume as volume_command  # registers the options of a backend
    from cinder.common import config as common_config
    from cinder.common import constants
    from oslo_config import cfg
    from oslo_log import log
    from oslo_service import wsgi

    i18n.enable_lazy()
    objects.register_all()
    serving.begin_immediately()
    conf = cfg.CONF
    conf(['--config-file', config], project='cinder', version=version.version_string())
    log.setup(conf, 'cinder')
    common_config.set_middleware_defaults()
    # this process is root: no sudo, and no daemon
    os_brick.privileged.default.set_client_mode(False)
    cinder.privsep.sys_admin_pctxt.set_client_mode(False)
    os_brick.setup(conf)
    coordination.COORDINATOR.start()
    rpc.init(conf)
    services = [service.Service.create(binary=constants.SCHEDULER_BINARY)]
    for backend in conf.enabled_backends:
        conf.register_opt(volume_command.host_opt, group=backend)
        host = f'{conf.host}@{backend}'
        services.append(
            service.Service.create(
                host=host, service_name=backend, binary=constants.VOLUME_BINARY, coordination=True
            )
        )
    for each in services:
        each.start()
    serving.serve(wsgi.Loader(conf).load_app(name='osapi_volume'), int(port))


if __name__ == '__main__':
    configuration, action, *others = sys.argv[1:]
    if action == 'set-up':
        set_up(configuration, *others)
    else:
        serve(configuration, *others)
