//! Texts that a process is configured with, or that name something.

use std::{fmt::Display, str::FromStr};

use palfrey_host::{
    config::AmqpUri,
    engine::{Allowance, Capability, CompileLimits, LimitRule},
    task::{Digest, OperationId},
};
use palfrey_sdk::Serializer;

use crate::hostile::{hostile, within};

const PASSWORD: &str = "hunter2";

pub(crate) fn attack(input: &[u8]) {
    let digest = Digest::of(b"component");
    let samples = [
        "amqp://ada:hunter2@broker:5672/jobs?heartbeat=10".to_owned(),
        "digest/mine:time=1h,memory=64MiB,table=20000,output=1kB,log=1".to_owned(),
        format!("arith/fib-at@{digest}"),
        "arith/fib-at@>=1.2, <2".to_owned(),
        digest.to_string(),
        "postcard".to_owned(),
        "component=1MiB,time=1h,memory=4GiB,code=1kB".to_owned(),
        "dir:/models=/srv/models".to_owned(),
        "env:LANG".to_owned(),
    ];
    let bytes = hostile(&samples.map(Into::into), input);
    let text = String::from_utf8_lossy(&bytes);
    // Each of them alone, and printed once more. What is no UTF-8 is three bytes as text.
    within(64, text.as_bytes(), || check_all(&text));
}

fn check_all(text: &str) {
    check::<LimitRule>(text);
    check::<CompileLimits>(text);
    check::<Capability>(text);
    check::<Allowance>(text);
    check::<OperationId>(text);
    check::<Digest>(text);
    check::<Serializer>(text);
    match text.parse::<AmqpUri>() {
        Ok(uri) => {
            assert_eq!(uri.expose(), text);
            let url = url::Url::parse(text).unwrap();
            let secret = url.password().is_some_and(password_is_in) && text.matches(PASSWORD).count() == 1;
            assert!(!secret || !password_is_in(&format!("{uri} {uri:?}")), "{uri}");
        }
        Err(error) => assert!(!password_is_in(&error.to_string()), "{error}"),
    }
}

fn password_is_in(text: &str) -> bool {
    text.contains(PASSWORD)
}

/// What was parsed prints as a text that means the same.
fn check<T: FromStr<Err: Display> + Display + PartialEq>(text: &str) {
    match text.parse::<T>() {
        Ok(value) => {
            let printed = value.to_string();
            assert!(printed.parse::<T>().is_ok_and(|again| again == value), "{text:?} is printed as {printed:?}");
        }
        // It may repeat the text, which is the operator's own.
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
