"""The tables of lmstrix.db, as migrations: entry n takes a database from `PRAGMA user_version` n to n + 1.

Times are aware UTC in ISO format, so they sort as text; `details` columns hold JSON objects. A model is named by its
path relative to the models directory, as in the registry, and a configuration by `Configuration.key`.
"""

from __future__ import annotations

Migrations = tuple[tuple[str, ...], ...]

MIGRATIONS: Migrations = (
    (
        """CREATE TABLE runs (
            id TEXT PRIMARY KEY,
            kind TEXT NOT NULL,
            host TEXT NOT NULL,
            pid INTEGER NOT NULL,
            process TEXT NOT NULL,           -- tells this process from a later one of the same pid
            boot TEXT NOT NULL,              -- tells this start of the machine from the next
            started_at TEXT NOT NULL,
            finished_at TEXT,
            outcome TEXT,
            details TEXT NOT NULL
        )""",
        """CREATE TABLE intents (
            id INTEGER PRIMARY KEY,
            run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
            model_path TEXT NOT NULL,
            configuration TEXT NOT NULL,
            kind TEXT NOT NULL CHECK (kind IN ('load', 'prefill')),
            context_length INTEGER NOT NULL,
            predicted_bytes INTEGER,
            started_at TEXT NOT NULL,
            finished_at TEXT,
            outcome TEXT,                    -- NULL while under way, or for ever if the machine went down
            proves TEXT CHECK (proves IN ('good', 'bad', 'nothing')),
            details TEXT NOT NULL
        )""",
        "CREATE INDEX intents_of_model ON intents (model_path, configuration)",
        "CREATE INDEX intents_open ON intents (run_id) WHERE outcome IS NULL",
        """CREATE TABLE finished_models (
            run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
            model_path TEXT NOT NULL,
            outcome TEXT NOT NULL,
            finished_at TEXT NOT NULL,
            PRIMARY KEY (run_id, model_path)
        )""",
        """CREATE TABLE probes (
            id INTEGER PRIMARY KEY,
            run_id TEXT REFERENCES runs(id) ON DELETE CASCADE,
            model_path TEXT NOT NULL,
            configuration TEXT NOT NULL,
            context_length INTEGER NOT NULL,
            prompt_tokens INTEGER,
            score_ratio REAL,                -- NULL when the probe was not valid
            passed INTEGER NOT NULL,
            measured_at TEXT NOT NULL,
            details TEXT NOT NULL
        )""",
        "CREATE INDEX probes_of_model ON probes (model_path, configuration)",
        """CREATE TABLE testers (
            host TEXT PRIMARY KEY,
            pid INTEGER NOT NULL,
            process TEXT NOT NULL,
            purpose TEXT NOT NULL,
            since TEXT NOT NULL
        )""",
        """CREATE TABLE beliefs (
            machine TEXT NOT NULL,
            engine TEXT NOT NULL,
            belief TEXT NOT NULL,
            learned_at TEXT NOT NULL,
            PRIMARY KEY (machine, engine)
        )""",
        """CREATE TABLE bench_runs (
            id TEXT PRIMARY KEY,
            session TEXT NOT NULL,           -- runs started by one command
            model_path TEXT NOT NULL,
            model_key TEXT NOT NULL,
            configuration TEXT NOT NULL,
            context_length INTEGER,
            host TEXT NOT NULL,
            started_at TEXT NOT NULL,
            finished_at TEXT,
            outcome TEXT,
            summary TEXT NOT NULL,
            details TEXT NOT NULL
        )""",
        "CREATE INDEX bench_runs_of_model ON bench_runs (model_path, started_at)",
        """CREATE TABLE bench_samples (
            bench_run_id TEXT NOT NULL REFERENCES bench_runs(id) ON DELETE CASCADE,
            number INTEGER NOT NULL,
            warmup INTEGER NOT NULL,
            measured_at TEXT NOT NULL,
            sample TEXT NOT NULL,            -- every raw figure of one measurement
            PRIMARY KEY (bench_run_id, number)
        )""",
        """CREATE TABLE calls (
            id INTEGER PRIMARY KEY,
            called_at TEXT NOT NULL,
            model_path TEXT NOT NULL,
            model_key TEXT NOT NULL,
            outcome TEXT NOT NULL,
            stop_reason TEXT,
            prompt TEXT,                     -- both NULL where texts are not kept
            answer TEXT,
            prompt_bytes INTEGER NOT NULL,
            context_length INTEGER,
            prompt_tokens INTEGER,
            completion_tokens INTEGER,
            ttft_s REAL,
            total_s REAL,
            decode_tokens_per_second REAL,
            details TEXT NOT NULL
        )""",
        "CREATE INDEX calls_by_time ON calls (called_at)",
        "CREATE INDEX calls_of_model ON calls (model_path)",
        # The index keeps no texts of its own but reads them from `calls`, so each is stored once; in return these
        # triggers must tell it of every change.
        "CREATE VIRTUAL TABLE calls_text USING fts5 (prompt, answer, content='calls', content_rowid='id')",
        """CREATE TRIGGER calls_added AFTER INSERT ON calls BEGIN
            INSERT INTO calls_text (rowid, prompt, answer) VALUES (new.id, new.prompt, new.answer);
        END""",
        """CREATE TRIGGER calls_removed AFTER DELETE ON calls BEGIN
            INSERT INTO calls_text (calls_text, rowid, prompt, answer)
            VALUES ('delete', old.id, old.prompt, old.answer);
        END""",
    ),
    # What a failure depended on, and "doubt" among what an attempt proves: SQLite changes a CHECK by a new table only.
    (
        """CREATE TABLE intents_2 (
            id INTEGER PRIMARY KEY,
            run_id TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
            model_path TEXT NOT NULL,
            configuration TEXT NOT NULL,
            kind TEXT NOT NULL CHECK (kind IN ('load', 'prefill')),
            context_length INTEGER NOT NULL,
            predicted_bytes INTEGER,
            free_bytes INTEGER,              -- the conditions before the attempt, NULL where not known
            engine_version TEXT,
            guardrail TEXT,
            boot_id TEXT,
            started_at TEXT NOT NULL,
            finished_at TEXT,
            outcome TEXT,                    -- NULL while under way, or for ever if the machine went down
            proves TEXT CHECK (proves IN ('good', 'bad', 'doubt', 'nothing')),
            details TEXT NOT NULL
        )""",
        """INSERT INTO intents_2 (id, run_id, model_path, configuration, kind, context_length, predicted_bytes, boot_id,
                started_at, finished_at, outcome, proves, details)
            SELECT intents.id, run_id, model_path, configuration, intents.kind, context_length, predicted_bytes,
                runs.boot, intents.started_at, intents.finished_at, intents.outcome, proves, intents.details
            FROM intents JOIN runs ON runs.id = run_id""",
        "DROP TABLE intents",
        "ALTER TABLE intents_2 RENAME TO intents",
        "CREATE INDEX intents_of_model ON intents (model_path, configuration)",
        "CREATE INDEX intents_open ON intents (run_id) WHERE outcome IS NULL",
    ),
    # Machines that wrote here, and the name under which the rows of each stand.
    ("CREATE TABLE machines (id TEXT PRIMARY KEY, name TEXT NOT NULL)",),
)
