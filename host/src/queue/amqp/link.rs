//! One connection to the broker that is rebuilt when it is lost, for ever or for as long as it has patience.

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::StreamExt;
use lapin::{Channel, ErrorKind, Event};
use tokio::{
    sync::{Notify, watch},
    task::JoinError,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::address::Address;
use crate::queue::{Condition, QueueError};

/// Pauses between attempts, without an end.
const BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(50))
    .with_max_delay(Duration::from_secs(2))
    .with_jitter()
    .without_max_times();

/// A broker that does not confirm the end by then is left.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Numbers of channels that are not used, so that those who ask for one at the same time do not come to the first again.
const SPARE_CHANNELS: u16 = 128;

/// How often work may end in a way that should pass, until the work is held to be the reason. The pauses amount to five
/// seconds.
const MAX_DOUBTS: u32 = 8;

/// AMQP's reply codes.
const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;

/// What RabbitMQ says of a stream that somebody has just declared and whose process is not there yet. (In a cluster it also
/// says so of a stream that this node has no copy of.)
const NO_REPLICA: &str = "does not have a replica on the local node";

/// A handle to the connection; clones share it. A task of its own supervises it and ends with the token.
#[derive(Debug, Clone)]
pub(super) struct Link {
    state: watch::Receiver<State>,
    /// Tells the supervisor to look whether the connection is still there.
    suspicion: Arc<Notify>,
    /// Tells the supervisor that the connection's numbers of channels are used up.
    worn: Arc<Notify>,
}

#[derive(Debug, Clone)]
enum State {
    Up(Arc<lapin::Connection>),
    Down,
    Closed,
}

impl Link {
    /// Connects, failing at once if that is impossible, and from then on for as long as it takes. With `patience` it tries
    /// only so long to reach a broker that went away, and cancels `end` then.
    pub(super) async fn open(
        address: Address,
        name: String,
        patience: Option<Duration>,
        end: CancellationToken,
    ) -> Result<Self, QueueError> {
        let connection = Arc::new(address.connect(&name).await?);
        let (state_in, state) = watch::channel(State::Up(connection.clone()));
        let (suspicion, worn) = <(Arc<Notify>, Arc<Notify>)>::default();
        let supervisor = Supervisor {
            address,
            name,
            patience,
            state: state_in,
            suspicion: suspicion.clone(),
            worn: worn.clone(),
            end,
        };
        tokio::spawn(supervisor.run(connection));
        Ok(Self { state, suspicion, worn })
    }

    /// The connection, once there is one.
    pub(super) async fn connection(&self) -> Result<Arc<lapin::Connection>, QueueError> {
        let mut state = self.state.clone();
        loop {
            let current = state.borrow_and_update().clone();
            match current {
                State::Up(connection) if connection.status().connected() => return Ok(connection),
                State::Up(_) => self.suspicion.notify_one(),
                State::Down => {}
                State::Closed => return Err(QueueError::Closed),
            }
            state.changed().await.map_err(|_| QueueError::Closed)?;
        }
    }

    /// Waits for an answer on a connection. `None` if that is not the current one any more: what is sent at the moment of a loss
    /// may never be answered, not even by an error.
    pub(super) async fn unless_lost<T>(
        &self,
        connection: &Arc<lapin::Connection>,
        answer: impl Future<Output = T>,
    ) -> Option<T> {
        let is_other = |state: &State| !matches!(state, State::Up(current) if Arc::ptr_eq(current, connection));
        let mut state = self.state.clone();
        tokio::select! {
            biased;
            answer = answer => Some(answer),
            // An error means that the supervisor is gone, and the connection with it.
            _ = state.wait_for(is_other) => None,
        }
    }

    /// How the connection is just now.
    pub(super) fn condition(&self) -> Condition {
        match &*self.state.borrow() {
            State::Up(connection) if !connection.status().connected() => Condition::Lost,
            State::Up(connection) if connection.status().blocked() => Condition::Blocked,
            State::Up(_) => Condition::Connected,
            State::Down => Condition::Lost,
            State::Closed => Condition::Closed,
        }
    }

    /// Opens a channel and works on it, again and again if the connection is lost meanwhile. `work` must be harmless to
    /// repeat. Nobody has to wait for its end: what is begun goes on by itself. `queue` and `action` tell the user what it
    /// was about.
    pub(super) async fn on_channel<T, F, W>(&self, queue: &str, action: &str, work: W) -> Result<T, QueueError>
    where
        W: Fn(Channel) -> F,
        F: Future<Output = lapin::Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        let (done, _) = self.on_channel_of(queue, action, work).await?;
        Ok(done)
    }

    /// As [`on_channel`](Self::on_channel), and returns the connection of the channel as well.
    pub(super) async fn on_channel_of<T, F, W>(
        &self,
        queue: &str,
        action: &str,
        work: W,
    ) -> Result<(T, Arc<lapin::Connection>), QueueError>
    where
        W: Fn(Channel) -> F,
        F: Future<Output = lapin::Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        let mut pauses = BACKOFF.build();
        let mut doubts = 0;
        loop {
            let connection = self.connection().await?;
            let attempt = async {
                let channel = connection.create_channel().await?;
                if !is_fresh(&channel, &connection) {
                    self.worn.notify_one();
                    // Until another connection takes its place.
                    std::future::pending::<()>().await;
                }
                // The client library closes a channel that is dropped, and the broker may be closing it just then, with an
                // error as its answer. Either takes the other's words for an offence, and ends the whole connection.
                match tokio::spawn(work(channel)).await.map_err(JoinError::try_into_panic) {
                    Ok(done) => done,
                    Err(Ok(panic)) => std::panic::resume_unwind(panic),
                    // The runtime ends, and all that runs on it.
                    Err(Err(_)) => std::future::pending().await,
                }
            };
            let error = match self.unless_lost(&connection, attempt).await {
                Some(Ok(done)) => return Ok((done, connection)),
                Some(Err(error)) => error,
                None => {
                    debug!(queue, action, "trying again on the next connection");
                    continue;
                }
            };
            doubts += u32::from(is_doubtful(&error));
            match Verdict::of(&error) {
                Verdict::Missing => return Err(QueueError::NoSuchQueue(queue.to_owned())),
                Verdict::Lost if doubts < MAX_DOUBTS => debug!(queue, action, %error, "trying again"),
                Verdict::Lost | Verdict::Refused => {
                    return Err(QueueError::Broker { action: format!("{action} `{queue}`"), source: error.into() });
                }
            }
            tokio::time::sleep(pauses.next().unwrap_or_default()).await;
        }
    }

    /// Waits until the supervisor has ended the connection for good.
    pub(super) async fn closed(&self) {
        // An error means that the supervisor is gone, and the connection with it.
        self.state.clone().wait_for(|state| matches!(state, State::Closed)).await.ok();
    }
}

/// Whether the broker said that this user may not do it.
pub(super) fn is_access_refused(error: &QueueError) -> bool {
    let QueueError::Broker { source, .. } = error else { return false };
    let kind = source.downcast_ref::<lapin::Error>().map(lapin::Error::kind);
    matches!(kind, Some(ErrorKind::ProtocolError(refusal)) if refusal.get_id() == ACCESS_REFUSED)
}

/// Whether the number of a channel was not in use before on its connection. The client library tells a channel whose number
/// is used a second time what the broker said when it closed the first: that some other queue does not exist, for instance.
/// Numbers are given out in their order.
fn is_fresh(channel: &Channel, connection: &lapin::Connection) -> bool {
    let most = match connection.configuration().channel_max() {
        0 => u16::MAX,
        most => most,
    };
    channel.id() < most.saturating_sub(SPARE_CHANNELS)
}

/// What an error means for what was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The queue or exchange does not exist.
    Missing,
    /// Trying again would end in the same way.
    Refused,
    /// The connection or the channel is gone, or the broker is not ready yet.
    Lost,
}

impl Verdict {
    pub(super) fn of(error: &lapin::Error) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(_) if is_doubtful(error) => Self::Lost,
            ErrorKind::ProtocolError(refusal) => match refusal.get_id() {
                // The same code tells of a queue that exists and whose process is not there yet, after a restart.
                NOT_FOUND if refusal.get_message().as_str().contains("- no ") => Self::Missing,
                NOT_FOUND => Self::Lost,
                _ => Self::Refused,
            },
            ErrorKind::ChannelsLimitReached | ErrorKind::SerialisationError(_) => Self::Refused,
            _ => Self::Lost,
        }
    }
}

/// The largest message that the broker takes, if the error says that one was larger. RabbitMQ closes the channel then; how much
/// it takes is a setting that it tells nobody before.
pub(super) fn size_limit(error: &lapin::Error) -> Option<usize> {
    let ErrorKind::ProtocolError(refusal) = error.kind() else { return None };
    if refusal.get_id() != PRECONDITION_FAILED {
        return None;
    }
    let (_, limit) = refusal.get_message().as_str().split_once(" max size ")?;
    limit.trim().parse().ok()
}

/// Where this user may not send, if the error says that a message was for there. RabbitMQ closes the channel then.
pub(super) fn forbidden_topic(error: &lapin::Error) -> Option<&str> {
    let ErrorKind::ProtocolError(refusal) = error.kind() else { return None };
    if refusal.get_id() != ACCESS_REFUSED {
        return None;
    }
    let (_, topic) = refusal.get_message().as_str().split_once("topic '")?;
    topic.split_once("' in exchange").map(|(topic, _)| topic)
}

/// Whether the error should pass, and may not.
fn is_doubtful(error: &lapin::Error) -> bool {
    let is_about_a_replica = || match error.kind() {
        ErrorKind::ProtocolError(refusal) => {
            refusal.get_id() == PRECONDITION_FAILED && refusal.get_message().as_str().contains(NO_REPLICA)
        }
        _ => false,
    };
    // Of the connection, not of the channel: it tells everybody on it what one of them did. If that goes on, it is probably
    // this one.
    error.is_amqp_hard_error() || is_about_a_replica()
}

struct Supervisor {
    address: Address,
    name: String,
    patience: Option<Duration>,
    state: watch::Sender<State>,
    suspicion: Arc<Notify>,
    worn: Arc<Notify>,
    end: CancellationToken,
}

/// Why a connection is to be replaced.
enum Over {
    Lost,
    Worn,
}

impl Supervisor {
    async fn run(self, mut connection: Arc<lapin::Connection>) {
        let end = self.end.clone();
        let kept_up = async {
            loop {
                match self.until_over(&connection).await {
                    Over::Lost => {
                        self.state.send_replace(State::Down);
                        let (broker, name) = (&self.address, &self.name);
                        warn!(%broker, connection = name, "the connection to the broker is lost; reconnecting");
                        let Some(next) = self.reconnect_patiently().await else {
                            self.end.cancel();
                            return;
                        };
                        connection = Arc::new(next);
                        info!(%broker, connection = name, "connected to the broker again");
                        self.state.send_replace(State::Up(connection.clone()));
                    }
                    Over::Worn => {
                        let worn = std::mem::replace(&mut connection, Arc::new(self.reconnect().await));
                        debug!(connection = self.name, "the connection has used up its channels and is replaced");
                        self.state.send_replace(State::Up(connection.clone()));
                        self.close(&worn).await;
                    }
                }
            }
        };
        tokio::select! {
            () = end.cancelled() => {}
            () = kept_up => {}
        }
        self.close(&connection).await;
        self.state.send_replace(State::Closed);
    }

    async fn close(&self, connection: &lapin::Connection) {
        if connection.status().connected() {
            let close = connection.close(200, "OK".into());
            if !matches!(tokio::time::timeout(CLOSE_TIMEOUT, close).await, Ok(Ok(()))) {
                debug!(broker = %self.address, connection = self.name, "the broker did not confirm the end");
            }
        }
    }

    async fn until_over(&self, connection: &lapin::Connection) -> Over {
        let mut events = connection.events_listener();
        while connection.status().connected() {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.report(event),
                    None => return Over::Lost,
                },
                () = self.suspicion.notified() => {}
                () = self.worn.notified() => return Over::Worn,
            }
        }
        Over::Lost
    }

    fn report(&self, event: Event) {
        match event {
            Event::ConnectionBlocked(reason) => {
                warn!(broker = %self.address, reason, "the broker takes no messages for now; publishers wait");
            }
            Event::ConnectionUnblocked => info!(broker = %self.address, "the broker takes messages again"),
            event => debug!(?event, "event of the connection"),
        }
    }

    /// `None` when the patience is at its end.
    async fn reconnect_patiently(&self) -> Option<lapin::Connection> {
        let Some(patience) = self.patience else { return Some(self.reconnect().await) };
        let connection = tokio::time::timeout(patience, self.reconnect()).await.ok();
        if connection.is_none() {
            error!(broker = %self.address, ?patience, "the broker did not come back");
        }
        connection
    }

    async fn reconnect(&self) -> lapin::Connection {
        let mut pauses = BACKOFF.build();
        loop {
            match self.address.connect(&self.name).await {
                Ok(connection) => return connection,
                Err(error) => debug!(error = &error as &dyn std::error::Error, "reconnecting failed"),
            }
            tokio::time::sleep(pauses.next().unwrap_or_default()).await;
        }
    }
}
