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

#: What has no number of a layout, by name, because an older release can use a file with it. SQLite keeps what is
#: derived from operations up to date by itself, whichever release writes. The rest is of requests that an older release
#: does not have.
ADDED = {
    # The operations of a guest in their order.
    'operations_guest': 'CREATE INDEX operations_guest ON operations (instance);',
    # The failed operations on a device, among many that have succeeded. The queries about a device have each state in
    # their text: SQLite would compile a query that compares the state with a placeholder again each time.
    'operations_failed': "CREATE INDEX operations_failed ON operations (instance, device) WHERE state = 'failed';",
    # The last successful attach of each device that was not detached or released since: otherwise the journal would
    # have to read all operations of a guest to find these.
    'attached': """
    CREATE TABLE attached (
        instance TEXT NOT NULL,
        device TEXT NOT NULL,
        operation INTEGER NOT NULL REFERENCES operations (sequence),
        PRIMARY KEY (instance, device)
    ) WITHOUT ROWID;
    INSERT INTO attached SELECT instance, device, sequence FROM operations WHERE action LIKE 'attach%' AND sequence IN (
        SELECT max(sequence) FROM operations
        WHERE action LIKE '%tach%' AND (state = 'succeeded' OR released_at IS NOT NULL) GROUP BY instance, device
    );
    CREATE TRIGGER attached_changes AFTER UPDATE OF state, released_at ON operations
    WHEN NEW.action LIKE '%tach%' AND (NEW.state = 'succeeded' OR NEW.released_at IS NOT NULL) AND NOT EXISTS (
        SELECT 1 FROM operations AS later
        WHERE later.instance = NEW.instance AND later.device = NEW.device AND later.sequence > NEW.sequence
        AND later.action LIKE '%tach%' AND (later.state = 'succeeded' OR later.released_at IS NOT NULL)
    )
    BEGIN
        DELETE FROM attached WHERE instance = NEW.instance AND device = NEW.device;
        INSERT INTO attached SELECT NEW.instance, NEW.device, NEW.sequence WHERE NEW.action LIKE 'attach%';
    END;
    CREATE TRIGGER attached_pruned AFTER DELETE ON operations
    BEGIN
        DELETE FROM attached WHERE instance = OLD.instance AND device = OLD.device AND operation = OLD.sequence;
    END;
    """,
    # What lies between the cloud and a device (aliasagent.operations.connections); no pruning deletes it.
    'connections': """
    CREATE TABLE connections (
        instance TEXT NOT NULL,
        device TEXT NOT NULL,
        kind TEXT NOT NULL,
        stage TEXT NOT NULL,
        operation TEXT NOT NULL,
        details TEXT NOT NULL,
        is_complete INTEGER NOT NULL,
        is_leaving INTEGER NOT NULL,
        given TEXT NOT NULL,
        was_live INTEGER NOT NULL,
        run TEXT,
        doubt TEXT,
        problem TEXT,
        changed_at REAL NOT NULL,
        PRIMARY KEY (instance, device)
    ) WITHOUT ROWID;
    """,
}
