//! Directives: values, order, laziness and back-pressure.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arith::{FibAt, MultiplyBy, Product, Sum};
use futures::{StreamExt, TryStreamExt, stream};
use palfrey_host::{Config, JobError, directive::*};
use palfrey_sdk::Serializer;
use text::{CharToString, Concat};

use crate::{fixed, runtime, two_workers};

#[tokio::test]
async fn values_come_back_in_the_order_of_the_source() {
    let runtime = two_workers().await;
    let results = IndexedStream::from(0..1000_u64).map(&MultiplyBy(3)).run(&runtime).await.unwrap();
    let expected: Vec<_> = (0..1000).map(|n| n * 3).collect();
    assert_eq!(results.into_values_sorted().await.unwrap(), expected);
}

#[tokio::test]
async fn each_value_comes_once_with_its_index() {
    let runtime = two_workers().await;
    let source = IndexedStream::from(0..500_u64).options(fixed(7));
    let mut results: Vec<_> = source.map(&MultiplyBy(2)).run(&runtime).await.unwrap().try_collect().await.unwrap();
    results.sort_unstable();
    assert_eq!(results, (0..500).map(|n| (n as usize, n * 2)).collect::<Vec<_>>());
}

#[tokio::test]
async fn fibonacci_numbers_add_up_to_143() {
    let runtime = two_workers().await;
    let sum = IndexedStream::from(1..=10).map(&FibAt).fold(&Sum).run(&runtime).await.unwrap();
    assert_eq!(sum, 143);
}

#[tokio::test]
async fn a_monoid_that_is_not_commutative_comes_out_in_order() {
    let runtime = two_workers().await;
    let letters: String = ('a'..='z').cycle().take(5000).collect();
    for options in [fixed(1), fixed(13), JobOptions::default()] {
        let chars: Vec<char> = letters.chars().collect();
        let source = IndexedStream::from(chars).options(options);
        let folded = source.map(&CharToString).fold(&Concat).run(&runtime).await.unwrap();
        assert_eq!(folded, letters);
    }
}

#[tokio::test]
async fn folding_nothing_is_the_identity() {
    let runtime = two_workers().await;
    assert_eq!(IndexedStream::from(Vec::<u64>::new()).fold(&Product).run(&runtime).await.unwrap(), 1);
    let nothing = IndexedStream::from(Vec::<char>::new()).map(&CharToString).fold(&Concat);
    assert_eq!(nothing.run(&runtime).await.unwrap(), "");
}

#[tokio::test]
async fn a_monoid_maps_over_pairs() {
    let runtime = two_workers().await;
    let pairs = IndexedStream::from([(1, 2), (3, 4)]).map(&Sum).run(&runtime).await.unwrap();
    assert_eq!(pairs.into_values_sorted().await.unwrap(), [3, 7]);
}

#[tokio::test]
async fn a_literal_maps() {
    let runtime = two_workers().await;
    assert_eq!(Literal::new(10).map(&FibAt).map(&MultiplyBy(2)).run(&runtime).await.unwrap(), 110);
    assert_eq!(Literal::new(5_u64).run(&runtime).await.unwrap(), 5);
}

#[tokio::test]
async fn a_directive_without_operations_is_its_source() {
    let runtime = two_workers().await;
    let values = IndexedStream::from(["a".to_owned(), "b".to_owned()]).run(&runtime).await.unwrap();
    assert_eq!(values.into_values_sorted().await.unwrap(), ["a", "b"]);
}

#[tokio::test]
async fn streams_and_fallible_streams_are_sources() {
    let runtime = two_workers().await;
    let streamed = IndexedStream::from_stream(stream::iter(1..=4_u64)).fold(&Product).run(&runtime).await.unwrap();
    assert_eq!(streamed, 24);

    let failing = stream::iter([Ok(1), Err(std::io::Error::other("disk on fire")), Ok(3)]);
    let error = IndexedStream::from_fallible_stream(failing).fold(&Sum).run(&runtime).await.unwrap_err();
    assert!(matches!(&error, JobError::Source(source) if source.to_string() == "disk on fire"), "{error}");
}

#[tokio::test]
async fn a_source_that_pauses_does_not_hold_back_what_it_has_given() {
    let runtime = two_workers().await;
    let (sender, receiver) = futures::channel::mpsc::unbounded();
    let mut results = IndexedStream::from_stream(receiver).map(&MultiplyBy(2)).run(&runtime).await.unwrap();
    for n in 1..=5_u64 {
        sender.unbounded_send(n).unwrap();
        assert_eq!(results.next().await.unwrap().unwrap(), (n as usize - 1, n * 2));
    }
    drop(sender);
    assert!(results.next().await.is_none());
}

#[tokio::test]
async fn an_endless_source_with_a_slow_reader_holds_a_bounded_number_of_tasks() {
    let runtime = two_workers().await;
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = taken.clone();
    let endless = std::iter::repeat_with(move || counted.fetch_add(1, Ordering::Relaxed) as u64);
    let options = fixed(2).in_flight(NonZeroUsize::new(8).unwrap());
    let mut results = IndexedStream::from(endless).options(options).map(&MultiplyBy(1)).run(&runtime).await.unwrap();
    assert_eq!(taken.load(Ordering::Relaxed), 0, "a directive is lazy");
    for read in 1..=100 {
        results.next().await.unwrap().unwrap();
        let taken = taken.load(Ordering::Relaxed);
        assert!(taken <= read + 2 * 8 + 2, "{taken} elements were taken when {read} were read");
    }
}

#[tokio::test]
async fn cbor_does_as_well() {
    let config = Config { serializer: Serializer::Cbor, ..Config::default() };
    let runtime = runtime(config, &["arith"]).await;
    let sum = IndexedStream::from(1..=10).map(&FibAt).map(&MultiplyBy(2)).fold(&Sum).run(&runtime).await.unwrap();
    assert_eq!(sum, 286);
}

#[tokio::test]
async fn progress_ends_at_the_number_of_elements() {
    let runtime = two_workers().await;
    let last = Arc::new(std::sync::Mutex::new(JobProgress::default()));
    let seen = last.clone();
    let options = JobOptions::default().on_progress(move |progress| *seen.lock().unwrap() = progress);
    let source = IndexedStream::from(0..300_u64).options(options);
    source.fold(&Sum).run(&runtime).await.unwrap();
    assert_eq!(*last.lock().unwrap(), JobProgress { done: 300, taken: 300, total: Some(300) });
}

#[tokio::test]
async fn operations_are_executed_by_id_without_their_types() {
    let runtime = two_workers().await;
    assert_eq!(runtime.call("arith/fib-at", &[][..], vec![10]).await.unwrap()[..], [55]);

    let (multiply_by, sum) = (
        OperationHandle::new("arith/multiply-by", Serializer::Postcard.to_bytes(&MultiplyBy(3)).unwrap()).unwrap(),
        OperationHandle::new("arith/sum@^0.1", &[][..]).unwrap(),
    );
    let inputs = [1_u8, 2, 3].map(|n| Encoded::from(vec![n]));
    let folded = IndexedStream::from(inputs).map(&multiply_by).fold(&sum).run(&runtime).await.unwrap();
    assert_eq!(folded.0[..], [18]);

    // Bytes have no types, and operations do.
    let divide = OperationHandle::new("arith/divide", &[][..]).unwrap();
    let source = IndexedStream::from([Encoded::from(vec![1])]);
    let Err(error) = source.map(&multiply_by).map(&divide).run(&runtime).await else { panic!("it takes pairs") };
    assert!(error.to_string().contains("takes `(u64, u64)`, and gets `u64` from `arith/multiply-by`"), "{error}");
}
