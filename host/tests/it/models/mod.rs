//! Parts with a state of their own, each against a model of it that is simple enough to be believed: any operations in any
//! order lead both to the same answers.

mod broker;
mod coordination;
mod job;
mod registry;
