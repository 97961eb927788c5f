# SPDX-License-Identifier: Apache-2.0
"""The layouts of the journal's file, each as SQL that changes the one before it."""

#: The number of a layout is in the file as ``user_version``; the agent upgrades an older file at its start.
LAYOUTS = (
    """
    CREATE TABLE operations (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        action TEXT NOT NULL,
        instance TEXT NOT NULL,
        device TEXT NOT NULL,
        arguments TEXT NOT NULL,
        state TEXT NOT NULL,
        error_class TEXT,
        error TEXT,
        accepted_at REAL NOT NULL,
        started_at REAL,
        finished_at REAL,
        attempts INTEGER NOT NULL,
        request_id TEXT,
        released_at REAL
    );
    CREATE INDEX operations_state ON operations (state);
    """,
    """
    CREATE INDEX operations_instance ON operations (instance, device);
    CREATE TABLE notices (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        operation INTEGER NOT NULL REFERENCES operations (sequence),
        phase TEXT NOT NULL
    );
    CREATE INDEX notices_operation ON notices (operation);
    """,
    # The device as a detach found it (JSON, DeviceFingerprint); whether the guest may still release it after a failure.
    """
    ALTER TABLE operations ADD COLUMN asked TEXT;
    ALTER TABLE operations ADD COLUMN may_still_go INTEGER;
    """,
    # Hints of inventories about devices (aliasagent.operations.hints), until the device is detached or attached again.
    """
    CREATE TABLE told (instance TEXT NOT NULL, device TEXT NOT NULL, record TEXT NOT NULL);
    CREATE INDEX told_instance ON told (instance);
    CREATE TRIGGER told_ends AFTER UPDATE OF state, released_at ON operations
    WHEN NEW.action LIKE '%tach%' AND (NEW.state = 'succeeded' OR NEW.released_at IS NOT NULL)
    BEGIN DELETE FROM told WHERE instance = NEW.instance AND device = lower(NEW.device); END;
    """,
)
