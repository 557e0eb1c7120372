//! What a run knows of itself while it goes: what its stages cost, and what it has counted.

use super::core::{Core, Lane, Post, ThreadMeter};
use super::meter::EdgeFlow;
use super::report::{Snapshot, StageFlow, ThreadFlow};
use crate::sync::Ordering;
use crossbeam_utils::CachePadded;

impl Core {
    // --- cost and time ---

    /// Nanoseconds since the run began.
    pub(super) fn now(&self) -> u64 {
        #[cfg(not(any(loom, shuttle)))]
        {
            self.started.elapsed().as_nanos() as u64
        }
        #[cfg(any(loom, shuttle))]
        {
            0
        }
    }

    /// Stage `s` spent `ns` on a batch that began as `items` items.
    pub(super) fn spent(&self, s: usize, ns: u64, items: u64) {
        // As with all estimates: nothing for a model checker to explore.
        if cfg!(any(loom, shuttle)) {
            return;
        }
        let Some(each) = (ns * 16).checked_div(items) else { return };
        // Relaxed: an estimate; a lost update changes little.
        let cost = &self.posts[s].cost;
        let old = cost.load(Ordering::Relaxed);
        let new = if old == 0 { each } else { old - old / 8 + each / 8 };
        cost.store(new.max(1), Ordering::Relaxed);
    }

    /// What a batch that began as `items` items will cost stage `s`, in nanoseconds; a long time when
    /// that is not known.
    pub(super) fn estimate(&self, s: usize, items: u64) -> u64 {
        if cfg!(any(loom, shuttle)) {
            return u64::MAX;
        }
        match self.posts[s].cost.load(Ordering::Relaxed) {
            0 => u64::MAX,
            cost => cost.saturating_mul(items) / 16,
        }
    }

    /// Whether another thread could take much off this one: not where nearly all time goes into one
    /// serial stage.
    pub(super) fn gains_by_sharing(&self) -> bool {
        let cost = |post: &Post| post.cost.load(Ordering::Relaxed);
        let total: u64 = self.posts.iter().map(cost).sum();
        let serial = self.posts.iter().filter(|post| post.serial).map(cost).max().unwrap_or(0);
        // Where nothing is known yet, it may.
        (total - serial.min(total)) * 16 >= total
    }

    /// How many items a batch should hold so that its dearest stage takes about `ns`.
    pub(super) fn items_for(&self, ns: u64) -> u64 {
        if cfg!(any(loom, shuttle)) {
            return 1;
        }
        let dearest = self.posts.iter().map(|post| post.cost.load(Ordering::Relaxed)).max();
        (ns * 16 / dearest.unwrap_or(0).max(1)).clamp(1, self.batch_limit)
    }

    // --- observers ---

    /// The counters now: what is further down the pipeline first, so that no edge shows more out than
    /// in.
    pub(super) fn snapshot(&self) -> Snapshot {
        let count = |post: &Post| StageFlow {
            name: post.name.clone(),
            workers: post.meters.iter().map(|meter| meter.count()).collect(),
        };
        let mut stages: Vec<StageFlow> = self.posts.iter().rev().map(count).collect();
        stages.reverse();
        let edge = |(e, lane): (usize, &Lane)| EdgeFlow {
            name: lane.name.clone(),
            made: stages[e].total().made,
            taken: stages[e + 1].total().taken,
            abandoned: 0,
            depth: lane.depth.load(Ordering::Relaxed),
            high_water: lane.high_water.load(Ordering::Relaxed),
        };
        let thread = |(t, meter): (usize, &CachePadded<ThreadMeter>)| ThreadFlow {
            steps: meter.steps.load(Ordering::Relaxed),
            looks: meter.looks.load(Ordering::Relaxed),
            sleeps: meter.sleeps.load(Ordering::Relaxed),
            wakes: meter.wakes.load(Ordering::Relaxed),
            idle_ns: meter.idle_ns.load(Ordering::Relaxed),
            pinned: self.pins.core(t),
        };
        let edges = self.lanes.iter().enumerate().map(edge).collect();
        Snapshot { edges, threads: self.threads.iter().enumerate().map(thread).collect(), stages }
    }
}
