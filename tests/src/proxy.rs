//! A TCP proxy on the loopback interface that does to AMQP connections what networks do to them.
//!
//! It knows AMQP's frames, no more: so that a connection can be cut at a certain one.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

/// Frames that may be under way within the proxy, in each direction of each connection.
const UNDER_WAY: usize = 4096;

/// So much earlier than it should something may pass.
const SLACK: Duration = Duration::from_millis(10);

/// What the proxy does with what it is given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Conduct {
    /// Pass it on.
    Forward,
    /// Nothing: no packet passes, and no connection is reset. As if a cable were pulled.
    Silence,
    /// Pass it on later.
    Delay(Duration),
    /// Pass on so many bytes a second.
    Throttle(u32),
    /// Reset new connections. Those that are there go on.
    Refuse,
}

/// What AMQP's methods are called here, seen from the process whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// A message is sent.
    Publish,
    /// The broker confirms messages.
    Confirm,
    /// A subscription is asked for.
    Consume,
    /// A message is received.
    Deliver,
    /// A message is acknowledged.
    Acknowledge,
}

/// Which side of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It does not pass any more.
    Before,
    /// It is the last one to pass.
    After,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToBroker,
    FromBroker,
}

impl Frame {
    /// Direction, class and method.
    fn identity(self) -> (Direction, u16, u16) {
        match self {
            Self::Publish => (Direction::ToBroker, 60, 40),
            Self::Confirm => (Direction::FromBroker, 60, 80),
            Self::Consume => (Direction::ToBroker, 60, 20),
            Self::Deliver => (Direction::FromBroker, 60, 60),
            Self::Acknowledge => (Direction::ToBroker, 60, 80),
        }
    }
}

/// A proxy in front of a broker. Its connections are reset when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    uri: String,
    shared: Arc<Shared>,
    _accepting: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    broker: SocketAddr,
    conduct: watch::Sender<Conduct>,
    /// How often everything was cut.
    cuts: watch::Sender<u64>,
    trap: Mutex<Option<Trap>>,
}

/// Cuts everything at a frame.
#[derive(Debug)]
struct Trap {
    frame: Frame,
    side: Side,
    /// Such frames that pass before.
    spared: u32,
    sprung: oneshot::Sender<()>,
}

impl Proxy {
    /// In front of the broker at a URI.
    ///
    /// # Panics
    /// If the URI has no port, or none is free.
    pub async fn to(uri: &str) -> Self {
        let (front, vhost) = uri.rsplit_once('/').expect("it names a virtual host");
        let (credentials, broker) = front.rsplit_once('@').expect("it has credentials");
        let broker = broker.parse().expect("the broker has an address and a port");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            broker,
            conduct: watch::Sender::new(Conduct::Forward),
            cuts: watch::Sender::new(0),
            trap: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        let uri = format!("{credentials}@{address}/{vhost}");
        Self { uri, shared, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// The broker's URI by way of this proxy.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Changes what happens, also to connections that are there.
    pub fn conduct(&self, conduct: Conduct) {
        self.shared.conduct.send_replace(conduct);
    }

    /// Resets all connections.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Resets all connections at a frame, once so many of its kind have passed, and waits for that.
    ///
    /// # Panics
    /// If it takes too long.
    #[track_caller]
    pub fn cut_at(&self, side: Side, frame: Frame, spared: u32) -> impl Future<Output = ()> + use<> {
        let (sprung, waiting) = oneshot::channel();
        *self.shared.trap() = Some(Trap { frame, side, spared, sprung });
        let waiting = crate::soon(waiting);
        async move { waiting.await.expect("the trap is there until it springs") }
    }
}

impl Shared {
    fn trap(&self) -> std::sync::MutexGuard<'_, Option<Trap>> {
        self.trap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the connections are to be cut at this frame, and on which side of it.
    fn springs(&self, direction: Direction, frame: &[u8]) -> Option<Side> {
        let method = method(frame)?;
        let mut trap = self.trap();
        let set = trap.as_mut()?;
        if set.frame.identity() != (direction, method.0, method.1) {
            return None;
        }
        if set.spared > 0 {
            set.spared -= 1;
            return None;
        }
        let Trap { side, sprung, .. } = trap.take()?;
        sprung.send(()).ok();
        Some(side)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // All of them end with the proxy.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if *shared.conduct.borrow() == Conduct::Refuse {
            client.set_zero_linger().ok();
            continue;
        }
        connections.spawn(connect(client, shared.clone()));
    }
}

async fn connect(mut client: TcpStream, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    // A broker that is not there refuses the connection, and so does the proxy.
    let Ok(mut broker) = TcpStream::connect(shared.broker).await else { return };
    for stream in [&client, &broker] {
        stream.set_nodelay(true).ok();
    }
    let ended_in_order = {
        let ((from_client, to_client), (from_broker, to_broker)) = (client.split(), broker.split());
        tokio::select! {
            ended = pump(from_client, to_broker, Direction::ToBroker, &shared) => ended.is_ok(),
            ended = pump(from_broker, to_client, Direction::FromBroker, &shared) => ended.is_ok(),
            _ = cuts.changed() => false,
        }
    };
    if !ended_in_order {
        client.set_zero_linger().ok();
        broker.set_zero_linger().ok();
    }
}

/// Passes on what comes until it ends. An error says that the connection is to be reset.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, direction: Direction, shared: &Shared) -> io::Result<()> {
    let (frames, mut arrived) = mpsc::channel(UNDER_WAY);
    let reading = async move {
        let mut buffer = BytesMut::new();
        loop {
            while let Some(frame) = next_frame(&mut buffer) {
                if frames.send((Instant::now(), frame)).await.is_err() {
                    return Ok(());
                }
            }
            if from.read_buf(&mut buffer).await? == 0 {
                return io::Result::Ok(());
            }
        }
    };
    let writing = async {
        let mut free = Instant::now();
        while let Some((at, frame)) = arrived.recv().await {
            may_pass(shared, at, frame.len(), &mut free).await;
            let side = shared.springs(direction, &frame);
            if side != Some(Side::Before) {
                to.write_all(&frame).await?;
            }
            if side.is_some() {
                shared.cuts.send_modify(|cuts| *cuts += 1);
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
        // The end is as silent as everything else.
        may_pass(shared, Instant::now(), 0, &mut free).await;
        Ok(())
    };
    tokio::try_join!(reading, writing).map(drop)
}

/// Waits until something may be passed on that came at some time. A throttled line is free again when it has passed.
async fn may_pass(shared: &Shared, at: Instant, length: usize, free: &mut Instant) {
    let mut conduct = shared.conduct.subscribe();
    loop {
        let current = *conduct.borrow_and_update();
        let due = match current {
            Conduct::Forward | Conduct::Refuse => return,
            Conduct::Silence => None,
            Conduct::Delay(delay) => Some(at + delay),
            Conduct::Throttle(rate) => {
                *free = (*free).max(Instant::now()) + Duration::from_secs_f64(length as f64 / f64::from(rate));
                Some(*free)
            }
        };
        // A pause of its own for each frame would cost more than it is to last.
        if due.is_some_and(|due| due < Instant::now() + SLACK) {
            return;
        }
        let passes = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = passes => return,
            changed = conduct.changed() => changed.expect("it is shared"),
        }
    }
}

/// The first frame of the buffer, if it is complete. A connection begins with the name of the protocol, eight bytes.
fn next_frame(buffer: &mut BytesMut) -> Option<Bytes> {
    const HEADER: usize = 7;
    const END: usize = 1;

    let length = match buffer.get(..HEADER)? {
        greeting if greeting.starts_with(b"AMQP") => 8,
        &[_, _, _, a, b, c, d] => HEADER + u32::from_be_bytes([a, b, c, d]) as usize + END,
        _ => return None,
    };
    (buffer.len() >= length).then(|| buffer.split_to(length).freeze())
}

/// Class and method of a frame that carries one.
fn method(frame: &[u8]) -> Option<(u16, u16)> {
    match frame {
        &[1, _, _, _, _, _, _, a, b, c, d, ..] => Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))),
        _ => None,
    }
}
