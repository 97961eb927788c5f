# SPDX-License-Identifier: Apache-2.0
"""Runs commands in a virtual machine whose files are this host's, under the distribution's kernel with all its modules.

For what a test host's own kernel may not have: iSCSI, multipath, NVMe over TCP, NFS. The machine has the same programs
at the same paths; what it writes goes to its memory, and is lost when it ends. It has two processors without KVM (5 to
20 times slower), no network but the loopback, and neither systemd nor udev.
"""

import dataclasses
import hashlib
import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile

from sandbox import guest_image
from sandbox import processes

# Increase this after a change to how the image is built. A change to the init script is detected automatically.
RECIPE = '1'
#: What the machine needs to find this host's files; all others are loaded from there.
MODULES = ('virtio_pci', 'virtiofs', 'overlay')
INIT_SCRIPT = pathlib.Path(__file__).with_name('machine_init.sh')
GUEST_SCRIPT = pathlib.Path(__file__).with_name('machine_guest.sh')
#: Where Debian 13 and Debian 12 have the daemon; they differ in its options.
_VIRTIOFSD = pathlib.Path('/usr/libexec/virtiofsd')
_OLD_VIRTIOFSD = pathlib.Path('/usr/lib/qemu/virtiofsd')
_MEMORY = '2048M'


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    output: str


class Machine:
    """Boots a machine for each command. Must be used as root.

    :param cache: the directory of the kernel and its modules (90 MB, downloaded once), the user's by default
    """

    def __init__(self, cache: pathlib.Path | None = None) -> None:
        self._cache = cache or guest_image.default_cache()

    def run(self, *command: str | os.PathLike[str], timeout: float, directory: pathlib.Path | None = None) -> Outcome:
        """Run a command, and return its exit code and output.

        :param timeout: seconds until the machine is killed; it boots in 6 to 15
        :param directory: the working directory, that of this process by default
        :raises PartFailed: a program is missing, the machine did not boot, or the command did not end in time
        """
        image = self._build()
        with tempfile.TemporaryDirectory(prefix='.run-', dir=self._cache) as run_name:
            run = pathlib.Path(run_name)
            (run / 'command').write_text('exec ' + shlex.join(os.fspath(word) for word in command) + '\n')
            settings = {'run': run, 'modules': image / 'modules', 'directory': directory or pathlib.Path.cwd()}
            lines = [f'{name}={shlex.quote(str(value))}\n' for name, value in settings.items()]
            (run / 'guest').write_text(''.join(lines) + GUEST_SCRIPT.read_text())
            daemon = _share_files(run)
            try:
                return _boot(image, run, timeout)
            finally:
                daemon.kill()
                daemon.wait()

    def _build(self) -> pathlib.Path:
        """Return the directory with the kernel, the initramfs and the modules, from the cache if it is there."""
        name, version = guest_image.find_kernel_package()
        recipe = hashlib.sha256(RECIPE.encode() + ' '.join(MODULES).encode() + INIT_SCRIPT.read_bytes()).hexdigest()
        image = self._cache / f'machine_{name}_{version.replace(":", "%")}_{recipe[:12]}'
        if image.is_dir():
            return image
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.build-', dir=self._cache) as scratch_name:
            scratch = pathlib.Path(scratch_name)
            tree = guest_image.unpack_kernel(name, scratch)
            release = guest_image.kernel_release(tree)
            root, finished = scratch / 'root', scratch / 'image'
            for directory in ('dev', 'modules', 'newroot', 'proc', 'ro', 'rw', 'sys'):
                (root / directory).mkdir(parents=True)
            finished.mkdir()
            guest_image.copy_busybox(root / 'bin')
            guest_image.copy_modules(guest_image.modules_in_order(tree, release, MODULES), root / 'modules')
            shutil.copy(INIT_SCRIPT, root / 'init')
            (root / 'init').chmod(0o755)
            guest_image.pack_initramfs(root, finished / 'initramfs')
            shutil.copyfile(tree / 'boot' / f'vmlinuz-{release}', finished / 'vmlinuz')
            (tree / 'lib' / 'modules').resolve().rename(finished / 'modules')
            try:
                finished.rename(image)
            except OSError:
                if not image.is_dir():  # otherwise another process has built the same
                    raise
        return image


def _share_files(run: pathlib.Path) -> subprocess.Popen[bytes]:
    """Start the daemon that gives the machine this host's files."""
    socket = run / 'files.sock'
    if _OLD_VIRTIOFSD.exists():
        options = [*('-o', 'source=/'), *('-o', 'sandbox=chroot'), *('-o', 'cache=always'), *('-o', 'no_posix_lock')]
        command = [str(_OLD_VIRTIOFSD), f'--socket-path={socket}', *options]
    elif _VIRTIOFSD.exists():
        command = [str(_VIRTIOFSD), f'--socket-path={socket}', '--shared-dir=/', '--sandbox=chroot', '--cache=always']
    else:
        raise processes.PartFailed('virtiofsd is not installed: install the package virtiofsd, or qemu-system-common')
    log = run / 'files.log'
    with log.open('wb') as output:
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        processes.wait_until(lambda: socket.exists() or daemon.poll() is not None, 20, 'virtiofsd to listen')
        if daemon.poll() is not None:
            raise processes.PartFailed(f'virtiofsd ended during its start:\n{processes.tail(log)}')
    except processes.PartFailed:
        daemon.kill()
        daemon.wait()
        raise
    return daemon


def _boot(image: pathlib.Path, run: pathlib.Path, timeout: float) -> Outcome:
    """Boot the machine, and wait for its end."""
    console, status, errors = run / 'console', run / 'status', run / 'qemu.log'
    command = [
        *('qemu-system-x86_64', '-machine', 'q35,memory-backend=memory', '-accel', 'tcg,thread=multi', '-cpu', 'max'),
        *('-smp', '2', '-m', _MEMORY, '-object', f'memory-backend-memfd,id=memory,size={_MEMORY},share=on'),
        *('-chardev', f'socket,id=files,path={run}/files.sock', '-device', 'vhost-user-fs-pci,chardev=files,tag=root'),
        *('-kernel', str(image / 'vmlinuz'), '-initrd', str(image / 'initramfs')),
        *('-append', f'console=ttyS0 quiet panic=-1 mitigations=off run={run}'),
        *('-display', 'none', '-monitor', 'none', '-nic', 'none', '-no-reboot', '-serial', f'file:{console}'),
        *('-chardev', 'stdio,id=output,signal=off', '-serial', 'chardev:output', '-serial', f'file:{status}'),
    ]
    with errors.open('wb') as log:
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise processes.PartFailed(
                f'the machine did not end within {timeout:g} s; its output:\n{_text(error.output)}'
            ) from error
        except OSError as error:
            raise processes.PartFailed(f'cannot start QEMU: {error}') from error
    found = ''.join(filter(str.isdigit, status.read_text())) if status.exists() else ''
    if not found:
        tails = '\n'.join(processes.tail(path) for path in (errors, console))
        raise processes.PartFailed(f'the machine ended without a status:\n{_text(done.stdout)}\n{tails}')
    return Outcome(int(found), _text(done.stdout))


def _text(output: bytes | None) -> str:
    return (output or b'').decode(errors='replace').replace('\r\n', '\n')
