//! Tells systemd how the worker is, if it asks for that (`Type=notify`, `WatchdogSec=`).

use palfrey_host::{WorkerRuntime, worker::Phase};
use sd_notify::NotifyState;
use tokio::time::Instant;

/// Speaks for a worker while its main loop goes round, and returns what that returns. Without a service manager it says
/// nothing.
pub(super) async fn accompany<T>(worker: &WorkerRuntime, main_loop: impl Future<Output = T>) -> T {
    let speaking = async {
        tokio::join!(vouch(worker), tell_phases(worker));
        std::future::pending().await
    };
    let ended = tokio::select! {
        biased;
        ended = main_loop => ended,
        never = speaking => never,
    };
    // An idle worker has ended before anybody could say that it will.
    tell(&[NotifyState::Stopping]);
    ended
}

/// Feeds the watchdog as long as the main loop goes round.
async fn vouch(worker: &WorkerRuntime) {
    let Some(within) = sd_notify::watchdog_enabled() else { return };
    let mut beats = worker.beats();
    let mut told: Option<Instant> = None;
    while beats.changed().await.is_ok() {
        if told.is_none_or(|told| told.elapsed() >= within / 4) {
            tell(&[NotifyState::Watchdog]);
            told = Some(Instant::now());
        }
    }
}

async fn tell_phases(worker: &WorkerRuntime) {
    let mut phase = worker.phase();
    loop {
        let now = *phase.borrow_and_update();
        match now {
            Phase::Starting => {}
            Phase::Taking => tell(&[NotifyState::Ready, NotifyState::Status("taking tasks")]),
            Phase::Draining => tell(&[NotifyState::Stopping, NotifyState::Status("finishing what is under way")]),
        }
        if phase.changed().await.is_err() {
            return;
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell the service manager how the worker is");
    }
}
