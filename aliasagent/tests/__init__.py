# SPDX-License-Identifier: Apache-2.0

from aliasagent import threads

threads.use_native()
