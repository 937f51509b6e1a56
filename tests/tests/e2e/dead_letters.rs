//! Tasks that could not be processed, as an operator sees them.

use arith::MultiplyBy;
use futures::StreamExt;
use palfrey_host::{
    directive::*,
    queue::{Connection, DELIVERY_LIMIT, QueueKind, QueueSpec},
    task::Cause,
};
use palfrey_tests::{World, soon};
use probe_1::Stamp;
use serde_json::Value;

async fn list(world: &World) -> Vec<Value> {
    serde_json::from_str(&world.done(&["dead", "list", "--json"]).await).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_listed_shown_requeued_in_vain_and_dropped() {
    let world = World::new();
    assert_eq!(world.done(&["dead", "list"]).await, "there are no dead letters\n");
    let worker = world.worker(&["--slots", "1"]).await;
    let connection = world.connection().await;
    let bus = connection.handle(&QueueSpec::new("default", QueueKind::Tasks));
    let publisher = bus.publisher().await.unwrap();
    for garbage in ["garbage", "rubbish"] {
        publisher.publish(garbage.into()).await.unwrap();
    }
    let dead = connection.handle(&bus.spec().dead_letters().unwrap());
    let until = async |count| while dead.status().await.unwrap().messages != count {};
    soon(until(2)).await;

    // Looking at them changes nothing.
    for _ in 0..2 {
        let letters = list(&world).await;
        let sizes: Vec<_> = letters.iter().map(|letter| letter["size"].as_u64().unwrap()).collect();
        assert_eq!((letters.len(), sizes), (2, vec![7, 7]));
        assert!(letters.iter().all(|letter| letter["task"].is_null() && letter["since"].is_string()), "{letters:?}");
        assert!(letters.iter().all(|letter| letter["attempts"] == 0), "{letters:?}");
    }
    let letters = list(&world).await;
    let named = |reason: &str| {
        let letter = letters.iter().find(|it| it["reason"].as_str().unwrap().contains(reason)).unwrap();
        letter["name"].as_str().unwrap()
    };
    // The first byte is the version of the format.
    let (garbage, rubbish) = (named("format version 103"), named("format version 114"));
    let table = world.done(&["dead", "list"]).await;
    assert!(
        table.lines().any(|line| line.trim_start().starts_with(garbage) && line.contains("format version 103")),
        "{table}"
    );
    let sheet = world.done(&["dead", "show", &garbage[..6]]).await;
    assert!(sheet.contains("from default to default.dead"), "{sheet}");
    assert!(
        sheet.contains(&format!("bytes     {}", "garbage".bytes().map(|b| format!("{b:02x}")).collect::<String>()))
    );

    let refused = world.palfrey(&["dead", "requeue", "zzzz"]).await;
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains("there is no dead letter `zzzz`"), "{}", refused.stderr);
    assert_eq!(world.palfrey(&["dead", "drop"]).await.code, 2, "it wants names or --yes");
    assert_eq!(list(&world).await.len(), 2);

    // It is what it was, and dies again.
    let told = world.done(&["dead", "requeue", garbage]).await;
    assert!(told.starts_with(&format!("requeued {garbage}: the message has format version 103")), "{told}");
    soon(until(2)).await;
    assert!(worker.log().words_after("size=").len() >= 3);
    let told = world.done(&["dead", "drop", rubbish]).await;
    assert!(told.starts_with(&format!("dropped {rubbish}: ")), "{told}");
    assert_eq!(list(&world).await.iter().map(|it| it["name"].as_str().unwrap()).collect::<Vec<_>>(), [garbage]);
    world.done(&["dead", "drop", "--yes"]).await;
    assert!(list(&world).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_no_worker_survived_is_requeued_exactly_as_it_was_and_its_job_goes_on() {
    let world = World::new();
    world.deploy(&["arith"]).await;
    let runtime = world.runtime().await;
    let job = tokio::spawn(async move {
        let source = IndexedStream::from(1..=3_u64).options(crate::batches_of(3));
        source.map(&MultiplyBy(7)).run(&runtime).await?.into_values_sorted().await
    });
    // Somebody takes it and goes away, again and again.
    let connection = world.connection().await;
    let bus = connection.handle(&QueueSpec::new("default", QueueKind::Tasks));
    let mut tasks = bus.consumer(1).await.unwrap();
    let mut payload = None;
    for _ in 0..=DELIVERY_LIMIT {
        let task = soon(tasks.next()).await.unwrap();
        payload = Some(task.payload.clone());
        task.acker.nack().await.unwrap();
    }
    drop(tasks);
    let dead = connection.handle(&bus.spec().dead_letters().unwrap());
    soon(async { while dead.status().await.unwrap().messages == 0 {} }).await;

    let letters = list(&world).await;
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!(letter["size"], payload.unwrap().len());
    assert!(letter["attempts"].is_null(), "who took it may have begun with it, or not: {letter}");
    assert_eq!((&letter["task"]["elements"], &letter["task"]["attempt"]), (&3.into(), &0.into()), "{letter}");
    assert_eq!(letter["task"]["stages"][0]["operation"], "arith/multiply-by");
    assert!(letter["task"]["stages"][0]["digest"].as_str().unwrap().starts_with("sha256:"));
    let sheet = world.done(&["dead", "show", letter["name"].as_str().unwrap()]).await;
    assert!(sheet.contains("map       arith/multiply-by of sha256:"), "{sheet}");

    let told = world.done(&["dead", "requeue", "--all"]).await;
    assert_eq!(told, format!("requeued {}: arith/multiply-by\n", letter["name"].as_str().unwrap()));
    assert!(list(&world).await.is_empty());
    let _worker = world.worker(&["--slots", "1"]).await;
    assert_eq!(soon(job).await.unwrap().unwrap(), [7, 14, 21]);
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_listed_with_its_history_and_executed_again_when_it_is_requeued() {
    let world = World::new();
    world.deploy(&["probe-1"]).await;
    let runtime = world.runtime().await;
    let job = tokio::spawn(async move { Literal::new(47).map(&Stamp::QUICK).run(&runtime).await.map(|_| ()) });
    let connection = world.connection().await;
    let dead = connection.declare(&QueueSpec::new("default.dead", QueueKind::Tasks)).await.unwrap();
    // Each worker dies of it, until one finds it guilty.
    let mut deaths = 0;
    loop {
        let mut doomed = world.start_failing_worker(&["--slots", "1"], "during-execution/probe/stamp=abort");
        let convicted = async { while dead.status().await.unwrap().messages == 0 {} };
        tokio::select! {
            _ = doomed.ended() => deaths += 1,
            () = convicted => break,
        }
    }
    let error = soon(job).await.unwrap().unwrap_err();
    let cause = &error.execution().unwrap().cause;
    let Cause::Poison { attempts } = cause else { panic!("{error}") };
    assert!(deaths >= *attempts && *attempts > 1, "{deaths} deaths, {attempts} attempts");

    let letters = list(&world).await;
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!(letter["task"]["stages"][0]["operation"], "probe/stamp");
    let moves: Vec<_> = letter["moves"].as_array().unwrap().iter().map(|it| &it["from"]).collect();
    assert_eq!(moves, ["default", "default.suspects"], "{letter}");
    assert!(letter["delivered"].as_u64().unwrap() >= u64::from(deaths), "{letter}");
    assert_eq!(letter["attempts"], *attempts, "{letter}");
    let table = world.done(&["dead", "list"]).await;
    let columns: Vec<_> = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(columns[0][4..6], ["ATTEMPTS", "DELIVERED"], "{table}");
    assert_eq!(columns[1][4..6], [attempts.to_string(), letter["delivered"].to_string()], "{table}");
    let name = letter["name"].as_str().unwrap();
    let sheet = world.done(&["dead", "show", name]).await;
    assert!(sheet.contains("from default to default.suspects") && sheet.contains("to default.dead"), "{sheet}");

    // A worker that it does not kill executes it as if for the first time. Its job has ended, and nobody wants the result.
    let worker = world.worker(&["--slots", "1"]).await;
    world.done(&["dead", "requeue", name]).await;
    worker.log().until(&["stamping 47"]).await;
    worker.log().until(&["nobody waits for the results of this job any more"]).await;
    assert!(list(&world).await.is_empty());
}
