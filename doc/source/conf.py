# SPDX-License-Identifier: Apache-2.0
"""How Sphinx builds the documents: ``tox -e docs``."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / '_ext'))

# NOTE: it chooses oslo.service's backend, which has to be done before anything imports oslo.messaging.
from aliasagent.cmd import status  # noqa: F401, I001

import generated

project = 'aliasagent'
copyright = 'the aliasagent authors'
extensions = [
    'openstackdocstheme',
    'sphinx.ext.autodoc',
    'cliff.sphinxext',
    'oslo_config.sphinxext',
    'reno.sphinxext',
    'generated',
]
exclude_patterns = ['_ext', '_templates']
templates_path = ['_templates']
html_theme = 'openstackdocs'
html_theme_options = {
    'analytics_tracking_code': '',  # nobody is told who reads
    'display_badge': False,
    'root_title': 'aliasagent',
    'sidebar_dropdown': '',
    'sidebar_mode': 'toc',
}
openstackdocs_auto_name = False
html_static_path: list[str] = []
html_copy_source = False
pygments_style = 'native'
highlight_language = 'text'

autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_typehints_format = 'short'
autoprogram_cliff_application = 'aliasagent'
autoprogram_cliff_app_dist_name = 'aliasagent'
autoprogram_cliff_ignored = ['-h', *generated.OUTPUT_OPTIONS]  # said once, and not for each command
# an option has two hyphens, and no dash
smartquotes = False

_AUTHOR = ['']
man_pages = [
    ('cli/aliasagent', 'aliasagent', 'ask the agents of hypervisors to plug devices in and out', _AUTHOR, 1),
    ('cli/aliasagent-status', 'aliasagent-status', 'look whether the agent works, and can be upgraded', _AUTHOR, 1),
    ('cli/aliasagent-compute', 'aliasagent-compute', "the agent of a hypervisor's host", _AUTHOR, 8),
]
man_show_urls = False
