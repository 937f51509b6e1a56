//! Records what real operations take, element by element: nanoseconds of an instance each, a line for each element.
//!
//! `record mine` looks for nonces in 3,000 blocks, `record words DIR` counts the words of the first 3,000 Rust sources below a folder, in
//! the order of their names. Their output is `tests/simulator/traces/mine.txt` and `words.txt`. The plugins have to be there:
//! `cargo xtask plugins`.

use std::{fs, num::NonZeroUsize, path::Path};

use anyhow::{Result, bail, ensure};
use digest::Mine;
use futures::StreamExt;
use palfrey_host::{
    Config, Runtime,
    directive::*,
    task::{AnyTask, TaskOutcome},
};
use palfrey_sdk::Blob;
use palfrey_tests::{cache_dir, component, soon};
use text::WordCount;
use tokio_util::sync::CancellationToken;

const ELEMENTS: usize = 3000;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["mine"] => {
            let blocks = (0..ELEMENTS as u64).map(|number| Blob::from(number.to_le_bytes().to_vec()));
            record("digest", &Mine { bits: 12 }, blocks.collect()).await
        }
        ["words", folder] => {
            let mut texts = Vec::new();
            read_sources(Path::new(folder), &mut texts)?;
            record("text", &WordCount, texts).await
        }
        _ => bail!("usage: record mine | record words DIR"),
    }
}

fn read_sources(folder: &Path, texts: &mut Vec<String>) -> Result<()> {
    let mut entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    entries.sort();
    for path in entries {
        if texts.len() == ELEMENTS {
            break;
        } else if path.is_dir() {
            read_sources(&path, texts)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            // What is not UTF-8 is no text.
            texts.extend(fs::read_to_string(&path));
        }
    }
    Ok(())
}

async fn record<Op>(plugin: &str, operation: &Op, elements: Vec<Op::Input>) -> Result<()>
where
    Op: MapStage<Input: Element + Clone + 'static, Output: Element + 'static>,
{
    let config =
        Config { workers: 0, slots: Some(NonZeroUsize::MIN), cache_dir: Some(cache_dir()), ..Config::default() };
    let runtime = Runtime::from_config(&config).await?;
    runtime.deploy(component(plugin)).await?;
    let worker = runtime.worker_in_memory().expect("it is in memory");
    let mut tasks = worker.get_task_receiver().await?;
    // A task as it is sent, of which the inputs are others.
    let first = elements.first().cloned();
    let mut results = IndexedStream::from(first.into_iter().collect::<Vec<_>>()).map(operation).run(&runtime).await?;
    ensure!(futures::poll!(results.next()).is_pending(), "nobody has executed it");
    let (task, _kept) = soon(tasks.next()).await.expect("it was sent");
    for element in elements {
        let mut bytes = Vec::new();
        element.append(task.serializer, &mut bytes)?;
        let inputs = [bytes].into_iter().collect();
        let task = AnyTask { inputs, ..task.clone() };
        let (outcome, time) = worker.execute(&task, &CancellationToken::new()).await;
        ensure!(matches!(outcome, TaskOutcome::Executed { .. }), "it failed: {outcome:?}");
        println!("{}", time.as_nanos());
    }
    Ok(())
}
