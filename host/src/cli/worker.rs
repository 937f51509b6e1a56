//! `palfrey worker`

use std::net::SocketAddr;

use palfrey_host::{Config, WorkerRuntime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Failure, connection, health::HealthServer, service};

pub(super) const HELP: &str = "\
Takes tasks and executes whatever plugins they name. Start as many as you like, on any machine that reaches the broker.
At the first SIGINT or SIGTERM, or when `palfrey drain` names it, it takes no more tasks, finishes those that run within the
drain timeout and exits with 0; at a second one it exits at once. The broker gives to others what was not finished.

Operations that need something of this machine are left to other workers, unless `--allow` names it.

Examples:
  palfrey worker --allow clocks --allow dir:/models=/srv/models
  palfrey worker --amqp-uri amqp://user:password@broker:5672/%2f --slots 4 --limit time=1min,memory=512MiB";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Answer HTTP probes for /livez and /readyz at this address, such as 127.0.0.1:8080 [default: do not listen]
    #[arg(long, env = "PALFREY_HEALTH_LISTEN", value_name = "ADDR")]
    health_listen: Option<SocketAddr>,
    /// Log where the time of each task goes, in microseconds: as `--log` with `palfrey::times=trace`
    #[arg(long, env = "PALFREY_PROFILE")]
    pub(super) profile: bool,
    /// Write the names of guest functions to /tmp/perf-PID.map, where `perf` looks for them
    #[arg(long, env = "PALFREY_PERF_MAP")]
    perf_map: bool,
}

pub(super) async fn run(config: Config, args: Args) -> Result<(), Failure> {
    #[cfg(debug_assertions)]
    arm_failpoints()?;
    let shutdown = CancellationToken::new();
    watch_signals(shutdown.clone())?;
    let config = Config { perf_map: args.perf_map, ..connection::complete(config)? };
    let health = match args.health_listen {
        Some(address) => Some(HealthServer::listen(address).await?),
        None => None,
    };
    let worker = tokio::select! {
        worker = WorkerRuntime::from_config(&config) => worker?,
        () = shutdown.cancelled() => return Ok(()),
    };
    if let Some(health) = &health {
        health.tell_of(&worker);
    }
    let ended = service::accompany(&worker, worker.main_loop(shutdown.cancelled())).await;
    // It was closed already if that is what has ended the loop.
    worker.close().await.ok();
    Ok(ended?)
}

/// Where tests want this process to fail.
#[cfg(debug_assertions)]
fn arm_failpoints() -> Result<(), Failure> {
    use palfrey_host::failpoint;
    let rules = std::env::var(failpoint::VARIABLE).unwrap_or_default();
    failpoint::arm(&rules).map_err(|error| Failure::Setup(error.into()))
}

/// Asks for a shutdown at the first signal, and ends the process at the second.
fn watch_signals(shutdown: CancellationToken) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Internal(error.into());
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    tokio::spawn(async move {
        let name = next(&mut interrupt, &mut terminate).await.0;
        tracing::info!("{name}: finishing what is under way; once more to exit at once");
        shutdown.cancel();
        let (name, code) = next(&mut interrupt, &mut terminate).await;
        tracing::warn!("{name} again: exiting at once");
        #[expect(clippy::disallowed_methods, reason = "whoever signals twice does not want to wait for destructors")]
        std::process::exit(code);
    });
    Ok(())
}

/// A signal's name, and the exit code by which shells know it.
async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> (&'static str, i32) {
    tokio::select! {
        _ = interrupt.recv() => ("SIGINT", 130),
        _ = terminate.recv() => ("SIGTERM", 143),
    }
}
