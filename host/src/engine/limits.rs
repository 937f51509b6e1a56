//! What a call may use: [`Limits`], and the rules by which an operator sets them per plugin or operation.

use std::{fmt, str::FromStr, time::Duration};

use bytesize::ByteSize;

use crate::task::{OperationId, is_kebab_case};

/// What one call may use. A call that exceeds one of these is stopped, and the error names the limit.
///
/// [`Default`] gives the values that hold where no rule says otherwise.
///
/// ```
/// use std::time::Duration;
/// use palfrey_host::engine::{LimitRules, Limits};
///
/// // Stricter defaults, for plugins that nobody knows yet.
/// let strict = Limits { time: Duration::from_secs(1), memory: 16 << 20, ..Limits::default() };
/// let rules = LimitRules::new(strict, []);
/// assert_eq!(rules.limits_for(&"arith/fib-at".parse()?), strict);
/// # Ok::<(), palfrey_host::task::ParseIdError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory, all memories of the instance together.
    ///
    /// 512 MiB by default: what a batch of the largest message a broker takes (128 MiB) needs to be copied in, worked on
    /// and copied out; and with every slot at the limit a machine of a common size still stands.
    pub memory: u64,
    /// Elements of one table of functions or references.
    ///
    /// 100 000 by default: compiled programs have one element for each function whose address is taken; interpreters
    /// with large standard libraries reach the tens of thousands.
    pub table_elements: u32,
    /// Time for one call, instantiation included.
    ///
    /// Five minutes by default: an operation of a minute is ordinary, and a loop that never ends should not hold a slot
    /// for the half hour after which brokers take the task away.
    pub time: Duration,
    /// Bytes of the outputs of one call together.
    ///
    /// 64 MiB by default: half of the 128 MiB that a broker takes as one message.
    pub output: u64,
    /// Bytes that one call may write to the worker's log, by logging and by printing. More is dropped, and the log says so.
    ///
    /// 256 KiB by default: thousands of lines, and little enough that a plugin cannot fill a disk.
    pub log: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 512 << 20,
            table_elements: 100_000,
            time: Duration::from_secs(5 * 60),
            output: 64 << 20,
            log: 256 << 10,
        }
    }
}

/// The largest memory a 32-bit component can have.
pub const MAX_MEMORY: u64 = 4 << 30;

/// The largest output: offsets are 32 bits wide.
pub const MAX_OUTPUT: u64 = u32::MAX as u64;

/// The longest time: far above any use, far below where adding it to an instant overflows.
pub const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The largest table.
pub const MAX_TABLE_ELEMENTS: u32 = 10_000_000;

/// Changes of limits for everything, one plugin, or one operation, as an operator writes them: `[scope:]name=value,…`.
///
/// The names are `memory`, `output` and `log` (bytes, as in `64MiB`), `time` (as in `5s` or `2m`) and `table` (elements). The
/// scope is `plugin` or `plugin/operation`. Parsing fails with a [`LimitRuleError`] that says what to write.
///
/// ```
/// use std::time::Duration;
/// use palfrey_host::engine::{LimitRule, LimitRules};
///
/// let rules: LimitRules = ["time=1m", "digest:memory=64MiB", "digest/mine:time=1h"]
///     .iter()
///     .map(|rule| rule.parse::<LimitRule>())
///     .collect::<Result<_, _>>()?;
/// let limits = rules.limits_for(&"digest/mine".parse()?);
/// assert_eq!((limits.time, limits.memory), (Duration::from_secs(3600), 64 << 20));
/// assert_eq!(rules.limits_for(&"arith/sum".parse()?).time, Duration::from_secs(60));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitRule {
    scope: Scope,
    changes: Vec<Change>,
}

/// What a rule holds for. The narrower scope wins: the order of variants is that of precedence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Everything,
    Plugin(String),
    Operation(String, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Memory(u64),
    TableElements(u32),
    Time(Duration),
    Output(u64),
    Log(u64),
}

/// Text that is not a rule.
///
/// ```
/// use palfrey_host::engine::{LimitRule, LimitRuleError};
///
/// let error = "arith:speed=9".parse::<LimitRule>().unwrap_err();
/// assert_eq!(error, LimitRuleError::Name("speed".to_owned()));
/// assert_eq!(error.to_string(), "`speed` is not a limit: use `memory`, `table`, `time`, `output` or `log`");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitRuleError {
    /// What stands before the colon is neither a plugin nor an operation.
    #[error("`{0}` is neither a plugin nor an operation: write `digest:…` or `digest/mine:…`")]
    Scope(String),
    /// A part is not `name=value`.
    #[error("`{0}` is not a limit: write `name=value`, as in `memory=64MiB`")]
    NotAPair(String),
    /// There is no such limit.
    #[error("`{0}` is not a limit: use `memory`, `table`, `time`, `output` or `log`")]
    Name(String),
    /// There is no such limit of the compiler.
    #[error("`{0}` is not a limit of the compiler: use `component`, `time`, `memory` or `code`")]
    CompileName(String),
    /// The value is malformed.
    #[error("`{value}` is not a value for `{name}`: write {expected}")]
    Value {
        /// Which limit.
        name: String,
        /// What was written.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// The value is out of range.
    #[error("`{name}={value}` is out of range: it must be above zero and at most {max}")]
    Range {
        /// Which limit.
        name: String,
        /// What was written.
        value: String,
        /// The largest value.
        max: String,
    },
}

impl FromStr for LimitRule {
    type Err = LimitRuleError;

    fn from_str(text: &str) -> Result<Self, LimitRuleError> {
        let (scope, changes) = match text.split_once(':') {
            Some((scope, changes)) => (scope.parse()?, changes),
            None => (Scope::Everything, text),
        };
        let changes = changes.split(',').map(|change| change.trim().parse()).collect::<Result<_, _>>()?;
        Ok(Self { scope, changes })
    }
}

impl FromStr for Scope {
    type Err = LimitRuleError;

    fn from_str(text: &str) -> Result<Self, LimitRuleError> {
        match text.split_once('/') {
            None if is_kebab_case(text) => Ok(Self::Plugin(text.to_owned())),
            Some((plugin, operation)) if is_kebab_case(plugin) && is_kebab_case(operation) => {
                Ok(Self::Operation(plugin.to_owned(), operation.to_owned()))
            }
            _ => Err(LimitRuleError::Scope(text.to_owned())),
        }
    }
}

impl FromStr for Change {
    type Err = LimitRuleError;

    fn from_str(text: &str) -> Result<Self, LimitRuleError> {
        let (name, value) = split_pair(text)?;
        match name {
            "memory" => parse_bytes(name, value, MAX_MEMORY).map(Self::Memory),
            "output" => parse_bytes(name, value, MAX_OUTPUT).map(Self::Output),
            "log" => parse_bytes(name, value, MAX_MEMORY).map(Self::Log),
            "time" => parse_time(name, value, MAX_TIME).map(Self::Time),
            "table" => match value.parse() {
                Err(_) => Err(malformed(name, value, "a number of elements such as `20000`")),
                Ok(elements) if elements == 0 || elements > MAX_TABLE_ELEMENTS => {
                    Err(out_of_range(name, value, MAX_TABLE_ELEMENTS.to_string()))
                }
                Ok(elements) => Ok(Self::TableElements(elements)),
            },
            _ => Err(LimitRuleError::Name(name.to_owned())),
        }
    }
}

/// The two sides of `name=value`.
pub(super) fn split_pair(text: &str) -> Result<(&str, &str), LimitRuleError> {
    text.split_once('=').ok_or_else(|| LimitRuleError::NotAPair(text.to_owned()))
}

pub(super) fn parse_bytes(name: &str, value: &str, max: u64) -> Result<u64, LimitRuleError> {
    let ByteSize(bytes) = value.parse().map_err(|_| malformed(name, value, "a number of bytes such as `64MiB`"))?;
    if bytes == 0 || bytes > max { Err(out_of_range(name, value, ByteSize(max).to_string())) } else { Ok(bytes) }
}

pub(super) fn parse_time(name: &str, value: &str, max: Duration) -> Result<Duration, LimitRuleError> {
    let time =
        humantime::parse_duration(value).map_err(|_| malformed(name, value, "a duration such as `5s` or `2m`"))?;
    if time.is_zero() || time > max {
        return Err(out_of_range(name, value, humantime::format_duration(max).to_string()));
    }
    Ok(time)
}

fn malformed(name: &str, value: &str, expected: &'static str) -> LimitRuleError {
    LimitRuleError::Value { name: name.to_owned(), value: value.to_owned(), expected }
}

fn out_of_range(name: &str, value: &str, max: String) -> LimitRuleError {
    LimitRuleError::Range { name: name.to_owned(), value: value.to_owned(), max }
}

impl fmt::Display for LimitRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Scope::Everything => {}
            Scope::Plugin(plugin) => write!(f, "{plugin}:")?,
            Scope::Operation(plugin, operation) => write!(f, "{plugin}/{operation}:")?,
        }
        for (index, change) in self.changes.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match *change {
                Change::Memory(bytes) => write!(f, "memory={bytes}B")?,
                Change::Output(bytes) => write!(f, "output={bytes}B")?,
                Change::Log(bytes) => write!(f, "log={bytes}B")?,
                Change::TableElements(elements) => write!(f, "table={elements}")?,
                Change::Time(time) => {
                    write!(f, "time={}", humantime::format_duration(time).to_string().replace(' ', ""))?;
                }
            }
        }
        Ok(())
    }
}

/// All rules. Where several hold for an operation, the narrower one wins, and among equals the last.
///
/// ```
/// use palfrey_host::engine::{LimitRule, LimitRules};
///
/// let rules = ["digest/mine:output=3KiB", "output=1KiB", "digest:output=2KiB"];
/// let rules: LimitRules = rules.iter().map(|rule| rule.parse::<LimitRule>()).collect::<Result<_, _>>()?;
/// let output = |id: &str| id.parse().map(|id| rules.limits_for(&id).output >> 10);
/// assert_eq!([output("digest/mine")?, output("digest/sha256")?, output("text/concat")?], [3, 2, 1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitRules {
    defaults: Limits,
    /// By scope, the widest first.
    rules: Vec<LimitRule>,
}

impl LimitRules {
    /// Rules on top of defaults other than those of [`Limits`].
    pub fn new(defaults: Limits, rules: impl IntoIterator<Item = LimitRule>) -> Self {
        let mut rules: Vec<_> = rules.into_iter().collect();
        rules.sort_by(|a, b| a.scope.cmp(&b.scope));
        Self { defaults, rules }
    }

    /// The limits of an operation.
    pub fn limits_for(&self, operation: &OperationId) -> Limits {
        let mut limits = self.defaults;
        for rule in &self.rules {
            let applies = match &rule.scope {
                Scope::Everything => true,
                Scope::Plugin(plugin) => plugin == operation.plugin(),
                Scope::Operation(plugin, name) => plugin == operation.plugin() && name == operation.operation(),
            };
            if applies {
                rule.changes.iter().for_each(|change| change.apply(&mut limits));
            }
        }
        limits
    }

    /// The most memory and the largest table that any operation may have: what there must be room for. The other limits
    /// are those of an operation that no narrower rule names.
    pub(super) fn largest(&self) -> Limits {
        let (wide, narrow): (Vec<_>, Vec<_>) = self.rules.iter().partition(|rule| rule.scope == Scope::Everything);
        let mut largest = self.defaults;
        wide.iter().flat_map(|rule| &rule.changes).for_each(|change| change.apply(&mut largest));
        for change in narrow.iter().flat_map(|rule| &rule.changes) {
            match *change {
                Change::Memory(bytes) => largest.memory = largest.memory.max(bytes),
                Change::TableElements(elements) => largest.table_elements = largest.table_elements.max(elements),
                Change::Time(_) | Change::Output(_) | Change::Log(_) => {}
            }
        }
        largest
    }
}

impl FromIterator<LimitRule> for LimitRules {
    fn from_iter<I: IntoIterator<Item = LimitRule>>(rules: I) -> Self {
        Self::new(Limits::default(), rules)
    }
}

impl Change {
    fn apply(self, limits: &mut Limits) {
        match self {
            Self::Memory(bytes) => limits.memory = bytes,
            Self::TableElements(elements) => limits.table_elements = elements,
            Self::Time(time) => limits.time = time,
            Self::Output(bytes) => limits.output = bytes,
            Self::Log(bytes) => limits.log = bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(rules: &[&str]) -> LimitRules {
        rules.iter().map(|rule| rule.parse::<LimitRule>().unwrap()).collect()
    }

    #[test]
    fn the_narrower_rule_wins_and_among_equals_the_last() {
        let rules = rules(&["a/x:time=3s", "a:time=2s,memory=1MiB", "time=9s", "time=1s"]);
        let time = |id: &str| rules.limits_for(&id.parse().unwrap()).time.as_secs();
        assert_eq!((time("a/x"), time("a/y"), time("b/x")), (3, 2, 1));
        assert_eq!(rules.limits_for(&"a/x".parse().unwrap()).memory, 1 << 20);
        assert_eq!(rules.limits_for(&"b/x".parse().unwrap()).memory, Limits::default().memory);
    }

    #[test]
    fn the_largest_memory_of_any_rule_is_what_there_must_be_room_for() {
        assert_eq!(rules(&["a:memory=1MiB"]).largest().memory, Limits::default().memory);
        assert_eq!(rules(&["memory=1MiB"]).largest().memory, 1 << 20);
        assert_eq!(rules(&["memory=1MiB", "a/x:memory=3GiB,table=200000"]).largest().memory, 3 << 30);
        assert_eq!(rules(&["a/x:table=200000"]).largest().table_elements, 200_000);
    }

    #[test]
    fn malformed_rules_say_what_to_write() {
        let check = |text: &str, expect: &str| {
            let error = text.parse::<LimitRule>().unwrap_err().to_string();
            assert!(error.contains(expect), "{text}: {error}");
        };
        check("Arith:time=5s", "write `digest:…` or `digest/mine:…`");
        check("arith:", "write `name=value`");
        check("arith:speed=5", "use `memory`, `table`, `time`, `output` or `log`");
        check("memory=much", "a number of bytes such as `64MiB`");
        check("memory=8GiB", "at most 4.0 GiB");
        check("time=0s", "above zero");
        check("time=5", "a duration such as `5s`");
        check("table=-1", "a number of elements");
    }

    #[test]
    fn rules_read_back_what_they_print() {
        for text in ["memory=64MiB", "arith:time=1m 30s,output=5B", "digest/mine:table=7,log=1KiB"] {
            let rule: LimitRule = text.parse().unwrap();
            assert_eq!(rule.to_string().parse::<LimitRule>().unwrap(), rule, "{rule}");
        }
    }
}
