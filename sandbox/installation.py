# SPDX-License-Identifier: Apache-2.0
"""A host to install on: this one, with nothing of ours in it, and without that anything is left on it."""

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

#: Where an installation puts something; empty at first, and gone at the end.
PLACES = ('/opt/aliasagent', '/etc/aliasagent', '/etc/systemd/system', '/var/lib/aliasagent', '/usr/local/bin')
#: Not of a clone of the project.
_NOT_CLONED = shutil.ignore_patterns(
    '.venv*', '.tox', '.stestr', '.*_cache', '*.egg-info', 'build', 'dist', '__pycache__'
)

#: systemd's part, as far as the unit that it is given asks for it: it starts the command where systemd would look for
#: it, and waits until it is ready.
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
*) echo "not known here: systemctl $*" >&2; exit 1 ;;
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
    """Runs commands as on a host of its own, as far as installing goes. The hypervisor and the broker are shared.

    :param directory: for its files.
    :param project: the project's directory, of which it gets a copy to work in.
    """

    def __init__(self, directory: pathlib.Path, project: pathlib.Path) -> None:
        self.directory = directory
        self.clone = directory / 'clone'
        shutil.copytree(project, self.clone, ignore=_NOT_CLONED, symlinks=True)
        commands = directory / 'commands'
        commands.mkdir()
        # the Python that is running may be hidden by what is put over its place
        self._write(commands / 'python3', f'#!/bin/sh\nexec {shlex.quote(sys._base_executable)} "$@"\n')  # type: ignore[attr-defined]
        self._write(commands / 'systemctl', _SYSTEMCTL)
        # the host keeps the packages that it has; only whether there are such is asked
        (directory / 'apt.conf').write_text('APT::Get::Simulate "true";\n')
        self._environment = {
            **os.environ,
            'HERE': str(directory),
            'HOME': str(directory),
            'PATH': f'{commands}:{os.environ["PATH"]}',
            'APT_CONFIG': str(directory / 'apt.conf'),
            # what was downloaded for these tests need not be so again
            'PYTHONPATH': str(_with_requirements(directory / 'requirements')),
            # the version comes from git, which does not trust a directory of somebody else's
            'GIT_CONFIG_COUNT': '1',
            'GIT_CONFIG_KEY_0': 'safe.directory',
            'GIT_CONFIG_VALUE_0': '*',
        }

    def run(self, script: str, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a script of bash, from its begin to its first error. What it started is stopped."""
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
    """See that there is something to put a file system over, and take away what was not there before."""
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
    """A directory of the packages that the project says it requires, with what they require, and of no others."""
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
