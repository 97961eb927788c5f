# SPDX-License-Identifier: Apache-2.0

from oslo_service import backend

# NOTE: before any test imports oslo.messaging, which would choose the eventlet backend.
backend.init_backend(backend.BackendType.THREADING)
