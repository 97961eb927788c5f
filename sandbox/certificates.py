# SPDX-License-Identifier: Apache-2.0
"""Makes certificates for tests, with a private certificate authority."""

import pathlib

import trustme


class Authority:
    """A certificate authority.

    :param directory: the directory of the certificates, created if it does not exist.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._authority = trustme.CA()
        #: The certificate of the authority.
        self.file = directory / 'cacert.pem'
        self.sign(self.file)

    def sign(self, path: pathlib.Path) -> None:
        """Write the certificate of this authority to a file, in place of any other."""
        self._authority.cert_pem.write_to_path(str(path))

    def issue(self, name: str, *hosts: str) -> tuple[pathlib.Path, pathlib.Path]:
        """Issue a certificate and its key, as ``NAMEcert.pem`` and ``NAMEkey.pem``.

        :param hosts: the host names and addresses for the certificate.
        """
        issued = self._authority.issue_cert(*hosts)
        certificate, key = self.directory / f'{name}cert.pem', self.directory / f'{name}key.pem'
        issued.cert_chain_pems[0].write_to_path(str(certificate))
        issued.private_key_pem.write_to_path(str(key))
        return certificate, key
