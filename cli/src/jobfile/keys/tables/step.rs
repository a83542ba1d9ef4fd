//! The keys of steps.

use super::super::Absent::{Means, Mistake, Value};
use super::super::{Kind, Section, Table, Word};
use super::{NAME, key, word};

/// What values in `project` and `compute` are.
const COMPUTED: &str = "a column, or an [expression](#expressions) with `as name`";
/// What columns in `key_by` and `words` are.
const CHOSEN: &str = "`column` or `column as name`";

/// `[[step]]`.
pub(crate) static STEP: Section = Section::ByKey {
    what: "a step",
    words: "step",
    variants: &[
        (
            "filter",
            Table {
                what: "a filter",
                about: "Keeps the rows for which a condition holds.",
                keys: &[&[key(
                    "filter",
                    Kind::Text("a [condition](#expressions)"),
                    Mistake,
                    "the condition",
                )]],
            },
        ),
        (
            "project",
            Table {
                what: "a projection",
                about: "Makes rows of some columns and computed values, in this order.",
                keys: &[&[key("project", Kind::Texts(COMPUTED), Mistake, "the columns")]],
            },
        ),
        (
            "compute",
            Table {
                what: "a computation",
                about: "Adds columns with computed values, or replaces columns of the same name.",
                keys: &[&[key("compute", Kind::Texts(COMPUTED), Mistake, "the values")]],
            },
        ),
        (
            "words",
            Table {
                what: "a step that splits words",
                about: "Makes a row with one column, `word`, of each word of a text column; words are \
                    separated by white space.",
                keys: &[&[key(
                    "words",
                    Kind::Text(CHOSEN),
                    Mistake,
                    "the text column; `as` names the new one",
                )]],
            },
        ),
        (
            "key_by",
            Table {
                what: "a group",
                about: "Groups rows by the values of the key columns, and by windows of event time if \
                    wanted. Its rows have the key columns, then `window_start` and `window_end` \
                    (timestamps where the event time is one, else int, milliseconds) of a window, then the \
                    aggregates.",
                keys: &[&[
                    key("key_by", Kind::Texts(CHOSEN), Mistake, "the key columns"),
                    key(
                        "aggregate",
                        Kind::Texts(
                            "an [aggregate](#aggregates): `count`, `function(column)`, either with `as \
                             name`",
                        ),
                        Mistake,
                        "what to compute of the rows of each group",
                    ),
                    key(
                        "window",
                        Kind::Duration,
                        Means("one group for all time"),
                        "the length of tumbling windows, which begin at multiples of it since 1970; needs \
                         `event_time`",
                    ),
                    key(
                        "emit",
                        Kind::Word(EMITS),
                        Value("\"end\""),
                        "when a group without a window emits its row; a window does when it closes",
                    ),
                    key(
                        "id",
                        Kind::Text(NAME),
                        Means("`group-1`, `group-2` and so on, by the order of the groups"),
                        "the name by which a resumed job finds the state of this group: with one, steps \
                         can be inserted before it",
                    ),
                ]],
            },
        ),
    ],
};

/// When groups emit.
const EMITS: &[Word] =
    &[word("end", "once, at the end of the input"), word("changes", "after each row that it gets")];
