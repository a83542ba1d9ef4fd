use proptest::prelude::*;
use strandline_connectors::{Column, TimeFormat};

use super::super::columns::Columns;
use super::super::problem::Location;
use super::super::scope::Scope;
use super::super::tree::{Node, TreeValue};
use super::*;

fn columns() -> Columns {
    let known = vec![
        Column::new("i", ColumnType::Int).nullable(),
        Column::new("u", ColumnType::UInt),
        Column::new("f", ColumnType::Float),
        Column::new("t", ColumnType::Text).nullable(),
        Column::new("b", ColumnType::Bool),
        Column::new("at", ColumnType::Timestamp),
    ];
    Columns { known, others: false }
}

fn moment(text: &str) -> Value {
    Value::Timestamp(TimeFormat::default().parse(text).unwrap())
}

fn row(i: Value, t: Value) -> Row {
    let at = moment("2026-03-29T01:30:45.678Z");
    [i, Value::UInt(7), Value::Float(2.5), t, Value::Bool(true), at].into_iter().collect()
}

fn node(text: &str) -> Node {
    Node::new(Location { document: 0, span: 0..text.len() }, TreeValue::Text(text.into()))
}

fn computed(text: &str) -> Result<Computed, String> {
    let columns = columns();
    let text = format!("{text} as x");
    parse_computed(&node(&text), &text, &Scope::new(&columns)).map_err(|problem| problem.message)
}

/// The type and the value for a row with `i` 5 and `t` 'Ab c', or the fault.
fn value(text: &str) -> String {
    value_of(text, &row(Value::Int(5), Value::text("Ab c")))
}

fn value_of(text: &str, row: &Row) -> String {
    let Computed { expression, column } = computed(text).unwrap_or_else(|wrong| panic!("{text}: {wrong}"));
    match expression.value(row) {
        Ok(value) => {
            let kind = match *value {
                Value::Null => None,
                Value::Bool(_) => Some(ColumnType::Bool),
                Value::Int(_) => Some(ColumnType::Int),
                Value::UInt(_) => Some(ColumnType::UInt),
                Value::Float(_) => Some(ColumnType::Float),
                Value::Text(_) => Some(ColumnType::Text),
                Value::Timestamp(_) => Some(ColumnType::Timestamp),
            };
            assert!(
                kind.is_none_or(|kind| kind == column.kind),
                "{text}: {kind:?} in a {} column",
                column.kind
            );
            assert!(kind.is_some() || column.nullable, "{text}: null in a column that is never null");
            format!("{} {value}", column.kind)
        }
        Err(fault) => {
            assert!(expression.may_fail(), "{text} is not known to fail");
            format!("{} {fault}", fault.column().unwrap_or("-"))
        }
    }
}

#[test]
fn arithmetic_has_the_types_of_its_operands() {
    for (text, wanted) in [
        ("i + 2 * 3 - 1", "int 10"),
        ("(i + 2) * 3", "int 21"),
        ("i-1", "int 4"),
        ("-i - -2", "int -3"),
        ("7 / 2", "int 3"),
        ("-7 / 2", "int -3"),
        ("-7 % 3", "int -1"),
        ("u + 1", "uint 8"),
        ("u - 8 + i", "u `u - 8` failed: 7 - 8 is no uint of 64 bits"),
        ("u - i", "int 2"),
        ("i / f", "float 2"),
        ("f * 2", "float 5"),
        ("1e3 + 0.5", "float 1000.5"),
        (
            "9223372036854775807 + i",
            "i `9223372036854775807 + i` failed: 9223372036854775807 + 5 is no int of 64 bits",
        ),
        ("-9223372036854775808 - 0", "int -9223372036854775808"),
        (
            "u * 18446744073709551615",
            "u `u * 18446744073709551615` failed: 7 * 18446744073709551615 is no uint of 64 bits",
        ),
        ("100 / (i - 5)", "i `100 / (i - 5)` failed: 100 is divided by zero"),
        ("f / 0", "f `f / 0` failed: 2.5 is divided by zero"),
        ("i % 0", "i `i % 0` failed: 5 is divided by zero"),
        ("f * 1e307 * 10", "f `f * 1e307 * 10` failed: 2"),
        ("-u", "int -7"),
        ("i + null", "int null"),
    ] {
        assert!(value(text).starts_with(wanted), "{text}: {}", value(text));
    }
}

#[test]
fn functions_follow_sql() {
    for (text, wanted) in [
        ("lower(t) || '-' || upper(t)", "text ab c-AB C"),
        ("trim('  x ')", "text x"),
        ("ltrim('  x ') || rtrim(' y ')", "text x  y"),
        ("length('äöü')", "int 3"),
        ("substring(t, 2)", "text b c"),
        ("substring('äöü', 2, 1)", "text ö"),
        ("substring(t, -1, 3)", "text A"),
        ("substring(t, 2, 0)", "text "),
        ("substring(t, 9)", "text "),
        ("contains(t, 'b ')", "bool true"),
        ("starts_with(t, 'b') or ends_with(t, 'c')", "bool true"),
        ("replace(t, ' ', '__')", "text Ab__c"),
        ("replace(t, '', 'x')", "text Ab c"),
        ("concat(t, i, f, b)", "text Ab c52.5true"),
        ("coalesce(null, i, 3)", "int 5"),
        ("if(i > 3, 'big', 'small')", "text big"),
        ("nullif(i, 5)", "int null"),
        ("nullif(i, 6)", "int 5"),
        ("abs(-i)", "int 5"),
        ("abs(-9223372036854775808)", "- `abs(-9223372036854775808)` failed: 9223372036854775808 is no int"),
        ("round(f)", "float 3"),
        ("round(-2.5)", "float -3"),
        ("round(1.2345, 2)", "float 1.23"),
        ("round(1250, -2)", "int 1300"),
        ("round(-1250, -2)", "int -1300"),
        ("round(1249, -2)", "int 1200"),
        ("round(9223372036854775807, -1)", "- `round"),
        ("floor(-f)", "float -3"),
        ("ceil(-f)", "float -2"),
        ("floor(u)", "uint 7"),
        ("cast('12' as int) + 1", "int 13"),
        ("cast(t as int)", "t `cast(t as int)` failed: \"Ab c\" is no int"),
        ("try_cast(t as int)", "int null"),
        ("cast(-1 as uint)", "- `cast(-1 as uint)` failed: -1 is no uint"),
        ("cast(-f as int)", "int -2"),
        ("cast(1e300 as int)", "- `cast(1e300 as int)` failed"),
        ("cast(b as int)", "int 1"),
        ("cast(at as text)", "text 2026-03-29T01:30:45.678Z"),
        ("cast('2026-01-02' as timestamp)", "timestamp 2026-01-02T00:00:00Z"),
        ("i in (1, null, 5)", "bool true"),
        ("i in (1, null)", "bool null"),
        ("i not in (1, 2)", "bool true"),
        ("i between 5 and 6", "bool true"),
        ("i not between 5 and 6", "bool false"),
    ] {
        assert!(value(text).starts_with(wanted), "{text}: {}", value(text));
    }
}

#[test]
fn times_are_cut_and_taken_apart_in_their_zone() {
    // In Berlin clocks go from 02:00 to 03:00 at 01:00 in UTC.
    for (text, wanted) in [
        ("truncate('hour', at)", "timestamp 2026-03-29T01:00:00Z"),
        ("date_trunc('day', at)", "timestamp 2026-03-29T00:00:00Z"),
        ("truncate('day', at, 'Europe/Berlin')", "timestamp 2026-03-28T23:00:00Z"),
        ("truncate('hour', at, 'Asia/Kolkata')", "timestamp 2026-03-29T01:30:00Z"),
        ("truncate('week', at)", "timestamp 2026-03-23T00:00:00Z"),
        ("truncate('month', at)", "timestamp 2026-03-01T00:00:00Z"),
        ("truncate('quarter', at)", "timestamp 2026-01-01T00:00:00Z"),
        ("truncate('year', at)", "timestamp 2026-01-01T00:00:00Z"),
        ("truncate('second', at)", "timestamp 2026-03-29T01:30:45Z"),
        ("extract(hour from at)", "int 1"),
        ("extract('hour', at, 'Europe/Berlin')", "int 3"),
        ("extract('day_of_week', at)", "int 7"),
        ("extract('week', at)", "int 13"),
        ("extract(millisecond from at)", "int 678"),
        ("epoch_ms(at) % 1000", "int 678"),
        ("epoch_s(from_epoch_ms(-1))", "int -1"),
        ("from_epoch_s(0)", "timestamp 1970-01-01T00:00:00Z"),
        (
            "from_epoch_s(99999999999999)",
            "- `from_epoch_s(99999999999999)` failed: 99999999999999 is out of the range",
        ),
        ("parse_timestamp('02.01.2026', '%d.%m.%Y')", "timestamp 2026-01-02T00:00:00Z"),
        ("parse_timestamp(t)", "t `parse_timestamp(t)` failed: expected a timestamp as ISO 8601"),
        ("format_timestamp(at, '%H:%M', 'Europe/Berlin')", "text 03:30"),
        ("at > '2026-01-01' and '2026-04-01' > at", "bool true"),
        ("at in ('2026-01-01', '2026-03-29T01:30:45.678Z')", "bool true"),
    ] {
        assert!(value(text).starts_with(wanted), "{text}: {}", value(text));
    }
}

#[test]
fn null_is_not_known() {
    let null = || row(Value::Null, Value::Null);
    for (text, wanted) in [
        ("i = 1", "bool null"),
        ("not i = 1", "bool null"),
        ("i = 1 or b", "bool true"),
        ("i = 1 and not b", "bool false"),
        ("i = 1 and b", "bool null"),
        ("i is null", "bool true"),
        ("i + 1", "int null"),
        ("-i", "int null"),
        ("lower(t)", "text null"),
        ("t || 'x'", "text null"),
        ("concat('x', t)", "text null"),
        ("substring('abc', i)", "text null"),
        ("cast(t as int)", "int null"),
        ("i in (1)", "bool null"),
        ("if(i = 1, 'a', 'b')", "text b"),
        ("coalesce(t, 'none')", "text none"),
        ("i / 0", "int null"),
    ] {
        assert_eq!(value_of(text, &null()), wanted, "{text}");
    }
}

#[test]
fn a_condition_that_is_decided_leaves_the_rest_out() {
    let parsed = |text: &str| {
        let columns = columns();
        parse(&node(text), text, &Scope::new(&columns)).unwrap()
    };
    let zero = row(Value::Int(0), Value::Null);
    assert_eq!(parsed("i <> 0 and 10 / i > 1").holds(&zero), Ok(false));
    assert_eq!(parsed("i = 0 or 10 / i > 1").holds(&zero), Ok(true));
    assert!(parsed("10 / i > 1 and i <> 0").holds(&zero).is_err());
    let nan: Row = [Value::Null, Value::UInt(0), Value::Float(f64::NAN)].into_iter().collect();
    assert_eq!((parsed("f = f").holds(&nan), parsed("f <> f").holds(&nan)), (Ok(false), Ok(true)));
}

#[test]
fn what_does_not_fit_is_found_before_the_job_runs() {
    for (text, part) in [
        ("i + t", "there is no `+` of text values"),
        ("at - at", "there is no `-` of timestamp values"),
        ("-t", "text values have no sign"),
        ("lower(i)", "`lower` needs text here, and this is int"),
        ("lowr(t)", "unknown function `lowr`"),
        ("lower(t, t)", "expected `lower(text)`, found 2 arguments"),
        ("coalesce(i, t)", "the values of `coalesce` are of one type: int before, and this is text"),
        ("if(i, 1, 2)", "`if` needs bool here, and this is int"),
        ("truncate('fortnight', at)", "a time has no part \"fortnight\""),
        ("truncate('day_of_week', at)", "a time has no part"),
        ("truncate('day', at, 'Mars')", "the time zone \"Mars\" is not known"),
        ("truncate(t, at)", "needs a 'text' here that is the same for all rows"),
        ("cast(i as date)", "unknown type `date`"),
        ("cast(at as int)", "timestamp values cannot be cast to int"),
        ("cast(i as bool)", "int values cannot be cast to bool"),
        ("at > 'soon'", "this text is no timestamp"),
        ("i in ('a')", "int and text cannot be compared"),
        ("i in 1", "expected `(` and a list of values"),
        ("i not 1", "expected `in` or `between`"),
        ("i and b", "expected a comparison"),
        ("not i", "expected a comparison"),
        ("1x", "`1x` is no number"),
        ("null", "of no type"),
        ("substring(t, 'a')", "needs an integer here"),
        ("parse_timestamp(t, 'soon')", "is no format of time"),
    ] {
        let error = computed(text).map(|_| ()).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

fn number() -> impl Strategy<Value = Value> {
    let edges = [i64::MIN, -1, 0, 1, i64::MAX];
    prop_oneof![
        any::<i64>().prop_map(Value::Int),
        proptest::sample::select(edges.to_vec()).prop_map(Value::Int),
        any::<u64>().prop_map(Value::UInt),
        Just(Value::UInt(u64::MAX)),
    ]
}

proptest! {
    #[test]
    fn integers_are_exact_or_a_fault(a in number(), b in number(), operator in 0usize..5) {
        let operators = [
            Arithmetic::Add, Arithmetic::Subtract, Arithmetic::Multiply, Arithmetic::Divide, Arithmetic::Remainder,
        ];
        let both = matches!((&a, &b), (Value::UInt(_), Value::UInt(_)));
        let kind = if both { ColumnType::UInt } else { ColumnType::Int };
        let (x, y) = (integer(&a).unwrap(), integer(&b).unwrap());
        let exact = match operator {
            0 => Some(x + y),
            1 => Some(x - y),
            2 => x.checked_mul(y),
            3 => x.checked_div(y),
            _ => x.checked_rem(y),
        };
        let wanted = exact.and_then(|exact| arithmetic::as_kind(exact, kind));
        prop_assert_eq!(operators[operator].apply(&a, &b, kind).ok(), wanted);
    }

    #[test]
    fn a_value_comes_back_from_its_text(value in number(), float: f64, nanos: i64) {
        let float = Value::Float(float);
        let moment = Value::Timestamp(strandline_connectors::Moment::from_nanos(nanos.into()).unwrap());
        for (value, kind) in [
            (value.clone(), if matches!(value, Value::Int(_)) { ColumnType::Int } else { ColumnType::UInt }),
            (float, ColumnType::Float),
            (moment, ColumnType::Timestamp),
        ] {
            let text = cast::cast(&value, ColumnType::Text).unwrap();
            let back = cast::cast(&text, kind).unwrap();
            prop_assert!(back == value || value.as_float().is_some_and(f64::is_nan), "{} {}", value, back);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[-+*/%()<>=',.0-9a-z |]{0,40}") {
        let columns = columns();
        let _ = parse(&node(&text), &text, &Scope::new(&columns));
    }
}
