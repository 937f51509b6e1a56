//! An operation is a function of its config and its input: the same bytes come out whichever slot, engine or process executes it,
//! and whatever else is in its batch.
//!
//! The one compiler there is has the same settings everywhere; where it runs makes no difference to the machine code, see
//! [`compiling`](super::compiling).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arith::{Divide, FibAt, Flaky, MultiplyBy, Product, Sum};
use asker::LookPlain;
use digest::{Mine, Sha256};
use fractal::{MandelbrotTile, Tile};
use palfrey_host::{
    engine::{Call, Engine, EngineConfig, Limits, Plugin},
    task::{Digest, Packed},
};
use palfrey_sdk::{Blob, FatalStrategy, RemoteExecute, RetryStrategy, Serializer};
use proptest::{
    collection::{btree_map, vec},
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{RngSeed, TestRunner},
};
use serde::Serialize;
use speaker::{Beyond, IgnoreMultiplesOf, PanicOn, ParsePort, Report, Speak, Stubborn, SumUpTo};
use text::{CharToString, Concat, MergeCounts, WordCount};

use super::endurance::alone;

/// The files of the plugins.
const PLUGINS: [&str; 7] = ["arith", "text", "digest", "fractal", "speaker", "asker", "palfrey_test_guests"];

/// An operation with elements to apply it to.
#[derive(Debug, Clone)]
struct Case {
    plugin: &'static str,
    operation: String,
    fold: bool,
    config: Vec<u8>,
    inputs: Packed,
    /// Sizes of the batches, again and again.
    batches: Vec<usize>,
    /// Whether what becomes of an element is a matter of that element. It is not where a guest fails at some place of its batch.
    splits: bool,
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    Serializer::Postcard.to_bytes(value).unwrap().to_vec()
}

fn case(
    plugin: &'static str,
    operation: String,
    fold: bool,
    config: impl Strategy<Value = Vec<u8>> + 'static,
    element: impl Strategy<Value = Vec<u8>> + 'static,
) -> BoxedStrategy<Case> {
    // Now and then an element that is none.
    let element = prop_oneof![20 => element, 1 => vec(any::<u8>(), 0..10)];
    (config, vec(element, 1..40), vec(1_usize..8, 1..4))
        .prop_map(move |(config, inputs, batches)| {
            let (operation, inputs) = (operation.clone(), inputs.into_iter().collect());
            Case { plugin, operation, fold, config, inputs, batches, splits: true }
        })
        .boxed()
}

fn map<Op: RemoteExecute + Serialize + std::fmt::Debug + Clone + 'static, T: Serialize + std::fmt::Debug>(
    plugin: &'static str,
    operation: impl Strategy<Value = Op> + 'static,
    element: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Case> {
    let config = operation.prop_map(|operation| bytes(&operation));
    case(plugin, Op::NAME.to_owned(), false, config, element.prop_map(|element| bytes(&element)))
}

fn fold<M: RemoteExecute + Serialize + std::fmt::Debug + Clone + 'static, T: Serialize + std::fmt::Debug>(
    plugin: &'static str,
    monoid: M,
    element: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Case> {
    let element = element.prop_map(|element| bytes(&element));
    case(plugin, M::NAME.to_owned(), true, Just(bytes(&monoid)), element)
}

/// A member of the corpus that comes to an end by itself.
fn quiet(operation: &str) -> BoxedStrategy<Case> {
    let config = (0_u64..20).prop_map(|parameter| parameter.to_string().into_bytes());
    case("palfrey_test_guests", operation.to_owned(), false, config, vec(any::<u8>(), 0..10))
}

/// One that fails at the second element of its batch, whatever that is.
fn fails_at_a_place(operation: &str) -> BoxedStrategy<Case> {
    quiet(operation).prop_map(|case| Case { splits: false, ..case }).boxed()
}

fn any_case() -> impl Strategy<Value = Case> {
    let blob = || vec(any::<u8>(), 0..300).prop_map(Blob);
    let picture = (1_u32..40, 1_u32..40, 1_u32..200, (any::<f64>(), -2.0..2.0), any::<f64>()).prop_map(
        |(width, height, max_iterations, center, span)| MandelbrotTile { width, height, max_iterations, center, span },
    );
    let tile =
        (0_u32..10, 0_u32..10, 0_u32..20, 0_u32..20).prop_map(|(x, y, width, height)| Tile { x, y, width, height });
    let quiet = [
        "echo",
        "fail-fatally",
        "fail-at-length",
        "print",
        "log",
        "sleep",
        "look-around",
        "look-outside",
        "ask-context",
        "report-progress",
        "draw-random",
        "read-clock",
        "compute-nan",
        "confess-and-go-on",
        "deny-itself",
        "count-calls",
        "refuse-config",
        "log-at-length",
        "print-at-length",
    ];
    let ports = prop_oneof![any::<u16>().prop_map(|port| port.to_string()), ".*"];
    let beyond = prop_oneof![Just(Beyond::Ignore), Just(Beyond::Panic)];
    let sums = (0_u64..1000, beyond).prop_map(|(limit, beyond)| bytes(&SumUpTo { limit, beyond }));
    let retry = (0_u32..5).prop_map(|max_retries| RetryStrategy::Immediate { max_retries });
    let stubborn = retry.prop_map(|retry| Stubborn { retry, exhausted: FatalStrategy::Ignore });
    let mut cases = vec![
        map("arith", Just(FibAt), 0_u64..100),
        map("arith", any::<u64>().prop_map(MultiplyBy), any::<u64>()),
        map("arith", Just(Sum), any::<(u64, u64)>()),
        fold("arith", Sum, 0_u64..1 << 60),
        fold("arith", Product, 0_u64..5),
        map("arith", Just(Divide), (any::<u64>(), 0_u64..4)),
        map("arith", (0_u32..2).prop_map(|failures| Flaky { failures }), any::<u64>()),
        map("text", Just(WordCount), ".*"),
        map("text", Just(CharToString), any::<char>()),
        fold("text", Concat, ".*"),
        fold(
            "text",
            MergeCounts,
            btree_map(".*", any::<u32>().prop_map(u64::from), 0..5).prop_map(|it: BTreeMap<_, _>| it),
        ),
        map("digest", Just(Sha256), blob()),
        map("digest", (0_u8..8).prop_map(|bits| Mine { bits }), blob()),
        map("fractal", picture, tile),
        map("speaker", (0_u64..5).prop_map(PanicOn), 0_u64..20),
        map("speaker", Just(ParsePort), ports),
        map("speaker", (0_u64..5).prop_map(IgnoreMultiplesOf), 0_u64..20),
        map("speaker", stubborn, 0_u64..3),
        case("speaker", SumUpTo::NAME.to_owned(), true, sums, (0_u64..100).prop_map(|number| bytes(&number))),
        map("speaker", Just(Speak), ".*"),
        map("speaker", Just(Report), 0_u64..100),
        map("asker", Just(LookPlain), any::<u64>()),
    ];
    cases.extend(["fail-transiently", "refuse-element"].map(fails_at_a_place));
    cases.extend(quiet.map(self::quiet));
    proptest::strategy::Union::new(cases)
}

/// The same cases in each process, and each time, unless the environment says otherwise: `PROPTEST_CASES=5000
/// PROPTEST_RNG_SEED=7`.
fn cases() -> Vec<Case> {
    let mut config = ProptestConfig::default();
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(0);
    }
    let cases = config.cases;
    let mut runner = TestRunner::new(config);
    let strategy = any_case();
    (0..cases).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

#[derive(Clone)]
struct Plugins(BTreeMap<&'static str, Plugin>);

impl Plugins {
    fn load(engine: &Engine) -> Self {
        Self(PLUGINS.map(|name| (name, engine.load(&crate::component(name)).unwrap())).into())
    }

    /// What becomes of each element, in batches of some sizes; or of all of them, if they are folded.
    fn execute(&self, case: &Case, mut batches: impl Iterator<Item = usize>) -> Vec<String> {
        let plugin = &self.0[case.plugin];
        let limits = Limits { time: Duration::from_secs(120), ..Limits::default() };
        let call = Call::new(&case.operation, &case.config, limits);
        if case.fold {
            return vec![format!("{:?}", plugin.fold(&call, &case.inputs))];
        }
        let (mut outputs, mut rest) = (Vec::new(), case.inputs.clone());
        while !rest.is_empty() {
            let batch = rest.slice(0..batches.next().unwrap().min(rest.len()));
            let done = match plugin.map(&call, &batch) {
                Ok(outcome) => {
                    outputs.extend(outcome.outputs.iter().map(|output| format!("{output:?}")));
                    let failed = outcome.failure.map(|(_, failure)| outputs.push(format!("{failure:?}")));
                    outcome.outputs.len() + usize::from(failed.is_some())
                }
                // Whoever is to blame is found one by one, as a worker does it.
                Err(_) if batch.len() > 1 => {
                    let one = Case { inputs: batch.clone(), ..case.clone() };
                    outputs.extend(self.execute(&one, std::iter::repeat(1)));
                    batch.len()
                }
                Err(stopped) => {
                    outputs.push(format!("{stopped:?}"));
                    1
                }
            };
            rest = rest.slice(done..rest.len());
        }
        outputs
    }

    fn execute_at_once(&self, case: &Case) -> Vec<String> {
        self.execute(case, std::iter::repeat(usize::MAX))
    }
}

#[test]
fn batches_slots_and_engines_make_no_difference() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (one, other) = (super::guests::engine(1), super::guests::engine(2));
    let (here, there) = (Plugins::load(&one), Plugins::load(&other));
    for case in cases() {
        let expected = here.execute_at_once(&case);
        assert_eq!(expected.len(), if case.fold { 1 } else { case.inputs.len() });
        let case = Arc::new(case);
        let sizes = || if case.splits { case.batches.clone() } else { vec![usize::MAX] };
        assert_eq!(there.execute(&case, sizes().into_iter().cycle()), expected, "{case:?}");
        if case.splits {
            assert_eq!(here.execute(&case, std::iter::repeat(1)), expected, "{case:?}");
        }
        // Side by side with itself, on the threads that a worker has for it.
        let on_a_slot = || {
            let (there, case, sizes) = (there.clone(), case.clone(), sizes());
            other.run(move || there.execute(&case, sizes.into_iter().cycle()))
        };
        let (first, second) = runtime.block_on(async { tokio::join!(on_a_slot(), on_a_slot()) });
        assert_eq!([first, second], [expected.clone(), expected], "{case:?}");
    }
}

#[test]
fn a_fresh_process_with_an_empty_cache_computes_the_same() {
    let all = |plugins: &Plugins| {
        let outputs = cases().iter().map(|case| plugins.execute_at_once(case).join("\n")).collect::<Vec<_>>();
        format!("all outputs {}", Digest::of(outputs.join("\n").as_bytes()))
    };
    let folder = tempfile::tempdir().unwrap();
    let test = "engine::purity::a_fresh_process_with_an_empty_cache_computes_the_same";
    match alone(test, folder.path().to_str().unwrap()) {
        Some(printed) => {
            let expected = all(&Plugins::load(&super::guests::engine(1)));
            assert!(printed.contains(&expected), "{expected}: {printed}");
        }
        None => {
            let cache_dir = Some(std::env::var_os("PALFREY_TEST_ALONE").unwrap().into());
            let config = EngineConfig { cache_dir, slots: 2, ..EngineConfig::default() };
            println!("{}", all(&Plugins::load(&Engine::new(&config).unwrap())));
        }
    }
}
