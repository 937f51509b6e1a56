//! What operations say reaches the log of whoever executes them, with job, task and operation.

use std::collections::BTreeSet;

use palfrey_host::{Config, directive::*};
use serde_json::{Value, json};
use speaker::{Report, Speak};

use crate::{fixed, log::Log, runtime};

/// The lines about a text.
fn lines_about(text: &str) -> Vec<Value> {
    let mut lines = Log::of_workers().lines();
    lines.retain(|line| line["fields"]["message"].as_str().is_some_and(|message| message.contains(text)));
    lines
}

/// Job and task of a line, from the only span that it is in.
fn job_and_task(line: &Value) -> (String, String) {
    let [span] = &line["spans"].as_array().unwrap()[..] else { panic!("{line}") };
    let field = |name: &str| span[name].as_str().unwrap_or_else(|| panic!("{name} in {line}")).to_owned();
    assert_eq!(field("name"), "task");
    (field("job"), field("task"))
}

#[tokio::test]
async fn what_an_operation_prints_and_logs_reaches_the_log_under_its_task() {
    Log::of_workers();
    let runtime = runtime(Config::default(), &["speaker"]).await;
    let say = async |texts: &[&str]| {
        let texts: Vec<_> = texts.iter().map(|&text| text.to_owned()).collect();
        let results = IndexedStream::from(texts).options(fixed(1)).map(&Speak).run(&runtime).await.unwrap();
        results.into_values_sorted().await.unwrap()
    };
    say(&["one fine day", "one rainy day"]).await;
    say(&["one starry night"]).await;

    let tasks = ["one fine day", "one rainy day", "one starry night"].map(|text| {
        let mut lines = lines_about(text);
        lines.sort_by_key(|line| line["fields"]["message"].to_string());
        let said: Vec<_> = lines.iter().map(|line| (line["level"].as_str().unwrap(), &line["fields"])).collect();
        let field = |message: String, name: &str, value: &str| {
            json!({ "message": message, "plugin": "speaker", "operation": "speak", name: value })
        };
        let logged = format!("logged {text} length={} tone=\"calm\"", text.len());
        let expected = [
            ("WARN", &field(format!("complained {text}"), "stream", "stderr")),
            ("ERROR", &field(logged, "guest_target", "speaker")),
            ("INFO", &field(format!("printed {text}"), "stream", "stdout")),
            ("DEBUG", &field(format!("text={text:?}"), "guest_target", "speaker")),
        ];
        assert_eq!(said, expected);
        assert!(lines.iter().all(|line| line["spans"][0]["operation"] == "speaker/speak"), "{lines:?}");
        let tasks: BTreeSet<_> = lines.iter().map(job_and_task).collect();
        assert_eq!(tasks.len(), 1, "all of it is said by one task: {tasks:?}");
        tasks.into_iter().next().unwrap()
    });
    let [(fine_job, fine_task), (rainy_job, rainy_task), (night_job, _)] = tasks;
    assert!(fine_job == rainy_job && fine_task != rainy_task && fine_job != night_job);
}

#[tokio::test]
async fn progress_reaches_the_log_under_its_task() {
    const ROWS: u64 = 20_000;
    Log::of_workers();
    let runtime = runtime(Config::default(), &["speaker"]).await;
    Literal::new(ROWS).map(&Report).run(&runtime).await.unwrap();
    let mut lines = Log::of_workers().lines();
    lines.retain(|line| line["target"] == "palfrey::progress");
    for (line, done) in [(lines.first(), 0), (lines.last(), ROWS)] {
        let line = line.expect("it reports");
        let stage = "speaker/report";
        let expected = json!({ "message": "progress", "stage": stage, "done": done, "total": ROWS, "unit": "rows" });
        assert_eq!(line["fields"], expected);
        assert_eq!(line["spans"][0]["operation"], "speaker/report");
        job_and_task(line);
    }
    assert!(lines.len() < 1_000, "reports are thinned out: {}", lines.len());
}
