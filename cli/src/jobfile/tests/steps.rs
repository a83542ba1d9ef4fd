//! Windows, deduplication, top rows, joins, and who takes whose rows.

use super::*;

/// Two sources, `orders` and `payments`, and these steps; without a sink of their own they have one.
fn job(steps: &str) -> String {
    let source = |name: &str, columns: &str, time: &str| {
        format!(
            "[[source]]\nname = \"{name}\"\ntype = \"csv\"\npath = \"{name}\"\ncolumns = [{columns}]\n\
             event_time = \"{time}\"\n"
        )
    };
    let orders = source("orders", "\"time:int\", \"id:int\", \"user\", \"note?\"", "time");
    let payments = source("payments", "\"paid:int\", \"id:int\", \"cents:int\", \"user?\"", "paid");
    let sink = if steps.contains("[[sink]]") { "" } else { "[sink]\ntype = \"discard\"\n" };
    format!("{orders}{payments}{steps}\n{sink}")
}

/// A job of one step on the orders; nothing takes the payments.
fn step(step: &str) -> String {
    let sinks = "[[sink]]\nname = \"a\"\ntype = \"discard\"\n[[sink]]\nname = \"b\"\nfrom = \"payments\"\n\
         type = \"discard\"";
    job(&format!("[[step]]\nfrom = \"orders\"\n{step}\n{sinks}"))
}

/// The columns that reach the first sink.
fn result(text: &str) -> String {
    match parse(text, &[]) {
        Ok(job) => columns(&job.sinks[0].columns),
        Err(report) => panic!("{report}"),
    }
}

/// A step behind deduplicated orders.
fn changes(then: &str) -> String {
    step(&format!("deduplicate = \"id\"\nemit = \"changes\"\n[[step]]\n{then}"))
}

const CALL: &str = "by = \"user\"\ncolumns = [\"city\", \"size:int?\"]";

#[test]
fn replies_are_columns_behind_the_others() {
    let orders = "time:int id:int user:text note:text?";
    let call = |settings: &str| result(&step(&format!("call = \"ask\"\n{CALL}\n{settings}")));
    assert_eq!(call("send = \"user as who\""), format!("{orders} city:text size:int?"));
    assert_eq!(call("failures = \"null\""), format!("{orders} city:text? size:int?"));
    let ordered =
        changes(&format!("call = \"ask\"\n{CALL}\nordered = true\n[[step]]\ncoalesce = \"1s\"\nby = \"id\""));
    assert_eq!(result(&ordered), format!("{orders} change:text city:text size:int?"));
}

const BORDERS: &str = "window_start:int window_end:int";

#[test]
fn groups_have_the_columns_of_their_windows() {
    let cases = [
        ("window = \"1h\"\nslide = \"5m\"", format!("user:text {BORDERS} count:uint")),
        (
            "window = \"1h\"\noffset = \"5m\"\nlateness = \"1m\"",
            format!("user:text {BORDERS} firing:text count:uint"),
        ),
        ("session = \"1h\"\nemit_every = \"1s\"", format!("user:text {BORDERS} firing:text count:uint")),
        ("window = \"10 rows\"\nslide = \"1 row\"", "user:text count:uint".to_owned()),
        ("session_by = \"id\"", format!("user:text {BORDERS} count:uint")),
        ("emit_rows = 10", "user:text firing:text count:uint".to_owned()),
        ("emit_rows = 10\npurge = true", "user:text firing:text count:uint".to_owned()),
        ("emit_every = \"1s\"\ntime = \"processing\"", "user:text firing:text count:uint".to_owned()),
    ];
    for (window, wanted) in cases {
        let text = step(&format!("key_by = \"user\"\naggregate = \"count\"\n{window}"));
        assert_eq!(result(&text), wanted, "{window}");
    }
    let top = "key_by = \"user as who\"\ntop = 3\nby = [\"time\", \"id asc\"]";
    let wanted = format!("who:text {BORDERS} rank:uint time:int id:int note:text?");
    assert_eq!(result(&step(&format!("{top}\nwindow = \"1h\""))), wanted);
    assert_eq!(result(&step(top)), "who:text rank:uint time:int id:int note:text?");
    let changes = "who:text time:int id:int note:text? change:text";
    assert_eq!(result(&step(&format!("{top}\nemit = \"changes\""))), changes);
    let rows = "time:int id:int user:text note:text?";
    assert_eq!(result(&step("deduplicate = \"id\"")), rows);
    assert_eq!(result(&step("deduplicate = \"id\"\nemit = \"changes\"")), format!("{rows} change:text"));
}

/// Windows that a job file had before have the operator and the state that they had.
#[test]
fn plain_groups_stay_what_they_were() {
    let group = |settings: &str| {
        let text = step(&format!("key_by = \"user\"\naggregate = \"count\"\n{settings}"));
        match parse(&text, &[]).unwrap().steps.remove(0).step {
            Step::Group(group) => group.is_plain(),
            other => panic!("{other:?}"),
        }
    };
    for plain in
        ["", "window = \"1m\"", "emit = \"changes\"", "window = \"1m\"\noffset = \"0s\"\nlateness = \"0s\""]
    {
        assert!(group(plain), "{plain}");
    }
    for other in [
        "window = \"1m\"\noffset = \"1s\"",
        "window = \"1m\"\nlateness = \"1s\"",
        "emit_rows = 1",
        "window = \"2 rows\"",
    ] {
        assert!(!group(other), "{other}");
    }
}

#[test]
fn joins_have_the_columns_of_both() {
    let payments = "[[step]]\nname = \"paid\"\nfrom = \"payments\"\nproject = [\"id\", \"cents\"]\n";
    let join = |settings: &str| {
        result(&job(&format!("{payments}[[step]]\njoin = [\"orders\", \"paid\"]\non = \"id\"\n{settings}")))
    };
    let left = "time:int id:int user:text note:text?";
    assert_eq!(join("between = [\"-1s\", \"1s\"]"), format!("{left} cents:int"));
    assert_eq!(join("between = [\"-1s\", \"1s\"]\nkind = \"left\""), format!("{left} cents:int?"));
    assert_eq!(join("window = \"1h\""), format!("{left} cents:int {BORDERS}"));
    let optional = "time:int? id:int user:text? note:text?";
    assert_eq!(join("session = \"1h\"\nkind = \"full\""), format!("{optional} cents:int? {BORDERS}"));
    assert_eq!(join("versioned = true"), format!("{left} cents:int"));
    assert_eq!(join("ttl = \"1d\"\nkind = \"right\""), format!("{optional} cents:int change:text"));
    let renamed = "[[step]]\nname = \"p\"\nfrom = \"payments\"\nproject = [\"id as order\", \"cents\"]\n\
         [[step]]\njoin = [\"orders\", \"p\"]\non = \"id = order\"\nversioned = true\nkind = \"left\"";
    assert_eq!(result(&job(renamed)), format!("{left} order:int? cents:int?"));
}

/// A source has the columns that any step or sink needs of it, and no others.
#[test]
fn sources_are_read_as_far_as_they_are_needed() {
    let steps = [
        "name = \"noted\"\nfrom = \"orders\"\nfilter = \"note is not null\"",
        "name = \"times\"\nproject = [\"time\"]",
        "name = \"cents\"\nfrom = \"payments\"\nproject = [\"cents as time\"]",
        "union = [\"times\", \"cents\"]",
    ];
    let read = |steps: &[&str]| {
        let steps: String = steps.iter().map(|step| format!("[[step]]\n{step}\n")).collect();
        let job = parse(&job(&steps), &[]).unwrap_or_else(|report| panic!("{report}"));
        job.sources.iter().map(|source| columns(&source.columns)).collect::<Vec<_>>()
    };
    assert_eq!(read(&steps), ["time:int note:text?", "paid:int cents:int"]);
    // Rows that are taken whole have all their columns.
    let joined = [
        "name = \"paid\"\nfrom = \"payments\"\nproject = [\"id\", \"cents\"]",
        "join = [\"orders\", \"paid\"]\non = \"id\"",
        "project = [\"cents\"]",
    ];
    assert_eq!(read(&joined), ["time:int id:int user:text note:text?", "paid:int id:int cents:int"]);
}

#[test]
fn every_report_of_a_mistake_in_a_step_names_what_was_expected() {
    let group = |settings: &str| step(&format!("key_by = \"user\"\naggregate = \"count\"\n{settings}"));
    let top = |settings: &str| step(&format!("key_by = \"user\"\n{settings}"));
    let one = |settings: &str| step(&format!("deduplicate = \"id\"\n{settings}"));
    let paid = "[[step]]\nname = \"paid\"\nfrom = \"payments\"\nproject = [\"id\", \"cents\"]\n";
    let join = |settings: &str| {
        job(&format!("{paid}[[step]]\njoin = [\"orders\", \"paid\"]\non = \"id\"\n{settings}"))
    };
    let cases = [
        (group("window = \"1m\"\nslide = \"2m\""), "would lose rows", "at most the length of `window`"),
        (group("window = \"1m\"\nslide = \"2 rows\""), "both times or both rows", "18:9"),
        (group("window = \"0 rows\""), "expected a number of rows", "17:10"),
        (group("window = \"many\""), "expected a duration", "17:10"),
        (group("slide = \"1m\""), "`slide` is for windows", "expected `window"),
        (group("offset = \"1m\""), "`offset` is for windows", "expected `window"),
        (group("window = \"1m\"\noffset = \"1m\""), "this offset leaves out a window", "expected less"),
        (
            group("window = \"1m\"\nsession = \"1m\""),
            "a session lasts as long as rows come",
            "leave out either",
        ),
        (
            group("session = \"1m\"\noffset = \"1s\""),
            "sessions and windows of rows have no offset",
            "leave this out",
        ),
        (group("session = \"0s\""), "the gap of a session is at least 1 ms long", "this is less"),
        (group("session_by = \"user\""), "a gap is a number of milliseconds", "this column is text"),
        (
            group("session_by = \"id\"\nsession = \"1m\""),
            "a session lasts as long as rows come",
            "either `session` or `session_by`",
        ),
        (group("session_by = \"id\"\noffset = \"1s\""), "have no offset", "leave this out"),
        (group("window = \"1m\"\npurge = true"), "this group emits once", "expected `emit_every`"),
        (
            group("window = \"1m\"\nslide = \"10s\"\nlateness = \"1s\"\npurge = true"),
            "windows that slide share their rows",
            "leave this out",
        ),
        (group("lateness = \"1m\""), "only windows of event time have late rows", "leave this out"),
        (
            group("window = \"1m\"\nslide = \"10s\"\nemit_rows = 3"),
            "windows that slide emit when they close",
            "shorter",
        ),
        (
            group("window = \"9 rows\"\nemit_rows = 3"),
            "windows of rows emit when they have",
            "a smaller `slide`",
        ),
        (group("emit = \"changes\"\nemit_rows = 3"), "after each change or now and then", "leave out either"),
        (
            group("time = \"processing\""),
            "nothing in this group has a time",
            "`window`, `session` or `emit_every`",
        ),
        (group("emit_every = \"0s\""), "is at least 1 ms long", "this is less"),
        (changes("coalesce = \"10s\"\nby = \"usr\""), "unknown column `usr`", "did you mean `user`?"),
        (changes("coalesce = \"10s\"\nby = \"change\""), "would have several keys", "another column"),
        (changes("coalesce = \"0s\"\nby = \"user\""), "is at least 1 ms long", "this is less"),
        (step("coalesce = \"10s\"\nby = \"user\""), "no changes to take together", "column `change`"),
        (changes(&format!("call = \"ask\"\n{CALL}")), "mix up the changes", "expected `ordered = true`"),
        (step(&format!("call = \"ask -v\"\n{CALL}")), "no command line", "[\"ask\", \"-v\"]"),
        (step(&format!("call = []\n{CALL}")), "no program to call", "then its arguments"),
        (
            step("call = \"ask\"\nby = \"user\"\ncolumns = \"error\""),
            "is no column of a call",
            "another name",
        ),
        (step("call = \"ask\"\nby = \"user\"\ncolumns = \"user\""), "two columns would be named", "another"),
        (top(""), "a group has no `aggregate`", "or `top` and `by`"),
        (top("top = 3"), "top rows by what?", "expected `by"),
        (top("top = 3\nby = \"usr\""), "unknown column `usr`", "did you mean `user`?"),
        (top("top = 3\nby = \"time up\""), "expected `asc`, `desc` or the end", "found `up`"),
        (
            top("top = 3\nby = \"time\"\naggregate = \"count\""),
            "aggregates or keeps its top rows",
            "leave out one",
        ),
        (group("by = \"time\""), "`by` is for `top` rows", "expected `top` beside it"),
        (one("keep = \"newest\""), "unknown value of `keep`", "expected `first` or `last`"),
        (one("keep = \"last\"\nttl = \"1d\""), "must not be forgotten before", "or emit \"changes\""),
        (one("ttl = \"0s\""), "a time-to-live is at least 1 ms long", "this is less"),
        (join("between = [\"1h\", \"0s\"]"), "no row is between these times", "the lesser time first"),
        (join("between = \"1h\""), "expected two times", "this is a string"),
        (join("between = [\"1h\", \"1 parsec\"]"), "expected a duration", "unknown time unit"),
        (
            join("between = [\"0s\", \"1h\"]\nwindow = \"1m\""),
            "a join is of one kind",
            "either `between` or `window`",
        ),
        (
            join("between = [\"0s\", \"1h\"]\nttl = \"1m\""),
            "forgets rows by itself",
            "either this or `between`",
        ),
        (join("versioned = true\nkind = \"full\""), "a version has no row of its own", "`inner` or `left`"),
        (join("slide = \"1m\""), "`slide` is for windows", "expected `window"),
        (join("window = \"10 rows\""), "rows of two inputs have no order", "expected windows of time"),
        (join("kind = \"outer\""), "unknown value of `kind`", "expected `inner`, `left`, `right` or `full`"),
        (
            job("[[step]]\njoin = [\"orders\", \"payments\"]\non = \"id\""),
            "both `orders` and `payments` have a column `user`",
            "`project = [\"paid\", \"id\", \"cents\", \"user as payments_user\"]`",
        ),
        (
            job("[[step]]\njoin = [\"orders\", \"payments\"]\non = \"user = cents\""),
            "text and int are never equal",
            "cast(",
        ),
        (
            job("[[step]]\njoin = [\"orders\", \"payments\"]\non = \"id = order\""),
            "unknown column `order` of `payments`",
            "expected `paid`",
        ),
        (
            job("[[step]]\njoin = [\"orders\", \"payments\"]\non = \"user\"\nkind = \"right\""),
            "the key `user` of `payments` may be missing",
            "coalesce(user",
        ),
        (job("[[step]]\njoin = \"orders\"\non = \"id\""), "a join is of two inputs", "expected two names"),
        (
            job("[[step]]\njoin = [\"orders\", \"paiments\"]\non = \"id\""),
            "unknown source or step",
            "`payments`?",
        ),
        (
            job("[[step]]\nunion = [\"orders\", \"payments\"]"),
            "`payments` has a column `paid`",
            "with `project`",
        ),
        (job("[[step]]\nunion = [\"orders\"]"), "a union is of several", "expected at least two"),
    ];
    for (text, message, place) in cases {
        let report = parse(&text, &[]).map(drop).expect_err(&text);
        assert!(report.contains(message) && report.contains(place), "{text}\n{report}");
    }
}

#[test]
fn every_report_of_a_mistake_in_names_says_what_to_do() {
    let sinks = "[[sink]]\nname = \"a\"\nfrom = \"orders\"\ntype = \"discard\"\n\
         [[sink]]\nname = \"b\"\nfrom = \"payments\"\ntype = \"discard\"\n";
    let all = |steps: &str| job(&format!("{steps}{sinks}"));
    let take = |step: &str| format!("[[step]]\n{step}\n[[sink]]\nname = \"c\"\ntype = \"discard\"\n");
    let files = |path: &str| format!("type = \"csv\"\npath = \"{path}\"");
    let cases = [
        (
            job(""),
            "this sink does not say which source it reads",
            "expected `from = \"…\"`: `orders` or `payments`",
        ),
        (all(&take("filter = \"id > 1\"")), "this step does not say which source it reads", "`from"),
        (
            all(&take("from = \"ordres\"\nfilter = \"id > 1\"")),
            "unknown source or step `ordres`",
            "`orders`?",
        ),
        (
            all(&(take("from = \"late\"\nfilter = \"id > 1\"")
                + "[[step]]\nname = \"late\"\nfrom = \"orders\"\nfilter = \"id > 1\"\n")),
            "the step `late` comes later",
            "move this step below it",
        ),
        (
            all("[[step]]\nfrom = \"orders\"\nfilter = \"id > 1\"\n"),
            "nothing takes the rows of this step",
            "give it a `name`",
        ),
        (
            all("[[step]]\nname = \"few\"\nfrom = \"orders\"\nfilter = \"id > 1\"\n"),
            "nothing takes the rows of the step `few`",
            "or no such step",
        ),
        (
            job("[[step]]\nfrom = \"orders\"\nfilter = \"id > 1\""),
            "nothing takes the rows of the source `payments`",
            "or no such source",
        ),
        (
            all(&take("name = \"orders\"\nfrom = \"orders\"\nfilter = \"id > 1\"")),
            "two sources or steps are named",
            "second",
        ),
        (
            all(&take("name = \"payments\"\nfrom = \"orders\"\nkey_by = \"id\"\naggregate = \"count\"")),
            "two sources or steps have the id \"payments\"",
            "expected `id",
        ),
        (
            all(&take("name = \"sink\"\nfrom = \"orders\"\nkey_by = \"id\"\naggregate = \"count\"")),
            "the id \"sink\" is taken",
            "another one",
        ),
        (
            job("[[sink]]\nfrom = \"orders\"\ntype = \"discard\"\n\
                 [[sink]]\nname = \"b\"\nfrom = \"payments\"\ntype = \"discard\""),
            "a sink among several needs a name",
            "expected a key `name`",
        ),
        (all("").replace("name = \"b\"", "name = \"a\""), "two sinks are named `a`", "this is the second"),
        (
            all("").replace("name = \"b\"", "name = \"orders\""),
            "a sink and a source or step have the id",
            "another name",
        ),
        (
            all("").replace("type = \"discard\"", &files("out")),
            "the results of two sinks would mix",
            "no other sink has",
        ),
        (
            all("").replace("type = \"discard\"", &files("orders")),
            "the job would read its own results",
            "not the path",
        ),
        (
            job("").replacen("name = \"orders\"\n", "", 1),
            "a source among several needs a name",
            "expected a key `name`",
        ),
        (job("").replace("payments", "orders"), "two sources are named `orders`", "this is the second"),
        (
            all("")
                .replace("event_time", "on_bad_record = \"dead-letter\"\ndead_letters = \"bad\"\nevent_time"),
            "the dead letters of two sources would mix",
            "no other source has",
        ),
        (
            all("")
                .replace("path = \"orders\"", "path = \"-\"")
                .replace("path = \"payments\"", "path = \"-\""),
            "two sources would read one stream",
            "one source only",
        ),
        (
            all(&(take("from = \"orders\"\nkey_by = \"user\"\nwindow = \"1m\"\naggregate = \"count\"")
                + "[late]\nname = \"x\"\ntype = \"discard\"\n")),
            "`name` is for [sink]",
            "leave this out",
        ),
        (
            all(&(take("from = \"orders\"\nkey_by = \"user\"\nwindow = \"2 rows\"\naggregate = \"count\"")
                + "[late]\ntype = \"discard\"\n")),
            "a sink for late rows needs one step with a window",
            "0 steps",
        ),
        (
            all(&take(
                "from = \"orders\"\ndeduplicate = \"id\"\nemit = \"changes\"\n\
                 [[step]]\nkey_by = \"user\"\naggregate = \"count\"",
            )),
            "changes of a result",
            "leave the column `change` out",
        ),
        (
            all(&take(
                "name = \"d\"\nfrom = \"orders\"\ndeduplicate = \"id\"\nemit = \"changes\"\n\
                 [[step]]\njoin = [\"d\", \"orders\"]\non = \"id\"\nwindow = \"1m\"",
            )),
            "the rows of `d` are changes of a result",
            "only a join of all rows takes changes",
        ),
        (
            all(&take(
                "name = \"d\"\nfrom = \"orders\"\ndeduplicate = \"id\"\nkeep = \"last\"\n\
                 [[step]]\nkey_by = \"id\"\nwindow = \"1m\"\naggregate = \"count\"",
            )),
            "a window needs event times",
            "no earlier step that emits at the end",
        ),
    ];
    for (text, message, place) in cases {
        let report = parse(&text, &[]).map(drop).expect_err(&text);
        assert!(report.contains(message) && report.contains(place), "{text}\n{report}");
    }
}
