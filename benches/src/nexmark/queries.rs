//! The queries as pipelines.

use std::cmp::{Ordering, Reverse};
use std::time::Duration;

use nexmark::event::{Auction, Bid, Event};
use serde::Serialize;
use serde::de::DeserializeOwned;
use strandline::connectors::DiscardSink;
use strandline::operators::join::{IntervalJoin, JoinKind, Joined, RegularJoin};
use strandline::operators::window::TimeWindows;
use strandline::operators::{Change, Deduplicate, Either, Fold, Running, TopN};
use strandline::prelude::*;
use strandline::runtime::Stream;
use strandline::state::backend::BackendFactory;

use super::channels::ChannelStatistics;
use super::rows::{day, digest, digest_of_change, rank};
use super::{Events, Query, Settings};

/// The id of the sink.
pub(super) const SINK: &str = "results";
/// What windows of most queries span.
pub(super) const TEN_SECONDS: Duration = Duration::from_secs(10);
/// How often the windows of [`Query::Q5`] start.
pub(super) const TWO_SECONDS: Duration = Duration::from_secs(2);
/// The category of [`Query::Q3`] and [`Query::Q20`].
pub(super) const CATEGORY: usize = 10;
/// The states of [`Query::Q3`].
pub(super) const STATES: [&str; 3] = ["or", "id", "ca"];
/// No auction is open for so many milliseconds.
pub(super) const LONGEST_AUCTION: u64 = 10_000;

/// Builds the pipeline of a query.
///
/// # Errors
/// None for the queries as they are: those of a pipeline that contradicts itself come with its run.
pub fn pipeline<F: BackendFactory>(query: Query, factory: F, settings: Settings) -> Result<Pipeline<F>> {
    let pipeline = Pipeline::new(query.to_string(), factory);
    let events = pipeline
        .source("events", Events::new(settings.events))
        .timestamps(Duration::ZERO, |event| Timestamp::from_millis(event.timestamp().cast_signed()));
    let to = Results { checked: settings.checked };
    match query {
        Query::Q0 => {
            to.rows(bids(events).map(|bid| (bid.auction, bid.bidder, bid.price, bid.date_time, bid.extra)));
        }
        Query::Q1 => to.rows(
            bids(events)
                .map(|bid| (bid.auction, bid.bidder, bid.price as f64 * 0.908, bid.date_time, bid.extra)),
        ),
        Query::Q3 => to.changes(local_sellers(events)),
        Query::Q4 => to.changes(averages_of_categories(events)),
        Query::Q5 => to.rows(hottest_auctions(events)),
        Query::Q7 => to.rows(highest_bids(events)),
        Query::Q8 => to.rows(new_sellers(events)),
        Query::Q9 => to.changes(winning_bids(events)),
        Query::Q11 => to.rows(
            bids(events)
                .key_by(|bid| (bid.bidder as u64, ()))
                .window(TimeWindows::session(TEN_SECONDS))
                .count("sessions")
                .map(|session| (session.key, session.value, session.window.start, session.window.end)),
        ),
        Query::Q12 => to.counts(
            bids(events)
                .key_by(|bid| (bid.bidder as u64, ()))
                .window(TimeWindows::tumbling(TEN_SECONDS).in_processing_time())
                .count("bids")
                .map(|window| (window.key, window.value)),
        ),
        Query::Q16 => to.changes(
            bids(events)
                .key_by(|bid| ((bid.channel.clone(), day(bid.date_time)), bid))
                .process("statistics", ChannelStatistics::open),
        ),
        Query::Q17 => to.changes(statistics_of_auctions(events)),
        Query::Q18 => to.changes(
            bids(events)
                .key_by(|bid| ((bid.bidder as u64, bid.auction as u64), bid))
                .deduplicate("last", Deduplicate::last())
                // Of bids with one time the last to arrive counts, which depends on the parallelism.
                .map(|change| change.map(|(key, bid)| (key, bid.date_time))),
        ),
        Query::Q19 => to.changes(
            bids(events)
                .key_by(|bid| (bid.auction as u64, bid))
                .top_n("ten", TopN::new(10, in_order))
                .map(|change| change.map(|(_, bid)| bid_row(&bid))),
        ),
        Query::Q20 => to.changes(bids_of_a_category(events)),
    }
    Ok(pipeline)
}

/// Where results go.
#[derive(Clone, Copy, Debug)]
struct Results {
    checked: bool,
}

impl Results {
    fn rows<F: BackendFactory, T>(self, rows: Stream<F, T>)
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        self.write(rows, digest);
    }

    fn changes<F: BackendFactory, T>(self, changes: Stream<F, Change<T>>)
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        self.write(changes, digest_of_change);
    }

    /// Keys and counts, of which only the sums for each key are known.
    fn counts<F: BackendFactory>(self, counts: Stream<F, (u64, u64)>) {
        self.write(counts, |(key, count)| digest(key).wrapping_mul(*count));
    }

    fn write<F: BackendFactory, T: Send + 'static>(self, results: Stream<F, T>, digest: fn(&T) -> u64) {
        let sink = if self.checked { DiscardSink::with_checksum(digest) } else { DiscardSink::new() };
        results.sink(SINK, sink);
    }
}

fn bids<F: BackendFactory>(events: Stream<F, Event>) -> Stream<F, Bid> {
    events.flat_map(|event, out| {
        if let Event::Bid(bid) = event {
            out.emit(bid);
        }
    })
}

/// [`Query::Q3`].
fn local_sellers<F: BackendFactory>(
    events: Stream<F, Event>,
) -> Stream<F, Change<(String, String, String, usize)>> {
    events
        .flat_map(|event, out| match event {
            Event::Person(person) if STATES.contains(&person.state.as_str()) => {
                let row = (person.name, person.city, person.state);
                out.emit((person.id as u64, Either::Left(Change::Insert(row))));
            }
            Event::Auction(auction) if auction.category == CATEGORY => {
                out.emit((auction.seller as u64, Either::Right(Change::Insert(auction.id))));
            }
            _ => {}
        })
        .key_by(|record| record)
        .regular_join("sellers", RegularJoin::new(JoinKind::Inner))
        .flat_map(|change, out| {
            if let Some(change) = both(change.map(|(_, row)| row)) {
                out.emit(change.map(|((name, city, state), auction)| (name, city, state, auction)));
            }
        })
}

/// The row of an inner join.
fn both<L, R>(change: Change<Joined<L, R>>) -> Option<Change<(L, R)>> {
    let of = |joined| match joined {
        Joined::Both(left, right) => Some((left, right)),
        Joined::Left(_) | Joined::Right(_) => None,
    };
    Some(match change {
        Change::Insert(joined) => Change::Insert(of(joined)?),
        Change::UpdateBefore(joined) => Change::UpdateBefore(of(joined)?),
        Change::UpdateAfter(joined) => Change::UpdateAfter(of(joined)?),
        Change::Delete(joined) => Change::Delete(of(joined)?),
    })
}

/// Each auction with each bid that came in time, by the number of the auction. `auction` and `bid` return what is
/// wanted of them, behind the end of the auction and the time of the bid.
fn bids_in_time<F, A, B>(
    events: Stream<F, Event>,
    auction: fn(Auction) -> (u64, A),
    bid: fn(Bid) -> (u64, B),
) -> Stream<F, (u64, A, B)>
where
    F: BackendFactory,
    A: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    B: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let join = IntervalJoin::between(0, LONGEST_AUCTION.cast_signed());
    events
        .flat_map(move |event, out| match event {
            Event::Auction(of) => out.emit((of.id as u64, Either::Left(auction(of)))),
            Event::Bid(of) => out.emit((of.auction as u64, Either::Right(bid(of)))),
            Event::Person(_) => {}
        })
        .key_by(|record| record)
        .interval_join("bids-in-time", join.on(|(end, _): &(u64, A), (time, _): &(u64, B)| time <= end))
        .flat_map(|(id, joined), out| {
            if let Joined::Both((_, auction), (_, bid)) = joined {
                out.emit((id, auction, bid));
            }
        })
}

/// [`Query::Q4`].
fn averages_of_categories<F: BackendFactory>(
    events: Stream<F, Event>,
) -> Stream<F, Change<(u64, Option<u64>)>> {
    bids_in_time(
        events,
        |auction| (auction.expires, auction.category as u64),
        |bid| (bid.date_time, bid.price as u64),
    )
    .key_by(|(id, category, price)| (id, (category, price)))
    .reduce("highest", |highest, bid| *highest = bid.max(*highest))
    .key_by(|change| (change.row().1.0, change.map(|(_, (_, price))| price)))
    .running("averages", Running::new(AverageOfChanges))
}

/// The average of numbers that come and go.
#[derive(Clone, Copy, Debug)]
struct AverageOfChanges;

impl AggregateFunction for AverageOfChanges {
    type In = Change<u64>;
    type Accumulator = (u64, u64);
    type Out = Option<u64>;

    fn create(&self) -> (u64, u64) {
        (0, 0)
    }

    fn add(&self, (sum, count): &mut (u64, u64), change: Change<u64>) {
        if change.is_addition() {
            (*sum, *count) = (*sum + change.row(), *count + 1);
        } else {
            (*sum, *count) = (*sum - change.row(), *count - 1);
        }
    }

    fn result(&self, (sum, count): &(u64, u64)) -> Option<u64> {
        sum.checked_div(*count)
    }

    fn merge(&self, (sum, count): &mut (u64, u64), other: (u64, u64)) {
        (*sum, *count) = (*sum + other.0, *count + other.1);
    }
}

/// Keeps the rows with the greatest score, all of them where several have it.
fn keep_greatest<S: Ord, T>(kept: &mut Vec<(S, T)>, row: (S, T)) {
    match kept.first().map_or(Ordering::Greater, |(score, _)| row.0.cmp(score)) {
        Ordering::Less => {}
        Ordering::Equal => kept.push(row),
        Ordering::Greater => *kept = vec![row],
    }
}

fn keep_greatest_of<S: Ord, T>(kept: &mut Vec<(S, T)>, others: Vec<(S, T)>) {
    others.into_iter().for_each(|row| keep_greatest(kept, row));
}

/// [`Query::Q5`]. The results of windows that end together meet in the window that ends with them.
fn hottest_auctions<F: BackendFactory>(events: Stream<F, Event>) -> Stream<F, (i64, u64, u64)> {
    bids(events)
        .key_by(|bid| (bid.auction as u64, ()))
        .window(TimeWindows::sliding(TEN_SECONDS, TWO_SECONDS))
        .count("bids")
        .key_by(|count| (count.window.start, (count.value, count.key)))
        .window(TimeWindows::tumbling(TWO_SECONDS))
        .aggregate("hottest", Fold::new(Vec::new(), keep_greatest, keep_greatest_of))
        .flat_map(|hottest, out| {
            let start = hottest.key;
            hottest.value.into_iter().for_each(|(count, auction)| out.emit((start, auction, count)));
        })
}

/// [`Query::Q7`], in two steps, so that no subtask sees all bids.
fn highest_bids<F: BackendFactory>(events: Stream<F, Event>) -> Stream<F, (i64, usize, BidRow)> {
    const SHARES: usize = 64;
    let highest = || Fold::new(Vec::new(), keep_greatest, keep_greatest_of);
    bids(events)
        .key_by(|bid| ((bid.bidder % SHARES) as u64, (bid.price, bid_row(&bid))))
        .window(TimeWindows::tumbling(TEN_SECONDS))
        .aggregate("highest-of-a-share", highest())
        .flat_map(|share, out| {
            let start = share.window.start;
            share.value.into_iter().for_each(|bid| out.emit((start, bid)));
        })
        .key_by(|share| share)
        .window(TimeWindows::tumbling(TEN_SECONDS))
        .aggregate("highest", highest())
        .flat_map(|highest, out| {
            let start = highest.key;
            highest.value.into_iter().for_each(|(price, bid)| out.emit((start, price, bid)));
        })
}

/// [`Query::Q8`].
fn new_sellers<F: BackendFactory>(events: Stream<F, Event>) -> Stream<F, (u64, String, i64)> {
    /// The name of a person who came, and whether there are auctions.
    type Seen = (Option<String>, bool);
    let add = |seen: &mut Seen, event| match event {
        Either::Left(name) => seen.0 = Some(name),
        Either::Right(()) => seen.1 = true,
    };
    let merge = |seen: &mut Seen, other: Seen| *seen = (seen.0.take().or(other.0), seen.1 | other.1);
    events
        .flat_map(|event, out| match event {
            Event::Person(person) => out.emit((person.id as u64, Either::Left(person.name))),
            Event::Auction(auction) => out.emit((auction.seller as u64, Either::Right(()))),
            Event::Bid(_) => {}
        })
        .key_by(|record| record)
        .window(TimeWindows::tumbling(TEN_SECONDS))
        .aggregate("sellers", Fold::new((None, false), add, merge))
        .flat_map(|seen, out| {
            if let (Some(name), true) = seen.value {
                out.emit((seen.key, name, seen.window.start));
            }
        })
}

/// [`Query::Q9`].
fn winning_bids<F: BackendFactory>(events: Stream<F, Event>) -> Stream<F, Change<(Auction, BidRow)>> {
    bids_in_time(events, |auction| (auction.expires, auction), |bid| (bid.date_time, bid))
        .key_by(|(id, auction, bid)| (id, (auction, bid)))
        .top_n("winner", TopN::new(1, |(_, bid): &(Auction, Bid)| in_order(bid)))
        .map(|change| change.map(|(_, (auction, bid))| (auction, bid_row(&bid))))
}

/// The higher bid first, and of those the earlier one.
pub(super) fn in_order(bid: &Bid) -> (usize, Reverse<u64>, usize) {
    (bid.price, Reverse(bid.date_time), bid.bidder)
}

/// What a result shows of a bid: auction, bidder, price, time.
pub(super) type BidRow = (usize, usize, usize, u64);

pub(super) fn bid_row(bid: &Bid) -> BidRow {
    (bid.auction, bid.bidder, bid.price, bid.date_time)
}

/// A row of [`Query::Q17`]: auction and day, bids by [rank](rank), least and greatest price, sum of prices. The
/// average is that of the sum.
pub(super) type AuctionRow = ((u64, u64), ([u64; 3], usize, usize, usize));

/// [`Query::Q17`].
fn statistics_of_auctions<F: BackendFactory>(events: Stream<F, Event>) -> Stream<F, Change<AuctionRow>> {
    type Statistics = ([u64; 3], usize, usize, usize);
    let add = |(ranks, least, greatest, sum): &mut Statistics, price: usize| {
        ranks[rank(price)] += 1;
        (*least, *greatest, *sum) = (price.min(*least), price.max(*greatest), *sum + price);
    };
    let merge = |(ranks, least, greatest, sum): &mut Statistics, other: Statistics| {
        ranks.iter_mut().zip(other.0).for_each(|(of_rank, other)| *of_rank += other);
        (*least, *greatest, *sum) = (other.1.min(*least), other.2.max(*greatest), *sum + other.3);
    };
    bids(events)
        .key_by(|bid| ((bid.auction as u64, day(bid.date_time)), bid.price))
        .running("statistics", Running::new(Fold::new(([0; 3], usize::MAX, 0, 0), add, merge)))
}

/// [`Query::Q20`].
#[expect(clippy::type_complexity, reason = "a row of a join")]
fn bids_of_a_category<F: BackendFactory>(
    events: Stream<F, Event>,
) -> Stream<F, Change<((BidRow, String, String), Auction)>> {
    events
        .flat_map(|event, out| match event {
            Event::Bid(bid) => {
                let row = (bid_row(&bid), bid.channel, bid.url);
                out.emit((bid.auction as u64, Either::Left(Change::Insert(row))));
            }
            Event::Auction(auction) if auction.category == CATEGORY => {
                out.emit((auction.id as u64, Either::Right(Change::Insert(auction))));
            }
            _ => {}
        })
        .key_by(|record| record)
        .regular_join("bids-and-auctions", RegularJoin::new(JoinKind::Inner))
        .flat_map(|change, out| {
            if let Some(change) = both(change.map(|(_, row)| row)) {
                out.emit(change);
            }
        })
}
