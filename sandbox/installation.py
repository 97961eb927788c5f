# SPDX-License-Identifier: Apache-2.0
"""Installs the project on this host in a mount namespace that looks like a clean host, and leaves no files."""

import contextlib
import importlib.metadata
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator

from packaging import requirements

#: The directories that an installation writes to; empty at first, and removed at the end.
PLACES = ('/opt/aliasagent', '/etc/aliasagent', '/etc/systemd/system', '/var/lib/aliasagent', '/usr/local/bin')
#: Files that are not copied from the project.
_NOT_CLONED = shutil.ignore_patterns(
    '.venv*', '.tox', '.stestr', '.*_cache', '*.egg-info', 'build', 'dist', '__pycache__'
)

#: A replacement for systemctl: starts the command of the unit with systemd's PATH, and waits until it is ready.
_SYSTEMCTL = """\
#!/bin/bash
set -eu
case "$*" in
daemon-reload) ;;
'enable --now aliasagent-compute')
    command=$(sed -n 's/^ExecStart=//p' /etc/systemd/system/aliasagent-compute.service)
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin setsid $command >"$HERE/log" 2>&1 &
    echo $! >"$HERE/pid"
    for _ in $(seq 600); do
        grep -q 'Ready: serving host' "$HERE/log" && exit 0
        sleep 0.1
    done
    cat "$HERE/log" >&2
    exit 1 ;;
'disable --now aliasagent-compute')
    kill "$(cat "$HERE/pid")"
    tail --pid="$(cat "$HERE/pid")" -f /dev/null
    rm "$HERE/pid" ;;
*) echo "not supported: systemctl $*" >&2; exit 1 ;;
esac
"""
_BEGIN = """\
set -euo pipefail
stop() {
    [ ! -e "$HERE/pid" ] || { kill "$(cat "$HERE/pid")" && tail --pid="$(cat "$HERE/pid")" -f /dev/null; }
}
trap stop EXIT
for place in %s; do mount -t tmpfs tmpfs "$place"; done
"""


class Installation:
    """Runs commands as on a clean host. Only the installation is private; the hypervisor and the broker are shared.

    :param directory: for temporary files.
    :param project: the directory of the project, which is copied.
    """

    def __init__(self, directory: pathlib.Path, project: pathlib.Path) -> None:
        self.directory = directory
        self.clone = directory / 'clone'
        shutil.copytree(project, self.clone, ignore=_NOT_CLONED, symlinks=True)
        commands = directory / 'commands'
        commands.mkdir()
        # the file systems over PLACES may hide the running Python
        self._write(commands / 'python3', f'#!/bin/sh\nexec {shlex.quote(sys._base_executable)} "$@"\n')  # type: ignore[attr-defined]
        self._write(commands / 'systemctl', _SYSTEMCTL)
        # apt only simulates, so that the packages of the host stay
        (directory / 'apt.conf').write_text('APT::Get::Simulate "true";\n')
        self._environment = {
            **os.environ,
            'HERE': str(directory),
            'HOME': str(directory),
            'PATH': f'{commands}:{os.environ["PATH"]}',
            'APT_CONFIG': str(directory / 'apt.conf'),
            # the requirements are installed already, and need no download
            'PYTHONPATH': str(_with_requirements(directory / 'requirements')),
            # the version comes from git, which refuses a directory of another user
            'GIT_CONFIG_COUNT': '1',
            'GIT_CONFIG_KEY_0': 'safe.directory',
            'GIT_CONFIG_VALUE_0': '*',
        }

    def run(self, script: str, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a bash script up to its first error, and stop the processes that it started."""
        with _places():
            return subprocess.run(
                ['unshare', '--mount', 'bash', '-c', _BEGIN % ' '.join(PLACES) + script],
                cwd=self.clone,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=timeout,
                check=False,
            )

    def _write(self, path: pathlib.Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)


@contextlib.contextmanager
def _places() -> Iterator[None]:
    """Create the mount points in PLACES, and remove the new ones at the end."""
    missing = [
        place
        for name in PLACES
        for place in (*reversed(pathlib.Path(name).parents), pathlib.Path(name))
        if not place.exists()
    ]
    made = list(dict.fromkeys(missing))
    for place in made:
        place.mkdir()
    try:
        yield
    finally:
        for place in reversed(made):
            place.rmdir()


def _with_requirements(directory: pathlib.Path) -> pathlib.Path:
    """Make a directory of the packages that the project requires, with their dependencies, and of no others."""
    directory.mkdir()
    names = [(name, frozenset[str]()) for name in importlib.metadata.requires('aliasagent') or ()]
    seen: set[tuple[str, frozenset[str]]] = set()
    while names:
        text, extras = names.pop()
        wanted = requirements.Requirement(text)
        if wanted.marker and not any(wanted.marker.evaluate({'extra': extra}) for extra in (extras or {''})):
            continue
        one = (wanted.name, frozenset(wanted.extras))
        if one in seen:
            continue
        seen.add(one)
        distribution = importlib.metadata.distribution(wanted.name)
        for top in {file.parts[0] for file in distribution.files or ()} - {'..', '__pycache__'}:
            link = directory / top
            if not link.exists():
                link.symlink_to(pathlib.Path(str(distribution.locate_file(top))).resolve())
        names += [(name, one[1] | {''}) for name in distribution.requires or ()]
    return directory
