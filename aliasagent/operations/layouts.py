# SPDX-License-Identifier: Apache-2.0
"""The layouts of the journal's file, each as a change of the one before it."""

#: How the file came to have the layout it has, kept in it as ``user_version``: an older one is brought up to date.
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
    # The device as a detach found it (JSON, DeviceFingerprint); whether its guest may still answer a failed one.
    """
    ALTER TABLE operations ADD COLUMN asked TEXT;
    ALTER TABLE operations ADD COLUMN may_still_go INTEGER;
    """,
    # What inventories said of devices (aliasagent.operations.told), until the device is taken out or put in anew.
    """
    CREATE TABLE told (instance TEXT NOT NULL, device TEXT NOT NULL, record TEXT NOT NULL);
    CREATE INDEX told_instance ON told (instance);
    CREATE TRIGGER told_ends AFTER UPDATE OF state, released_at ON operations
    WHEN NEW.action LIKE '%tach%' AND (NEW.state = 'succeeded' OR NEW.released_at IS NOT NULL)
    BEGIN DELETE FROM told WHERE instance = NEW.instance AND device = lower(NEW.device); END;
    """,
)
