//! Windows, joins, running results and asynchronous calls as steps of a pipeline.
//!
//! The traits of this module add the operators of [`operators`](crate::operators) to the streams of
//! [`runtime`](crate::runtime). The [prelude](crate::prelude) brings them into scope.
//!
//! ```
//! use std::time::Duration;
//!
//! use strandline::operators::calls::{Calls, Replier};
//! use strandline::operators::join::{IntervalJoin, JoinKind, Joined};
//! use strandline::operators::window::TimeWindows;
//! use strandline::operators::{Change, Coalesce, Count, TopN, TwoInputOperator};
//! use strandline::prelude::*;
//! use strandline::runtime::Stream;
//! use strandline::state::backend::BackendFactory;
//!
//! struct Order { id: u64, user: String, cents: u64 }
//! struct Payment { order: u64, cents: u64 }
//!
//! /// What each user orders in a minute, and the orders that nobody pays within an hour.
//! fn report<F: BackendFactory>(
//!     web: Stream<F, Order>,
//!     app: Stream<F, Order>,
//!     payments: Stream<F, Payment>,
//! ) -> (Stream<F, (String, u64)>, Stream<F, u64>) {
//!     let (orders, same) = web.union(app).map(|order| (order.id, order.user, order.cents)).fork();
//!     let per_minute = orders
//!         .key_by(|(_, user, cents)| (user, cents))
//!         .window(TimeWindows::tumbling(Duration::from_secs(60)))
//!         .reduce("per-minute", |sum, cents| *sum += cents)
//!         .map(|result| (result.key, result.value));
//!     let unpaid = same
//!         .connect(payments)
//!         .key_by(|(id, _, cents)| (id, cents), |payment| (payment.order, payment.cents))
//!         .interval_join("unpaid", IntervalJoin::between(0, 3_600_000).kind(JoinKind::Left))
//!         .flat_map(|(id, row), out| if let Joined::Left(_) = row { out.emit(id) });
//!     (per_minute, unpaid)
//! }
//!
//! /// How often each word occurs, after each word.
//! fn counts<F: BackendFactory>(words: Stream<F, String>) -> Stream<F, Change<(String, u64)>> {
//!     words.key_by(|word| (word, ())).count("counts")
//! }
//!
//! /// The same, at most once a second for each word.
//! fn calm_counts<F: BackendFactory>(words: Stream<F, String>) -> Stream<F, Change<(String, u64)>> {
//!     counts(words)
//!         .key_by(|change| (change.row().0.clone(), change))
//!         .coalesce("each-second", Coalesce::changes(Duration::from_secs(1)).in_processing_time())
//! }
//!
//! /// The last price of an order's product.
//! struct LastPrice { cents: ValueState<u64> }
//!
//! impl TwoInputOperator for LastPrice {
//!     type Key = String;
//!     type Left = u64;
//!     type Right = u64;
//!     type Out = (u64, Option<u64>);
//!     type Namespace = ();
//!
//!     fn process_left<B>(&mut self, order: u64, ctx: &mut Context<'_, B, Self::Out>) -> Result<()>
//!     where
//!         B: KeyedBackend<Key = String>,
//!     {
//!         let cents = ctx.state(self.cents).get()?.copied();
//!         ctx.emit((order, cents));
//!         Ok(())
//!     }
//!
//!     fn process_right<B>(&mut self, cents: u64, ctx: &mut Context<'_, B, Self::Out>) -> Result<()>
//!     where
//!         B: KeyedBackend<Key = String>,
//!     {
//!         ctx.state(self.cents).put(cents)
//!     }
//! }
//!
//! /// Orders of a product, with its price where there is one yet.
//! fn priced<F: BackendFactory>(
//!     orders: Stream<F, (String, u64)>,
//!     prices: Stream<F, (String, u64)>,
//! ) -> Stream<F, (u64, Option<u64>)> {
//!     orders.connect(prices).key_by(|order| order, |price| price).process_both("priced", |ctx| {
//!         Ok(LastPrice { cents: ctx.register(&ValueDescriptor::new("cents"))? })
//!     })
//! }
//!
//! /// Sessions of clicks, and the clicks that came too late for theirs.
//! fn sessions<F: BackendFactory>(clicks: Stream<F, String>) -> (Stream<F, u64>, Stream<F, String>) {
//!     let (sessions, late) = clicks
//!         .key_by(|user| (user, ()))
//!         .window(TimeWindows::session(Duration::from_secs(30)).emit_late())
//!         .aggregate_or_late("sessions", Count::new());
//!     (sessions.map(|session| session.value), late.map(|late| late.key))
//! }
//!
//! /// The name of the user of each order, from another system.
//! fn names<F: BackendFactory>(orders: Stream<F, Order>) -> Stream<F, (String, u64)> {
//!     let look_up = |_: &u64, user: &String, replier: Replier<String>| replier.reply(Ok(user.to_uppercase()));
//!     orders
//!         .key_by(|order| (order.id, order.user))
//!         .call("names", Calls::new(Duration::from_secs(10), look_up).capacity(20))
//!         .flat_map(|answer, out| if let Ok(name) = answer.reply { out.emit((name, answer.key)) })
//! }
//!
//! /// The three greatest scores of each game.
//! fn best<F: BackendFactory>(scores: Stream<F, (String, u64)>) -> Stream<F, Change<(String, u64)>> {
//!     scores.key_by(|score| score).top_n("best", TopN::new(3, |score: &u64| *score))
//! }
//! ```

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use strandline_operators::calls::{Answer, Call, Calls};
use strandline_operators::join::{
    IntervalJoin, JoinOutput, JoinRow, KeyedRow, RegularJoin, VersionedJoin, WindowJoin,
};
use strandline_operators::window::{LateRow, WindowResult, Windows};
use strandline_operators::{
    Aggregate, Change, Coalesce, Count, Deduplicate, Either, Reduce, Running, TopN, TwoInputOperator,
    TwoInputs,
};
use strandline_runtime::{KeyedStream, Stream};
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{Open, Result, StateKey};

/// Steps of a stream without keys.
pub trait StreamExt<F, T> {
    /// Connects another stream, for an operator with two keyed inputs. Event time is that of the slower one.
    fn connect<U>(self, other: Stream<F, U>) -> Connected<F, T, U>;
}

impl<F: BackendFactory, T: Send + 'static> StreamExt<F, T> for Stream<F, T> {
    fn connect<U>(self, other: Stream<F, U>) -> Connected<F, T, U> {
        Connected { left: self, right: other }
    }
}

/// Two streams that get their keys together.
pub struct Connected<F, T, U> {
    left: Stream<F, T>,
    right: Stream<F, U>,
}

impl<F: BackendFactory, T: Send + 'static, U: Send + 'static> Connected<F, T, U> {
    /// Brings the records of one key, of both streams, to one subtask. `left` and `right` return the key and
    /// what travels beside it. An operator takes them as [`Either`].
    pub fn key_by<K: StateKey, L: Send + 'static, R: Send + 'static>(
        self,
        mut left: impl FnMut(T) -> (K, L) + Clone + Send + Sync + 'static,
        mut right: impl FnMut(U) -> (K, R) + Clone + Send + Sync + 'static,
    ) -> KeyedStream<F, K, Either<L, R>> {
        let left = self.left.map(move |record| {
            let (key, value) = left(record);
            (key, Either::Left(value))
        });
        let right = self.right.map(move |record| {
            let (key, value) = right(record);
            (key, Either::Right(value))
        });
        left.union(right).key_by(|record| record)
    }
}

/// Steps of a stream with keys. `id` is the id of the operator, by which a restore finds its state.
pub trait KeyedStreamExt<F: BackendFactory, K: StateKey, V: Send + 'static>: Sized {
    /// Cuts the records of each key into windows.
    fn window<W: Windows<V>>(self, windows: W) -> Windowed<F, K, V, W>;

    /// Aggregates all records of each key, and emits each change of the result.
    fn running<A>(self, id: &str, running: Running<A>) -> Stream<F, Change<(K, A::Out)>>
    where
        A: Aggregate<In = V, Out: PartialEq + Send>;

    /// Counts the records of each key, and emits each count; see [`running`](Self::running).
    fn count(self, id: &str) -> Stream<F, Change<(K, u64)>> {
        self.running(id, Running::new(Count::new()))
    }

    /// Reduces the records of each key into one, and emits each change of it; see [`running`](Self::running).
    fn reduce(
        self,
        id: &str,
        function: impl Fn(&mut V, V) + Clone + Send + Sync + 'static,
    ) -> Stream<F, Change<(K, V)>>
    where
        V: Clone + PartialEq + Serialize + DeserializeOwned,
    {
        self.running(id, Running::new(Reduce::new(function)))
    }

    /// Keeps one row of each key.
    fn deduplicate(self, id: &str, rows: Deduplicate<V>) -> Stream<F, Change<(K, V)>>
    where
        V: Clone + Serialize + DeserializeOwned;

    /// Keeps the rows of each key with the greatest scores.
    fn top_n<S, G>(self, id: &str, top: TopN<V, G>) -> Stream<F, Change<(K, V)>>
    where
        V: Clone + Serialize + DeserializeOwned,
        S: Ord,
        G: Fn(&V) -> S + Clone + Send + Sync + 'static;

    /// Calls another system for each record, and emits the record with the reply.
    fn call<R, C>(self, id: &str, calls: Calls<V, R, C>) -> Stream<F, Answer<K, V, R>>
    where
        V: Serialize + DeserializeOwned,
        R: Send + 'static,
        C: Call<K, V, R> + Clone + Sync;
}

impl<F: BackendFactory, K: StateKey, V: Send + 'static> KeyedStreamExt<F, K, V> for KeyedStream<F, K, V> {
    fn window<W: Windows<V>>(self, windows: W) -> Windowed<F, K, V, W> {
        Windowed { records: self, windows }
    }

    fn running<A>(self, id: &str, running: Running<A>) -> Stream<F, Change<(K, A::Out)>>
    where
        A: Aggregate<In = V, Out: PartialEq + Send>,
    {
        self.process(id, move |ctx| running.open(ctx))
    }

    fn deduplicate(self, id: &str, rows: Deduplicate<V>) -> Stream<F, Change<(K, V)>>
    where
        V: Clone + Serialize + DeserializeOwned,
    {
        self.process(id, move |ctx| rows.open(ctx))
    }

    fn top_n<S, G>(self, id: &str, top: TopN<V, G>) -> Stream<F, Change<(K, V)>>
    where
        V: Clone + Serialize + DeserializeOwned,
        S: Ord,
        G: Fn(&V) -> S + Clone + Send + Sync + 'static,
    {
        self.process(id, move |ctx| top.open(ctx))
    }

    fn call<R, C>(self, id: &str, calls: Calls<V, R, C>) -> Stream<F, Answer<K, V, R>>
    where
        V: Serialize + DeserializeOwned,
        R: Send + 'static,
        C: Call<K, V, R> + Clone + Sync,
    {
        self.process(id, move |ctx| calls.open(ctx))
    }
}

/// Records with keys in windows.
pub struct Windowed<F, K, V, W> {
    records: KeyedStream<F, K, V>,
    windows: W,
}

/// The results of windows.
type Results<F, K, V, W, R> = Stream<F, WindowResult<K, <W as Windows<V>>::Window, R>>;

/// The results of windows, and the records that came too late for them.
type ResultsAndLate<F, K, V, W, R> = (Results<F, K, V, W, R>, Stream<F, LateRow<K, V>>);

impl<F: BackendFactory, K: StateKey, V: Send + 'static, W: Windows<V>> Windowed<F, K, V, W> {
    /// Computes an aggregate in each window. Records that come too late are dropped.
    pub fn aggregate<A>(self, id: &str, aggregate: A) -> Results<F, K, V, W, A::Out>
    where
        A: Aggregate<In = V, Out: Send>,
    {
        let windows = self.windows;
        let output = self.records.process(id, move |ctx| windows.open(&aggregate, ctx));
        output.flat_map(|output, out| {
            if let Some(result) = output.result() {
                out.emit(result);
            }
        })
    }

    /// Computes an aggregate in each window. The second stream has the records that come too late, if the
    /// windows [emit them](strandline_operators::window::TimeWindows::emit_late).
    pub fn aggregate_or_late<A>(self, id: &str, aggregate: A) -> ResultsAndLate<F, K, V, W, A::Out>
    where
        A: Aggregate<In = V, Out: Send>,
    {
        let windows = self.windows;
        let output = self.records.process(id, move |ctx| windows.open(&aggregate, ctx));
        output.partition(|output| output.into_result())
    }

    /// Counts the records of each window.
    pub fn count(self, id: &str) -> Results<F, K, V, W, u64> {
        self.aggregate(id, Count::new())
    }

    /// Reduces the records of each window into one.
    pub fn reduce(
        self,
        id: &str,
        function: impl Fn(&mut V, V) + Clone + Send + Sync + 'static,
    ) -> Results<F, K, V, W, V>
    where
        V: Clone + Serialize + DeserializeOwned,
    {
        self.aggregate(id, Reduce::new(function))
    }
}

impl<F, K, L, R, W> Windowed<F, K, Either<L, R>, W>
where
    F: BackendFactory,
    K: StateKey,
    L: JoinRow,
    R: JoinRow,
    W: Windows<Either<L, R>>,
{
    /// Joins the records of two inputs that share a window.
    pub fn join<C>(self, id: &str, join: WindowJoin<L, R, C>) -> Stream<F, KeyedRow<K, L, R>>
    where
        C: Fn(&L, &R) -> bool + Clone + Send + Sync + 'static,
    {
        self.aggregate(id, join).flat_map(|result, out| {
            for row in result.value {
                out.emit((result.key.clone(), row));
            }
        })
    }
}

/// Joins records of two inputs whose times are close. Records that come too late are dropped; to have them, run the
/// operator with `process`.
pub trait JoinExt<F: BackendFactory, K: StateKey, L: JoinRow, R: JoinRow> {
    /// Joins each left record with the right ones in an interval around its time.
    fn interval_join<C>(self, id: &str, join: IntervalJoin<L, R, C>) -> Stream<F, KeyedRow<K, L, R>>
    where
        C: Fn(&L, &R) -> bool + Clone + Send + Sync + 'static;
}

impl<F, K, L, R> JoinExt<F, K, L, R> for KeyedStream<F, K, Either<L, R>>
where
    F: BackendFactory,
    K: StateKey,
    L: JoinRow,
    R: JoinRow,
{
    fn interval_join<C>(self, id: &str, join: IntervalJoin<L, R, C>) -> Stream<F, KeyedRow<K, L, R>>
    where
        C: Fn(&L, &R) -> bool + Clone + Send + Sync + 'static,
    {
        rows(self.process(id, move |ctx| join.open(ctx)))
    }
}

/// Runs an operator with a method for each of two inputs.
pub trait TwoInputsExt<F: BackendFactory, K: StateKey, L: Send + 'static, R: Send + 'static> {
    /// Runs an operator on both inputs. `open` makes one instance for each subtask and registers its states.
    fn process_both<O>(
        self,
        id: &str,
        open: impl Fn(&mut Open<'_, F::Backend<K>, O::Namespace>) -> Result<O> + Send + Sync + 'static,
    ) -> Stream<F, O::Out>
    where
        O: TwoInputOperator<Key = K, Left = L, Right = R, Out: Send> + 'static;
}

impl<F, K, L, R> TwoInputsExt<F, K, L, R> for KeyedStream<F, K, Either<L, R>>
where
    F: BackendFactory,
    K: StateKey,
    L: Send + 'static,
    R: Send + 'static,
{
    fn process_both<O>(
        self,
        id: &str,
        open: impl Fn(&mut Open<'_, F::Backend<K>, O::Namespace>) -> Result<O> + Send + Sync + 'static,
    ) -> Stream<F, O::Out>
    where
        O: TwoInputOperator<Key = K, Left = L, Right = R, Out: Send> + 'static,
    {
        self.process(id, move |ctx| open(ctx).map(TwoInputs))
    }
}

/// Takes changes together.
pub trait ChangesExt<F: BackendFactory, K: StateKey, T> {
    /// Takes the changes of each key that come within a time together.
    fn coalesce(self, id: &str, coalesce: Coalesce<T>) -> Stream<F, Change<T>>;
}

impl<F, K, T> ChangesExt<F, K, T> for KeyedStream<F, K, Change<T>>
where
    F: BackendFactory,
    K: StateKey,
    T: Clone + PartialEq + Serialize + DeserializeOwned + Send + 'static,
{
    fn coalesce(self, id: &str, coalesce: Coalesce<T>) -> Stream<F, Change<T>> {
        self.process(id, move |ctx| coalesce.open(ctx))
    }
}

/// Joins all rows of two inputs that change.
pub trait RegularJoinExt<F: BackendFactory, K: StateKey, L: JoinRow, R: JoinRow> {
    /// Joins all rows of a key, as long as they are kept. A stream to which nothing but rows is added has
    /// [`Change::Insert`] in its `key_by`.
    fn regular_join(self, id: &str, join: RegularJoin<L, R>) -> Stream<F, Change<KeyedRow<K, L, R>>>
    where
        L: PartialEq,
        R: PartialEq;
}

impl<F, K, L, R> RegularJoinExt<F, K, L, R> for KeyedStream<F, K, Either<Change<L>, Change<R>>>
where
    F: BackendFactory,
    K: StateKey,
    L: JoinRow,
    R: JoinRow,
{
    fn regular_join(self, id: &str, join: RegularJoin<L, R>) -> Stream<F, Change<KeyedRow<K, L, R>>>
    where
        L: PartialEq,
        R: PartialEq,
    {
        self.process(id, move |ctx| join.open(ctx))
    }
}

/// Looks up the version of a row that was valid at the time of another.
pub trait VersionedJoinExt<F: BackendFactory, K: StateKey, L: JoinRow, R: JoinRow> {
    /// Joins each left record with the version that was valid at its time.
    fn versioned_join(self, id: &str, join: VersionedJoin<L, R>) -> Stream<F, KeyedRow<K, L, R>>;
}

impl<F, K, L, R> VersionedJoinExt<F, K, L, R> for KeyedStream<F, K, Either<L, Option<R>>>
where
    F: BackendFactory,
    K: StateKey,
    L: JoinRow,
    R: JoinRow,
{
    fn versioned_join(self, id: &str, join: VersionedJoin<L, R>) -> Stream<F, KeyedRow<K, L, R>> {
        rows(self.process(id, move |ctx| join.open(ctx)))
    }
}

/// The rows of a join without its late records.
fn rows<F, K, L, R>(output: Stream<F, JoinOutput<K, L, R>>) -> Stream<F, KeyedRow<K, L, R>>
where
    F: BackendFactory,
    K: StateKey,
    L: JoinRow,
    R: JoinRow,
{
    output.flat_map(|output, out| {
        if let Ok(row) = output.into_row() {
            out.emit(row);
        }
    })
}

impl<F, T, U> fmt::Debug for Connected<F, T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connected").field("left", &self.left).field("right", &self.right).finish()
    }
}

impl<F, K, V, W> fmt::Debug for Windowed<F, K, V, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Windowed").field("records", &self.records).finish_non_exhaustive()
    }
}
