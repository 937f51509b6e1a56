//! Runs the scenarios.

use palfrey_interleavings::scenarios;
use shuttle::{
    Config, Runner,
    scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler},
};

/// Schedules that a search through all of them is stopped after: all scenarios that are searched have fewer.
const SEARCHED: usize = 300_000;
/// Schedules that are drawn where there are more.
const DRAWN: usize = 20_000;

fn run(scheduler: impl Scheduler + 'static, scenario: fn()) -> usize {
    Runner::new(scheduler, Config::default()).run(scenario)
}

/// Runs every schedule there is.
fn search(scenario: fn()) {
    let schedules = run(DfsScheduler::new(Some(SEARCHED), false), scenario);
    assert!(schedules < SEARCHED, "there are more schedules than a search gets through: draw them");
}

/// Runs schedules drawn evenly, and such as change between threads at few, unlikely places (Burckhardt et al. 2010).
fn draw(scenario: fn()) {
    assert_eq!(run(RandomScheduler::new(DRAWN), scenario), DRAWN);
    assert_eq!(run(PctScheduler::new(3, DRAWN), scenario), DRAWN);
}

#[test]
fn the_stream_ends_when_senders_and_results_are_done() {
    draw(scenarios::the_stream_ends_when_senders_and_results_are_done);
}

#[test]
fn an_abandoned_task_does_not_keep_the_stream_open() {
    draw(scenarios::an_abandoned_task_does_not_keep_the_stream_open);
}

#[test]
fn no_task_of_a_terminated_job_runs_on() {
    draw(scenarios::no_task_of_a_terminated_job_runs_on);
}

#[test]
fn a_task_that_is_delivered_twice_runs_once_at_a_time() {
    search(scenarios::a_task_that_is_delivered_twice_runs_once_at_a_time);
}

#[test]
fn permits_are_bounded_and_reach_who_waits() {
    draw(scenarios::permits_are_bounded_and_reach_who_waits);
}

#[test]
fn each_message_is_taken_once_although_a_receiver_leaves() {
    draw(scenarios::each_message_is_taken_once_although_a_receiver_leaves);
}

#[test]
fn deleting_a_queue_ends_the_wait_for_it() {
    search(scenarios::deleting_a_queue_ends_the_wait_for_it);
}

#[test]
fn each_result_goes_to_its_job_while_it_is_open_or_back() {
    search(scenarios::each_result_goes_to_its_job_while_it_is_open_or_back);
}
