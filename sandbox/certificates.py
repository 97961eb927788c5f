# SPDX-License-Identifier: Apache-2.0
"""Certificates made for a test, by an authority of its own."""

import pathlib

import trustme


class Authority:
    """Somebody who certifies who is who.

    :param directory: where the certificates go; made if it is missing.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._authority = trustme.CA()
        #: Its own certificate, by which all that it has issued are known.
        self.file = directory / 'cacert.pem'
        self.sign(self.file)

    def sign(self, path: pathlib.Path) -> None:
        """Have whoever trusts what is in a file trust this authority, and no other any more."""
        self._authority.cert_pem.write_to_path(str(path))

    def issue(self, name: str, *hosts: str) -> tuple[pathlib.Path, pathlib.Path]:
        """A certificate and its key, as ``NAMEcert.pem`` and ``NAMEkey.pem``.

        :param hosts: the names and addresses of whom it is for.
        """
        issued = self._authority.issue_cert(*hosts)
        certificate, key = self.directory / f'{name}cert.pem', self.directory / f'{name}key.pem'
        issued.cert_chain_pems[0].write_to_path(str(certificate))
        issued.private_key_pem.write_to_path(str(key))
        return certificate, key
