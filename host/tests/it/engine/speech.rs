//! What guests log, print and report.

use std::sync::{Arc, Mutex};

use palfrey_host::engine::{Call, Progress};

use super::guests::{call, inputs, plugin, stopped};
use crate::log::Log;

/// The lines of the log while a call was executed under a span, as JSON.
fn log_of(call: &Call<'_>) -> Vec<serde_json::Value> {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().json().with_max_level(tracing::Level::TRACE).with_writer(log.clone());
    tracing::subscriber::with_default(subscriber.finish(), || {
        let _span = tracing::info_span!("task", id = 5).entered();
        plugin().map(call, &inputs()).ok();
    });
    let mut lines = log.lines();
    lines.retain(|line| line["target"] == "palfrey::guest");
    lines
}

fn messages(lines: &[serde_json::Value]) -> Vec<&str> {
    lines.iter().map(|line| line["fields"]["message"].as_str().unwrap()).collect()
}

#[test]
fn a_message_reaches_the_log_under_the_tasks_span() {
    let lines = log_of(&call("log", "1"));
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["spans"][0]["id"], 5);
    let fields = serde_json::json!({
        "message": "message 0", "plugin": "test-guests", "operation": "log", "guest_target": "guests::log",
    });
    assert_eq!(line["fields"], fields);
}

#[test]
fn what_is_printed_reaches_the_log_line_by_line() {
    let lines = log_of(&call("print", "2"));
    let mut said = messages(&lines);
    said.sort_unstable();
    assert_eq!(said, ["err 0", "err 1", "out 0", "out 1"]);
    assert!(lines.iter().all(|line| line["fields"]["operation"] == "print" && line["spans"][0]["id"] == 5));
}

#[test]
fn the_beginning_of_a_line_is_not_lost_when_the_plugin_aborts() {
    let lines = log_of(&call("print-and-abort", "0"));
    assert_eq!(messages(&lines), ["last words", "unfinished"]);
    assert_eq!(stopped("print-and-abort", 0).stderr, "last words\n");
}

#[test]
fn a_flood_is_dropped_and_the_log_says_so() {
    for operation in ["log", "print"] {
        let mut call = call(operation, "1000");
        call.limits.log = 2_000;
        let lines = log_of(&call);
        assert!(lines.len() < 40, "{operation}: {}", lines.len());
        let last = lines.last().unwrap();
        assert!(last["fields"]["dropped"].as_u64().unwrap() > 900, "{last}");
        assert!(last["fields"]["message"].as_str().unwrap().contains("limit `log`"), "{last}");
    }
}

#[test]
fn a_long_message_is_cut() {
    let lines = log_of(&call("log-at-length", "100000"));
    let [line] = &lines[..] else { panic!("{} lines", lines.len()) };
    assert!(line["fields"]["message"].as_str().unwrap().len() < 9_000);
    assert!(line["fields"]["guest_target"].as_str().unwrap().len() < 300);
}

#[test]
fn stderr_keeps_its_end_whatever_the_log_drops() {
    let mut call = call("print-and-abort", "0");
    call.limits.log = 0;
    assert_eq!(plugin().map(&call, &inputs()).unwrap_err().stderr, "last words\n");
}

#[test]
fn progress_is_thinned_out_and_the_last_report_arrives() {
    let reports = Arc::new(Mutex::new(Vec::new()));
    let mut call = call("report-progress", "100000");
    call.progress = Some({
        let reports = Arc::clone(&reports);
        Arc::new(move |progress| reports.lock().unwrap().push(progress))
    });
    plugin().map(&call, &inputs()).unwrap();
    let reports = reports.lock().unwrap();
    let report = |done| Progress { done, total: Some(100_000), unit: "rows".to_owned() };
    assert_eq!((reports.first(), reports.last()), (Some(&report(0)), Some(&report(100_000))));
    assert!(reports.len() < 1_000, "{}", reports.len());
}
