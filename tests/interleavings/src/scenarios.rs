//! What threads do with them, and what must hold afterwards.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use shuttle::{future::block_on, thread};
use tokio::time::Instant;

use crate::{
    inbox,
    jobs::{Jobs, Start},
    permits::Permits,
    queue::NothingToSettle,
    record, shared,
    task::{RoutingKey, TaskId},
};

/// The stream of a coordinated channel ends when the last sender is closed and the last result acknowledged, whoever of
/// them is last, and not before. A wake-up that is missed is a deadlock, which the scheduler reports.
pub fn the_stream_ends_when_senders_and_results_are_done() {
    let shared = Arc::new(record::Shared::<()>::new());
    let (first, ()) = shared.send(|_| ((), ()));
    let done = Arc::new(AtomicUsize::new(0));
    let stream = thread::spawn({
        let (shared, done) = (shared.clone(), done.clone());
        move || {
            block_on(poll_fn(|context| match shared.is_complete_or_wakes(context.waker()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }));
            assert_eq!(done.load(SeqCst), 2, "it ended too early");
        }
    });
    let answer = thread::spawn({
        let (shared, done) = (shared.clone(), done.clone());
        move || {
            let sent = shared.answered(first).expect("the first result");
            // It is handed back once, comes again, and once more as a duplicate.
            shared.given_back(first, sent);
            assert!(shared.answered(first).is_some());
            assert!(shared.answered(first).is_none(), "a second result counts");
            done.fetch_add(1, SeqCst);
            shared.acknowledged();
        }
    });
    done.fetch_add(1, SeqCst);
    shared.close();
    answer.join().unwrap();
    stream.join().unwrap();
    assert!(shared.all_settled());
}

/// The same with two senders, one of which abandons a task: the stream ends all the same, and says that not all is settled.
pub fn an_abandoned_task_does_not_keep_the_stream_open() {
    let shared = Arc::new(record::Shared::<()>::new());
    shared.open();
    let senders = [false, true].map(|abandons| {
        let shared = shared.clone();
        thread::spawn(move || {
            let (id, ()) = shared.send(|_| ((), ()));
            if abandons {
                shared.abandon(id);
            } else if shared.answered(id).is_some() {
                shared.acknowledged();
            }
            shared.close();
        })
    });
    block_on(poll_fn(|context| match shared.is_complete_or_wakes(context.waker()) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    }));
    assert!(!shared.all_settled() && shared.waiting() == 0);
    senders.into_iter().for_each(|sender| sender.join().unwrap());
}

/// A task either starts before its job is terminated, and is cancelled, or does not start; whatever ends meanwhile.
pub fn no_task_of_a_terminated_job_runs_on() {
    let jobs = Arc::new(Jobs::new(Duration::from_secs(60)));
    let job = RoutingKey::from("job");
    let terminated = Arc::new(AtomicUsize::new(0));
    let workers = [1, 2].map(|task| {
        let (jobs, job, terminated) = (jobs.clone(), job.clone(), terminated.clone());
        thread::spawn(move || match jobs.start(&job, TaskId(task), Box::new(NothingToSettle)) {
            Start::Begun(running) => {
                thread::yield_now();
                if terminated.load(SeqCst) == 1 {
                    assert!(running.cancel().is_cancelled(), "a task of a terminated job was not cancelled");
                }
                if task == 1 { assert_eq!(running.end().len(), 1) } else { drop(running) }
            }
            Start::Terminated(_) => {}
            Start::Adopted => panic!("nobody else has the task"),
        })
    });
    jobs.terminate(&job, Instant::now());
    terminated.store(1, SeqCst);
    assert!(matches!(jobs.start(&job, TaskId(3), Box::new(NothingToSettle)), Start::Terminated(_)));
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    // Nothing is left of it but the memory that it was terminated.
    assert_eq!(jobs.terminate(&job, Instant::now()), 0);
}

/// Of two deliveries of one task one begins, and the other one is settled with it or begins after its end: none is lost, and
/// at no time do both run.
pub fn a_task_that_is_delivered_twice_runs_once_at_a_time() {
    let jobs = Arc::new(Jobs::new(Duration::from_secs(60)));
    let job = RoutingKey::from("job");
    let (running, settled) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let deliveries = [(); 2].map(|()| {
        let (jobs, job, running, settled) = (jobs.clone(), job.clone(), running.clone(), settled.clone());
        thread::spawn(move || match jobs.start(&job, TaskId(1), Box::new(NothingToSettle)) {
            Start::Begun(task) => {
                assert_eq!(running.fetch_add(1, SeqCst), 0, "it runs twice at a time");
                thread::yield_now();
                running.fetch_sub(1, SeqCst);
                settled.fetch_add(task.end().len(), SeqCst);
            }
            Start::Adopted => {}
            Start::Terminated(_) => panic!("nobody has terminated it"),
        })
    });
    deliveries.into_iter().for_each(|delivery| delivery.join().unwrap());
    assert_eq!(settled.load(SeqCst), 2, "a delivery was lost");
}

/// Never more permits are out than there are, and whoever waits for one gets it.
pub fn permits_are_bounded_and_reach_who_waits() {
    let permits = Arc::new(Permits::new(2));
    let out = Arc::new(AtomicUsize::new(0));
    let threads = [(); 3].map(|()| {
        let (permits, out) = (permits.clone(), out.clone());
        thread::spawn(move || {
            let _permit = permits.acquire();
            assert!(out.fetch_add(1, SeqCst) < 2);
            thread::yield_now();
            out.fetch_sub(1, SeqCst);
        })
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Two receivers of one queue, one of which leaves, and a publisher: each message is taken once, and nobody waits for one
/// that is there.
pub fn each_message_is_taken_once_although_a_receiver_leaves() {
    let queue = Arc::new(shared::Shared::default());
    let taken = Arc::new(AtomicUsize::new(0));
    let (leaving, staying) = (queue.attach(1, 1), queue.attach(2, 1));
    let leaves = thread::spawn({
        let queue = queue.clone();
        move || {
            // It asks once, gives back what it gets, and goes with its session.
            block_on(poll_fn(|context| {
                if let Poll::Ready(Some((tag, _))) = queue.poll_take(leaving, context) {
                    if let Some(message) = queue.settle(leaving, tag) {
                        assert!(queue.give_back(message, true).is_none(), "it was given back only once");
                    }
                }
                Poll::Ready(())
            }));
            queue.end_session(1, true);
        }
    });
    let stays = thread::spawn({
        let (queue, taken) = (queue.clone(), taken.clone());
        move || {
            for _ in 0..2 {
                let (tag, _) =
                    block_on(poll_fn(|context| queue.poll_take(staying, context))).expect("it is not deleted");
                taken.fetch_add(1, SeqCst);
                assert!(queue.settle(staying, tag).is_some() && queue.settle(staying, tag).is_none());
            }
        }
    });
    assert!(queue.push(shared::Message::new("one".into())) && queue.push(shared::Message::new("two".into())));
    leaves.join().unwrap();
    stays.join().unwrap();
    assert_eq!((taken.load(SeqCst), queue.status().messages), (2, 0));
}

/// A queue that is deleted ends the streams of those who wait, and takes no more.
pub fn deleting_a_queue_ends_the_wait_for_it() {
    let queue = Arc::new(shared::Shared::default());
    let receiver = queue.attach(1, 1);
    let waits = thread::spawn({
        let queue = queue.clone();
        move || while block_on(poll_fn(|context| queue.poll_take(receiver, context))).is_some() {}
    });
    queue.delete();
    assert!(!queue.push(shared::Message::new("late".into())));
    waits.join().unwrap();
}

/// Each result goes to its job or back, none to a job that is closed, and no job is opened once there are no more results.
pub fn each_result_goes_to_its_job_while_it_is_open_or_back() {
    let jobs = Arc::new(inbox::Jobs::<Arc<AtomicUsize>>::new());
    let (mine, other) = (RoutingKey::from("mine"), RoutingKey::from("other"));
    let (read, others) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    assert!(jobs.open(mine.clone(), read.clone()));
    let sorts = thread::spawn({
        let (jobs, mine, other) = (jobs.clone(), mine.clone(), other.clone());
        move || {
            let hand_over = |job: &RoutingKey| {
                let send = |way: &Arc<AtomicUsize>, ()| {
                    way.fetch_add(1, SeqCst);
                    Ok(())
                };
                usize::from(jobs.hand_over(job, (), send).is_err())
            };
            let back = [hand_over(&mine), hand_over(&other), hand_over(&mine)];
            jobs.end();
            assert_eq!(hand_over(&mine) + hand_over(&other), 2, "somebody reads what comes after the end");
            (back[0] + back[2], back[1])
        }
    });
    let opens = thread::spawn({
        let (jobs, others) = (jobs.clone(), others.clone());
        move || jobs.open(other, others)
    });
    jobs.close(&mine);
    let when_closed = read.load(SeqCst);
    let opened = opens.join().unwrap();
    let (back, others_back) = sorts.join().unwrap();
    assert_eq!(read.load(SeqCst), when_closed, "a result went to a job that is closed");
    assert_eq!((when_closed + back, others.load(SeqCst) + others_back), (2, 1), "a result is lost, or was read twice");
    assert!(opened || others.load(SeqCst) == 0);
    assert!(!jobs.open(mine, read), "there are no more results");
}
