//! The operator of [`Query::Q16`](super::Query::Q16): statistics with distinct counts, in a state of their own each.

use nexmark::event::Bid;
use serde::{Deserialize, Serialize};
use strandline::operators::Change;
use strandline::prelude::*;

use super::rows::rank;

/// Figures of a channel on a day. Those with three are by the [rank](rank) of the price.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Statistics {
    /// The time of the last bid, in minutes since the epoch.
    pub(super) last_minute: u64,
    pub(super) bids: u64,
    pub(super) bids_of_rank: [u64; 3],
    /// Distinct ones.
    pub(super) bidders: u64,
    pub(super) bidders_of_rank: [u64; 3],
    /// Distinct ones.
    pub(super) auctions: u64,
    pub(super) auctions_of_rank: [u64; 3],
}

/// A channel and a day.
pub(super) type Key = (String, u64);

/// What was seen: whether it is a bidder or an auction, the rank of a price or [`ANY`], and the id.
type Seen = (bool, u8, u64);

/// Stands for a price of any rank.
const ANY: u8 = u8::MAX;

/// Counts for each channel and day.
#[derive(Debug)]
pub(super) struct ChannelStatistics {
    statistics: ValueState<Statistics>,
    seen: MapState<Seen, ()>,
}

impl ChannelStatistics {
    pub(super) fn open<B: KeyedBackend>(ctx: &mut Open<'_, B>) -> Result<Self> {
        let statistics = ctx.register(&ValueDescriptor::new("statistics"))?;
        Ok(Self { statistics, seen: ctx.register(&MapDescriptor::new("seen"))? })
    }
}

impl Operator for ChannelStatistics {
    type Key = Key;
    type In = Bid;
    type Out = Change<(Key, Statistics)>;
    type Namespace = ();

    fn process<B: KeyedBackend<Key = Key>>(
        &mut self,
        bid: Bid,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let rank = rank(bid.price);
        // One more, where nobody has been seen in that role before.
        let mut new = |is_bidder, rank, id: usize| -> Result<u64> {
            let mut new = 0;
            ctx.state(self.seen).modify((is_bidder, rank, id as u64), || new = 1, |()| ())?;
            Ok(new)
        };
        let of_any = [new(true, ANY, bid.bidder)?, new(false, ANY, bid.auction)?];
        let of_rank = [new(true, rank as u8, bid.bidder)?, new(false, rank as u8, bid.auction)?];
        let (before, after) = ctx.state(self.statistics).update_or_default(|statistics| {
            let before = statistics.clone();
            statistics.last_minute = statistics.last_minute.max(bid.date_time / 60_000);
            statistics.bids += 1;
            statistics.bids_of_rank[rank] += 1;
            statistics.bidders += of_any[0];
            statistics.auctions += of_any[1];
            statistics.bidders_of_rank[rank] += of_rank[0];
            statistics.auctions_of_rank[rank] += of_rank[1];
            (before, statistics.clone())
        })?;
        let key = ctx.key();
        if before.bids == 0 {
            ctx.emit(Change::Insert((key.clone(), after)));
        } else {
            ctx.emit(Change::UpdateBefore((key.clone(), before)));
            ctx.emit(Change::UpdateAfter((key.clone(), after)));
        }
        Ok(())
    }
}
