//! `docs/LIMITS.md` says what the code does: each row of its tables is compared with the flag, the default, or the constant that
//! it names. Each flag of a worker has a row, and each constant that is a number or a time, unless it is among [`NO_LIMITS`].

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use clap::Args as _;
use palfrey_host::{
    Config,
    engine::{CompileLimits, Limits},
};

/// Numbers that limit nothing.
const NO_LIMITS: [&str; 26] = [
    // Codes and layouts that others read.
    "task/wire.rs VERSION",
    "task/wire.rs PREFIX",
    "plugin/record.rs FORMAT",
    "engine/cache.rs HEADER",
    "queue/amqp/link.rs ACCESS_REFUSED",
    "queue/amqp/link.rs NOT_FOUND",
    "queue/amqp/link.rs PRECONDITION_FAILED",
    // Clocks that a guest sees.
    "engine/wasi/clock.rs STEP",
    "engine/wasi/clock.rs START",
    "engine/wasi/clock.rs NEVER",
    // How something is shown to people.
    "cli/dead.rs WIDTH",
    "cli/dead.rs SHOWN",
    "dead_letters.rs NAME",
    "plugin/record.rs LAST",
    "plugin/schema.rs LONGEST",
    "plugin/schema.rs WIDTH",
    "plugin/suggestions.rs NEAREST",
    "plugin/suggestions.rs LISTED",
    "presence/names.rs SHORT",
    // How averages and estimates forget.
    "worker/load.rs MINUTE",
    "schedule/batch.rs WEIGHT",
    "schedule/prefetch.rs WEIGHT",
    // Room for what one part of the code knows of another.
    "engine/wasi/stdio.rs CHUNK",
    "queue/amqp/link.rs SPARE_CHANNELS",
    "queue/amqp/topology.rs BEGINNING",
    "queue/amqp/publisher.rs OPENING",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn size(bytes: u64) -> String {
    match bytes {
        _ if bytes > 0 && bytes.is_multiple_of(1 << 30) => format!("{} GiB", bytes >> 30),
        _ if bytes > 0 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes > 0 && bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => bytes.to_string(),
    }
}

fn time(duration: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    match duration.as_secs() {
        seconds if seconds >= DAY && seconds.is_multiple_of(DAY) => format!("{} d", seconds / DAY),
        _ => humantime::format_duration(duration).to_string(),
    }
}

/// What the flags default to, by their names.
fn flags() -> BTreeMap<String, String> {
    let command = Config::augment_args(clap::Command::new("palfrey"));
    let value = |argument: &clap::Arg| {
        let default = argument.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let said = help.split_once("[default: ").map(|(_, rest)| rest.trim_end_matches(']').to_owned());
        default.or(said).unwrap_or_else(|| "none".to_owned())
    };
    let shared = command.get_arguments().filter_map(|it| Some((format!("--{}", it.get_long()?), value(it))));
    // Those that the binary adds are known by its help alone.
    let mut flags = flags_of_a_worker();
    flags.extend(shared);
    flags
}

/// What the binary says of its flags.
fn flags_of_a_worker() -> BTreeMap<String, String> {
    let help =
        Command::new(env!("CARGO_BIN_EXE_palfrey")).args(["worker", "--help"]).env_clear().output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    // Each with what is said of it, which goes on over lines.
    let mut flags: Vec<(String, String)> = Vec::new();
    for line in help.lines() {
        let line = line.trim_start();
        if let Some(flag) = line.strip_prefix("-q, ").unwrap_or(line).strip_prefix("--") {
            flags.push((format!("--{}", flag.split(' ').next().unwrap()), String::new()));
        } else if let Some((_, said)) = flags.last_mut() {
            *said += &format!("{line} ");
        }
    }
    let default = |said: String| match said.split_once("[default: ") {
        Some((_, value)) => value.split(']').next().unwrap().to_owned(),
        None => "none".to_owned(),
    };
    flags.into_iter().map(|(name, said)| (name, default(said))).collect()
}

/// The limits of a call and of compiling, as `--limit` and `--compile-limit` name them.
fn limits() -> BTreeMap<String, String> {
    let Limits { memory, table_elements, time: deadline, output, log } = Limits::default();
    let values = [
        ("memory", size(memory)),
        ("table", table_elements.to_string()),
        ("time", time(deadline)),
        ("output", size(output)),
        ("log", size(log)),
    ];
    let calls = values.into_iter().map(|(name, value)| (format!("--limit {name}"), value));
    let CompileLimits { component, time: deadline, memory, code } = CompileLimits::default();
    let values =
        [("component", size(component)), ("time", time(deadline)), ("memory", size(memory)), ("code", size(code))];
    let compiling = values.into_iter().map(|(name, value)| (format!("--compile-limit {name}"), value));
    calls.chain(compiling).collect()
}

/// Where the sources are that a constant's file is below of, and how the file is written.
fn sources() -> [(PathBuf, &'static str); 2] {
    [(root().join("host/src"), ""), (root().join("host/schedule/src"), "schedule/")]
}

/// All constants that are numbers or times: `FILE NAME`, with the file below `host/src`, or `host/schedule/src` if it begins
/// with `schedule/`, and the value as it is written.
fn constants() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (folder, prefix) in sources() {
        let mut folders = vec![folder.clone()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if !["tests.rs", "model.rs"].contains(&path.file_name().unwrap().to_str().unwrap()) {
                    let file = format!("{prefix}{}", path.strip_prefix(&folder).unwrap().display());
                    let source = fs::read_to_string(&path).unwrap();
                    let code = source.split("#[cfg(test)]\nmod ").next().unwrap();
                    let declared = code.lines().filter_map(declaration);
                    found.extend(declared.map(|(name, value)| (format!("{file} {name}"), value)));
                }
            }
        }
    }
    found
}

/// The name and the value of a constant that is a number or a time, if that is what a line declares.
fn declaration(line: &str) -> Option<(String, String)> {
    const TYPES: [&str; 9] = ["u8", "u16", "u32", "u64", "usize", "f64", "Duration", "&Duration", "NonZeroUsize"];
    let (visibility, rest) = line.trim_start().split_once("const ")?;
    if !(visibility.is_empty() || visibility.starts_with("pub") && visibility.ends_with(' ')) {
        return None;
    }
    let (name, rest) = rest.split_once(": ")?;
    let (kind, value) = rest.strip_suffix(';')?.split_once(" = ")?;
    TYPES.contains(&kind).then(|| (name.to_owned(), written(value)))
}

/// A value as people write it.
fn written(value: &str) -> String {
    let value = value.trim_start_matches('&').replace('_', "");
    let product = |text: &str| text.split(" * ").map(|factor| factor.parse::<u64>().ok()).product::<Option<u64>>();
    let inner = |prefix: &str| product(value.strip_prefix(prefix)?.strip_suffix(')')?);
    if let Some(seconds) = inner("Duration::fromsecs(") {
        return time(Duration::from_secs(seconds));
    }
    if let Some(millis) = inner("Duration::frommillis(") {
        return time(Duration::from_millis(millis));
    }
    if let Some(micros) = inner("Duration::frommicros(") {
        return time(Duration::from_micros(micros));
    }
    if let Some((number, shift)) = value.split_once(" << ") {
        return size(number.parse::<u64>().unwrap() << shift.parse::<u32>().unwrap());
    }
    if let Some(rest) = value.strip_prefix("NonZeroUsize::new(") {
        return rest.split(')').next().unwrap().to_owned();
    }
    match value.split(' ').next() {
        Some("u16::MAX") => u16::MAX.to_string(),
        Some("u32::MAX") => u32::MAX.to_string(),
        _ => value,
    }
}

#[test]
fn the_table_of_limits_says_what_the_code_does() {
    let text = fs::read_to_string(root().join("docs/LIMITS.md")).unwrap();
    let (flags, limits, constants) = (flags(), limits(), constants());
    let mut seen = Vec::new();
    let mut wrong = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let (place, said) = (cells[1].trim_matches('`'), cells[2].trim_matches('`'));
        let value = [&flags, &limits, &constants].into_iter().find_map(|known| known.get(place));
        let value = value.unwrap_or_else(|| panic!("`{place}` is no flag, no limit and no constant `FILE NAME`"));
        if said != value {
            wrong.push(format!("{place}: the table says {said}, the code {value}"));
        }
        assert!(cells.len() == 5 && cells[3].len() > 10, "each row has a reason: {line}");
        seen.push(place.to_owned());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The limits themselves are in rows of their own, named by what they limit.
    let elsewhere = |name: &str| ["--limit", "--compile-limit"].contains(&name) || NO_LIMITS.contains(&name);
    let all = flags.keys().chain(limits.keys()).chain(constants.keys());
    let missing: Vec<_> = all.filter(|name| !seen.contains(name) && !elsewhere(name)).collect();
    assert!(missing.is_empty(), "neither in docs/LIMITS.md nor among NO_LIMITS: {missing:#?}");
    let stale: Vec<_> = NO_LIMITS.iter().filter(|name| !constants.contains_key(**name)).collect();
    assert!(stale.is_empty(), "these are no constants any more: {stale:?}");
    let twice: Vec<_> = NO_LIMITS.iter().filter(|name| seen.iter().any(|seen| seen == *name)).collect();
    assert!(twice.is_empty(), "these are in docs/LIMITS.md: {twice:?}");
}
