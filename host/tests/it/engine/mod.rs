//! The engine against guests that misbehave.

mod compiling;
mod corpus;
mod determinism;
mod endurance;
mod grants;
mod guests;
mod limits;
mod loading;
mod purity;
mod raw;
mod results;
mod slots;
mod speech;
mod verdicts;
