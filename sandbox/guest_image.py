# SPDX-License-Identifier: Apache-2.0
"""Builds the image of a tiny real guest: the distribution's kernel, busybox and one shell script.

Installs nothing on this host: it downloads the kernel's package with apt and unpacks it. guest_init.sh describes the
output of the guest.
"""

import dataclasses
import hashlib
import lzma
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Sequence

from sandbox import processes

# Increase this after a change to how the image is built. A change to the init script is detected automatically.
RECIPE = '1'

# The build adds their dependencies. PCI hot-plug itself is built into every such kernel, never a module.
MODULES = ('virtio_pci', 'virtio_blk', 'virtio_net', 'virtio_scsi', 'sd_mod', 'button', 'evdev')

# Packages with a small kernel; the first one that the distribution has is used.
KERNEL_PACKAGES = ('linux-image-cloud-amd64', 'linux-image-virtual', 'linux-image-kvm')

INIT_SCRIPT = pathlib.Path(__file__).with_name('guest_init.sh')


@dataclasses.dataclass(frozen=True)
class GuestImage:
    """The kernel and the initramfs that QEMU boots directly, in one directory."""

    directory: pathlib.Path

    @property
    def kernel(self) -> pathlib.Path:
        return self.directory / 'vmlinuz'

    @property
    def initramfs(self) -> pathlib.Path:
        return self.directory / 'initramfs'

    def check(self) -> 'GuestImage':
        """Return itself if both files exist.

        :raises PartFailed: one does not exist
        """
        for path in (self.kernel, self.initramfs):
            if not path.is_file():
                raise processes.PartFailed(f'the guest image {self.directory} is not complete: {path.name} is missing')
        return self


def default_cache() -> pathlib.Path:
    """Return the user's cache directory for built images."""
    base = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
    return pathlib.Path(base) / 'aliasagent' / 'guest-images'


def build(cache: pathlib.Path | None = None) -> GuestImage:
    """Return the guest's image from the cache, or build it (needs the package archive, takes about 10 s).

    :param cache: the directory of built images, the user's by default
    :raises PartFailed: no kernel package was found, or a tool failed
    """
    cache = cache or default_cache()
    name, version = find_kernel_package()
    recipe = hashlib.sha256(RECIPE.encode() + ' '.join(MODULES).encode() + INIT_SCRIPT.read_bytes()).hexdigest()[:12]
    image = GuestImage(cache / f'{name}_{version.replace(":", "%")}_{recipe}')
    if image.directory.is_dir():
        return image.check()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.build-', dir=cache) as scratch_name:
        scratch = pathlib.Path(scratch_name)
        tree = unpack_kernel(name, scratch)
        finished = scratch / 'image'
        finished.mkdir()
        release = kernel_release(tree)
        shutil.copyfile(tree / 'boot' / f'vmlinuz-{release}', finished / 'vmlinuz')
        make_initramfs(tree, release, scratch / 'root', finished / 'initramfs')
        try:
            finished.rename(image.directory)
        except OSError:
            if not image.directory.is_dir():  # otherwise another process has built the same image
                raise
    return image.check()


def find_kernel_package() -> tuple[str, str]:
    """Return the name and version of the kernel package that the distribution's meta package depends on.

    :raises PartFailed: apt has no such package
    """
    architecture = processes.run('dpkg', '--print-architecture').strip()
    if architecture != 'amd64':
        raise processes.PartFailed(f'a guest image can be built on amd64 only, this is {architecture}')
    found = _find_kernel_package()
    if found is None:
        processes.run('apt-get', 'update', '-qq')
        found = _find_kernel_package()
    if found is None:
        raise processes.PartFailed(f'apt has none of {", ".join(KERNEL_PACKAGES)}: check its package sources')
    return found


def _find_kernel_package() -> tuple[str, str] | None:
    for meta in KERNEL_PACKAGES:
        policy = processes.run('apt-cache', 'policy', meta)
        if not re.search(r'Candidate: (?!\(none\))', policy):
            continue
        shown = processes.run('apt-cache', 'show', '--no-all-versions', meta)
        # the versioned image itself, signed or unsigned
        concrete = re.search(r'^Depends:.*?\b(linux-image-(?:unsigned-)?\d[^\s,|]*)', shown, re.MULTILINE)
        if concrete is None:
            continue
        version = re.search(r'^Version: (\S+)', _show(concrete[1]), re.MULTILINE)
        if version is not None:
            return concrete[1], version[1]
    return None


def _show(package: str) -> str:
    return processes.run('apt-cache', 'show', '--no-all-versions', package)


def unpack_kernel(package: str, scratch: pathlib.Path) -> pathlib.Path:
    """Download and unpack the kernel and, if they are separate (Ubuntu), its modules. Returns the root of the tree."""
    wanted = [package]
    modules = re.search(r'^Depends:.*?\b(linux-modules-\d[^\s,|]*)', _show(package), re.MULTILINE)
    if modules is not None:
        wanted.append(modules[1])
    # no separate user for the download: apt checks the signature of the archive anyway
    processes.run('apt-get', '-q', '-o', 'APT::Sandbox::User=root', 'download', *wanted, cwd=scratch)
    tree = scratch / 'tree'
    for archive in sorted(scratch.glob('*.deb')):
        processes.run('dpkg-deb', '-x', archive, tree)
    # depmod reads /lib only; newer packages have everything under /usr
    if not (tree / 'lib').exists():
        (tree / 'lib').symlink_to('usr/lib')
    return tree


def kernel_release(tree: pathlib.Path) -> str:
    """Return the release (such as 6.1.0-40-cloud-amd64) of the kernel in an unpacked tree."""
    found = [path.name.removeprefix('vmlinuz-') for path in (tree / 'boot').glob('vmlinuz-*')]
    if len(found) != 1:
        raise processes.PartFailed(f'the kernel package has {len(found)} kernels, not one: {found}')
    return found[0]


def make_initramfs(tree: pathlib.Path, release: str, root: pathlib.Path, target: pathlib.Path) -> None:
    """Build an initramfs of busybox, the modules in their load order and the init script."""
    modules = root / 'modules'
    modules.mkdir(parents=True)
    copy_busybox(root / 'bin')
    shutil.copy(INIT_SCRIPT, root / 'init')
    (root / 'init').chmod(0o755)
    copy_modules(modules_in_order(tree, release), modules)
    pack_initramfs(root, target)


def copy_busybox(directory: pathlib.Path) -> None:
    """Copy busybox into a new directory.

    :raises PartFailed: it is not installed, or needs libraries
    """
    busybox = shutil.which('busybox')
    if busybox is None:
        raise processes.PartFailed('busybox is not installed (package busybox-static)')
    if b'/lib64/ld-linux' in pathlib.Path(busybox).read_bytes()[:8192]:
        raise processes.PartFailed(f'{busybox} is not static: install the package busybox-static')
    directory.mkdir(parents=True)
    shutil.copy(busybox, directory / 'busybox')


def copy_modules(paths: Sequence[pathlib.Path], directory: pathlib.Path) -> None:
    """Copy modules, uncompressed, and write their load order beside them."""
    order = []
    for path in paths:
        name = path.name.partition('.ko')[0] + '.ko'
        (directory / name).write_bytes(_uncompressed(path))
        order.append(name)
    (directory / 'order').write_text(''.join(f'{name}\n' for name in order))


def pack_initramfs(root: pathlib.Path, target: pathlib.Path) -> None:
    """Write a directory as an initramfs.

    :raises PartFailed: the result is too small to be one
    """
    names = '\n'.join(str(path.relative_to(root)) for path in sorted(root.rglob('*')))
    listing = root.with_suffix('.list')
    listing.write_text(names + '\n')
    processes.run('sh', '-c', f'cpio --quiet -o -H newc -R 0:0 <"{listing}" | gzip -1 >"{target}"', cwd=root)
    if target.stat().st_size < 500_000:
        raise processes.PartFailed(f'the initramfs has {target.stat().st_size} bytes only: cpio failed')


def modules_in_order(tree: pathlib.Path, release: str, names: Sequence[str] = MODULES) -> list[pathlib.Path]:
    """Return the files of modules and of their dependencies in load order, without built-in ones.

    :raises PartFailed: a module is neither a file nor built in
    """
    processes.run('depmod', '-b', tree, release)
    base = tree / 'lib' / 'modules' / release
    needs: dict[str, list[str]] = {}
    for line in (base / 'modules.dep').read_text().splitlines():
        path, _, dependencies = line.partition(':')
        needs[path] = dependencies.split()
    by_name = {_module_name(path): path for path in needs}
    built_in = {_module_name(path) for path in (base / 'modules.builtin').read_text().split()}
    order: list[str] = []

    def add(path: str) -> None:
        for dependency in needs[path]:
            if dependency not in order:
                add(dependency)
        if path not in order:
            order.append(path)

    for name in names:
        if name in by_name:
            add(by_name[name])
        elif name not in built_in:
            raise processes.PartFailed(f'the kernel {release} has no module {name}')
    return [base / path for path in order]


def _module_name(path: str) -> str:
    return pathlib.PurePath(path).name.partition('.ko')[0].replace('-', '_')


def _uncompressed(path: pathlib.Path) -> bytes:
    if path.suffix == '.xz':
        return lzma.decompress(path.read_bytes())
    if path.suffix == '.zst':
        scratch = path.with_suffix('')
        processes.run('zstd', '-q', '-d', '-f', path, '-o', scratch)
        return scratch.read_bytes()
    return path.read_bytes()
