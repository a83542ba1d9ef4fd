//! The keys of the whole file, and of the sections about how a job runs.

use strandline_runtime::JobConfig;

use super::super::Absent::{Means, Mistake, Value};
use super::super::{Key, Kind, Section, Table, Word};
use super::{NAME, PATH, SINK, SMALL, SOURCE, STEP, key};

/// The whole file.
pub(crate) static JOB: Table = Table {
    what: "a job",
    about: "The keys at the top of the file, before the first `[section]`, and the sections.",
    keys: &[&[
        key(
            "name",
            Kind::Text(NAME),
            Value("\"job\""),
            "the name of the job: storage and results belong to it",
        ),
        key(
            "parallelism",
            Kind::Integer(1, JobConfig::MAX_PARALLELISM as u64),
            Value("1"),
            "how many subtasks work side by side; a checkpoint resumes at any parallelism",
        ),
        key(
            "batch_size",
            Kind::Integer(1, SMALL),
            Value("1024"),
            "how many records go from step to step at once",
        ),
        key(
            "chain",
            Kind::Bool,
            Value("false"),
            "at parallelism 1, the source and the groups behind it share one thread",
        ),
        key("source", Kind::OneOrMore(&SOURCE), Mistake, "where records come from"),
        key(
            "step",
            Kind::Sections(&STEP),
            Means("rows go to the sink as they are"),
            "what happens to rows: each step takes the rows of the one above it, unless `from` names others",
        ),
        key("sink", Kind::OneOrMore(&SINK), Mistake, "where results go"),
        key(
            "late",
            Kind::Section(&SINK),
            Means("late rows are dropped and counted"),
            "where rows go that come after their window has closed, in a job with one step that groups rows \
             by windows of event time: a sink as `[sink]` is",
        ),
        key(
            "checkpoint",
            Kind::Section(&CHECKPOINT),
            Means("no checkpoints: a failure ends the job, and it starts from the beginning"),
            "when and where checkpoints are taken",
        ),
        key("restart", Kind::Section(&RESTART), Means("growing delays"), "what happens after a failure"),
        key("state", Kind::Section(&STATE), Means("memory"), "where state lives while the job runs"),
    ]],
};

/// `[checkpoint]`.
pub(crate) static CHECKPOINT: Section = Section::One(Table {
    what: "[checkpoint]",
    about: "Checkpoints, by which a job resumes after a stop, a failure or a kill, each record counted \
        once.",
    keys: &[
        &[
            key(
                "enabled",
                Kind::Bool,
                Value("true"),
                "`false` switches checkpoints off and keeps the section",
            ),
            key(
                "storage",
                Kind::Text("a path, `file:///absolute/path`, `s3://bucket/prefix?region=…` or `memory://`"),
                Mistake,
                "where checkpoints are kept; a relative path begins at the folder of the job file. One job \
                 for each storage",
            ),
            key(
                "interval",
                Kind::DurationOr(&["off"]),
                Value("\"10s\""),
                "the time from one checkpoint to the next; `\"off\"`: only at the end and when the job is \
                 stopped",
            ),
            key(
                "initial_delay",
                Kind::Duration,
                Means("a random part of the interval"),
                "the time from a start to its first checkpoint",
            ),
            key(
                "min_pause",
                Kind::Duration,
                Value("\"0s\""),
                "the least time between the end of a checkpoint and the start of the next",
            ),
            key(
                "timeout",
                Kind::Duration,
                Value("\"10m\""),
                "how long a checkpoint may take before it is given up",
            ),
            key(
                "unaligned",
                Kind::DurationOr(&["off", "on"]),
                Value("\"off\""),
                "whether barriers overtake rows that wait in channels, which then are part of the checkpoint: \
                 at once, or once a checkpoint is this old and has not passed; savepoints and the last \
                 checkpoint are aligned in any case",
            ),
            key(
                "max_concurrent",
                Kind::Integer(1, SMALL),
                Value("1"),
                "how many checkpoints may be under way at once",
            ),
            key(
                "tolerable_failures",
                Kind::Integer(0, SMALL),
                Value("3"),
                "how many checkpoints in a row may fail before the job restarts",
            ),
            key("retained", Kind::Integer(1, SMALL), Value("2"), "how many completed checkpoints are kept"),
            key(
                "incremental",
                Kind::Bool,
                Value("true"),
                "whether a checkpoint stores what changed, or (`false`) everything",
            ),
            key(
                "verify",
                Kind::Word(DEPTHS),
                Value("\"contents\""),
                "how closely a checkpoint is verified before it is restored",
            ),
            key(
                "on_damage",
                Kind::Word(ON_DAMAGE),
                Value("\"fall-back\""),
                "what a start does when the newest checkpoint is damaged",
            ),
            key(
                "backlog_interval",
                Kind::DurationOr(&["off"]),
                Means("the same as `interval`"),
                "the time from one checkpoint to the next while a source catches up; `\"off\"`: none meanwhile",
            ),
            key(
                "commit_timeout",
                Kind::Duration,
                Value("\"10m\""),
                "how long a commit may stay without an answer before the job restarts",
            ),
            key(
                "cleanup_pause",
                Kind::Duration,
                Value("\"1s\""),
                "the least time between two sweeps of what no checkpoint needs any more",
            ),
            key(
                "cleanup_lag",
                Kind::Integer(1, SMALL),
                Value("16"),
                "by how many checkpoints a sweep may be behind before periodic ones wait for it",
            ),
            key(
                "when_finished",
                Kind::Word(WHEN_FINISHED),
                Value("\"keep\""),
                "what becomes of the checkpoints of a job that has finished",
            ),
            key(
                "give_way",
                Kind::Duration,
                Value("\"10s\""),
                "how long a run that was overtaken waits for the first checkpoint of the other before it ends",
            ),
        ],
        &[
            key(
                "inline_limit",
                Kind::Size(1),
                Value("\"64 KiB\""),
                "the most bytes of one list, for example of positions, that stand in the manifest itself; \
                 longer ones get an object of their own",
            ),
            key(
                "request_timeout",
                Kind::Duration,
                Value("\"30s\""),
                "how long one request to a store on a network may take",
            ),
            key(
                "request_retries",
                Kind::Integer(0, SMALL),
                Value("5"),
                "how often a request is sent again after an overload, a timeout or a lost connection",
            ),
            key(
                "retry_pause",
                Kind::Duration,
                Value("\"1s\""),
                "how long the first of these waits; each further one waits twice as long",
            ),
        ],
    ],
});

const DEPTHS: &[Word] = &[
    Word { name: "manifest", about: "reads the manifest only" },
    Word { name: "lengths", about: "looks for every file, and at its length" },
    Word { name: "contents", about: "reads all bytes" },
];

const ON_DAMAGE: &[Word] = &[
    Word { name: "fall-back", about: "takes the newest one before it that verifies, with a warning" },
    Word { name: "refuse", about: "ends with an error" },
];

const WHEN_FINISHED: &[Word] = &[
    Word { name: "keep", about: "they stay" },
    Word { name: "remove", about: "only savepoints stay, and the record that the job has finished" },
];

const ATTEMPTS_IN_A_ROW: Key = key(
    "attempts",
    Kind::Integer(0, SMALL),
    Value("10"),
    "how many restarts may follow each other; a checkpoint in between, or a run of `reset_after`, starts \
     the count over",
);
const DELAY: Key = key("delay", Kind::Duration, Value("\"1s\""), "how long a restart waits");

/// `[restart]`.
pub(crate) static RESTART: Section = Section::ByWord {
    what: "[restart]",
    by: "strategy",
    words: "restart strategy",
    absent: Means("`\"exponential-delay\"`; with `delay`, `\"fixed-delay\"`"),
    variants: &[
        (
            "exponential-delay",
            Table {
                what: "[restart] with growing delays",
                about: "Each restart waits longer than the one before.",
                keys: &[&[
                    ATTEMPTS_IN_A_ROW,
                    key("initial_delay", Kind::Duration, Value("\"1s\""), "how long the first restart waits"),
                    key(
                        "max_delay",
                        Kind::Duration,
                        Value("\"30s\""),
                        "how long a restart waits at most; a longer `initial_delay` raises the default",
                    ),
                    key(
                        "multiplier",
                        Kind::Number(1.0, f64::MAX),
                        Value("1.5"),
                        "by how much the wait grows from restart to restart",
                    ),
                    key(
                        "reset_after",
                        Kind::Duration,
                        Value("\"1m\""),
                        "after a run of this length the wait starts over",
                    ),
                ]],
            },
        ),
        (
            "fixed-delay",
            Table {
                what: "[restart] with a fixed delay",
                about: "Each restart waits as long as any other.",
                keys: &[&[
                    key(
                        "attempts",
                        Kind::Integer(0, SMALL),
                        Value("3"),
                        "how many restarts there may be in the life of the process",
                    ),
                    DELAY,
                ]],
            },
        ),
        (
            "failure-rate",
            Table {
                what: "[restart] by the rate of failures",
                about: "The job ends when failures become frequent.",
                keys: &[&[
                    key(
                        "failures",
                        Kind::Integer(1, SMALL),
                        Value("3"),
                        "with this many failures within the interval the job ends",
                    ),
                    key(
                        "interval",
                        Kind::Duration,
                        Value("\"1m\""),
                        "the time in which failures are counted",
                    ),
                    DELAY,
                ]],
            },
        ),
        (
            "none",
            Table {
                what: "[restart] without a strategy",
                about: "The first failure ends the job.",
                keys: &[],
            },
        ),
    ],
};

/// `[state]`.
pub(crate) static STATE: Section = Section::ByWord {
    what: "[state]",
    by: "backend",
    words: "state backend",
    absent: Value("\"memory\""),
    variants: &[
        ("memory", Table { what: "[state] of the memory backend", about: "State is in memory.", keys: &[] }),
        (
            "rocksdb",
            Table {
                what: "[state] of RocksDB",
                about: "State is in embedded RocksDB, for what does not fit into memory. Needs a program \
                    that was built with `--features rocksdb`.",
                keys: &[&[
                    key(
                        "directory",
                        Kind::Text(PATH),
                        Means("a temporary directory"),
                        "where its databases are; a directory that outlives the process makes a resume \
                         sooner",
                    ),
                    key(
                        "memory",
                        Kind::Size(4 << 20),
                        Value("\"512 MiB\""),
                        "how much memory all subtasks use together",
                    ),
                    key(
                        "write_back",
                        Kind::Number(0.0, 0.9),
                        Value("0.25"),
                        "the share of the memory that holds hot entries in front of the databases",
                    ),
                ]],
            },
        ),
    ],
};
