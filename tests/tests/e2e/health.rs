//! How a worker is, as probes and the service manager are told.

use std::sync::Arc;

use futures::TryStreamExt;
use palfrey_host::directive::*;
use palfrey_rabbitmq::{Node, NodeError, Resource};
use palfrey_tests::{Worker, World, soon};
use probe_1::Stamp;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixDatagram},
    sync::watch,
};

use crate::batches_of;

async fn during(node: &Arc<Node>, work: impl FnOnce(&Node) -> Result<(), NodeError> + Send + 'static) {
    let node = node.clone();
    tokio::task::spawn_blocking(move || work(&node)).await.unwrap().unwrap();
}

/// Where a worker answers probes.
pub(crate) struct Probes(String);

impl Probes {
    pub(crate) async fn of(worker: &Worker) -> Self {
        let line = worker.log().until(&["answering /livez and /readyz"]).await;
        Self(line.split_once("address=").unwrap().1.trim().to_owned())
    }

    /// Sends a request, and returns what it got: the status and the body.
    async fn request(&self, request: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.0).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        soon(stream.read_to_string(&mut response)).await.unwrap();
        let status = response.split(' ').nth(1).unwrap().parse().unwrap();
        let body = response.split_once("\r\n\r\n").unwrap().1;
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.request(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.0)).await
    }

    /// Asks until the answer is of this status, and a check says so.
    pub(crate) async fn until(&self, status: u16, check: &str, text: &str) -> Value {
        soon(async {
            loop {
                let (got, body) = self.get("/readyz").await;
                if got == status && body["checks"][check].as_str().is_some_and(|said| said.contains(text)) {
                    return body;
                }
            }
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_ready_as_long_as_its_broker_is_of_use_and_alive_all_the_time() {
    let node = Arc::new(Node::start().unwrap());
    let world = World::at(node.uri());
    let mut worker = world.worker(&["--slots", "1", "--health-listen", "127.0.0.1:0"]).await;
    world.deploy(&["probe-1"]).await;
    let probes = Probes::of(&worker).await;
    let ready = probes.until(200, "tasks", "ok").await;
    assert_eq!(ready["checks"], serde_json::json!({ "broker": "ok", "registry": "ok", "tasks": "ok", "loop": "ok" }));
    assert_eq!(probes.get("/livez").await.0, 200);
    assert_eq!(probes.get("/").await.0, 404);
    assert_eq!(probes.request("POST /livez HTTP/1.1\r\n\r\n").await.0, 405);
    assert_eq!(probes.request("HEAD /readyz HTTP/1.1\r\n\r\n").await, (200, Value::Null));
    assert_eq!(probes.request("nonsense\r\n\r\n").await.0, 400);

    during(&node, Node::stop).await;
    let away = probes.until(503, "broker", "lost").await;
    assert!(away["checks"]["registry"].as_str().unwrap().contains("without a broker"), "{away}");
    assert_eq!(probes.get("/livez").await.0, 200, "a broker that is away is no reason to start anew");
    during(&node, Node::restart).await;
    probes.until(200, "broker", "ok").await;

    // An alarm, while tasks are under way: their results wait.
    let runtime = world.runtime().await;
    let (progress, mut done) = watch::channel(0);
    let options = batches_of(1).on_progress(move |progressed| _ = progress.send_replace(progressed.done));
    let source = IndexedStream::from(0..60_u64).options(options);
    let results = source.map(&Stamp { work: 200_000_000 }).run(&runtime).await.unwrap();
    let job = tokio::spawn(results.try_collect::<Vec<_>>());
    worker.log().until(&["stamping"]).await;
    during(&node, |node| node.raise_alarm(Resource::Memory)).await;
    probes.until(503, "broker", "alarm").await;
    let before = *done.borrow_and_update();
    during(&node, |node| node.clear_alarm(Resource::Memory)).await;
    probes.until(200, "broker", "ok").await;
    soon(done.wait_for(|&done| done > before)).await.unwrap();
    job.abort();

    let results = IndexedStream::from(0..1_u64).map(&Stamp::ENDLESS).run(&runtime).await.unwrap();
    let endless = tokio::spawn(results.try_collect::<Vec<_>>());
    soon(async { while json_workers(&world).await[0]["running"] != 1 {} }).await;
    worker.signal("TERM");
    probes.until(503, "tasks", "draining").await;
    assert_eq!(json_workers(&world).await[0]["state"], "draining");
    endless.abort();
    assert_eq!(worker.ended().await, 0);
}

async fn json_workers(world: &World) -> Vec<Value> {
    serde_json::from_str(&world.done(&["workers", "--json"]).await).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_named_and_nothing_listens_unless_it_is_asked_for() {
    let world = World::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut worker = world.start_worker(&["--health-listen", &address]);
    assert_eq!(worker.ended().await, 2);
    assert!(worker.log().has(&["cannot listen on", &address]), "{}", worker.log());
    let quiet = world.worker(&[]).await;
    assert!(!quiet.log().has(&["answering"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_is_told_when_a_worker_takes_tasks_that_it_lives_and_that_it_ends() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    let told = async || {
        let mut message = [0; 256];
        let length = soon(manager.recv(&mut message)).await.unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    let environment = [("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "4000000")];
    let mut worker = world.start_worker_in(&["--slots", "1"], &environment);
    // It may have shown that it lives before.
    let mut message = told().await;
    while message == "WATCHDOG=1\n" {
        message = told().await;
    }
    assert_eq!(message, "READY=1\nSTATUS=taking tasks\n");
    let runtime = world.runtime().await;
    assert_eq!(runtime.task_channel().status().await.unwrap().consumers, 1, "it takes tasks when it says so");
    for _ in 0..2 {
        assert_eq!(told().await, "WATCHDOG=1\n");
    }
    worker.signal("TERM");
    let mut message = told().await;
    while message == "WATCHDOG=1\n" {
        message = told().await;
    }
    assert!(message.starts_with("STOPPING=1\n"), "{message}");
    assert_eq!(worker.ended().await, 0);
}
