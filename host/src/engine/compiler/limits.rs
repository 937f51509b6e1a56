//! What compiling one component may use.

use std::{fmt, str::FromStr, time::Duration};

use bytesize::ByteSize;

use crate::engine::limits::{LimitRuleError, MAX_TIME, parse_bytes, parse_time, split_pair};

/// What compiling one component may use. A component that wants more is refused, and the error names the limit.
///
/// As text it is `name=value,…`; what is not named has its default.
///
/// ```
/// use palfrey_host::engine::CompileLimits;
///
/// let limits: CompileLimits = "time=2m,component=128MiB".parse()?;
/// assert_eq!((limits.time.as_secs(), limits.component), (120, 128 << 20));
/// assert_eq!(limits.memory, CompileLimits::default().memory);
/// # Ok::<(), palfrey_host::engine::LimitRuleError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Bytes of the component. This limit holds in every process.
    ///
    /// 64 MiB by default: an interpreter with its libraries has about twenty.
    pub component: u64,
    /// Time, by the clock on the wall. As much time on every processor.
    ///
    /// One minute by default: a component of 18 MB takes five seconds on two cores, and may find them busy.
    pub time: Duration,
    /// Bytes of memory that the compiler writes to.
    ///
    /// 2 GiB by default: the same component takes a third of it.
    pub memory: u64,
    /// Bytes of the machine code, all of which the worker keeps in memory.
    ///
    /// 512 MiB by default: machine code has about three times the size of a component, of which the largest has 64 MiB.
    pub code: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { component: 64 << 20, time: Duration::from_secs(60), memory: 2 << 30, code: 512 << 20 }
    }
}

/// No limit of bytes is above this: no machine has so much.
const MAX_BYTES: u64 = 1 << 40;

impl FromStr for CompileLimits {
    type Err = LimitRuleError;

    fn from_str(text: &str) -> Result<Self, LimitRuleError> {
        let mut limits = Self::default();
        for change in text.split(',') {
            let (name, value) = split_pair(change.trim())?;
            match name {
                "component" => limits.component = parse_bytes(name, value, MAX_BYTES)?,
                "time" => limits.time = parse_time(name, value, MAX_TIME)?,
                "memory" => limits.memory = parse_bytes(name, value, MAX_BYTES)?,
                "code" => limits.code = parse_bytes(name, value, MAX_BYTES)?,
                _ => return Err(LimitRuleError::CompileName(name.to_owned())),
            }
        }
        Ok(limits)
    }
}

impl fmt::Display for CompileLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { component, time, memory, code } = *self;
        let time = humantime::format_duration(time).to_string().replace(' ', "");
        let bytes = |bytes: u64| {
            let short = ByteSize(bytes).to_string().replace(' ', "");
            // What is rounded for people is not what was meant.
            if short.parse() == Ok(ByteSize(bytes)) { short } else { format!("{bytes}B") }
        };
        write!(f, "component={},time={time},memory={},code={}", bytes(component), bytes(memory), bytes(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_read_back_what_they_print() {
        let text = CompileLimits::default().to_string();
        assert_eq!(text, "component=64.0MiB,time=1m,memory=2.0GiB,code=512.0MiB");
        assert_eq!(text.parse(), Ok(CompileLimits::default()));
    }

    #[test]
    fn malformed_limits_say_what_to_write() {
        let error = |text: &str| text.parse::<CompileLimits>().unwrap_err().to_string();
        assert!(error("speed=5").contains("use `component`, `time`, `memory` or `code`"));
        assert!(error("time").contains("write `name=value`"));
        assert!(error("memory=0").contains("above zero"));
    }
}
