//! `docs/LIMITS.md` says what the code does: each row of its tables is compared with the flag, the default, or the constant that
//! it names.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use clap::Args as _;
use palfrey_host::{
    Config,
    engine::{CompileLimits, Limits},
};

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
    humantime::format_duration(duration).to_string()
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
    command.get_arguments().filter_map(|it| Some((format!("--{}", it.get_long()?), value(it)))).collect()
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

/// The value of a constant, as people write it: `FILE NAME`, with the file below `host/src`, or `host/schedule/src` if it
/// begins with `schedule/`.
fn constant(place: &str) -> String {
    let (file, name) = place.split_once(' ').unwrap_or_else(|| panic!("`{place}` is neither a flag nor `FILE NAME`"));
    let path = match file.strip_prefix("schedule/") {
        Some(file) => root().join("host/schedule/src").join(file),
        None => root().join("host/src").join(file),
    };
    let source = fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"));
    let declaration = format!("const {name}: ");
    let visible = |line: &str| line.starts_with("pub") && line.ends_with(' ') || line.is_empty();
    let line = source
        .lines()
        .find(|line| line.trim_start().split_once(&declaration).is_some_and(|(before, _)| visible(before)));
    let line = line.unwrap_or_else(|| panic!("{file} has no constant {name}"));
    let value = line.split_once(" = ").unwrap().1.trim_end_matches(';').replace('_', "");
    let inner = |prefix: &str| value.strip_prefix(prefix)?.strip_suffix(')')?.parse::<u64>().ok();
    if let Some(seconds) = inner("Duration::fromsecs(") {
        return time(Duration::from_secs(seconds));
    }
    if let Some(millis) = inner("Duration::frommillis(") {
        return time(Duration::from_millis(millis));
    }
    if let Some((number, shift)) = value.split_once(" << ") {
        return size(number.parse::<u64>().unwrap() << shift.parse::<u32>().unwrap());
    }
    if let Some(rest) = value.strip_prefix("NonZeroUsize::new(") {
        return rest.split(')').next().unwrap().to_owned();
    }
    value
}

#[test]
fn the_table_of_limits_says_what_the_code_does() {
    let text = fs::read_to_string(root().join("docs/LIMITS.md")).unwrap();
    let (flags, limits) = (flags(), limits());
    let mut seen = Vec::new();
    let mut wrong = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let (place, said) = (cells[1].trim_matches('`'), cells[2].trim_matches('`'));
        let value = match flags.get(place).or_else(|| limits.get(place)) {
            Some(value) => value.clone(),
            None => constant(place),
        };
        if said != value {
            wrong.push(format!("{place}: the table says {said}, the code {value}"));
        }
        assert!(cells.len() == 5 && cells[3].len() > 10, "each row has a reason: {line}");
        seen.push(place.to_owned());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let missing: Vec<_> = flags.keys().chain(limits.keys()).filter(|name| !seen.contains(name)).collect();
    // The limits themselves are in rows of their own, named by what they limit.
    let missing: Vec<_> =
        missing.into_iter().filter(|name| !["--limit", "--compile-limit"].contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "not in docs/LIMITS.md: {missing:?}");
}
