//! stdout and stderr: streams that take everything at once and hand it to the journal.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use crate::engine::{context::SharedJournal, journal::Stream};

/// What a guest may write at once; it is asked to write larger texts in parts.
const CHUNK: usize = 64 << 10;

/// One of the two streams.
#[derive(Clone)]
pub(super) struct Printer {
    stream: Stream,
    journal: SharedJournal,
}

impl Printer {
    pub(super) fn new(stream: Stream, journal: &SharedJournal) -> Self {
        Self { stream, journal: Arc::clone(journal) }
    }
}

impl IsTerminal for Printer {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printer {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Version 0.2 of WASI, the only one that is linked, uses the other method.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Printer {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Printer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).print(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(CHUNK)
    }
}
