#![doc = include_str!("../README.md")]

mod baton;
mod direct;
mod director;
mod input;
mod job;
mod output;
mod process;
mod simulation;
mod state;
mod store;
mod timer;
mod trace;
mod verdict;
mod world;

pub use input::{Input, InputPosition, InputReader};
pub use job::{Disturbance, Faults, Job};
pub use output::{Output, OutputWriter};
pub use process::Process;
pub use simulation::{Checked, Expected, Report, Simulation, Violation, check};
pub use world::World;
