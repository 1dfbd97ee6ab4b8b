//! Runs jobs on threads, bounded by their number and by the memory that they need together.

use std::sync::{Condvar, Mutex};

use crate::worker::CancelToken;

/// A job and what it is expected to need.
pub(super) struct Job<T> {
    /// The work.
    pub(super) work: T,
    /// Bytes of memory.
    pub(super) memory: u64,
}

struct State<T> {
    waiting: Vec<Job<T>>,
    running: usize,
    memory: u64,
}

/// Runs all jobs, the first ones first, and returns when all are done. A job that alone needs more
/// than the memory allowed runs when nothing else does. After a cancel no job is started.
pub(super) fn run<T: Send>(
    jobs: Vec<Job<T>>,
    threads: usize,
    memory: u64,
    cancel: &CancelToken,
    work: impl Fn(T) + Sync,
) {
    let threads = threads.clamp(1, jobs.len().max(1));
    let mut waiting = jobs;
    waiting.reverse(); // The next one is the last one: `pop` and `remove` near the end are cheap.
    let state = Mutex::new(State { waiting, running: 0, memory: 0 });
    let changed = Condvar::new();
    // A thread that panics poisons the lock; the others go on, and the scope passes the panic on.
    let lock = || state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let mut guard = lock();
                    let job = loop {
                        if guard.waiting.is_empty() || cancel.is_cancelled() {
                            return;
                        }
                        let left = memory.saturating_sub(guard.memory);
                        let fits = guard.waiting.iter().rposition(|job| job.memory <= left);
                        let next = fits.or_else(|| (guard.running == 0).then(|| guard.waiting.len() - 1));
                        if let Some(i) = next {
                            break guard.waiting.remove(i);
                        }
                        guard = changed.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner);
                    };
                    guard.running += 1;
                    guard.memory += job.memory;
                    drop(guard);
                    // Given back when the work is done, and when it panics.
                    let _done = Done(|| {
                        let mut guard = lock();
                        guard.running -= 1;
                        guard.memory -= job.memory;
                        drop(guard);
                        changed.notify_all();
                    });
                    work(job.work);
                }
            });
        }
    });
}

struct Done<F: Fn()>(F);

impl<F: Fn()> Drop for Done<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn all_run_within_the_bounds() {
        let (now, most, memory_now, memory_most, done) = (
            AtomicUsize::new(0),
            AtomicUsize::new(0),
            AtomicU64::new(0),
            AtomicU64::new(0),
            AtomicUsize::new(0),
        );
        let jobs = (0..20u64).map(|i| Job { work: 1 + i % 4, memory: 1 + i % 4 }).collect();
        run(jobs, 3, 5, &CancelToken::default(), |memory| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            memory_most.fetch_max(memory_now.fetch_add(memory, Ordering::SeqCst) + memory, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(2));
            memory_now.fetch_sub(memory, Ordering::SeqCst);
            now.fetch_sub(1, Ordering::SeqCst);
            done.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(done.load(Ordering::SeqCst), 20);
        assert!(most.load(Ordering::SeqCst) <= 3);
        assert!(memory_most.load(Ordering::SeqCst) <= 5);
    }

    #[test]
    fn a_job_larger_than_the_bound_runs_alone() {
        let done = AtomicUsize::new(0);
        let jobs = [9, 1, 9].map(|memory| Job { work: (), memory }).into();
        run(jobs, 2, 5, &CancelToken::default(), |()| {
            done.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(done.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn nothing_starts_after_a_cancel() {
        let cancel = CancelToken::default();
        let done = AtomicUsize::new(0);
        let jobs = (0..5).map(|work| Job { work, memory: 0 }).collect();
        run(jobs, 1, 0, &cancel, |_: i32| {
            done.fetch_add(1, Ordering::SeqCst);
            cancel.cancel();
        });
        assert_eq!(done.load(Ordering::SeqCst), 1);
    }
}
