//! The keys of sinks.

use super::super::Absent::{Means, Mistake, Value};
use super::super::{Key, Kind, Section, Table, Word};
use super::{NAME, key, word};

/// What outputs are.
const OUTPUT: &str = "a path of a directory, where a relative one begins at the folder of the job file; \
    `s3://bucket/prefix/`; see [sinks.md](sinks.md)";

const DIRECTORY: Key = key(
    "path",
    Kind::Text(OUTPUT),
    Mistake,
    "where the result files are; each becomes visible, whole, with a checkpoint or at the end",
);

/// The keys of all sinks.
const COMMON: &[Key] = &[
    key(
        "from",
        Kind::Text("the name of a source or a step"),
        Means("the last step, or the one source"),
        "whose rows it takes",
    ),
    key(
        "name",
        Kind::Text(NAME),
        Means("`sink`; each of several sinks needs a name"),
        "the name by which a resumed job finds what it has written, and reports name it",
    ),
];

/// `[sink]` and `[late]`.
pub(crate) static SINK: Section = Section::ByWord {
    what: "a sink",
    by: "type",
    words: "sink type",
    absent: Mistake,
    variants: &[
        (
            "csv",
            Table {
                what: "a CSV sink",
                about: "Files of CSV, each row exactly once.",
                keys: &[
                    &[
                        DIRECTORY,
                        key(
                            "header",
                            Kind::Bool,
                            Value("false"),
                            "whether each file begins with the names of its columns",
                        ),
                    ],
                    COMMON,
                ],
            },
        ),
        (
            "json",
            Table {
                what: "a JSON sink",
                about: "Files of JSON lines, each row exactly once.",
                keys: &[&[DIRECTORY], COMMON],
            },
        ),
        (
            "stdout",
            Table {
                what: "a sink to standard output",
                about: "Prints rows, those of each checkpoint when it is complete. After a failure some \
                    are printed twice.",
                keys: &[
                    &[key("format", Kind::Word(FORMATS), Value("\"csv\""), "how rows are printed")],
                    COMMON,
                ],
            },
        ),
        (
            "discard",
            Table {
                what: "a discarding sink",
                about: "Drops all rows, for trials and measurements.",
                keys: &[
                    &[key(
                        "checksum",
                        Kind::Bool,
                        Value("false"),
                        "adds up checksums of keys and their counts (two uint columns) for the report",
                    )],
                    COMMON,
                ],
            },
        ),
    ],
};

/// What standard output can get.
const FORMATS: &[Word] = &[word("csv", "CSV without a header"), word("json", "JSON lines")];
