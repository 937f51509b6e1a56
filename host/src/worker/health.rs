//! Whether a worker lives, and whether it is of use.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use super::{Phase, WorkerRuntime};
use crate::queue::Condition;

/// A loop that has not gone round for so long hangs. It does once a second.
pub const HANGS: Duration = Duration::from_secs(15);

/// How long the broker has to tell whether the registry is up to date.
const ANSWER: Duration = Duration::from_secs(2);

/// How a worker is, and why. Each check has a name, and a problem if it fails.
///
/// ```
/// use palfrey_host::worker::Health;
///
/// let health = Health::connecting();
/// assert!(health.is_alive() && !health.is_ready());
/// assert_eq!(health.checks().collect::<Vec<_>>(), [("broker", Some("connecting"))]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    hangs: bool,
    checks: Vec<(&'static str, Option<String>)>,
}

impl Health {
    /// A worker that waits for its broker.
    pub fn connecting() -> Self {
        Self { hangs: false, checks: vec![("broker", Some("connecting".to_owned()))] }
    }

    /// Whether the process does what it should. One that does not has to be started anew; a broker that is away is no reason.
    pub fn is_alive(&self) -> bool {
        !self.hangs
    }

    /// Whether it takes tasks, and sends their results.
    pub fn is_ready(&self) -> bool {
        self.checks().all(|(_, problem)| problem.is_none())
    }

    /// The checks by name, and what is wrong.
    pub fn checks(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        self.checks.iter().map(|(name, problem)| (*name, problem.as_deref()))
    }
}

impl WorkerRuntime {
    /// How this worker is. It asks the broker whether the registry is up to date.
    ///
    /// ```no_run
    /// # async fn example(worker: palfrey_host::WorkerRuntime) {
    /// let health = worker.health().await;
    /// for (name, problem) in health.checks() {
    ///     println!("{name}: {}", problem.unwrap_or("ok"));
    /// }
    /// # }
    /// ```
    pub async fn health(&self) -> Health {
        self.health_at(Instant::now(), ANSWER).await
    }

    /// How it is at some time, if the broker has so long for its answer.
    async fn health_at(&self, now: Instant, answer: Duration) -> Health {
        let condition = self.channels.connection().condition();
        let broker = match condition {
            Condition::Connected => None,
            Condition::Blocked => Some("the broker takes no results for now, because of a memory or disk alarm"),
            Condition::Lost => Some("the connection is lost; reconnecting"),
            Condition::Closed => Some("the connection is closed"),
        };
        let registry = match condition {
            Condition::Connected | Condition::Blocked => {
                match tokio::time::timeout(answer, self.plugins.registry().caught_up()).await {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(_) => {
                        Some("it is not read to its end yet, or the broker does not say where that is".to_owned())
                    }
                }
            }
            Condition::Lost | Condition::Closed => Some("not followed without a broker".to_owned()),
        };
        let phase = *self.activity.phase().borrow();
        let tasks = match phase {
            Phase::Starting => Some("not taking tasks yet"),
            Phase::Taking => None,
            Phase::Draining => Some("draining: taking no more tasks"),
        };
        let last = *self.activity.beats().borrow();
        let hangs = phase != Phase::Starting && now.duration_since(last) > HANGS;
        let main_loop = hangs.then(|| format!("the main loop has not gone round for {HANGS:?}"));
        Health {
            hangs,
            checks: vec![
                ("broker", broker.map(str::to_owned)),
                ("registry", registry),
                ("tasks", tasks.map(str::to_owned)),
                ("loop", main_loop),
            ],
        }
    }

    /// How far its [main loop](Self::main_loop) is, and whenever that changes.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.activity.phase()
    }

    /// When its [main loop](Self::main_loop) last went round, and whenever it does: about once a second.
    pub fn beats(&self) -> watch::Receiver<Instant> {
        self.activity.beats()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use async_trait::async_trait;
    use futures::stream::BoxStream;

    use super::*;
    use crate::{
        channel::{ChannelFactory, ChannelType},
        config::Config,
        connect::open_plugins,
        engine::Engine,
        queue::{
            Connection, Delivery, Publisher, QueueError, QueueHandle, QueueKind, QueueSpec, QueueStatus,
            in_memory::InMemory,
        },
    };

    /// A broker in memory whose logs have so many more records than it hands out.
    #[derive(Debug)]
    struct Behind(InMemory, Arc<AtomicU64>);

    #[derive(Debug)]
    struct Queue(Arc<dyn QueueHandle>, Arc<AtomicU64>);

    #[async_trait]
    impl Connection for Behind {
        async fn declare(&self, spec: &QueueSpec) -> Result<Arc<dyn QueueHandle>, QueueError> {
            self.0.declare(spec).await?;
            Ok(self.handle(spec))
        }

        fn handle(&self, spec: &QueueSpec) -> Arc<dyn QueueHandle> {
            Arc::new(Queue(self.0.handle(spec), self.1.clone()))
        }

        fn condition(&self) -> Condition {
            self.0.condition()
        }

        async fn delete(&self, spec: &QueueSpec) -> Result<(), QueueError> {
            self.0.delete(spec).await
        }

        async fn close(&self) -> Result<(), QueueError> {
            self.0.close().await
        }
    }

    #[async_trait]
    impl QueueHandle for Queue {
        fn spec(&self) -> &QueueSpec {
            self.0.spec()
        }

        async fn publisher(&self) -> Result<Arc<dyn Publisher>, QueueError> {
            self.0.publisher().await
        }

        async fn consumer(&self, prefetch: u16) -> Result<BoxStream<'static, Delivery>, QueueError> {
            self.0.consumer(prefetch).await
        }

        async fn take(&self) -> Result<Option<Delivery>, QueueError> {
            self.0.take().await
        }

        async fn status(&self) -> Result<QueueStatus, QueueError> {
            let QueueStatus { messages, consumers } = self.0.status().await?;
            let more = if self.spec().kind == QueueKind::Log { self.1.load(Ordering::SeqCst) } else { 0 };
            Ok(QueueStatus { messages: messages + more, consumers })
        }
    }

    /// A worker, and how many records it does not get.
    async fn worker() -> (WorkerRuntime, Arc<AtomicU64>) {
        let (config, missing) = (Config::default(), Arc::new(AtomicU64::new(0)));
        let channels = ChannelFactory::new(Arc::new(Behind(InMemory::new(), missing.clone())), 1);
        let engine = Engine::new(&config.engine()).unwrap();
        let plugins = open_plugins(&channels, &engine, &config).await.unwrap();
        let tasks = channels.get("default", ChannelType::ExactlyOnce).await.unwrap();
        (WorkerRuntime::new(channels, tasks, plugins, engine, &config), missing)
    }

    fn problems(health: &Health) -> Vec<&str> {
        health.checks().filter(|(_, problem)| problem.is_some()).map(|(name, _)| name).collect()
    }

    #[tokio::test]
    async fn a_worker_whose_loop_does_not_go_round_is_not_alive_until_it_does() {
        let (worker, _) = worker().await;
        let after = async |pause| worker.health_at(*worker.beats().borrow() + pause, ANSWER).await;
        let beyond = HANGS + Duration::from_millis(1);
        let starting = after(beyond).await;
        assert!(starting.is_alive() && problems(&starting) == ["tasks"], "it has not begun: {starting:?}");

        let main_loop = worker.main_loop(std::future::pending());
        tokio::pin!(main_loop);
        let mut phase = worker.phase();
        tokio::select! {
            ended = &mut main_loop => panic!("{ended:?}"),
            taking = phase.wait_for(|&phase| phase == Phase::Taking) => assert!(taking.is_ok()),
        }
        // From here on nobody drives the loop.
        let taking = after(HANGS).await;
        assert!(taking.is_alive() && taking.is_ready(), "{taking:?}");
        let hanging = after(beyond).await;
        assert!(!hanging.is_alive() && !hanging.is_ready() && problems(&hanging) == ["loop"], "{hanging:?}");

        let (mut beats, stuck) = (worker.beats(), *worker.beats().borrow());
        let went_round = tokio::select! {
            ended = &mut main_loop => panic!("{ended:?}"),
            went_round = beats.wait_for(|&beat| beat > stuck) => *went_round.unwrap(),
        };
        let now = worker.health_at(went_round + HANGS, ANSWER).await;
        assert!(now.is_alive() && now.is_ready(), "{now:?}");
    }

    #[tokio::test]
    async fn a_worker_that_has_not_read_the_registry_to_its_end_is_alive_and_not_ready() {
        let (worker, missing) = worker().await;
        worker.activity.enter(Phase::Taking);
        assert!(worker.health().await.is_ready());
        missing.store(1, Ordering::SeqCst);
        let behind = worker.health_at(Instant::now(), Duration::from_millis(10)).await;
        assert!(behind.is_alive() && problems(&behind) == ["registry"], "{behind:?}");
        missing.store(0, Ordering::SeqCst);
        assert!(worker.health().await.is_ready());
    }
}
