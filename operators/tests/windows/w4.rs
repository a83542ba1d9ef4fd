//! The windows of a shared workload whose result is known from another engine.

use std::fmt::Write as _;
use std::io::Read as _;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use strandline_backend_memory::MemoryBackendFactory;
use strandline_operators::Fold;
use strandline_operators::window::{TimeWindows, WindowOutput, Windows};
use strandline_state_api::{Result, TimeWindow};
use strandline_state_testing::Harness;

/// Of the rows that Flink 2.3.0 computes from the same events.
const DIGEST: &str = "eb20764aed84b2d0ddc929129cfbdabb626093561e646d875b6589afc52be2ee";

/// One row of the events: key, time in ms, value.
type Event = (String, i64, i64);

fn rows<W>(name: &str, windows: &W, events: &[Event]) -> Result<Vec<String>>
where
    W: Windows<i64, Window = TimeWindow>,
{
    let count_and_sum = Fold::new(
        (0u64, 0i64),
        |(count, sum): &mut (u64, i64), value: i64| {
            *count += 1;
            *sum += value;
        },
        |into, other| {
            into.0 += other.0;
            into.1 += other.1;
        },
    );
    let mut harness = Harness::new(MemoryBackendFactory::default(), name, |ctx| {
        windows.open::<String, _, _>(&count_and_sum, ctx)
    })?;
    let mut greatest = i64::MIN;
    for (key, time, value) in events {
        harness.process(key.as_str(), *value, *time)?;
        greatest = greatest.max(*time);
        harness.watermark(greatest - 5_000 - 1)?;
    }
    harness.end()?;
    assert_eq!(harness.entries(), 0);
    let mut rows = Vec::new();
    for (output, time) in harness.take_output() {
        rows.push(match output {
            WindowOutput::Result(result) => {
                let (TimeWindow { start, end }, (count, sum)) = (result.window, result.value);
                format!("{name},{},{start},{end},{count},{sum}", result.key)
            }
            WindowOutput::Late(late) => {
                format!("{name}-late,{},{},,1,{}", late.key, time.unwrap(), late.record)
            }
        });
    }
    Ok(rows)
}

#[test]
#[ignore = "needs the events of the shared workload W4: STRANDLINE_W4=path/of/events.csv.gz"]
fn the_windows_of_w4_are_those_of_flink() {
    let path = std::env::var("STRANDLINE_W4").expect("STRANDLINE_W4 is the path of events.csv.gz");
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    let events: Vec<Event> = text
        .lines()
        .map(|line| {
            let [key, time, value] = line.split(',').collect::<Vec<_>>()[..] else { panic!("{line}") };
            (key.to_owned(), time.parse().unwrap(), value.parse().unwrap())
        })
        .collect();
    assert_eq!(events.len(), 200_000);
    let tumbling = TimeWindows::tumbling(Duration::from_secs(60)).emit_late();
    let session = TimeWindows::session(Duration::from_secs(10)).emit_late();
    let mut all = rows("tumbling", &tumbling, &events).unwrap();
    all.extend(rows("session", &session, &events).unwrap());
    assert_eq!(all.len(), 115_482);
    assert_eq!(all.iter().filter(|row| row.contains("-late,")).count(), 8_422);
    all.sort();
    let csv = format!("window,key,start,end,count,sum\n{}\n", all.join("\n"));
    let digest = Sha256::digest(csv.as_bytes()).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    });
    assert_eq!(digest, DIGEST);
}
