//! The plugins of this repository: as a component, each operation is the function that it is natively.

use std::{cell::RefCell, collections::BTreeSet, fmt::Debug};

use arith::{Divide, FibAt, Flaky, MultiplyBy, Product, Sum};
use digest::{Mine, Sha256};
use fractal::{MandelbrotTile, Tile};
use palfrey_host::{Config, Runtime, directive::*};
use palfrey_sdk::{Blob, Monoid, RemoteExecute, Serializer};
use text::{CharToString, Concat, MergeCounts, WordCount};

use crate::runtime;

/// A plugin, deployed once for each encoding, and the operations of it that were compared.
struct Comparison {
    runtimes: Vec<Runtime>,
    compared: RefCell<BTreeSet<&'static str>>,
}

impl Comparison {
    async fn of(plugin: &str) -> Self {
        let mut runtimes = Vec::new();
        for serializer in [Serializer::Postcard, Serializer::Cbor] {
            runtimes.push(runtime(Config { serializer, ..Config::default() }, &[plugin]).await);
        }
        Self { runtimes, compared: RefCell::default() }
    }

    /// Checks that a component maps the inputs as the type itself does.
    async fn map<Op>(&self, operation: Op, inputs: impl IntoIterator<Item = Op::Input>)
    where
        Op: RemoteExecute,
        Op::Input: Clone + Element,
        Op::Output: Element + PartialEq + Debug,
    {
        self.compared.borrow_mut().insert(Op::NAME);
        let inputs: Vec<_> = inputs.into_iter().collect();
        let expected: Vec<_> = inputs.iter().map(|input| operation.execute(input.clone()).unwrap()).collect();
        for runtime in &self.runtimes {
            let results = IndexedStream::from(inputs.clone()).map(&operation).run(runtime).await.unwrap();
            assert_eq!(results.into_values_sorted().await.unwrap(), expected, "{}", Op::NAME);
        }
    }

    /// Checks that a component folds the elements as the type itself does, and nothing to the same identity.
    async fn fold<M>(&self, monoid: M, elements: impl IntoIterator<Item = M::Elem>)
    where
        M: Monoid + RemoteExecute,
        M::Elem: Clone + Element + PartialEq + Debug,
    {
        self.compared.borrow_mut().insert(M::NAME);
        let elements: Vec<_> = elements.into_iter().collect();
        for length in 0..=elements.len() {
            let elements = &elements[..length];
            let combine = |left, right: &M::Elem| monoid.combine(left, right.clone()).unwrap();
            let expected = elements.iter().fold(monoid.empty(), combine);
            for runtime in &self.runtimes {
                let folded = IndexedStream::from(elements.to_vec()).fold(&monoid).run(runtime).await.unwrap();
                assert_eq!(folded, expected, "{}", M::NAME);
            }
        }
    }

    /// Checks that the component fails on an input with the same message as the type itself.
    async fn failure<Op>(&self, operation: Op, input: Op::Input)
    where
        Op: RemoteExecute,
        Op::Input: Clone + Element + 'static,
        Op::Output: Element + Debug,
    {
        let expected = operation.execute(input.clone()).unwrap_err().to_string();
        for runtime in &self.runtimes {
            let error = Literal::new(input.clone()).map(&operation).run(runtime).await.unwrap_err();
            assert_eq!(error.execution().expect("it failed on a worker").message, expected, "{}", Op::NAME);
        }
    }

    /// Checks that no operation was forgotten.
    fn finish(self) {
        let [plugin] = &self.runtimes[0].registry().list()[..] else { panic!("one plugin is deployed") };
        let deployment = plugin.active().unwrap();
        let operations = deployment.description.operations.iter().map(|operation| operation.name.as_str());
        assert_eq!(operations.collect::<BTreeSet<_>>(), self.compared.into_inner());
    }
}

#[tokio::test]
async fn arithmetic_is_the_same_in_a_component() {
    let arith = Comparison::of("arith").await;
    arith.map(FibAt, [0, 1, 2, 10, 93]).await;
    arith.failure(FibAt, 94).await;
    arith.map(MultiplyBy(3), [0, 1, u64::MAX / 3]).await;
    arith.failure(MultiplyBy(3), u64::MAX).await;
    arith.fold(Sum, [1, 2, u64::MAX - 3]).await;
    arith.map(Sum, [(1, 2), (0, u64::MAX)]).await;
    arith.failure(Sum, (1, u64::MAX)).await;
    arith.fold(Product, [2, 3, 1 << 60]).await;
    arith.failure(Product, (2, u64::MAX)).await;
    arith.map(Divide, [(7, 2), (0, 5), (u64::MAX, 1)]).await;
    arith.failure(Divide, (7, 0)).await;
    arith.map(Flaky { failures: 0 }, [0, 7, u64::MAX]).await;
    arith.finish();
}

#[tokio::test]
async fn texts_are_the_same_in_a_component() {
    let text = Comparison::of("text").await;
    let texts =
        ["", "one fine day, one rainy day", "Übermaß, слово；言葉 🦀", include_str!("plugins.rs")].map(str::to_owned);
    text.map(WordCount, texts.clone()).await;
    let counts = |text: &String| palfrey_sdk::Operation::execute(&WordCount, text.clone()).unwrap();
    text.fold(MergeCounts, texts.each_ref().map(counts)).await;
    text.fold(Concat, texts).await;
    text.map(CharToString, ['a', 'ß', '言', '🦀', '\0', char::MAX]).await;
    text.finish();
}

#[tokio::test]
async fn digests_are_the_same_in_a_component() {
    let digest = Comparison::of("digest").await;
    let bytes = [0, 1, 55, 56, 64, 100_000].map(|length| Blob((0..length).map(|n| n as u8).collect()));
    digest.map(Sha256, bytes.clone()).await;
    digest.map(Mine { bits: 0 }, bytes.clone()).await;
    digest.map(Mine { bits: 9 }, bytes).await;
    digest.finish();
}

#[tokio::test]
async fn pictures_are_the_same_in_a_component() {
    let fractal = Comparison::of("fractal").await;
    let picture = MandelbrotTile::whole(96, 64);
    let tiles = (0..64).step_by(16).map(|y| Tile { x: 0, y, width: 96, height: 16 });
    fractal.map(picture.clone(), tiles).await;
    fractal.map(picture.clone(), [Tile { x: 96, y: 64, width: 0, height: 0 }]).await;
    fractal.failure(picture, Tile { x: 90, y: 0, width: 7, height: 1 }).await;
    // A few bytes go in, and many megabytes come out.
    let large = Tile { x: 0, y: 0, width: 2048, height: 512 };
    fractal.map(MandelbrotTile { max_iterations: 10, ..MandelbrotTile::whole(2048, 512) }, [large]).await;
    fractal.finish();
}
