# SPDX-License-Identifier: Apache-2.0
"""Definitions after public reports of people who run such guests; names and addresses are made up."""
