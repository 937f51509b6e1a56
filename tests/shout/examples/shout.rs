use palfrey_host::{Runtime, directive::*};
use shout::Shout;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let runtime = Runtime::in_memory().await?;
    runtime.deploy(std::fs::read("target/wasm32-wasip2/release/shout.wasm")?).await?;
    let words = ["how", "do", "you", "do"].map(String::from);
    let shouted = IndexedStream::from(words).map(&Shout { marks: 2 }).run(&runtime).await?;
    println!("{:?}", shouted.into_values_sorted().await?);
    Ok(())
}
