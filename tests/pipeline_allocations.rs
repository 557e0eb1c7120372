//! Once their buffers are there, pipelines, edges and pools allocate nothing: a run of ten times the
//! items makes as many allocations as the short one, or a few more that its length does not explain.
//!
//! One test function: the count is that of the whole process, and the harness allocates between tests.

#![expect(clippy::unwrap_used, reason = "a run that fails is a failed test")]

#[path = "common/counting.rs"]
#[expect(unsafe_code, reason = "an allocator that counts is an unsafe trait's implementation")]
mod counting;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::hint::black_box;
use std::sync::atomic::Ordering;

use counting::ALLOCATIONS;
use twelvefold::engine::BoxError;
use twelvefold::engine::edge::channel;
use twelvefold::engine::pipeline::{Out, Pipeline, Placement, Stage};
use twelvefold::engine::workers::{Worker, Workers};
use watchdog::watchdog;

/// A thread's first sleep, its entry in the deques' collector, a deque that grows once: how many of these
/// a run sees depends on who comes first, and not on how long it is.
const ONCE: u64 = 64;

/// How many allocations `work` makes, on all threads.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    work();
    ALLOCATIONS.load(Ordering::SeqCst) - before
}

/// Passes every item on.
struct Pass;

impl Stage<u64> for Pass {
    type Output = u64;

    fn process(&mut self, item: u64, out: &mut Out<'_, u64>) -> Result<(), BoxError> {
        out.send(item);
        Ok(())
    }
}

/// Every kind of stage once.
fn run_pipeline(items: u64, in_flight: usize, placement: Placement, ordered: bool) {
    let mut sum = 0u64;
    let mapped = Pipeline::from_iter("numbers", 0..items).map("map", |n| n ^ 1);
    let mapped = if ordered { mapped } else { mapped.unordered() };
    mapped
        .try_map("try", Ok::<u64, BoxError>)
        .flat_map("fan", |n, out| out.send(n))
        .stage("stage", |_| Pass)
        .map_in_turn("turn", |n| n)
        .sink("sum", |n| sum = sum.wrapping_add(n))
        .threads(2)
        .in_flight(in_flight)
        .placement(placement)
        .run()
        .unwrap();
    assert_eq!(sum, items * (items - 1) / 2);
}

/// What may be allocated later in a run: every token's buffers grow to a full batch, by doubling, when the
/// token is first used. `edges` buffers of items, and of ends as many at most.
fn later(in_flight: u64, edges: u64, threads: u64) -> u64 {
    let batch = (in_flight / (4 * threads)).max(1);
    in_flight * edges * 2 * (1 + u64::from(batch.ilog2()))
}

fn check_pipelines() {
    for placement in [Placement::Cooperative, Placement::ThreadPerStage] {
        for ordered in [true, false] {
            for (in_flight, items) in [(4, 2_000), (64, 10_000)] {
                let run =
                    |items| allocations(|| run_pipeline(items, in_flight, placement, ordered));
                let (short, long) = (run(items), run(10 * items));
                // A batch has 8 items at most: one allocation for each would be more than that.
                let bound = ONCE + later(in_flight as u64, 6, 2);
                assert!(bound < 9 * items / 8);
                assert!(long <= short + bound, "{placement:?} {ordered}: {short}, then {long}");
            }
        }
    }
}

fn run_edge(items: u64, chunk: Option<usize>) {
    let (mut tx, mut rx) = channel(64);
    let sum = std::thread::scope(|scope| match chunk {
        Some(chunk) => {
            let mut tx = tx.buffered(chunk);
            scope.spawn(move || (0..items).try_for_each(|n| tx.send(n)).unwrap());
            rx.buffered(chunk).sum::<u64>()
        }
        None => {
            scope.spawn(move || (0..items).for_each(|n| tx.send(n).unwrap()));
            std::iter::from_fn(|| rx.recv()).sum::<u64>()
        }
    });
    assert_eq!(sum, items * (items - 1) / 2);
}

fn check_edges() {
    for chunk in [None, Some(16)] {
        run_edge(100, chunk);
        let [short, long] = [5_000, 50_000].map(|items| allocations(|| run_edge(items, chunk)));
        assert!(long <= short + ONCE, "{chunk:?}: {short}, then {long}");
    }
}

/// How many allocations `steps` steps of `tasks` make on a warm pool; half of them hand out one more.
fn in_steps(steps: u32, tasks: u32, helps: bool) -> u64 {
    let builder = Workers::builder().threads(2);
    let builder = if helps { builder } else { builder.waiter_sleeps() };
    let run = |worker: &mut Worker<'_, u32>, task: u32| {
        if task % 2 == 1 {
            worker.spawn(black_box(task) - 1).unwrap();
        }
        Ok(())
    };
    let in_scope = builder.scope(run, |workers| {
        let mut step = |_| workers.step(0..tasks).unwrap();
        (0..200).for_each(&mut step);
        allocations(|| (0..steps).for_each(&mut step))
    });
    in_scope.unwrap().0
}

fn check_pools() {
    const STEPS: u32 = 1_000;
    for helps in [true, false] {
        let made = in_steps(STEPS, 32, helps);
        assert!(made <= ONCE, "{made} in {STEPS} steps of 32 tasks; the waiter helps: {helps}");
        // A deque of more than 64 tasks grows by doubling, and shrinks again as it empties.
        let made = in_steps(STEPS, 4_096, helps);
        let bound = ONCE + u64::from(STEPS) * 4_096 / 64;
        assert!(made <= bound, "{made} in {STEPS} steps of 4,096 tasks; the waiter helps: {helps}");
    }
}

#[test]
fn nothing_is_allocated_for_an_item_a_batch_or_a_task() {
    let _watchdog = watchdog("allocations");
    check_pipelines();
    check_edges();
    check_pools();
}
