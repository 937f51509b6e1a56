//! A bar that shows how far a job is; on terminals only.

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use palfrey_host::directive::JobProgress;

/// A bar that counts in `unit`. It is taken off the screen with the job.
pub(crate) fn bar(unit: &'static str) -> impl Fn(JobProgress) + Send + Sync + 'static {
    // Where standard error is no terminal, nothing is drawn.
    let bar = ProgressBar::no_length().with_finish(ProgressFinish::AndClear).with_message(unit);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}, {elapsed}, {eta} left") {
        bar.set_style(style);
    }
    move |progress| {
        if let Some(total) = progress.total {
            bar.set_length(total);
        }
        bar.set_position(progress.done);
    }
}
