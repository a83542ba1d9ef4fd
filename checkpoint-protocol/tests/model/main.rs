//! A model of the protocol, explored by Stateright: every order of events, up to the limits below.
//!
//! The coordinator, the aligner and the log client in the model's state are the real ones. Around them stand
//! two places where a coordinator can run (both at once: a stale one and its successor), each with two
//! sources and a sink with two inputs; a store; and messages that arrive in any order, late, twice or never.
//! Coordinators and tasks crash; answers of the store get lost while the create has happened, will happen, or
//! never does; slots below the floor of the log are deleted. A message may stay under way for ever in every
//! state explored, so each run covers losses, whether or not it has a budget for the explicit kind.
//!
//! `STRANDLINE_MODEL=large` raises the limits (use `--release`); `STRANDLINE_CASES` multiplies the random
//! walks.

mod check;
mod large;
mod outputs;
mod overtaking;
mod sleeping_sinks;
mod step;
mod tasks;
mod world;

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Instant;

use stateright::{Checker, Chooser, Expectation, HasDiscoveries, Model, Property, UniformChooser};
use strandline_checkpoint_protocol::CheckpointKind;

use crate::outputs::Rule;
use crate::overtaking::Barriers;
use crate::step::{Fate, Step};
use crate::world::{Budget, Mail, Node, SOURCES, World};

/// How far a run goes.
#[derive(Clone, Debug)]
struct Limits {
    budget: Budget,
    /// Checkpoints under way at once.
    concurrent: u32,
    /// Records that each source emits.
    records: u8,
    /// Whether all that tasks do after a request happens at once.
    calm_tasks: bool,
    /// Whether the store answers at once.
    calm_log: bool,
    /// Whether sources end once they have emitted all.
    finishing: bool,
    /// Whether tasks hear that a checkpoint was aborted.
    aborts: bool,
    /// How the sink of the job cleans up, if it has one.
    rule: Rule,
    /// What barriers do where records wait in their way.
    barriers: Barriers,
    /// Of so many states one is tested for recovery.
    recovery_sample: u64,
    /// What the run must come across, or it proves less than it seems to.
    must_see: &'static [&'static str],
}

/// Everything that can happen in `world`, faults included as far as the budget goes.
fn enabled(world: &World, limits: &Limits, steps: &mut Vec<Step>) {
    let left = &world.left;
    for (place, node) in world.nodes.iter().enumerate() {
        let question = match node {
            Node::Off => {
                // A place is as good as another: the second is used only while the first is taken.
                if left.starts > 0 && (place == 0 || world.nodes[0] != Node::Off) {
                    steps.push(Step::Start(place));
                }
                continue;
            }
            Node::Starting(claim) => Some(&claim.question),
            Node::Running(job) => {
                if !job.resumed {
                    let choices = world.candidates(place).len().max(1);
                    let fallbacks = usize::from(left.fallbacks).min(choices - 1);
                    steps.extend((0..=fallbacks).map(|nth| Step::Resume(place, nth)));
                } else if !job.operations.is_empty() {
                    steps.push(Step::Operate(place));
                }
                running(place, job, left, limits, steps);
                job.question.as_ref()
            }
        };
        if let Some(question) = question {
            steps.push(Step::Answer(place));
            if left.lost_answers > 0 && matches!(question, strandline_checkpoint_protocol::LogStep::Create(_))
            {
                steps.extend(
                    [Fate::Happened, Fate::Delayed, Fate::Dropped].map(|fate| Step::Lost(place, fate)),
                );
            }
        }
        if left.crashes > 0 {
            steps.push(Step::Crash(place));
        }
    }
    steps.extend((0..world.delayed.len()).map(Step::Arrive));
    if left.deletions > 0 {
        steps.extend(world.deletable().into_iter().map(Step::Delete));
    }
    for mail in &world.mail {
        deliveries(world, *mail, steps);
    }
}

fn running(place: usize, job: &world::Job, left: &Budget, limits: &Limits, steps: &mut Vec<Step>) {
    let pending = job.coordinator.pending().count();
    if job.permit.is_some() {
        steps.push(Step::Commit(place));
        if left.failed_manifests > 0 {
            steps.push(Step::FailManifest(place));
        }
    }
    let Some(tasks) = &job.tasks else {
        if job.resumed && job.operations.is_empty() && job.coordinator.commit_in_flight().is_none() {
            steps.push(Step::Redeploy(place));
        }
        return;
    };
    if left.requests > 0 && pending < limits.concurrent as usize && !tasks.running().is_empty() {
        steps.push(Step::Request(place, CheckpointKind::Api));
        if left.savepoints > 0 {
            steps.push(Step::Request(place, CheckpointKind::Savepoint));
        }
    }
    if left.expiries > 0 && job.coordinator.next_deadline().is_some() {
        steps.push(Step::Expire(place));
    }
    if left.task_failures > 0 {
        steps.push(Step::FailTask(place));
    }
    for source in 0..SOURCES {
        let state = &tasks.sources[source];
        if !state.ended && state.emitted < limits.records && !limits.calm_tasks {
            steps.push(Step::Emit(place, source));
        }
        if !state.ended && state.emitted == limits.records && limits.finishing {
            steps.push(Step::End(place, source));
        }
        if tasks.can_read(source) {
            steps.push(Step::Read(place, source));
        }
    }
    if limits.barriers != Barriers::Aligned && !limits.calm_tasks {
        if tasks.has_news() {
            steps.push(Step::Notice(place));
        }
        if left.overdue > 0 && tasks.sink.aligner.next_deadline().is_some() {
            steps.push(Step::Overdue(place));
        }
    }
}

/// A trigger goes to the tasks it was meant for. What comes from tasks may reach any coordinator, also one
/// that never deployed them.
fn deliveries(world: &World, mail: Mail, steps: &mut Vec<Step>) {
    for (node, place) in world.nodes.iter().enumerate() {
        let Node::Running(job) = place else { continue };
        let own = job.attempt == mail.task().attempt;
        if own && matches!(mail, Mail::Trigger(..)) && world.left.declines > 0 {
            steps.push(Step::Decline(node, mail));
        }
        if own || !matches!(mail, Mail::Trigger(..) | Mail::Aborted(..)) {
            // One for another attempt changes nothing, so it need not be taken from the mail.
            let again = !own;
            if own || world.left.duplicates > 0 {
                steps.push(Step::Deliver { node, mail, again });
            }
            if own && world.left.duplicates > 0 {
                steps.push(Step::Deliver { node, mail, again: true });
            }
        }
    }
    if world.left.losses > 0 {
        steps.push(Step::Lose(mail));
    }
}

impl Model for Limits {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World { left: self.budget, ..World::default() }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        enabled(world, self, steps);
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut next = last.clone();
        next.step(step, self).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no rule is broken on the way", |_, world: &World| world.broken.is_none()),
            Property::always(
                "the log is in order: one commit a checkpoint, none by a stale coordinator",
                |_, world| check::log_is_in_order(world),
            ),
            Property::always("every completed checkpoint is a consistent cut", |limits, world| {
                check::cuts_are_consistent(world, limits)
            }),
            Property::always("what a job resumes from is ahead of what it may fall back to", |_, world| {
                check::newest_is_ahead(world)
            }),
            Property::always("who is acknowledged by all waits for nobody but a commit", |_, world| {
                check::nobody_waits(world)
            }),
            Property::always("starts that complete nothing do not make the log longer", |_, world| {
                check::claims_are_few(world)
            }),
            Property::always("an aborted checkpoint never completes", |_, world| {
                check::aborted_stay_aborted(world)
            }),
            Property::always("no barrier of a checkpoint under way is ignored", |_, world: &World| {
                let deaf = |tasks: &world::Tasks| tasks.is_deaf;
                !world
                    .nodes
                    .iter()
                    .any(|node| matches!(node, Node::Running(job) if job.tasks.as_ref().is_some_and(deaf)))
            }),
            Property::always("no result is lost", |limits: &Limits, world: &World| {
                limits.rule == Rule::None || world.output_is_whole()
            }),
            Property::always("no result is visible twice", |_, world: &World| world.output_is_exact()),
            Property::always("a term has one holder", |_, world| check::terms_are_unique(world)),
            Property::always("progress is possible again after faults", |limits: &Limits, world: &World| {
                let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(world);
                !hash.is_multiple_of(limits.recovery_sample) || check::recovers(world, limits)
            }),
            Property::sometimes("a stale coordinator is fenced", |_, world: &World| world.seen.fenced),
            Property::sometimes("a checkpoint is aborted", |_, world: &World| world.seen.aborted),
            Property::sometimes("a checkpoint completes after an aborted one", |_, world: &World| {
                world.seen.completed_after_abort
            }),
            Property::sometimes("a checkpoint completes after a restart", |_, world: &World| {
                world.seen.completed_after_restart
            }),
            Property::sometimes("a savepoint completes late", |_, world: &World| world.seen.late_savepoint),
            Property::sometimes(
                "a checkpoint holds records that its barrier overtook",
                |_, world: &World| world.seen.overtaken,
            ),
            Property::sometimes("a job resumes with such records", |_, world: &World| {
                world.seen.restored_overtaken
            }),
            Property::sometimes("a job falls back behind what was given up", |_, world: &World| {
                world.seen.fell_back_twice
            }),
            Property::sometimes("a lost answer is settled", |_, world: &World| world.seen.settled_as_ours),
            Property::sometimes("an acknowledgement is late", |_, world: &World| world.seen.late_ack),
            Property::sometimes("a checkpoint completes with finished tasks", |_, world: &World| {
                world.seen.completed_with_finished
            }),
            Property::sometimes("an entry is created where one was deleted", |_, world: &World| {
                world.seen.ghost
            }),
            Property::sometimes("a dead file is removed", |_, world: &World| world.seen.swept),
            Property::sometimes("a stale sink does not find its file", |_, world: &World| {
                world.seen.stale_sink
            }),
            Property::sometimes("a create is not confirmed", |_, world: &World| world.seen.unconfirmed),
        ]
    }
}

/// What a run found out.
fn report(name: &str, limits: &Limits, began: Instant, all: bool, checker: &impl Checker<Limits>) {
    println!(
        "{name}: {} {} states, {} transitions, depth {}, {:.1} s",
        if all { "all" } else { "some" },
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64()
    );
    for property in checker.model().properties() {
        let found = checker.discovery(property.name);
        match (property.expectation, found) {
            (Expectation::Always, Some(path)) => {
                let steps = path.clone().into_actions();
                panic!("{name}: violated: {}\n{steps:#?}\n{:#?}", property.name, path.last_state());
            }
            (Expectation::Sometimes, None) if limits.must_see.contains(&property.name) => {
                panic!("{name}: never seen: {}", property.name);
            }
            (Expectation::Sometimes, Some(_)) => println!("    seen: {}", property.name),
            _ => {}
        }
    }
}

/// Visits every state there is.
fn explore(name: &str, limits: &Limits) {
    let began = Instant::now();
    let checker =
        limits.clone().checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    report(name, limits, began, true, &checker);
}

fn large() -> bool {
    std::env::var("STRANDLINE_MODEL").is_ok_and(|size| size == "large")
}

/// Chooses uniformly among the steps that change something. Stateright cannot repeat the path of a walk that
/// tried another one on its way: the indices that it keeps are those into what was left of the steps.
#[derive(Clone)]
struct Effective(Limits);

impl Effective {
    fn changes(&self, world: &World, step: Step) -> bool {
        !matches!(step, Step::Deliver { again: true, .. }) || world.clone().step(step, &self.0)
    }
}

impl Chooser<Limits> for Effective {
    type State = <UniformChooser as Chooser<Limits>>::State;

    fn new_state(&self, seed: u64) -> Self::State {
        Chooser::<Limits>::new_state(&UniformChooser, seed)
    }

    fn choose_initial_state(&self, state: &mut Self::State, worlds: &[World]) -> usize {
        Chooser::<Limits>::choose_initial_state(&UniformChooser, state, worlds)
    }

    fn choose_action(&self, state: &mut Self::State, world: &World, steps: &[Step]) -> usize {
        let mut choose =
            |steps: &[Step]| Chooser::<Limits>::choose_action(&UniformChooser, state, world, steps);
        let chosen = choose(steps);
        if self.changes(world, steps[chosen]) {
            return chosen;
        }
        let changing: Vec<_> = (0..steps.len()).filter(|index| self.changes(world, steps[*index])).collect();
        let count = changing.len();
        changing.get(if count > 0 { choose(&steps[..count]) } else { 0 }).copied().unwrap_or(chosen)
    }
}

/// Walks at random, deeper than all states can be visited.
fn walk(name: &str, limits: &Limits, states: usize) {
    let factor = std::env::var("STRANDLINE_CASES").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1);
    let (began, states) = (Instant::now(), states * factor * if large() { 20 } else { 1 });
    let checker = limits
        .clone()
        .checker()
        .threads(2)
        .target_state_count(states)
        .spawn_simulation(1, Effective(limits.clone()))
        .join();
    report(name, limits, began, false, &checker);
}

/// One coordinator and two checkpoints that overlap: triggers and acknowledgements in every order, one
/// timeout.
#[test]
fn overlapping_checkpoints() {
    let limits = Limits {
        budget: Budget {
            starts: 1,
            requests: 2,
            expiries: 1,
            losses: u8::from(large()),
            ..Budget::default()
        },
        concurrent: 2,
        records: 1,
        calm_tasks: false,
        calm_log: true,
        finishing: false,
        aborts: false,
        rule: Rule::None,
        barriers: Barriers::Aligned,
        recovery_sample: 100,
        must_see: &["a checkpoint is aborted", "an acknowledgement is late"],
    };
    explore("overlapping checkpoints", &limits);
}

/// Several checkpoints in flight, one of them a savepoint: snapshots that fail, and aborts that tasks hear of
/// late or never.
#[test]
fn aborts_in_flight() {
    let more = u8::from(large());
    let limits = Limits {
        budget: Budget {
            starts: 1,
            requests: 2 + more,
            expiries: more,
            declines: 1 + more,
            savepoints: 1,
            ..Budget::default()
        },
        concurrent: 3,
        records: more,
        calm_tasks: false,
        calm_log: true,
        finishing: false,
        aborts: true,
        rule: Rule::None,
        barriers: Barriers::Aligned,
        recovery_sample: 200,
        must_see: &[
            "a checkpoint is aborted",
            "a checkpoint completes after an aborted one",
            "a savepoint completes late",
        ],
    };
    explore("aborts in flight", &limits);
}

/// Tasks that end before, while and after a checkpoint passes them; a message lost, a message repeated.
#[test]
fn tasks_that_end() {
    let limits = Limits {
        budget: Budget {
            starts: 1,
            requests: 1 + u8::from(large()),
            expiries: u8::from(large()),
            losses: 1,
            duplicates: 1,
            ..Budget::default()
        },
        concurrent: 2,
        records: 1,
        calm_tasks: false,
        calm_log: true,
        finishing: true,
        aborts: false,
        rule: Rule::None,
        barriers: Barriers::Aligned,
        recovery_sample: 100,
        must_see: &["a checkpoint completes with finished tasks"],
    };
    explore("tasks that end", &limits);
}

/// Every fault there is, in one world.
#[test]
fn everything_at_once() {
    let limits = Limits {
        budget: Budget {
            starts: 5,
            crashes: 2,
            task_failures: 2,
            requests: 8,
            expiries: 3,
            losses: 2,
            duplicates: 2,
            lost_answers: 3,
            failed_manifests: 1,
            deletions: 4,
            fallbacks: 0,
            declines: 2,
            savepoints: 2,
            overdue: 0,
        },
        concurrent: 2,
        records: 4,
        calm_tasks: false,
        calm_log: false,
        finishing: true,
        aborts: true,
        rule: Rule::None,
        barriers: Barriers::Aligned,
        recovery_sample: 20,
        must_see: &["a checkpoint is aborted", "an acknowledgement is late", "a lost answer is settled"],
    };
    walk("everything at once", &limits, 60_000);
}

/// Stale coordinators and their successors, crashes, lost answers, deletions: the log.
#[test]
fn takeover() {
    let more = u8::from(large());
    let budget = Budget {
        starts: 2 + more,
        crashes: 1,
        task_failures: 1,
        requests: 2 + more,
        lost_answers: 1,
        failed_manifests: more,
        deletions: 1 + more,
        ..Budget::default()
    };
    let limits = Limits {
        budget,
        concurrent: 1,
        records: 8,
        calm_tasks: true,
        calm_log: false,
        finishing: false,
        aborts: false,
        rule: Rule::None,
        barriers: Barriers::Aligned,
        recovery_sample: 200,
        must_see: &[
            "a stale coordinator is fenced",
            "a checkpoint completes after a restart",
            "a lost answer is settled",
            "an entry is created where one was deleted",
            "a create is not confirmed",
        ],
    };
    explore("takeover", &limits);
}

/// A log that is cut while coordinators sleep: they, and creates that happen much too late, meet slots that
/// were filled and deleted.
#[test]
fn sleepers() {
    let more = u8::from(large());
    let budget =
        Budget { starts: 2 + more, requests: 3, lost_answers: 1, deletions: 2 + more, ..Budget::default() };
    explore("sleepers", &of_the_log(budget, 1_000));
}

/// The same deeper, with more sleepers and with crashes.
#[test]
fn many_sleepers() {
    let budget =
        Budget { starts: 6, crashes: 4, requests: 12, lost_answers: 3, deletions: 12, ..Budget::default() };
    walk("many sleepers", &of_the_log(budget, 500), 60_000);
}

/// Limits for what concerns the log alone.
fn of_the_log(budget: Budget, recovery_sample: u64) -> Limits {
    Limits {
        budget,
        concurrent: 1,
        records: 8,
        calm_tasks: true,
        calm_log: false,
        finishing: false,
        aborts: false,
        rule: Rule::None,
        barriers: Barriers::Aligned,
        recovery_sample,
        must_see: &["an entry is created where one was deleted", "a create is not confirmed"],
    }
}
