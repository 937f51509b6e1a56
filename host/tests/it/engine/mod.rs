//! The engine against guests that misbehave.

mod compiling;
mod determinism;
mod guests;
mod limits;
mod loading;
mod results;
mod slots;
mod speech;
