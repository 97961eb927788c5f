# SPDX-License-Identifier: Apache-2.0
"""Runs a real Cinder with two backends: NFS, and RBD in a private Ceph."""

import pathlib
import shutil

from sandbox import ceph as ceph_module
from sandbox import keystone as keystone_module
from sandbox import nfs
from sandbox import processes
from sandbox import rest
from sandbox import service

#: Each backend has a volume type of its name.
BACKENDS = ('nfs', 'ceph')
#: attachments came with 3.27, os-complete with 3.44, a shared_targets of three values with 3.69
VERSION = {'OpenStack-API-Version': 'volume 3.71'}
_CONF = """\
[DEFAULT]
use_stderr = true
# all services are in one process
transport_url = fake://
auth_strategy = keystone
api_paste_config = {etc}/api-paste.ini
resource_query_filters_file = {etc}/resource_filters.json
rootwrap_config = {etc}/rootwrap.conf
state_path = {directory}/state
host = ctrl
my_ip = 127.0.0.1
enabled_backends = nfs, ceph
default_volume_type = nfs
glance_api_servers = http://127.0.0.1:1
periodic_interval = 10
# by default the scheduler waits 60 s before it works
scheduler_driver_init_wait_time = 1
# the heartbeats of services in one process fall behind: never call one down
service_down_time = 86400
{database}
[oslo_concurrency]
lock_path = {directory}/state/lock
[coordination]
backend_url = file://{directory}/state/coordination
[oslo_messaging_notifications]
driver = noop
[key_manager]
backend = cinder.keymgr.conf_key_mgr.ConfKeyManager
fixed_key = 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
[nfs]
volume_driver = cinder.volume.drivers.nfs.NfsDriver
volume_backend_name = nfs
nas_host = 127.0.0.1
nas_share_path = {export}
nfs_mount_point_base = {directory}/mnt
nas_secure_file_operations = false
nas_secure_file_permissions = false
nfs_qcow2_volumes = false
nfs_snapshot_support = true
[ceph]
volume_driver = cinder.volume.drivers.rbd.RBDDriver
volume_backend_name = ceph
rbd_ceph_conf = {ceph.conf}
rbd_pool = {pool}
rbd_user = {user}
rbd_secret_uuid = {ceph.secret}
rados_connect_timeout = 10
rbd_exclusive_cinder_pool = true
report_dynamic_total_capacity = false
{authtoken}
"""


class Cinder(service.Service):
    """API, scheduler and a volume service for each backend, in one process.

    :param keystone: has started when the Cinder starts
    :param ceph: has started when the Cinder starts
    """

    name = 'cinder'

    def __init__(
        self, directory: pathlib.Path, keystone: keystone_module.Keystone, ceph: ceph_module.Ceph
    ) -> None:
        super().__init__(directory)
        self._keystone = keystone
        self._ceph = ceph

    @property
    def url(self) -> str:
        """The URL of version 3 of the API, without the project that calls have in their path."""
        return f'http://{self.address}/v3'

    @property
    def export(self) -> pathlib.Path:
        """The directory that the NFS backend has mounted as 127.0.0.1:DIRECTORY."""
        return self.directory / 'export'

    @property
    def mount_base(self) -> pathlib.Path:
        """Cinder's own directory for mount points."""
        return self.directory / 'mnt'

    def start(self) -> None:
        if self.pid is not None:
            return
        fresh = not self._settings.exists()
        for name in ('state/lock', 'state/coordination', 'export', 'mnt'):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        config = self.directory / 'cinder.conf'
        if fresh:
            self._save(port=processes.free_port())
            etc = service.venv('clouds-venv') / 'etc' / 'cinder'
            shutil.copytree(etc, self.directory / 'etc', dirs_exist_ok=True)
            config.write_text(self._configuration())
            self._run(self._command(config, 'set-up'))
        command = self._command(config, 'serve', str(self.settings()['port']))
        self._serve(nfs.command(command, self.directory), self._answers)
        if fresh:
            self._make_types()
            self._keystone.register('block-storage', 'cinder', f'{self.url}/$(project_id)s')
        admin = self.client('cinder')
        processes.wait_until(
            lambda: len(admin('GET', '/scheduler-stats/get_pools')['pools']) >= len(BACKENDS),
            60,
            f'the backends of Cinder; the end of {self.log}:\n{processes.tail(self.log)}',
            interval=0.3,
        )

    def client(self, user: str) -> rest.Client:
        """Return a client with a new token of a user of Keystone, for the user's project."""
        token = self._keystone.token(user)
        project = self._keystone.project(keystone_module.USERS[user][0])
        return rest.Client(f'{self.url}/{project}', {'X-Auth-Token': token, **VERSION})

    def _configuration(self) -> str:
        return _CONF.format(
            directory=self.directory,
            etc=self.directory / 'etc',
            export=self.export,
            database=service.database(self.directory / 'cinder.sqlite'),
            ceph=self._ceph,
            pool=ceph_module.POOL,
            user=ceph_module.USER,
            authtoken=self._keystone.authtoken('cinder'),
        )

    def _make_types(self) -> None:
        admin = self.client('cinder')
        for backend in BACKENDS:
            new = {'name': backend, 'extra_specs': {'volume_backend_name': backend}}
            admin('POST', '/types', {'volume_type': new})
