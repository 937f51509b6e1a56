//! One run of a node, from its start to its end, in the hands of a keeper.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use crate::NodeError;

/// What the node prints once it accepts connections.
const READY: &str = "completed with";
/// The first lines tell what is wrong; what follows is Erlang's account of everything that fell with it.
const LOG_LINES: usize = 30;

/// A node that has started. Dropping it kills the node and, by the keeper, removes its folder.
#[derive(Debug)]
pub(crate) struct Run {
    keeper: Child,
    commands: Option<ChildStdin>,
}

impl Run {
    /// Starts a node and waits until it accepts connections. `command` runs the keeper.
    pub(crate) fn start(name: &str, mut command: Command) -> Result<Self, NodeError> {
        // Of a process group of its own, so that Ctrl-C reaches the owner alone, and the owner's end the keeper.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut keeper = command.spawn().map_err(NodeError::io("run a shell to keep the node"))?;
        let (ready_in, ready) = mpsc::channel();
        let log = Arc::new(Mutex::new(Vec::new()));
        let readers = [
            keeper.stdout.take().map(|output| follow(output, log.clone(), ready_in.clone())),
            keeper.stderr.take().map(|output| follow(output, log.clone(), ready_in.clone())),
        ];
        drop(ready_in);
        let commands = keeper.stdin.take();
        let mut run = Self { keeper, commands };
        // An error means that the output has ended, and with it the node.
        if ready.recv().is_ok() {
            return Ok(run);
        }
        readers.into_iter().flatten().for_each(|reader| drop(reader.join()));
        run.keeper.wait().map_err(NodeError::io("wait for the node's end"))?;
        let log = log.lock().expect("no reader panics").join("\n");
        Err(NodeError::Start { name: name.to_owned(), log })
    }

    /// Lets the node end in order.
    pub(crate) fn stop(self) -> Result<(), NodeError> {
        self.end("stop")
    }

    /// Kills the node.
    pub(crate) fn kill(self) -> Result<(), NodeError> {
        self.end("kill")
    }

    fn end(mut self, command: &str) -> Result<(), NodeError> {
        if let Some(commands) = &mut self.commands {
            // It fails if the node has ended already, which is what is wanted.
            writeln!(commands, "{command}").ok();
        }
        self.keeper.wait().map_err(NodeError::io("wait for the node's end"))?;
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.commands.take();
        self.keeper.wait().ok();
    }
}

/// Reads what the node prints for as long as it lives, says when it is ready, and keeps the first lines.
fn follow(
    output: impl Read + Send + 'static,
    log: Arc<Mutex<Vec<String>>>,
    ready: mpsc::Sender<()>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut ready = Some(ready);
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if line.contains(READY)
                && let Some(ready) = ready.take()
            {
                ready.send(()).ok();
            }
            let mut log = log.lock().expect("no reader panics");
            if log.len() < LOG_LINES && !line.is_empty() {
                log.push(line);
            }
        }
    })
}
