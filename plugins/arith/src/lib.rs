//! Arithmetic on whole numbers. Whoever overflows is told so.

use palfrey_sdk::{
    FatalError, Monoid, Operation, RemoteExecute, Result, RetryStrategy, Schema, TransientError, context,
};
use serde::{Deserialize, Serialize};

palfrey_sdk::registry!(FibAt, MultiplyBy, Sum, Product, Divide, Flaky);

/// Computes the Fibonacci number at an index: 0, 1, 1, 2, 3, 5, …
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct FibAt;

impl Operation for FibAt {
    type Input = u64;
    type Output = u64;

    fn execute(&self, index: u64) -> Result<u64> {
        let (mut current, mut next) = (0_u64, Some(1_u64));
        for _ in 0..index {
            let after = next.ok_or_else(|| overflow(format_args!("the Fibonacci number at {index}")))?;
            next = current.checked_add(after);
            current = after;
        }
        Ok(current)
    }
}

/// Multiplies by a constant.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct MultiplyBy(pub u64);

impl Operation for MultiplyBy {
    type Input = u64;
    type Output = u64;

    fn execute(&self, number: u64) -> Result<u64> {
        let product = self.0.checked_mul(number);
        Ok(product.ok_or_else(|| overflow(format_args!("{} times {number}", self.0)))?)
    }
}

/// Adds.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct Sum;

impl Monoid for Sum {
    type Elem = u64;

    fn empty(&self) -> u64 {
        0
    }

    fn combine(&self, left: u64, right: u64) -> Result<u64> {
        Ok(left.checked_add(right).ok_or_else(|| overflow(format_args!("{left} plus {right}")))?)
    }
}

/// Multiplies.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct Product;

impl Monoid for Product {
    type Elem = u64;

    fn empty(&self) -> u64 {
        1
    }

    fn combine(&self, left: u64, right: u64) -> Result<u64> {
        Ok(left.checked_mul(right).ok_or_else(|| overflow(format_args!("{left} times {right}")))?)
    }
}

/// Divides the first number of a pair by the second, rounding down.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct Divide;

impl Operation for Divide {
    type Input = (u64, u64);
    type Output = u64;

    fn execute(&self, (dividend, divisor): (u64, u64)) -> Result<u64> {
        let quotient = dividend.checked_div(divisor);
        Ok(quotient.ok_or_else(|| FatalError::msg(format!("{dividend} cannot be divided by zero")))?)
    }
}

/// Returns its input, after a given number of transient failures.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct Flaky {
    /// How often each element fails before it succeeds.
    pub failures: u32,
}

impl Operation for Flaky {
    type Input = u64;
    type Output = u64;

    fn execute(&self, number: u64) -> Result<u64> {
        let attempt = context::attempt();
        if attempt >= self.failures {
            return Ok(number);
        }
        let error = TransientError::msg(format!("attempt {attempt} fails, as do the first {}", self.failures));
        Err(error.with_retry(RetryStrategy::Immediate { max_retries: 10 }).into())
    }
}

fn overflow(what: std::fmt::Arguments<'_>) -> FatalError {
    FatalError::msg(format!("{what} exceeds 64 bits"))
}
