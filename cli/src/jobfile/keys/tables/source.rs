//! The keys of sources.

use super::super::Absent::{Means, Mistake, Value};
use super::super::{Key, Kind, Section, Table, Word};
use super::{ANY, PATH, key, word};

const RATE: &[Key] = &[key(
    "rate",
    Kind::Integer(1, ANY),
    Means("as fast as it goes"),
    "at most this many records each second, over all subtasks",
)];

const FILES: &[Key] = &[
    key(
        "path",
        Kind::Text("a path of a file or a directory; a relative one begins at the folder of the job file"),
        Mistake,
        "what to read; of a directory every file whose name does not begin with `.` or `_`",
    ),
    key(
        "split_size",
        Kind::Size(1),
        Value("\"16 MiB\""),
        "how large the parts are that subtasks read side by side",
    ),
    key("max_record", Kind::Size(1), Value("\"64 MiB\""), "a longer record is a bad one"),
    key(
        "on_bad_record",
        Kind::Word(POLICIES),
        Value("\"fail\""),
        "what happens to a record that cannot be decoded",
    ),
    key(
        "dead_letters",
        Kind::Text(PATH),
        Means("needed with `on_bad_record = \"dead-letter\"` only"),
        "the directory for bad records, with their place and the reason",
    ),
    key(
        "follow",
        Kind::Bool,
        Value("false"),
        "a job that has read everything is finished for now: a later run reads what is new",
    ),
    key(
        "watch",
        Kind::Duration,
        Means("the job ends at the end of its input"),
        "the job runs on, and looks for new files and lines that often",
    ),
];

/// What may happen to bad records.
const POLICIES: &[Word] = &[
    word("fail", "the job ends with its file, line and column"),
    word("skip", "it is left out and counted"),
    word("dead-letter", "it goes to the directory `dead_letters`"),
];

/// The keys that need `event_time`.
pub(crate) const TIMES: &[Key] = &[
    key(
        "event_time",
        Kind::Text("the name of a column: int or uint, never missing, in milliseconds since 1970"),
        Means("no event time, and no windows"),
        "the column with the time of each row",
    ),
    key(
        "watermark_delay",
        Kind::Duration,
        Value("\"0s\""),
        "how far the rows of one file may be out of order; a window waits that long. Needs `event_time`",
    ),
    key(
        "idle_timeout",
        Kind::Duration,
        Means("10 s with `watch`, else no bound"),
        "how long a file without new rows holds windows back. Needs `event_time`",
    ),
    key(
        "max_drift",
        Kind::Duration,
        Means("no bound"),
        "how far, in event time, any part of the input may be read ahead of the slowest. Needs \
         `event_time`",
    ),
];

/// What columns of a source are.
const COLUMN: &str = "`name`, `name?`, `name:type` or `name:type?`, where `?` allows missing values";

/// `[source]`.
pub(crate) static SOURCE: Section = Section::ByWord {
    what: "a source",
    by: "type",
    words: "source type",
    absent: Mistake,
    variants: &[
        (
            "csv",
            Table {
                what: "a CSV source",
                about: "CSV as in RFC 4180, see [csv.md](csv.md).",
                keys: &[
                    FILES,
                    &[
                        key(
                            "columns",
                            Kind::Texts(COLUMN),
                            Means("all columns of the header of the first file, as text"),
                            "the columns to read: with a header by name and in any order, without one all \
                             of them \
                             in their order",
                        ),
                        key(
                            "header",
                            Kind::Bool,
                            Value("true"),
                            "whether each file begins with the names of its columns",
                        ),
                        key(
                            "delimiter",
                            Kind::Text("one ASCII character, no quote and no line end"),
                            Value("\",\""),
                            "what is between two fields",
                        ),
                        key(
                            "quoted_newlines",
                            Kind::Bool,
                            Value("false"),
                            "whether a field in quotes may have several lines; one subtask then reads a \
                             file alone",
                        ),
                    ],
                    TIMES,
                    RATE,
                ],
            },
        ),
        (
            "json",
            Table {
                what: "a JSON source",
                about: "JSON lines: one object on each line.",
                keys: &[
                    FILES,
                    &[key(
                        "columns",
                        Kind::Texts(COLUMN),
                        Mistake,
                        "the members to read, by name; others are left out",
                    )],
                    TIMES,
                    RATE,
                ],
            },
        ),
        (
            "text",
            Table {
                what: "a text source",
                about: "Lines of text: rows with one column, `line`.",
                keys: &[FILES, RATE],
            },
        ),
        (
            "keys",
            Table {
                what: "a key stream",
                about: "Random keys, for trials and measurements: rows with one column, `key` (uint).",
                keys: &[
                    &[
                        key("records", Kind::Integer(0, ANY), Mistake, "how many there are"),
                        key("keys", Kind::Integer(1, ANY), Value("1_000_000"), "how many different ones"),
                        key(
                            "seed",
                            Kind::Integer(0, ANY),
                            Value("42"),
                            "another seed makes another \
                        stream",
                        ),
                        key(
                            "distribution",
                            Kind::Word(DISTRIBUTIONS),
                            Value("\"uniform\""),
                            "how often each key comes",
                        ),
                    ],
                    RATE,
                ],
            },
        ),
    ],
};

/// How keys of a key stream are distributed.
const DISTRIBUTIONS: &[Word] =
    &[word("uniform", "all equally often"), word("zipf", "by Zipf's law: a few very often")];
