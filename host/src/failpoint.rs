//! Moments at which a test has a worker die or stop. Only builds with debug assertions have them.
//!
//! The binary reads them from [`VARIABLE`]; a library does not. What follows is a list of rules like
//! `before-execution=pause` or `during-execution/arith/sum=abort@3`: the moment, the operation if it is about one of them,
//! what happens, and at which occasion if it is not to happen at every one.

use std::{
    fmt,
    str::FromStr,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

/// The environment variable from which the binary takes the rules, separated by commas.
pub const VARIABLE: &str = "PALFREY_FAILPOINTS";

static RULES: OnceLock<Vec<Rule>> = OnceLock::new();

/// A moment in the life of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A worker has received a task and done nothing with it.
    BeforeExecution,
    /// The engine has made an instance for a batch, and calls it next. Something that dies here is a crash of the engine.
    DuringExecution,
    /// A task was executed, and its result was not sent.
    BeforeResult,
    /// The broker has confirmed that it keeps the result, and the task was not acknowledged.
    BeforeAcknowledgement,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// The process dies at once.
    Abort,
    /// What has reached this moment goes no further; everything else does.
    Pause,
}

#[derive(Debug)]
struct Rule {
    moment: Moment,
    /// `<plugin>/<operation>`, unless it is about all.
    operation: Option<String>,
    action: Action,
    /// At which occasion, counted from one, unless it is every one.
    occasion: Option<u32>,
    occasions: AtomicU32,
}

/// A rule that cannot be understood.
///
/// ```
/// # #[cfg(debug_assertions)]
/// assert!(palfrey_host::failpoint::arm("after-lunch=abort").unwrap_err().to_string().contains("is no rule"));
/// ```
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no rule for a failpoint: write MOMENT[/PLUGIN/OPERATION]=abort|pause[@OCCASION]")]
pub struct InvalidRule(String);

/// Puts rules in force, for this process and until it ends. Only the first call does.
///
/// # Errors
/// If one of them cannot be understood.
pub fn arm(rules: &str) -> Result<(), InvalidRule> {
    let rules = rules.split(',').filter(|rule| !rule.is_empty()).map(str::parse).collect::<Result<_, _>>()?;
    // A second call finds them there.
    RULES.set(rules).ok();
    Ok(())
}

/// To be called at a moment, on a thread that may be blocked.
pub(crate) fn reached(moment: Moment, plugin: &str, operation: &str) {
    if pauses(moment, plugin, operation) {
        loop {
            thread::park();
        }
    }
}

/// To be awaited at a moment.
pub(crate) async fn reached_by_task(moment: Moment, plugin: &str, operation: &str) {
    if pauses(moment, plugin, operation) {
        std::future::pending::<()>().await;
    }
}

fn pauses(moment: Moment, plugin: &str, operation: &str) -> bool {
    let Some(rules) = RULES.get() else { return false };
    let operation = format!("{plugin}/{operation}");
    match rules.iter().find(|rule| rule.applies(moment, &operation)).map(|rule| rule.action) {
        Some(Action::Abort) => {
            tracing::warn!(%moment, operation, "failpoint: the process dies");
            std::process::abort();
        }
        Some(Action::Pause) => {
            tracing::warn!(%moment, operation, "failpoint: the task goes no further");
            true
        }
        None => false,
    }
}

impl Rule {
    /// Whether it is to happen now. It counts the occasions.
    fn applies(&self, moment: Moment, operation: &str) -> bool {
        let meant = self.moment == moment && self.operation.as_deref().is_none_or(|only| only == operation);
        meant && {
            let occasion = self.occasions.fetch_add(1, Ordering::Relaxed) + 1;
            self.occasion.is_none_or(|wanted| wanted == occasion)
        }
    }
}

impl FromStr for Rule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let parse = || {
            let (place, action) = text.split_once('=')?;
            let (moment, operation) = place.split_once('/').map_or((place, None), |(moment, id)| (moment, Some(id)));
            let (action, occasion) =
                action.split_once('@').map_or((action, None), |(action, occasion)| (action, Some(occasion)));
            Some(Self {
                moment: Moment::ALL.into_iter().find(|known| known.name() == moment)?,
                operation: operation.map(str::to_owned),
                action: match action {
                    "abort" => Action::Abort,
                    "pause" => Action::Pause,
                    _ => return None,
                },
                occasion: match occasion {
                    Some(occasion) => Some(occasion.parse().ok()?),
                    None => None,
                },
                occasions: AtomicU32::new(0),
            })
        };
        parse().ok_or_else(|| InvalidRule(text.to_owned()))
    }
}

impl Moment {
    const ALL: [Self; 4] =
        [Self::BeforeExecution, Self::DuringExecution, Self::BeforeResult, Self::BeforeAcknowledgement];

    fn name(self) -> &'static str {
        match self {
            Self::BeforeExecution => "before-execution",
            Self::DuringExecution => "during-execution",
            Self::BeforeResult => "before-result",
            Self::BeforeAcknowledgement => "before-acknowledgement",
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_applies_at_its_moment_to_its_operation_at_its_occasion() {
        let rule: Rule = "during-execution/arith/sum=abort@2".parse().unwrap();
        assert!(!rule.applies(Moment::BeforeExecution, "arith/sum"));
        assert!(!rule.applies(Moment::DuringExecution, "arith/product"));
        let occasions: Vec<_> = (0..3).map(|_| rule.applies(Moment::DuringExecution, "arith/sum")).collect();
        assert_eq!(occasions, [false, true, false]);
        let always: Rule = "before-result=pause".parse().unwrap();
        assert!((0..3).all(|_| always.applies(Moment::BeforeResult, "text/concat")));
    }

    #[test]
    fn a_rule_that_means_nothing_is_refused() {
        for text in ["before-execution", "yesterday=abort", "before-result=explode", "before-result=abort@never"] {
            let error = text.parse::<Rule>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("write MOMENT"), "{error}");
        }
    }
}
