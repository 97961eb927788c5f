# SPDX-License-Identifier: Apache-2.0
"""Keystone itself; run by :mod:`sandbox.keystone` in the environment of the services."""

import multiprocessing
import os
import sys

from sandbox import serving


def set_up(config: str, url: str, password: str, region: str) -> None:
    """Make the database, the keys and the administrator, as an operator does with keystone-manage."""
    from keystone.cmd import cli

    owner = ['--keystone-user', 'root', '--keystone-group', 'root']
    urls = [word for interface in ('public', 'internal', 'admin') for word in (f'--bootstrap-{interface}-url', url)]
    for words in (
        ['db_sync'],
        ['fernet_setup', *owner],
        ['credential_setup', *owner],
        ['bootstrap', '--bootstrap-password', password, '--bootstrap-region-id', region, *urls],
    ):
        # each in a fork: the imports are paid for once, and the configuration of Keystone is global
        arguments = ['keystone-manage', '--config-file', config, *words]
        child = multiprocessing.get_context('fork').Process(target=cli.main, args=(arguments,))
        child.start()
        child.join()
        if child.exitcode:
            sys.exit(f'keystone-manage {words[0]}: exit code {child.exitcode}')


def serve(config: str, port: str) -> None:
    """Serve the API."""
    os.environ['OS_KEYSTONE_CONFIG_FILES'] = config
    sys.argv = ['keystone']
    from keystone.server.wsgi import initialize_public_application

    # Two first requests at once can meet in what Keystone prepares then, and one of them gets the status 500.
    serving.serve(serving.in_turn(initialize_public_application()), int(port))


if __name__ == '__main__':
    configuration, action, *others = sys.argv[1:]
    if action == 'set-up':
        set_up(configuration, *others)
    else:
        serve(configuration, *others)
