//! What the explored sources call by its name in the host and do not synchronise by: as much of it as they need.

/// See `host/src/task/id.rs`.
pub(crate) mod task {
    use std::sync::Arc;

    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    pub(crate) struct RoutingKey(Arc<str>);

    impl From<&str> for RoutingKey {
        fn from(text: &str) -> Self {
            Self(text.into())
        }
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub(crate) struct TaskId(pub(crate) u64);
}

/// See `host/src/queue/mod.rs`.
pub(crate) mod queue {
    use std::fmt::Debug;

    pub(crate) const DELIVERY_LIMIT: u32 = 100;

    pub(crate) trait Acker: Debug + Send {
        fn is_stale(&self) -> bool;
    }

    #[derive(Debug)]
    pub(crate) struct NothingToSettle;

    impl Acker for NothingToSettle {
        fn is_stale(&self) -> bool {
            false
        }
    }

    #[derive(Debug, Clone)]
    pub(crate) struct Move;

    #[derive(Debug, Default)]
    pub(crate) struct QueueStatus {
        pub(crate) messages: u64,
        #[expect(dead_code, reason = "no scenario asks")]
        pub(crate) consumers: u64,
    }
}
