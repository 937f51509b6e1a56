//! What the steps of a small task cost, each by itself: `cargo xtask bench --inner`.
//!
//! The medians that were kept are in `inner.json`, one folder up; `cargo xtask bench --accept --inner` keeps those of today. On a
//! machine of one's own `--inner --save-baseline before`, and `--baseline before` after a change, say more.

use std::{hint::black_box, sync::Arc};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures::StreamExt as _;
use palfrey_host::{
    channel::{ChannelFactory, ChannelType, coordinated},
    engine::{Call, Engine, EngineConfig},
    queue::{
        Connection as _, QueueKind, QueueSpec,
        amqp::{Amqp, AmqpOptions},
        in_memory::InMemory,
    },
    task::{
        AnyTask, AnyTaskResult, Apply, Digest, OperationId, Packed, PackedBuilder, Stage, TaskId, TaskOutcome,
        WorkerReport, wire::Message as _,
    },
};
use palfrey_schedule::{BatchRule, Executed, FoldTree, Phase};
use palfrey_sdk::Serializer;

/// One, and what a batch of something that takes no time grows to.
const SIZES: [u64; 2] = [1, 32_768];

fn packed(elements: u64) -> Packed {
    let mut builder = PackedBuilder::default();
    for element in 0..elements {
        builder.push_with(|buffer| Serializer::Postcard.append(&element, buffer)).expect("a number can be encoded");
    }
    builder.build()
}

fn task(inputs: Packed) -> AnyTask {
    let stage = Stage {
        operation: OperationId::new("operations-000", "same"),
        digest: Digest::of(b"a component"),
        config: Bytes::new(),
        apply: Apply::Map,
    };
    AnyTask {
        routing_key: "0198c0ffee0198c0ffee0198c0ffee01@palfrey.0198c0ffee".into(),
        id: TaskId(7),
        metadata: Bytes::new(),
        serializer: Serializer::Postcard,
        attempt: 0,
        stages: vec![stage],
        inputs,
    }
}

fn result(task: &AnyTask) -> AnyTaskResult {
    AnyTaskResult {
        routing_key: task.routing_key.clone(),
        id: task.id,
        metadata: Bytes::new(),
        serializer: task.serializer,
        report: WorkerReport::default(),
        outcome: TaskOutcome::Executed { outputs: task.inputs.clone(), failed: Vec::new() },
    }
}

fn packing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packing");
    for elements in SIZES {
        group.throughput(Throughput::Elements(elements));
        group.bench_function(elements.to_string(), |bencher| bencher.iter(|| packed(black_box(elements))));
    }
}

fn wire(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    for elements in SIZES {
        let task = task(packed(elements));
        let (sent, answered) = (task.encode(), result(&task).encode());
        group.throughput(Throughput::Elements(elements));
        group.bench_function(format!("encode a task of {elements}"), |bencher| bencher.iter(|| task.encode()));
        group.bench_function(format!("decode a task of {elements}"), |bencher| {
            bencher.iter(|| AnyTask::decode(sent.clone()).expect("it was encoded"));
        });
        group.bench_function(format!("decode a result of {elements}"), |bencher| {
            bencher.iter(|| AnyTaskResult::decode(answered.clone()).expect("it was encoded"));
        });
    }
}

fn executing(criterion: &mut Criterion) {
    let component = std::env::var("PALFREY_BENCH_COMPONENT").expect("`cargo xtask bench --inner` sets it");
    let component = std::fs::read(&component).unwrap_or_else(|error| panic!("{component}: {error}"));
    let engine = Engine::new(&EngineConfig::default()).expect("there is address space for a slot");
    let plugin = engine.load(&component).expect("it is a plugin");
    let limits = engine.limits_for(&OperationId::new("operations-000", "same"));
    let mut group = criterion.benchmark_group("a fresh instance");
    for elements in SIZES {
        let inputs = packed(elements);
        group.throughput(Throughput::Elements(elements));
        group.bench_function(format!("map {elements}"), |bencher| {
            bencher.iter(|| plugin.map(&Call::new("same", &[], limits), &inputs).expect("nothing stops it"));
        });
        group.bench_function(format!("fold {elements}"), |bencher| {
            bencher.iter(|| plugin.fold(&Call::new("sum", &[], limits), &inputs).expect("nothing stops it"));
        });
    }
    group.finish();
    let tokio = tokio::runtime::Builder::new_current_thread().build().expect("it needs nothing");
    criterion.bench_function("to the thread of a slot and back", |bencher| {
        bencher.iter(|| tokio.block_on(engine.run(|| black_box(7))));
    });
}

mod contract {
    #![allow(missing_docs, unreachable_pub, reason = "it is generated")]
    wasmtime::component::bindgen!({ path: "../../wit", world: "plugin" });
}

/// What a call takes without an instance of its own: wasmtime's share that is left.
fn calling_again(criterion: &mut Criterion) {
    use contract::{Plugin, exports::palfrey::plugin::operations::Packed};
    use wasmtime::{
        Config, Engine, Store,
        component::{Component, Linker},
    };

    let mut config = Config::new();
    config.epoch_interruption(true).cranelift_nan_canonicalization(true).concurrency_support(false);
    let engine = Engine::new(&config).expect("there is nothing special");
    let component = std::env::var("PALFREY_BENCH_COMPONENT").expect("`cargo xtask bench --inner` sets it");
    let component = Component::from_file(&engine, component).expect("it is a component");
    let mut linker = Linker::new(&engine);
    linker.define_unknown_imports_as_traps(&component).expect("traps suit everything");
    let mut store = Store::new(&engine, ());
    store.set_epoch_deadline(1);
    let plugin = Plugin::instantiate(&mut store, &component, &linker).expect("it is a plugin");
    let mut group = criterion.benchmark_group("the same instance again, bare wasmtime");
    for elements in SIZES {
        let inputs = packed(elements);
        let inputs = Packed { bytes: inputs.bytes().to_vec(), ends: inputs.ends().to_vec() };
        group.throughput(Throughput::Elements(elements));
        group.bench_function(format!("map {elements}"), |bencher| {
            bencher.iter(|| {
                let operations = plugin.palfrey_plugin_operations();
                operations.call_map(&mut store, "same", &[], "postcard", &inputs).expect("nothing stops it")
            });
        });
    }
}

/// One message to the broker and back: published and confirmed, delivered and acknowledged.
fn through_the_broker(criterion: &mut Criterion) {
    let uri = std::env::var("PALFREY_BENCH_AMQP_URI").expect("`cargo xtask bench --inner` sets it");
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let tokio = tokio.expect("it needs nothing");
    let (publisher, mut deliveries, _connection) = tokio.block_on(async {
        let connection = Amqp::connect(&uri, AmqpOptions::default()).await.expect("the broker is there");
        let queue = connection.declare(&QueueSpec::new("inner", QueueKind::Tasks)).await.expect("it may be made");
        let publisher = queue.publisher().await.expect("it is connected");
        (publisher, queue.consumer(16).await.expect("it is connected"), connection)
    });
    let message = task(packed(1)).encode();
    criterion.bench_function("a message of a task through RabbitMQ", |bencher| {
        bencher.iter(|| {
            tokio.block_on(async {
                let (sent, delivery) = tokio::join!(publisher.publish(message.clone()), deliveries.next());
                sent.expect("the broker takes it");
                delivery.expect("it was sent").acker.ack().await.expect("it is connected");
            });
        });
    });
}

/// Sending a task, receiving it, answering, and dropping a second answer.
fn coordinating(criterion: &mut Criterion) {
    const TASKS: u64 = 256;
    let tokio = tokio::runtime::Builder::new_current_thread().build().expect("it needs nothing");
    let mut group = criterion.benchmark_group("coordinated channel in memory");
    group.throughput(Throughput::Elements(TASKS));
    group.bench_function("a task and two results", |bencher| {
        bencher.iter(|| {
            tokio.block_on(async {
                let channels = ChannelFactory::new(Arc::new(InMemory::new()), u16::MAX);
                let bus = channels.get::<AnyTask>("bus", ChannelType::ExactlyOnce).await.expect("it is in memory");
                let (job, results) = channels.issue::<AnyTaskResult>().await.expect("it is in memory");
                let results = results.receiver().await.expect("it is in memory");
                let (mut sender, mut results) = coordinated(bus.sender().await.expect("it is in memory"), results);
                for _ in 0..TASKS {
                    let task = AnyTask { routing_key: job.clone(), ..task(packed(1)) };
                    sender.publish(task, ()).await.expect("it is in memory");
                }
                sender.close();
                let mut tasks = bus.receiver().await.expect("it is in memory");
                let answers = channels.leased::<AnyTaskResult>(&job).sender().await.expect("it is in memory");
                for _ in 0..TASKS {
                    let (task, acker) = tasks.next().await.expect("it was sent");
                    for _ in 0..2 {
                        answers.publish(&result(&task)).await.expect("it is in memory");
                    }
                    acker.ack().await.expect("it is in memory");
                }
                let mut seen = 0;
                while let Some(settled) = results.next().await {
                    settled.acker.ack().await.expect("it is in memory");
                    seen += 1;
                }
                assert_eq!(seen, TASKS);
            });
        });
    });
}

fn deciding(criterion: &mut Criterion) {
    const PARTIALS: u64 = 10_000;
    let mut group = criterion.benchmark_group("decisions");
    group.throughput(Throughput::Elements(PARTIALS));
    group.bench_function("fold tree, a partial result", |bencher| {
        bencher.iter_batched(
            FoldTree::default,
            |mut tree| {
                // Every second one first, so that neighbours are found late.
                for start in (0..PARTIALS).step_by(2).chain((1..PARTIALS).step_by(2)) {
                    tree.insert(start..start + 1, (), 100);
                    while let Some((range, _)) = tree.take_run(Phase::Busy) {
                        let bytes = (range.end - range.start) as usize;
                        tree.insert(range, (), bytes);
                    }
                }
                tree
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("batch rule, a batch", |bencher| {
        bencher.iter(|| {
            let mut rule = BatchRule::new(palfrey_schedule::BatchSize::Measured);
            for remaining in (0..PARTIALS).rev() {
                let size = rule.next(Some(remaining << 10), 64);
                let execution = std::time::Duration::from_micros(size as u64);
                rule.observe(&Executed { elements: size, output: size * 8, execution, ..Executed::default() }, 64);
            }
            rule
        });
    });
}

criterion_group!(inner, packing, wire, executing, calling_again, coordinating, through_the_broker, deciding);
criterion_main!(inner);
