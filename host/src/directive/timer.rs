//! A timer that is kept.

use std::pin::Pin;

use tokio::time::{Instant, Sleep};

/// Something to wait for that is put off again and again before it comes: then it costs nothing.
#[derive(Debug, Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Waits until then, and without an instant for ever.
    pub(super) async fn until(&mut self, instant: Option<Instant>) {
        let Some(instant) = instant else { return std::future::pending().await };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(instant)));
        // One that ends earlier finds out then that there is more to wait for.
        if sleep.deadline() > instant {
            sleep.as_mut().reset(instant);
        }
        loop {
            sleep.as_mut().await;
            if sleep.deadline() >= instant {
                return;
            }
            sleep.as_mut().reset(instant);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_waits_as_long_as_it_was_told_last() {
        let (began, mut timer) = (Instant::now(), Timer::default());
        let after = |millis| Some(began + Duration::from_millis(millis));
        let passes = async |timer: &mut Timer, millis, until| {
            let waited = tokio::time::timeout(Duration::from_millis(millis), timer.until(until)).await;
            assert!(waited.is_err(), "it was put off until {until:?}");
        };
        // Put off twice, after a while and shortly before it would have come.
        passes(&mut timer, 10, after(100_000)).await;
        passes(&mut timer, 10, after(60)).await;
        timer.until(after(120)).await;
        assert!(began.elapsed() >= Duration::from_millis(120));
        // Brought forward: the other end of it would take minutes.
        passes(&mut timer, 10, after(100_000)).await;
        timer.until(after(140)).await;
        // What is over is over.
        timer.until(after(140)).await;
        timer.until(after(3)).await;
        passes(&mut timer, 10, None).await;
    }
}
