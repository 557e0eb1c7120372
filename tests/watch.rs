//! What a run tells while it goes, and what it leaves to look at, is what it did.

#![cfg(feature = "train")]

#[path = "common/tiny.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod tiny;
#[path = "common/watchdog.rs"]
mod watchdog;

use tempfile::{TempDir, tempdir};
use tiny::tiny;
use twelvefold::report::{Observer, Progress};
use twelvefold::train::{Cancel, Options, run};
use watchdog::watchdog;

/// Keeps every moment.
#[derive(Default)]
struct Moments {
    steps: Vec<Progress>,
}

impl Observer for Moments {
    fn step(&mut self, progress: &Progress) {
        self.steps.push(progress.clone());
    }
}

fn short(out: &TempDir) -> Options {
    Options { out: out.path().join("out"), steps: 12, eval_interval: 3, spheres: 3, ..tiny() }
}

#[test]
fn each_step_tells_tokens_memory_peak_and_what_every_stage_and_the_spheres_do() {
    let _watchdog = watchdog("a run that is looked at");
    let out = tempdir().unwrap();
    let mut moments = Moments::default();
    let report = run(&short(&out), &Cancel::new(), &mut moments).unwrap();
    let steps = &moments.steps;
    assert_eq!(steps.len(), 12);
    assert_eq!(steps[11].tokens, report.tokens);
    assert!(report.peak_flops.unwrap() > 1e6 && report.peak_share.unwrap() > 0.0);
    for pair in steps.windows(2) {
        let (one, two) = (&pair[0], &pair[1]);
        assert!(one.tokens < two.tokens && one.seconds < two.seconds);
        assert!(one.spheres.tasks < two.spheres.tasks);
        assert!(one.spheres.busy_seconds < two.spheres.busy_seconds);
    }
    for progress in steps {
        assert!(progress.peak_share.unwrap() > 0.0);
        assert!(progress.memory_bytes.unwrap() > 1 << 20);
        let names: Vec<&str> = progress.stages.iter().map(|stage| stage.name).collect();
        assert_eq!(names, ["load", "tokenize", "batch"]);
        // Two tokenizers, each with a ring of four on either side.
        let rooms = progress.stages.iter().map(|stage| stage.queue.map(|(_, room)| room));
        assert_eq!(rooms.collect::<Vec<_>>(), [None, Some(8), Some(8)]);
        let workers = progress.stages.iter().map(|stage| stage.workers);
        assert_eq!(workers.collect::<Vec<_>>(), [1, 2, 1]);
        for stage in &progress.stages {
            let shares = stage.busy_share + stage.starved_share + stage.blocked_share;
            assert!((0.0..=1.0 + 1e-9).contains(&shares), "{stage:?}");
        }
        let spheres = &progress.spheres;
        assert_eq!((spheres.leaves, spheres.queue.unwrap().1), (3, 2));
        assert!(spheres.busy_share > 0.0 && spheres.busy_share <= 1.0, "{spheres:?}");
    }
    // Validations come after the last step, and their tasks with them.
    let (tasks, last) = (report.spheres.iter().map(|s| s.tasks).sum::<u64>(), &steps[11].spheres);
    assert!(last.tasks < tasks && last.stolen <= last.tasks);
    // Every stage's time was booked, and the spheres' too.
    let busy = |name: &str| report.stages.iter().find(|s| s.name == name).unwrap().busy_seconds;
    assert!(steps[11].stages.iter().all(|stage| stage.busy_seconds <= busy(stage.name)));
    assert!(busy("spheres") > 0.0 && busy("batch") > 0.0);
    assert!(!report.bottleneck().contains("nothing"), "{}", report.bottleneck());
}
