//! The keys of steps.

use super::super::Absent::{Means, Mistake, Value};
use super::super::{Key, Kind, Section, Table, Word};
use super::{JSON_COLUMN, NAME, SMALL, key, word};

/// What values in `project` and `compute` are.
const COMPUTED: &str = "a column, or an [expression](#expressions) with `as name`";
/// What columns in `key_by` and `words` are.
const CHOSEN: &str = "`column` or `column as name`";
/// What names of other rows are.
const STREAM: &str = "the name of a source, or of a step above";

const NAMED: Key = key(
    "name",
    Kind::Text(NAME),
    Means("the step has none"),
    "how steps below and sinks name the rows of this step",
);

/// The keys of all steps that take one input.
const COMMON: &[Key] = &[
    key("from", Kind::Text(STREAM), Means("the step above, or the one source"), "whose rows the step takes"),
    NAMED,
];

const ID: Key = key(
    "id",
    Kind::Text(NAME),
    Means(
        "its `name`; a step without one has `group-1`, `group-2` and so on, by the order of steps with state",
    ),
    "the name by which a resumed job finds the state of this step: with one, steps can be inserted before it",
);

/// The shape of windows.
const WINDOWS: &[Key] = &[
    key(
        "window",
        Kind::Length,
        Means("one group for all time"),
        "the length of windows. Those of time begin at multiples of it since 1970, and need `event_time`",
    ),
    key(
        "slide",
        Kind::Length,
        Means("windows follow each other"),
        "from the beginning of one `window` to that of the next: each row is in several",
    ),
    key(
        "session",
        Kind::Duration,
        Means("windows have the length `window`"),
        "in place of `window`: a window lasts until no row has come for so long",
    ),
    key("offset", Kind::Duration, Value("\"0s\""), "how much later than at those multiples windows begin"),
];

/// What else there is to windows of a group.
const FIRINGS: &[Key] = &[
    key("time", Kind::Word(TIMES), Value("\"event\""), "which time windows and `emit_every` are of"),
    key(
        "lateness",
        Kind::Duration,
        Value("\"0s\""),
        "how long a window stays when it has closed: a row that comes in this time emits it again, corrected",
    ),
    key(
        "emit_every",
        Kind::Duration,
        Means("at the end only"),
        "emits what is known so far, too, at multiples of this time, of the groups to which rows came",
    ),
    key(
        "emit_rows",
        Kind::Integer(1, SMALL),
        Means("at the end only"),
        "emits what is known so far, too, whenever so many rows have come",
    ),
    key(
        "purge",
        Kind::Bool,
        Value("false"),
        "whether a window forgets its rows when it emits, so that each result is of those since the one before",
    ),
];

/// Sessions of rows that know their gap.
const SESSION_BY: Key = key(
    "session_by",
    Kind::Text("a column of the type int or uint"),
    Means("all sessions have the gap `session`"),
    "in place of `session`: the column that has the gap of each row in milliseconds, at least 1; the row with the \
     latest end decides when its window closes",
);

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
                keys: &[
                    &[key("filter", Kind::Text("a [condition](#expressions)"), Mistake, "the condition")],
                    COMMON,
                ],
            },
        ),
        (
            "project",
            Table {
                what: "a projection",
                about: "Makes rows of some columns and computed values, in this order.",
                keys: &[&[key("project", Kind::Texts(COMPUTED), Mistake, "the columns")], COMMON],
            },
        ),
        (
            "compute",
            Table {
                what: "a computation",
                about: "Adds columns with computed values, or replaces columns of the same name.",
                keys: &[&[key("compute", Kind::Texts(COMPUTED), Mistake, "the values")], COMMON],
            },
        ),
        (
            "words",
            Table {
                what: "a step that splits words",
                about: "Makes a row with one column, `word`, of each word of a text column; words are \
                    separated by white space.",
                keys: &[
                    &[key("words", Kind::Text(CHOSEN), Mistake, "the text column; `as` names the new one")],
                    COMMON,
                ],
            },
        ),
        (
            "key_by",
            Table {
                what: "a group",
                about: "Groups rows by the values of the key columns, and by windows if wanted, and computes \
                    aggregates of each group, or its `top` rows. Its rows have the key columns, then \
                    `window_start` and `window_end` of a window of time (timestamps where the event time is \
                    one, else int, milliseconds), then `firing` where a window may emit several times \
                    (`early`, `on-time` or `late`: of one group and window the last row counts), then the \
                    aggregates; or `rank` from 1 and the other columns of the top rows.",
                keys: &[
                    &[
                        key("key_by", Kind::Texts(CHOSEN), Mistake, "the key columns"),
                        key(
                            "aggregate",
                            Kind::Texts(
                                "an [aggregate](#aggregates): `count`, `function(column)`, either with `as \
                                 name`",
                            ),
                            Means("needed, unless there is `top`"),
                            "what to compute of the rows of each group",
                        ),
                        key(
                            "top",
                            Kind::Integer(1, SMALL),
                            Means("needed, unless there is `aggregate`"),
                            "how many rows to keep of each group: the greatest by `by`",
                        ),
                        key(
                            "by",
                            Kind::Texts("`column`, the greatest first, or `column asc`, the least first"),
                            Means("needed with `top`"),
                            "what decides which rows are the top: the first column, of equals the second, and \
                             so on; of equals in all of them those that came first",
                        ),
                    ],
                    WINDOWS,
                    &[
                        SESSION_BY,
                        key(
                            "emit",
                            Kind::Word(EMITS),
                            Value("\"end\""),
                            "when a group without a window emits its row; a window does when it closes",
                        ),
                    ],
                    FIRINGS,
                    &[ID],
                    COMMON,
                ],
            },
        ),
        (
            "deduplicate",
            Table {
                what: "a deduplication",
                about: "Keeps one row of those that have the same values in some columns: the first or the \
                    last by event time. Needs `event_time`.",
                keys: &[
                    &[
                        key("deduplicate", Kind::Texts("a column"), Mistake, "the columns of the key"),
                        key("keep", Kind::Word(KEEPS), Value("\"first\""), "which row stays"),
                        key("emit", Kind::Word(DUPLICATES), Value("\"end\""), "when the row is emitted"),
                        key(
                            "ttl",
                            Kind::Duration,
                            Means("keys are remembered for ever"),
                            "how long a key is remembered, in event time, from when its row was stored",
                        ),
                        ID,
                    ],
                    COMMON,
                ],
            },
        ),
        (
            "call",
            Table {
                what: "a call",
                about: "Asks a program about each row and adds the columns of its reply. The program reads from its \
                    standard input a line for each row, a JSON object with the columns that it is sent and a number, \
                    `call`; it writes to its standard output, in any order, a line for each: the same `call`, and the \
                    columns of the reply or a text, `error`. Each subtask starts one in the folder of the job file, \
                    and another one when it has ended; when its standard input ends, it should end. Rows without a \
                    reply are part of checkpoints, and are sent again when the job resumes.",
                keys: &[
                    &[
                        key(
                            "call",
                            Kind::Texts("the program, then its arguments"),
                            Mistake,
                            "what answers: a name, which is searched as by a shell, or a path",
                        ),
                        key(
                            "by",
                            Kind::Texts(CHOSEN),
                            Mistake,
                            "the columns of the key: it decides which subtask calls for a row",
                        ),
                        key(
                            "columns",
                            Kind::Columns(&JSON_COLUMN),
                            Mistake,
                            "the columns of the reply, which the rows get behind theirs",
                        ),
                        key("send", Kind::Texts(CHOSEN), Means("all columns"), "what the program is sent"),
                        key(
                            "timeout",
                            Kind::Duration,
                            Value("\"30s\""),
                            "after how long a call has failed, with all attempts",
                        ),
                        key(
                            "capacity",
                            Kind::Integer(1, SMALL),
                            Value("100"),
                            "how many rows of a subtask wait for a reply at most; then others wait before it",
                        ),
                        key(
                            "ordered",
                            Kind::Bool,
                            Value("false"),
                            "whether rows leave in the order in which they came, and not as replies come",
                        ),
                        key(
                            "attempts",
                            Kind::Integer(1, SMALL),
                            Value("1"),
                            "how often a call that fails starts at most",
                        ),
                        key("pause", Kind::Duration, Value("\"1s\""), "the pause before a call starts again"),
                        key(
                            "failures",
                            Kind::Word(FAILURES),
                            Value("\"fail\""),
                            "what becomes of a row whose call has failed for the last time",
                        ),
                        ID,
                    ],
                    COMMON,
                ],
            },
        ),
        (
            "coalesce",
            Table {
                what: "a step that takes changes together",
                about: "Takes [changes](#changes) together that come within some time: what comes and goes again in it \
                    is never emitted, and a row that changes often changes once.",
                keys: &[
                    &[
                        key(
                            "coalesce",
                            Kind::Duration,
                            Mistake,
                            "how long changes wait at most: it ends at multiples of this time since 1970",
                        ),
                        key(
                            "by",
                            Kind::Texts("a column"),
                            Mistake,
                            "the columns of the key: changes of rows with the same values stay in order",
                        ),
                        key("time", Kind::Word(TIMES), Value("\"event\""), "which time it is"),
                        ID,
                    ],
                    COMMON,
                ],
            },
        ),
        (
            "union",
            Table {
                what: "a union",
                about: "Takes the rows of several sources and steps together. They have the same columns, in \
                    any order; the order of the first is that of the result.",
                keys: &[&[key("union", Kind::Texts(STREAM), Mistake, "whose rows"), NAMED]],
            },
        ),
        (
            "join",
            Table {
                what: "a join",
                about: "Joins rows of two sources or steps, left and right, that have the same key. With \
                    `between`: rows whose event times are close. With `window` or `session`: rows that share \
                    a window. With `versioned`: each left row and the right row that was valid at its event \
                    time. With none of them: all rows, whenever they come; the result then changes, see \
                    [changes](#changes). A row with a missing key joins nothing. The result has the columns of \
                    the left row, then those of the right one, a key of the same name once, then \
                    `window_start` and `window_end`, or `change`.",
                keys: &[
                    &[
                        key("join", Kind::Texts(STREAM), Mistake, "the left input and the right one"),
                        key(
                            "on",
                            Kind::Texts("`column`, which both have, or `left_column = right_column`"),
                            Mistake,
                            "what is equal in rows that belong together",
                        ),
                        key(
                            "kind",
                            Kind::Word(KINDS),
                            Value("\"inner\""),
                            "which rows without a partner stay",
                        ),
                        key(
                            "between",
                            Kind::Interval,
                            Means("rows may be any time apart"),
                            "how much later than the left row the right one may be, at least and at most",
                        ),
                    ],
                    WINDOWS,
                    &[
                        key(
                            "versioned",
                            Kind::Bool,
                            Value("false"),
                            "whether a right row is valid from its event time to that of the next one of its key",
                        ),
                        key(
                            "ttl",
                            Kind::Duration,
                            Means("rows are kept for ever"),
                            "how long a join of all rows keeps each, in event time if both inputs have it, else \
                             by the clock",
                        ),
                        ID,
                        NAMED,
                    ],
                ],
            },
        ),
    ],
};

/// When groups emit.
const EMITS: &[Word] = &[
    word("end", "once, at the end of the input"),
    word("changes", "after each row that it gets; the top rows as [changes](#changes)"),
];

/// Which time windows are of.
const TIMES: &[Word] = &[
    word("event", "that of the rows"),
    word("processing", "that of the clock when a row is processed; no row is late, and results depend on it"),
];

/// What becomes of a row whose call has failed.
const FAILURES: &[Word] = &[
    word("fail", "the job fails, and starts again from its newest checkpoint"),
    word("null", "the columns of the reply are null"),
];

/// Which of several rows stays.
const KEEPS: &[Word] = &[word("first", "the earliest"), word("last", "the latest")];

/// When deduplicated rows are emitted.
const DUPLICATES: &[Word] = &[
    word(
        "end",
        "once no other can replace it: the first when event time has reached it, the last at the end of the input",
    ),
    word("changes", "at once, and again when another one replaces it, as [changes](#changes)"),
];

/// Which rows of a join stay without a partner.
const KINDS: &[Word] = &[
    word("inner", "none"),
    word("left", "those of the left input"),
    word("right", "those of the right input"),
    word("full", "those of both inputs"),
];
