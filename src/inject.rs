//! Faults planted by the crate's own tests; nothing at all in any other build.

#[cfg(not(test))]
pub(crate) use nothing::{hit, loss, point};
#[cfg(test)]
pub(crate) use planted::{ANY, Fault, hit, loss, plant, point, quiet, refused_spawn};

#[cfg(not(test))]
mod nothing {
    use crate::engine::BoxError;

    /// Does what a test has planted for this stage, worker and item: panics, takes its time or fails.
    #[inline(always)]
    pub(crate) fn point(_stage: &str, _worker: usize, _item: u64) -> Result<(), BoxError> {
        Ok(())
    }

    /// The same where nothing can fail.
    #[inline(always)]
    pub(crate) fn hit(_stage: &str, _worker: usize, _item: u64) {}

    /// The loss of a sequence, or what a test has planted in its place.
    #[inline(always)]
    pub(crate) fn loss(_step: u64, _sequence: usize, loss: f64) -> f64 {
        loss
    }
}

#[cfg(test)]
mod planted {
    use crate::engine::BoxError;
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use std::time::Duration;

    /// What happens at the planted point.
    ///
    /// From the planted item on: the first to come is hit.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) enum Fault {
        Panic,
        /// The stage returns an error; where it cannot, nothing happens.
        Error,
        /// The loss of sequence `worker` in step `item` is no number.
        NotANumber,
        /// Every item from this one on takes so much longer.
        Slow(Duration),
        /// The run's thread with the item's number is refused by the system.
        Spawn,
        /// None.
        Nothing,
    }

    /// Any worker: which leaf of a pool gets a task is not known beforehand.
    pub(crate) const ANY: usize = usize::MAX;

    #[derive(Debug, Clone)]
    struct Plant {
        stage: &'static str,
        worker: usize,
        item: u64,
        fault: Fault,
    }

    static PLANTED: Mutex<Option<Plant>> = Mutex::new(None);
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    /// Keeps the fault planted, and other tests that plant faults out.
    #[derive(Debug)]
    pub(crate) struct Guard(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

    impl Drop for Guard {
        fn drop(&mut self) {
            *PLANTED.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    pub(crate) fn plant(stage: &'static str, worker: usize, item: u64, fault: Fault) -> Guard {
        let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        *PLANTED.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Plant { stage, worker, item, fault });
        Guard(guard)
    }

    /// Nothing is planted; keeps tests that plant something out.
    pub(crate) fn quiet() -> Guard {
        plant("", 0, 0, Fault::Nothing)
    }

    impl Plant {
        fn is_at(&self, stage: &str, worker: usize) -> bool {
            self.stage == stage && (self.worker == worker || self.worker == ANY)
        }
    }

    fn planted() -> Option<Plant> {
        PLANTED.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of the thread whose start is to be refused.
    pub(crate) fn refused_spawn() -> Option<usize> {
        planted().filter(|p| p.fault == Fault::Spawn).map(|p| p.item as usize)
    }

    pub(crate) fn point(stage: &str, worker: usize, item: u64) -> Result<(), BoxError> {
        hit(stage, worker, item);
        let here = |p: &Plant| p.is_at(stage, worker) && item >= p.item;
        match planted().filter(here) {
            Some(Plant { fault: Fault::Error, .. }) => {
                Err(format!("planted in {stage} {worker} at {item}").into())
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn hit(stage: &str, worker: usize, item: u64) {
        let Some(plant) = planted().filter(|p| p.is_at(stage, worker)) else {
            return;
        };
        match plant.fault {
            Fault::Panic if item >= plant.item => panic!("planted in {stage} {worker} at {item}"),
            Fault::Slow(extra) if item >= plant.item => std::thread::sleep(extra),
            _ => {}
        }
    }

    pub(crate) fn loss(step: u64, sequence: usize, loss: f64) -> f64 {
        let here =
            |p: &Plant| p.fault == Fault::NotANumber && p.worker == sequence && p.item == step;
        planted().filter(here).map_or(loss, |_| f64::NAN)
    }
}
