# SPDX-License-Identifier: Apache-2.0

import setuptools


class WithoutTests(setuptools.Distribution):
    """Leaves the tests out of what is installed: they run in the source tree. pbr itself takes all packages."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.packages = [name for name in self.packages or () if not f'{name}.'.startswith('aliasagent.tests.')]
        # or their files were taken for data of the package above them
        self.exclude_package_data = {'aliasagent': ['tests/*']}


setuptools.setup(setup_requires=['pbr>=7.0.2'], pbr=True, distclass=WithoutTests)
