//! The results of the queries, computed from all events at once, with nothing but collections.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use nexmark::event::{Auction, Bid, Event};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::channels::Statistics;
use super::queries::{
    BidRow, CATEGORY, LONGEST_AUCTION, STATES, TEN_SECONDS, TWO_SECONDS, bid_row, in_order,
};
use super::rows::{day, digest, rank};
use super::{Events, Query};

/// Returns the digest of the results of `query` over the first `events` events.
pub fn expected(query: Query, events: u64) -> u64 {
    let events: Vec<Event> = Events::new(events).iter().collect();
    let bids =
        || events.iter().filter_map(|event| if let Event::Bid(bid) = event { Some(bid) } else { None });
    let auctions = || {
        events
            .iter()
            .filter_map(|event| if let Event::Auction(auction) = event { Some(auction) } else { None })
    };
    match query {
        Query::Q0 => {
            sum(bids().map(|bid| (bid.auction, bid.bidder, bid.price, bid.date_time, bid.extra.clone())))
        }
        Query::Q1 => sum(bids().map(|bid| {
            (bid.auction, bid.bidder, bid.price as f64 * 0.908, bid.date_time, bid.extra.clone())
        })),
        Query::Q3 => local_sellers(&events),
        Query::Q4 => {
            let mut averages: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
            for (auction, bids) in in_time(auctions(), bids()) {
                if let Some(highest) = bids.iter().map(|bid| bid.price as u64).max() {
                    let (sum, count) = averages.entry(auction.category as u64).or_default();
                    (*sum, *count) = (*sum + highest, *count + 1);
                }
            }
            sum(averages.into_iter().map(|(category, (sum, count))| (category, Some(sum / count))))
        }
        Query::Q5 => {
            let mut counts: BTreeMap<i64, HashMap<u64, u64>> = BTreeMap::new();
            for bid in bids() {
                for window in 0..TEN_SECONDS.as_millis() / TWO_SECONDS.as_millis() {
                    let start =
                        start(bid.date_time, TWO_SECONDS) - window as i64 * TWO_SECONDS.as_millis() as i64;
                    *counts.entry(start).or_default().entry(bid.auction as u64).or_default() += 1;
                }
            }
            sum(counts.into_iter().flat_map(|(start, counts)| {
                let most = counts.values().copied().max();
                let hottest = counts.into_iter().filter(move |(_, count)| Some(*count) == most);
                hottest.map(move |(auction, count)| (start, auction, count))
            }))
        }
        Query::Q7 => {
            let mut windows: BTreeMap<i64, Vec<&Bid>> = BTreeMap::new();
            bids().for_each(|bid| windows.entry(start(bid.date_time, TEN_SECONDS)).or_default().push(bid));
            sum(windows.into_iter().flat_map(|(start, bids)| {
                let highest = bids.iter().map(|bid| bid.price).max();
                let bids = bids.into_iter().filter(move |bid| Some(bid.price) == highest);
                bids.map(move |bid| (start, bid.price, bid_row(bid)))
            }))
        }
        Query::Q8 => new_sellers(&events),
        Query::Q9 => sum(in_time(auctions(), bids()).into_iter().filter_map(|(auction, bids)| {
            let winner = bids.into_iter().max_by_key(|bid| in_order(bid))?;
            Some((auction.clone(), bid_row(winner)))
        })),
        Query::Q11 => {
            let gap = TEN_SECONDS.as_millis() as i64;
            let mut sessions: HashMap<u64, Vec<(u64, i64, i64)>> = HashMap::new();
            for bid in bids() {
                let (of_bidder, time) =
                    (sessions.entry(bid.bidder as u64).or_default(), bid.date_time as i64);
                match of_bidder.last_mut() {
                    Some((count, _, end)) if time <= *end => (*count, *end) = (*count + 1, time + gap),
                    _ => of_bidder.push((1, time, time + gap)),
                }
            }
            sum(sessions.into_iter().flat_map(|(bidder, sessions)| {
                sessions.into_iter().map(move |(count, start, end)| (bidder, count, start, end))
            }))
        }
        Query::Q12 => bids().fold(0, |sum, bid| sum.wrapping_add(digest(&(bid.bidder as u64)))),
        Query::Q16 => statistics_of_channels(bids()),
        Query::Q17 => {
            let mut prices: HashMap<(u64, u64), Vec<usize>> = HashMap::new();
            bids().for_each(|bid| {
                prices.entry((bid.auction as u64, day(bid.date_time))).or_default().push(bid.price);
            });
            sum(prices.into_iter().map(|(key, prices)| {
                let of_rank = |of: usize| prices.iter().filter(|price| rank(**price) == of).count() as u64;
                let (least, greatest) = (prices.iter().min().copied(), prices.iter().max().copied());
                let total: usize = prices.iter().sum();
                (key, ([0, 1, 2].map(of_rank), least.unwrap_or(0), greatest.unwrap_or(0), total))
            }))
        }
        Query::Q18 => {
            let last: HashMap<(u64, u64), u64> =
                bids().map(|bid| ((bid.bidder as u64, bid.auction as u64), bid.date_time)).collect();
            sum(last)
        }
        Query::Q19 => {
            let mut of_auctions: HashMap<usize, Vec<&Bid>> = HashMap::new();
            bids().for_each(|bid| of_auctions.entry(bid.auction).or_default().push(bid));
            sum(of_auctions.into_values().flat_map(|mut bids| {
                bids.sort_by_key(|bid| std::cmp::Reverse(in_order(bid)));
                bids.into_iter().take(10).map(bid_row)
            }))
        }
        Query::Q20 => {
            let of_category = auctions().filter(|auction| auction.category == CATEGORY);
            let of_category: HashMap<usize, &Auction> =
                of_category.map(|auction| (auction.id, auction)).collect();
            sum(bids().filter_map(|bid| {
                let auction = of_category.get(&bid.auction)?;
                Some(((bid_row(bid), bid.channel.clone(), bid.url.clone()), (*auction).clone()))
            }))
        }
    }
}

fn sum<T: Serialize + DeserializeOwned + Send + 'static>(rows: impl IntoIterator<Item = T>) -> u64 {
    rows.into_iter().fold(0, |sum, row| sum.wrapping_add(digest(&row)))
}

/// The start of the window of `size` that an instant is in.
fn start(millis: u64, size: Duration) -> i64 {
    let size = size.as_millis() as u64;
    (millis / size * size) as i64
}

/// Each auction with its bids that came in time.
fn in_time<'a>(
    auctions: impl Iterator<Item = &'a Auction>,
    bids: impl Iterator<Item = &'a Bid>,
) -> Vec<(&'a Auction, Vec<&'a Bid>)> {
    let mut of_auctions: HashMap<usize, (&Auction, Vec<&Bid>)> =
        auctions.map(|auction| (auction.id, (auction, Vec::new()))).collect();
    for bid in bids {
        let Some((auction, bids)) = of_auctions.get_mut(&bid.auction) else { continue };
        assert!(auction.expires - auction.date_time <= LONGEST_AUCTION, "auction {} is too long", auction.id);
        if (auction.date_time..=auction.expires).contains(&bid.date_time) {
            bids.push(bid);
        }
    }
    of_auctions.into_values().collect()
}

fn local_sellers(events: &[Event]) -> u64 {
    let people = events.iter().filter_map(|event| match event {
        Event::Person(person) if STATES.contains(&person.state.as_str()) => Some((person.id, person)),
        _ => None,
    });
    let people: HashMap<usize, _> = people.collect();
    sum(events.iter().filter_map(|event| match event {
        Event::Auction(auction) if auction.category == CATEGORY => {
            let seller = people.get(&auction.seller)?;
            Some((seller.name.clone(), seller.city.clone(), seller.state.clone(), auction.id))
        }
        _ => None,
    }))
}

fn new_sellers(events: &[Event]) -> u64 {
    let sells: HashSet<(usize, i64)> = events
        .iter()
        .filter_map(|event| match event {
            Event::Auction(auction) => Some((auction.seller, start(auction.date_time, TEN_SECONDS))),
            _ => None,
        })
        .collect();
    sum(events.iter().filter_map(|event| match event {
        Event::Person(person) => {
            let start = start(person.date_time, TEN_SECONDS);
            sells.contains(&(person.id, start)).then(|| (person.id as u64, person.name.clone(), start))
        }
        _ => None,
    }))
}

fn statistics_of_channels<'a>(bids: impl Iterator<Item = &'a Bid>) -> u64 {
    let mut of_channels: HashMap<(String, u64), Vec<BidRow>> = HashMap::new();
    bids.for_each(|bid| {
        of_channels.entry((bid.channel.clone(), day(bid.date_time))).or_default().push(bid_row(bid));
    });
    sum(of_channels.into_iter().map(|(key, bids)| {
        let distinct = |of: fn(&BidRow) -> usize, rank_of: Option<usize>| {
            let bids = bids.iter().filter(|bid| rank_of.is_none_or(|of| rank(bid.2) == of));
            bids.map(of).collect::<HashSet<_>>().len() as u64
        };
        let statistics = Statistics {
            last_minute: bids.iter().map(|bid| bid.3 / 60_000).max().unwrap_or_default(),
            bids: bids.len() as u64,
            bids_of_rank: [0, 1, 2].map(|of| bids.iter().filter(|bid| rank(bid.2) == of).count() as u64),
            bidders: distinct(|bid| bid.1, None),
            bidders_of_rank: [0, 1, 2].map(|of| distinct(|bid| bid.1, Some(of))),
            auctions: distinct(|bid| bid.0, None),
            auctions_of_rank: [0, 1, 2].map(|of| distinct(|bid| bid.0, Some(of))),
        };
        (key, statistics)
    }))
}
