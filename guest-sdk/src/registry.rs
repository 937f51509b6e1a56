//! The macro that makes a crate a plugin, and what it checks.

/// Makes the crate a plugin that holds these operations, in the order in which people should read them.
///
/// It is written once, in the root of a crate with `crate-type = ["cdylib", "rlib"]`. For `wasm32-wasip2` it expands to the
/// exports of the component. For other targets it only checks, on both, while compiling:
///
/// - each type is [`RemoteExecute`](crate::RemoteExecute), and derives it in this crate;
/// - no two operations have one name;
/// - the name of the package, which is the plugin's, is kebab-case.
///
/// ```
/// use palfrey_sdk::{Operation, RemoteExecute, Result};
/// use serde::{Deserialize, Serialize};
///
/// /// Adds one.
/// #[derive(Serialize, Deserialize, RemoteExecute)]
/// pub struct Increment;
///
/// impl Operation for Increment {
///     type Input = u64;
///     type Output = u64;
///
///     fn execute(&self, number: u64) -> Result<u64> {
///         Ok(number + 1)
///     }
/// }
///
/// palfrey_sdk::registry!(Increment);
/// ```
#[macro_export]
macro_rules! registry {
    () => {
        ::core::compile_error!("a plugin has at least one operation: write `registry!(FirstOperation, SecondOperation)`");
    };
    ($($operation:ty),+ $(,)?) => {
        const _: () = if let Err(message) = $crate::__private::check(
            ::core::env!("CARGO_PKG_NAME"),
            &[$((
                <$operation as $crate::RemoteExecute>::PLUGIN,
                <$operation as $crate::RemoteExecute>::NAME,
            )),+],
        ) {
            ::core::panic!("{}", message.as_str());
        };
        $crate::__export!($($operation),+);
    };
}

/// The exports of the component.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($($operation:ty),+) => {
        const _: () = {
            struct Component;

            impl $crate::__private::Plugin for Component {
                const NAME: &'static str = ::core::env!("CARGO_PKG_NAME");
                const VERSION: &'static str = ::core::env!("CARGO_PKG_VERSION");

                fn entries() -> ::std::vec::Vec<$crate::__private::Entry> {
                    #[expect(unused_imports, reason = "each is used by the types that lack what it stands in for")]
                    use $crate::__private::{Entry, NotMonoid as _, Probe};
                    ::std::vec![$(Entry::new::<$operation>(Probe::<$operation>::new().fold())),+]
                }
            }

            $crate::__private::bindings::export_plugin!(Component with_types_in $crate::__private::bindings);
        };
    };
}

/// Nothing: the types are used as they are.
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($($operation:ty),+) => {};
}

/// Checks a plugin's operations, each as the name of the plugin it derives for and its own name.
///
/// # Errors
/// What is wrong, and what to do about it. The macro makes a compile error of it.
#[expect(clippy::result_large_err, reason = "it is evaluated while compiling, where texts cannot be allocated")]
pub const fn check(package: &str, operations: &[(&str, &str)]) -> Result<(), Message> {
    if !is_kebab_case(package) {
        return Err(Message::new()
            .push("the package's name is the plugin's, and `")
            .push(package)
            .push("` is not kebab-case: rename it in Cargo.toml (lower-case letters, digits, single hyphens)"));
    }
    let mut i = 0;
    while i < operations.len() {
        let (plugin, name) = operations[i];
        if !equal(plugin, package) {
            return Err(Message::new()
                .push("`")
                .push(name)
                .push("` belongs to plugin `")
                .push(plugin)
                .push("`: register it there, or derive RemoteExecute for a type of this crate"));
        }
        let mut j = 0;
        while j < i {
            if equal(operations[j].1, name) {
                return Err(Message::new()
                    .push("two operations are named `")
                    .push(name)
                    .push("`: give one of them another name with #[palfrey(name = \"…\")]"));
            }
            j += 1;
        }
        i += 1;
    }
    Ok(())
}

const fn is_kebab_case(name: &str) -> bool {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > 64 {
        return false;
    }
    let mut i = 0;
    while i < bytes.len() {
        let sound = match bytes[i] {
            b'a'..=b'z' => true,
            b'0'..=b'9' => i > 0,
            b'-' => i > 0 && i + 1 < bytes.len() && bytes[i - 1] != b'-',
            _ => false,
        };
        if !sound {
            return false;
        }
        i += 1;
    }
    true
}

const fn equal(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let mut i = 0;
    while i < left.len() && i < right.len() && left[i] == right[i] {
        i += 1;
    }
    i == left.len() && i == right.len()
}

/// A text that is put together while compiling. What does not fit is cut.
#[derive(Debug)]
pub struct Message {
    bytes: [u8; 512],
    length: usize,
}

impl Message {
    const fn new() -> Self {
        Self { bytes: [0; 512], length: 0 }
    }

    const fn push(mut self, text: &str) -> Self {
        let text = text.as_bytes();
        if self.length + text.len() <= self.bytes.len() {
            let mut i = 0;
            while i < text.len() {
                self.bytes[self.length] = text[i];
                self.length += 1;
                i += 1;
            }
        }
        self
    }

    /// The text.
    pub const fn as_str(&self) -> &str {
        match std::str::from_utf8(self.bytes.split_at(self.length).0) {
            Ok(text) => text,
            Err(_) => "the plugin is not sound",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case_or_refused() {
        for name in ["a", "fib-at", "sha256", "a-1", &"x".repeat(64)] {
            assert!(is_kebab_case(name), "{name}");
        }
        for name in ["", "Fib", "fib_at", "-fib", "fib-", "fib--at", "1fib", "füb", &"x".repeat(65)] {
            assert!(!is_kebab_case(name), "{name}");
        }
    }

    #[test]
    fn a_plugin_that_is_not_sound_is_told_what_to_do() {
        let refusal = |package, operations: &[_]| check(package, operations).unwrap_err().as_str().to_owned();
        assert!(check("arith", &[("arith", "sum"), ("arith", "fib-at")]).is_ok());
        assert_eq!(
            refusal("my_plugin", &[]),
            "the package's name is the plugin's, and `my_plugin` is not kebab-case: rename it in Cargo.toml (lower-case \
             letters, digits, single hyphens)"
        );
        assert_eq!(
            refusal("arith", &[("arith", "sum"), ("text", "concat")]),
            "`concat` belongs to plugin `text`: register it there, or derive RemoteExecute for a type of this crate"
        );
        assert_eq!(
            refusal("arith", &[("arith", "sum"), ("arith", "fib-at"), ("arith", "sum")]),
            "two operations are named `sum`: give one of them another name with #[palfrey(name = \"…\")]"
        );
    }

    #[test]
    fn names_are_equal_only_as_a_whole() {
        assert!(equal("fib", "fib"));
        assert!(!equal("fib", "fib-at"));
        assert!(!equal("", "fib"));
        assert!(!equal("fib", "fab"));
    }
}
