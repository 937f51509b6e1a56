//! The plugin `asker` of the tests: its operations ask for what lies outside of the sandbox, and tell what they got. Each looks
//! at everything, whatever it has asked for.

use std::{
    collections::hash_map::RandomState,
    fmt, fs,
    hash::BuildHasher as _,
    io::{self, Read as _, Seek as _},
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use palfrey_sdk::{FatalError, Monoid, Operation, RemoteExecute, Result, Schema};
use serde::{Deserialize, Serialize};

palfrey_sdk::registry!(
    LookPlain,
    LookAtClocks,
    LookAtEntropy,
    LookAtValue,
    LookAtData,
    LookAtAll,
    TouchData,
    ReadBetweenData,
    LatestIf
);

/// What an operation has found around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Schema)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct Seen {
    /// Seconds since 1970, by the wall clock.
    pub wall: u64,
    /// Nanoseconds that passed between two looks at the monotonic clock.
    pub step: u64,
    /// Seconds that passed while it slept for an hour.
    pub slept: u64,
    /// A random number.
    pub random: u64,
    /// All environment variables.
    pub environment: Vec<(String, String)>,
    /// The names in the directory `/data`, if there is one.
    pub data: Option<Vec<String>>,
    /// Whether something else was given that nobody can ask for.
    pub more: bool,
}

fn look() -> Seen {
    let now = Instant::now();
    let step = now.elapsed();
    #[expect(
        clippy::disallowed_methods,
        reason = "within the sandbox it takes no time, and that is what is looked at"
    )]
    std::thread::sleep(Duration::from_secs(3600));
    let names = |entries: fs::ReadDir| entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut data = fs::read_dir("/data").and_then(|entries| names(entries).collect::<io::Result<Vec<_>>>()).ok();
    data.iter_mut().for_each(|names| names.sort());
    Seen {
        wall: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        step: step.as_nanos() as u64,
        slept: now.elapsed().as_secs(),
        random: RandomState::new().hash_one("asker"),
        environment: std::env::vars().collect(),
        data,
        more: fs::read("/etc/passwd").is_ok()
            || fs::read_dir("/").is_ok()
            || std::env::args().count() > 0
            || std::net::UdpSocket::bind("127.0.0.1:0").is_ok(),
    }
}

macro_rules! looks {
    ($($(#[$attribute:meta])* $name:ident)*) => {
        $(
            #[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
            #[postcard(crate = palfrey_sdk::postcard_schema)]
            $(#[$attribute])*
            pub struct $name;

            impl Operation for $name {
                type Input = u64;
                type Output = Seen;

                fn execute(&self, _: u64) -> Result<Seen> {
                    Ok(look())
                }
            }
        )*
    };
}

looks! {
    /// Asks for nothing.
    LookPlain
    /// Asks for the time.
    #[palfrey(needs("clocks"))]
    LookAtClocks
    /// Asks for random numbers.
    #[palfrey(needs("entropy"))]
    LookAtEntropy
    /// Asks for a value that cargo sets for tests.
    #[palfrey(needs("env:CARGO_PKG_NAME"))]
    LookAtValue
    /// Asks for a directory.
    #[palfrey(needs("dir:/data"))]
    LookAtData
    /// Asks for all of that.
    #[palfrey(needs("clocks", "entropy", "env:CARGO_PKG_NAME", "dir:/data"))]
    LookAtAll
}

/// Does something to a path, and says how that ended: `ok` with what was read, or the kind of the error.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
#[palfrey(needs("dir:/data"))]
pub struct TouchData(pub Action);

/// What [`TouchData`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub enum Action {
    /// Reads a file.
    Read,
    /// Lists a directory.
    List,
    /// Tells the size of a file.
    Size,
    /// Tells where a symbolic link leads.
    ReadLink,
    /// Opens a file a hundred thousand times, and keeps all of them open.
    OpenMany,
    /// Writes to a file that is there, or creates it.
    Write,
    /// Opens a file that is there for appending.
    Append,
    /// Opens a file that is there, and cuts it off.
    Truncate,
    /// Opens a file for reading, and changes its length all the same.
    SetLength,
    /// Changes when a file was changed.
    SetTimes,
    /// Creates a directory.
    CreateFolder,
    /// Removes a file.
    Remove,
    /// Removes a directory.
    RemoveFolder,
    /// Renames something to `/data/renamed`.
    Rename,
    /// Makes a second name `/data/linked` for it.
    Link,
}

impl Operation for TouchData {
    type Input = String;
    type Output = String;

    fn execute(&self, path: String) -> Result<String> {
        let path = Path::new(&path);
        let done = match self.0 {
            Action::Read => fs::read_to_string(path),
            Action::List => fs::read_dir(path).map(|entries| entries.count().to_string()),
            Action::Size => fs::metadata(path).map(|metadata| metadata.len().to_string()),
            Action::ReadLink => fs::read_link(path).map(|path| path.display().to_string()),
            Action::OpenMany => {
                let files = (0..100_000).map(|_| fs::File::open(path)).collect::<io::Result<Vec<_>>>();
                files.map(|files| files.len().to_string())
            }
            Action::Write => done(fs::write(path, "changed")),
            Action::Append => done(fs::OpenOptions::new().append(true).open(path)),
            Action::Truncate => done(fs::OpenOptions::new().write(true).truncate(true).open(path)),
            Action::SetLength => done(fs::File::open(path).and_then(|file| file.set_len(0))),
            Action::SetTimes => done(fs::File::open(path).and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH))),
            Action::CreateFolder => done(fs::create_dir(path)),
            Action::Remove => done(fs::remove_file(path)),
            Action::RemoveFolder => done(fs::remove_dir(path)),
            Action::Rename => done(fs::rename(path, "/data/renamed")),
            Action::Link => done(fs::hard_link(path, "/data/linked")),
        };
        Ok(match done {
            Ok(text) => format!("ok {text}"),
            Err(error) => format!("{:?}", error.kind()),
        })
    }
}

fn done<T>(result: io::Result<T>) -> io::Result<String> {
    result.map(|_| String::new())
}

/// Reads bytes of the file `/data/<name>` from a position on.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
#[palfrey(needs("dir:/data"))]
pub struct ReadBetweenData {
    /// The first byte.
    pub start: u64,
    /// The number of bytes.
    pub count: u64,
}

impl Operation for ReadBetweenData {
    type Input = String;
    type Output = Vec<u8>;

    fn execute(&self, name: String) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = || {
            let mut file = fs::File::open(Path::new("/data").join(name))?;
            file.seek(io::SeekFrom::Start(self.start))?;
            file.take(self.count).read_to_end(&mut bytes)
        };
        read().map_err(FatalError::new)?;
        Ok(bytes)
    }
}

/// The larger one; panics on a number as soon as the clock has been looked at.
#[derive(Debug, Clone, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
#[palfrey(needs("clocks"))]
pub struct LatestIf {
    /// The number.
    pub panics_on: u64,
}

impl Monoid for LatestIf {
    type Elem = u64;

    fn empty(&self) -> u64 {
        0
    }

    fn combine(&self, left: u64, right: u64) -> Result<u64> {
        let now = SystemTime::now();
        assert!(right != self.panics_on, "{right} at {now:?}");
        Ok(left.max(right))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
