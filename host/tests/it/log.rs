//! What is logged, as lines of JSON.

use std::{
    io::{self, Write},
    sync::{Arc, LazyLock, Mutex},
};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Everything that is written to a log.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// What guests of this process say, and how far they are, under the spans of their tasks. Slots have threads of their
    /// own, so it is one log for the tests of a process. It begins when the first of them asks for it.
    pub(crate) fn of_workers() -> &'static Self {
        static LOG: LazyLock<Log> = LazyLock::new(|| {
            let log = Log::default();
            let filter = EnvFilter::new(
                "palfrey::guest=trace,palfrey::progress=trace,palfrey::times=trace,palfrey_host::worker=info",
            );
            let subscriber = tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(log.clone());
            tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
            log
        });
        &LOG
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<serde_json::Value> {
        self.0
            .lock()
            .unwrap()
            .split_inclusive(|&byte| byte == b'\n')
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
