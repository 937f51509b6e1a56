//! The operations as functions.

use arith::{Divide, FibAt, Flaky, MultiplyBy, Product, Sum};
use palfrey_sdk::{FatalStrategy, Kind, Monoid, Operation, OperationError, RemoteExecute, Result, RetryStrategy};

fn assert_fatal<T: std::fmt::Debug>(result: Result<T>, message: &str) {
    match result {
        Err(OperationError::Fatal(error)) => {
            assert_eq!((error.strategy(), error.to_string().as_str()), (FatalStrategy::Terminate, message));
        }
        other => panic!("{other:?} instead of: {message}"),
    }
}

#[test]
fn fibonacci_numbers_begin_with_zero_and_one_and_add_up_to_143() -> Result<()> {
    assert_eq!([0, 1, 2, 3, 10].map(|index| FibAt.execute(index).ok()), [0, 1, 1, 2, 55].map(Some));
    let mut sum = Sum.empty();
    for index in 1..=10 {
        sum = Sum.combine(sum, FibAt.execute(index)?)?;
    }
    assert_eq!(sum, 143);
    Ok(())
}

#[test]
fn the_largest_fibonacci_number_of_64_bits_is_the_93rd() -> Result<()> {
    assert_eq!(FibAt.execute(93)?, 12_200_160_415_121_876_738);
    assert_fatal(FibAt.execute(94), "the Fibonacci number at 94 exceeds 64 bits");
    assert_fatal(FibAt.execute(u64::MAX), "the Fibonacci number at 18446744073709551615 exceeds 64 bits");
    Ok(())
}

#[test]
fn nothing_wraps_around() {
    assert_eq!(MultiplyBy(3).execute(7).ok(), Some(21));
    assert_fatal(MultiplyBy(2).execute(1 << 63), "2 times 9223372036854775808 exceeds 64 bits");
    assert_fatal(Sum.combine(u64::MAX, 1), "18446744073709551615 plus 1 exceeds 64 bits");
    assert_fatal(Product.execute((u64::MAX, 2)), "18446744073709551615 times 2 exceeds 64 bits");
}

#[test]
fn division_by_zero_is_fatal() {
    assert_eq!(Divide.execute((7, 2)).ok(), Some(3));
    assert_fatal(Divide.execute((7, 0)), "7 cannot be divided by zero");
}

#[test]
fn flaky_fails_transiently_until_it_was_tried_often_enough() {
    assert_eq!(Flaky { failures: 0 }.execute(5).ok(), Some(5));
    match (Flaky { failures: 1 }).execute(5) {
        Err(OperationError::Transient(error)) => {
            assert_eq!(error.retry(), RetryStrategy::Immediate { max_retries: 10 });
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn operations_are_named_after_their_types() {
    assert_eq!((FibAt::PLUGIN, FibAt::NAME, FibAt::descriptor().kind), ("arith", "fib-at", Kind::Operation));
    assert_eq!((Sum::NAME, Sum::descriptor().kind), ("sum", Kind::Monoid));
    assert_eq!(MultiplyBy::SUMMARY, "Multiplies by a constant.");
}
