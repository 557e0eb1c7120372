//! What the counters of a running line say of the present moment: who works, who waits, how full the
//! rings are, how much of the machine is used.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::lines::{Line, StageGauge};
use super::outcome::RECENT;
use crate::engine::stage::{StageCount, Step};
use crate::model::{Config, Isa, product_rate};
use crate::report::progress::{Doing, SpheresState, StageState};
use crate::spheres::Spheres;
use crate::sync::{cores, scope, spawn_scoped};

/// For how long each core is measured.
const MEASURE: Duration = Duration::from_millis(4);
/// A number of the system's that is younger than this is not asked for again.
const FRESH: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug)]
pub(super) struct Gauges {
    peak: Option<f64>,
    memory: (Instant, Option<u64>),
    /// The counters at the ends of the last steps, the oldest first: as many as the shares are of, and one.
    readings: VecDeque<Reading>,
}

/// The counters at one moment.
#[derive(Debug)]
struct Reading {
    at: Instant,
    stages: Vec<StageCount>,
    /// Seconds of all spheres in tasks.
    busy: f64,
}

impl Gauges {
    /// Measures the machine, in a few milliseconds; but not for several ranks, whose machines this one
    /// does not know.
    pub(super) fn new(isa: Isa, ranks: usize) -> Self {
        let begin = Reading { at: Instant::now(), stages: Vec::new(), busy: 0.0 };
        Gauges {
            peak: if ranks == 1 { peak(isa) } else { None },
            memory: (Instant::now(), memory()),
            readings: VecDeque::from([begin]),
        }
    }

    /// Operations a second of the matrix products on all cores, where they could be measured.
    pub(super) fn peak(&self) -> Option<f64> {
        self.peak
    }

    /// The useful part of the peak at so many tokens a second.
    pub(super) fn peak_share(&self, config: &Config, tokens_per_second: f64) -> Option<f64> {
        let share = self.peak.map(|peak| flops_per_token(config) * tokens_per_second / peak);
        share.filter(|share| share.is_finite())
    }

    /// Memory that the process holds.
    pub(super) fn memory(&mut self) -> Option<u64> {
        if self.memory.0.elapsed() >= FRESH {
            self.memory = (Instant::now(), memory());
        }
        self.memory.1
    }

    /// The stages and the spheres now. Allocates what it returns.
    pub(super) fn read(
        &mut self,
        line: &Line,
        spheres: &Spheres,
    ) -> (Vec<StageState>, SpheresState) {
        // The oldest reading's memory serves the newest.
        let mut counts = match self.readings.len() > RECENT {
            true => self.readings.pop_front().map(|r| r.stages).unwrap_or_default(),
            false => Vec::with_capacity(line.stages.len()),
        };
        counts.clear();
        counts.extend(line.stages.iter().map(StageGauge::total));
        let mut total = SpheresState {
            leaves: spheres.tree().leaves(),
            awake: spheres.tree().leaves().min(cores()),
            queue: queue(line, "spheres"),
            ..SpheresState::default()
        };
        for count in (0..total.leaves).map(|id| spheres.count(id)) {
            total.busy_seconds += count.busy_seconds;
            total.tasks += count.tasks.finished;
            total.stolen += count.tasks.stolen;
        }
        let now = Reading { at: Instant::now(), stages: counts, busy: total.busy_seconds };
        let before = self.readings.front();
        let passed = before.map_or(0.0, |b| now.at.duration_since(b.at).as_secs_f64());
        let spent = total.busy_seconds - before.map_or(0.0, |b| b.busy);
        total.busy_share = (spent / (passed * total.awake as f64)).clamp(0.0, 1.0);
        let stage = |(gauge, (i, count)): (&StageGauge, (usize, &StageCount))| {
            let earlier = before.and_then(|b| b.stages.get(i)).copied().unwrap_or_default();
            state(gauge, queue(line, gauge.name), &earlier, count, passed)
        };
        let stages = line.stages.iter().zip(now.stages.iter().enumerate()).map(stage).collect();
        self.readings.push_back(now);
        (stages, total)
    }
}

/// Items that wait for a stage, and room for them, over all its edges.
fn queue(line: &Line, stage: &str) -> Option<(usize, usize)> {
    let fills = line.queues.iter().filter(|(to, _)| *to == stage).map(|(_, meter)| meter.fill());
    fills.fold(None, |sum, (held, room)| {
        let (a, b) = sum.unwrap_or_default();
        Some((a + held as usize, b + room as usize))
    })
}

/// A stage's counters as people see them. `passed`: seconds since `earlier`.
fn state(
    gauge: &StageGauge,
    queue: Option<(usize, usize)>,
    earlier: &StageCount,
    now: &StageCount,
    passed: f64,
) -> StageState {
    let doing = doing(gauge);
    let seconds = |ns: u64| Duration::from_nanos(ns).as_secs_f64();
    let counters = |c: &StageCount| [c.busy_ns, c.starved_ns, c.blocked_ns].map(seconds);
    let (after, before) = (counters(now), counters(earlier));
    let mut spent = [0, 1, 2].map(|i| after[i] - before[i]);
    // A wait is booked when it ends: what is missing belongs to what the stage is doing.
    let whole = passed * gauge.meters.len() as f64;
    let missing = (whole - spent.iter().sum::<f64>()).max(0.0);
    match doing {
        Doing::Working => spent[0] += missing,
        Doing::Starved => spent[1] += missing,
        Doing::Blocked => spent[2] += missing,
        Doing::Done => {}
    }
    // One that began before `earlier` may be longer than what passed since.
    let all = whole.max(spent.iter().sum::<f64>());
    let [busy_share, starved_share, blocked_share] =
        spent.map(|part| if all > 0.0 { part / all } else { 0.0 });
    let [busy_seconds, starved_seconds, blocked_seconds] = after;
    StageState {
        name: gauge.name,
        doing,
        queue,
        workers: gauge.meters.len(),
        busy_seconds,
        starved_seconds,
        blocked_seconds,
        busy_share,
        starved_share,
        blocked_share,
    }
}

fn doing(gauge: &StageGauge) -> Doing {
    let is = |step: Step| move |last: Option<Step>| last == Some(step) || last == Some(Step::Done);
    let all = |wanted: &dyn Fn(Option<Step>) -> bool| {
        gauge.meters.iter().all(|meter| wanted(meter.count().last))
    };
    if all(&is(Step::Done)) {
        Doing::Done
    } else if all(&is(Step::Starved)) {
        Doing::Starved
    } else if all(&is(Step::Blocked)) {
        Doing::Blocked
    } else {
        Doing::Working
    }
}

/// Operations that training a token needs, whatever is computed beside them: two for each weight of a
/// matrix in each of three products (forward, to the activations, to the weights), and attention up to
/// the diagonal.
fn flops_per_token(config: &Config) -> f64 {
    let [v, c, l, t] =
        [config.vocab, config.width, config.layers, config.context].map(|n| n as f64);
    6.0 * (v * c + 12.0 * l * c * c) + 6.0 * l * c * t
}

/// What the matrix products reach on all cores at once.
fn peak(isa: Isa) -> Option<f64> {
    scope(|threads| {
        let measure = |_| spawn_scoped(threads, "tf-peak", || product_rate(isa, MEASURE));
        let started: Vec<_> = (0..cores()).map(measure).collect();
        // All are joined, also where one of them could not start.
        let rates: Vec<Option<f64>> =
            started.into_iter().map(|thread| thread.ok()?.join().ok()).collect();
        rates.into_iter().sum()
    })
}

/// Processor time of this process so far, user and system, where the system says it.
pub(super) fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold spaces; utime and stime are the 12th and 13th field after it,
    // in hundredths of a second (USER_HZ, the same on every Linux).
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = |field: Option<&str>| field?.parse::<u64>().ok();
    Some((ticks(fields.next())? + ticks(fields.next())?) as f64 / 100.0)
}

/// The memory that the process holds, where the system says it.
fn memory() -> Option<u64> {
    status("VmRSS:")
}

/// The most that it has held.
pub(super) fn peak_memory() -> Option<u64> {
    status("VmHWM:")
}

fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}

#[cfg(test)]
mod tests {
    use super::{StageCount, flops_per_token, state};
    use crate::engine::stage::{PaddedMeter, Step};
    use crate::model::Config;
    use crate::report::progress::Doing;
    use crate::sync::Arc;
    use crate::train::lines::StageGauge;

    #[test]
    fn a_token_costs_six_operations_a_weight_and_its_share_of_attention() {
        let config = Config { vocab: 1000, layers: 2, heads: 4, width: 64, context: 256 };
        let (matrices, attention) = (1000 * 64 + 2 * 12 * 64 * 64, 6 * 2 * 64 * 256);
        assert_eq!(flops_per_token(&config), f64::from(6 * matrices + attention));
    }

    /// A second has passed; both workers have booked what `now` says.
    #[test]
    fn a_wait_that_has_not_ended_counts_for_the_share_of_what_the_stage_does() {
        let meters = vec![Arc::new(PaddedMeter::default()), Arc::new(PaddedMeter::default())];
        let gauge = StageGauge { name: "tokenize", meters };
        let earlier = StageCount { busy_ns: 7, ..StageCount::default() };
        let now = StageCount { busy_ns: 500_000_007, starved_ns: 500_000_000, ..earlier };
        let shares = |now: &StageCount| {
            let state = state(&gauge, None, &earlier, now, 1.0);
            assert_eq!((state.doing, state.workers), (Doing::Working, 2));
            [state.busy_share, state.starved_share, state.blocked_share]
        };
        assert_eq!(shares(&now), [0.75, 0.25, 0.0], "the second that is not booked is work");
        // A wait of five seconds that ended in this one.
        let late = StageCount { blocked_ns: 3_000_000_000, last: Some(Step::Worked), ..now };
        assert_eq!(shares(&late), [0.125, 0.125, 0.75]);
    }
}
