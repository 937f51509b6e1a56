//! What an operator sees of workers and jobs, and what they do with them, by the command line.

use digest::Mine;
use futures::TryStreamExt;
use palfrey_host::{JobError, directive::*};
use palfrey_sdk::Blob;
use palfrey_tests::{World, soon};
use serde_json::Value;

use crate::batches_of;

/// More zero bits than anybody will find within a test.
const HOPELESS: Mine = Mine { bits: 60 };

async fn json(world: &World, arguments: &[&str]) -> Vec<Value> {
    serde_json::from_str(&world.done(&[arguments, &["--json"]].concat()).await).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_workers_and_jobs_cancels_a_job_and_drains_a_worker() {
    let world = World::new();
    assert_eq!(world.done(&["workers"]).await, "there are no workers; `palfrey worker` starts one\n");
    assert_eq!(world.done(&["jobs"]).await, "there are no jobs\n");
    let mut workers = world.workers::<2>(&["--slots", "1"]).await;
    world.deploy(&["digest"]).await;
    let runtime = world.runtime().await;
    let blocks = (0..20).map(|number| Blob::from(vec![number])).collect::<Vec<_>>();
    let results = IndexedStream::from(blocks).options(batches_of(1)).map(&HOPELESS).run(&runtime).await.unwrap();
    let job = tokio::spawn(results.try_collect::<Vec<_>>());

    let seen = soon(async {
        loop {
            let jobs = json(&world, &["jobs"]).await;
            if let [job] = &jobs[..]
                && job["running"] == 2
            {
                break job.clone();
            }
        }
    })
    .await;
    // Sixteen are in flight, of which two run.
    assert_eq!((&seen["done"], &seen["total"], &seen["queued"]), (&0.into(), &20.into(), &14.into()), "{seen}");
    assert_eq!(seen["operations"], serde_json::json!(["digest/mine"]), "{seen}");
    assert_eq!((&seen["pid"], &seen["remaining_seconds"]), (&std::process::id().into(), &Value::Null), "{seen}");
    let id = seen["job"].as_str().unwrap();
    let table = world.done(&["jobs"]).await;
    assert!(table.lines().nth(1).unwrap().contains("digest/mine"), "{table}");

    let busy = json(&world, &["workers"]).await;
    assert_eq!(busy.len(), 2);
    for worker in &busy {
        assert_eq!((&worker["slots"], &worker["running"], &worker["state"]), (&1.into(), &1.into(), &"taking".into()));
        assert_eq!((&worker["host"], &worker["user"]), (&"here".into(), &"tester".into()));
        assert_eq!((&worker["plugins"][0]["name"], &worker["running_by_job"][id]), (&"digest".into(), &1.into()));
    }

    for (command, expected) in [("cancel", "there is no job `zz`"), ("drain", "there is no worker `zz`")] {
        let refused = world.palfrey(&[command, "zz"]).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (4, ""), "{}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    }
    let told = world.done(&["cancel", id]).await;
    assert!(
        told.starts_with(&format!("cancelled {id} of ")) && told.ends_with("0 of 20 elements were done\n"),
        "{told}"
    );
    let error = soon(job).await.unwrap().unwrap_err();
    assert!(matches!(&error, JobError::Cancelled { by } if by == "tester@here"), "{error}");

    let leaving = busy[0]["worker"].as_str().unwrap();
    let told = world.done(&["drain", &leaving[..12]]).await;
    assert!(told.starts_with(&format!("worker {leaving} of palfrey[")), "{told}");
    let pid = busy[0]["pid"].as_u64().unwrap();
    assert!(told.contains(&format!("palfrey[{pid}] of tester@here finishes ")), "{told}");
    let (ended, other) = {
        let (first, second) = workers.split_at_mut(1);
        let (first, second) = (&mut first[0], &mut second[0]);
        soon(async {
            loop {
                match (first.is_running(), second.is_running()) {
                    (false, true) => break (first, second),
                    (true, false) => break (second, first),
                    (true, true) => tokio::task::yield_now().await,
                    (false, false) => panic!("both have ended"),
                }
            }
        })
        .await
    };
    assert_eq!(ended.ended().await, 0);
    assert!(ended.log().has(&["told to end", "by=\"tester@here\""]), "{}", ended.log());
    let rest = json(&world, &["workers"]).await;
    assert_eq!(rest.len(), 1);
    assert_ne!(rest[0]["worker"], leaving);
    assert_eq!((&rest[0]["running"], &rest[0]["waiting"]), (&0.into(), &0.into()));
    assert!(other.is_running());
    assert!(json(&world, &["jobs"]).await.is_empty());
}
