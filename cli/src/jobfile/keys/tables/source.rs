//! The keys of sources.

use super::super::Absent::{Means, Mistake, Value};
use super::super::{Key, Kind, Section, Table, Word};
use super::{ANY, NAME, PATH, key, word};

const COMMON: &[Key] = &[
    key(
        "rate",
        Kind::Integer(1, ANY),
        Means("as fast as it goes"),
        "at most this many records each second, over all subtasks",
    ),
    key(
        "name",
        Kind::Text(NAME),
        Means("`source`; each of several sources needs a name"),
        "how steps and sinks name its rows, and the name by which a resumed job finds how far it was read",
    ),
];

/// What inputs are.
const INPUT: &str = "a path of a file or a directory, where a relative one begins at the folder of the job \
    file; `-` for standard input; `s3://bucket/prefix/`; see [inputs.md](inputs.md)";

const FILES: &[Key] = &[
    key(
        "path",
        Kind::Text(INPUT),
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
    key(
        "moved_from",
        Kind::Text(INPUT),
        Means("files of a checkpoint are looked for at `path`"),
        "where the input was when the checkpoint was taken, if it has moved as a whole",
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
        Kind::Text(
            "the name of a column: a timestamp, or int or uint with milliseconds since 1970; never missing",
        ),
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

const COLUMN_KEYS: &[Key] = &[
    key("name", Kind::Text("the name of the column"), Mistake, "how steps and results name it"),
    key(
        "type",
        Kind::Text("a [type](#types-of-columns), with `?` behind it where values may be missing"),
        Value("\"text\""),
        "what its values are",
    ),
    key(
        "format",
        Kind::Text("`iso`, `s`, `ms`, `us`, `ns`, or a pattern as strftime has it"),
        Means("`iso`"),
        "how the input writes a timestamp, see [inputs.md](inputs.md)",
    ),
    key(
        "zone",
        Kind::Text("the name of a time zone, such as `Europe/Berlin`"),
        Means("UTC"),
        "where the clock was that wrote timestamps without an offset",
    ),
];

/// A column of a source as a table.
pub(crate) static COLUMN: Section = Section::One(Table {
    what: "a column",
    about: "A column is text, `name`, `name?`, `name:type` or `name:type?`, where `?` allows missing \
        values, or a table with these keys.",
    keys: &[COLUMN_KEYS],
});

/// A column of a JSON source as a table.
pub(crate) static JSON_COLUMN: Section = Section::One(Table {
    what: "a column of a JSON source",
    about: "As a column of any source, and where its value stands within others.",
    keys: &[
        COLUMN_KEYS,
        &[key(
            "path",
            Kind::JsonPath,
            Means("the member of the name of the column"),
            "where the value stands",
        )],
    ],
});

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
                            Kind::Columns(&COLUMN),
                            Means("all columns of the header of the first file, as text"),
                            "the columns to read: with a header by name and in any order, without one all \
                             of them in their order",
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
                    COMMON,
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
                        Kind::Columns(&JSON_COLUMN),
                        Mistake,
                        "the members to read, by name; others are left out",
                    )],
                    TIMES,
                    COMMON,
                ],
            },
        ),
        (
            "regex",
            Table {
                what: "a source of lines that a pattern splits",
                about: "Lines of text, for example of logs, that a regular expression splits into columns.",
                keys: &[
                    FILES,
                    &[
                        key(
                            "pattern",
                            Kind::Text("a regular expression with named groups: `(?<status>[0-9]+)`"),
                            Mistake,
                            "what each line is; one that it does not match is a bad record",
                        ),
                        key(
                            "columns",
                            Kind::Columns(&COLUMN),
                            Means("all named groups, as text"),
                            "the groups to read, with their types",
                        ),
                    ],
                    TIMES,
                    COMMON,
                ],
            },
        ),
        (
            "text",
            Table {
                what: "a text source",
                about: "Lines of text: rows with one column, `line`.",
                keys: &[FILES, COMMON],
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
                        key("seed", Kind::Integer(0, ANY), Value("42"), "another seed makes another stream"),
                        key(
                            "distribution",
                            Kind::Word(DISTRIBUTIONS),
                            Value("\"uniform\""),
                            "how often each key comes",
                        ),
                    ],
                    COMMON,
                ],
            },
        ),
    ],
};

/// How keys of a key stream are distributed.
const DISTRIBUTIONS: &[Word] =
    &[word("uniform", "all equally often"), word("zipf", "by Zipf's law: a few very often")];
