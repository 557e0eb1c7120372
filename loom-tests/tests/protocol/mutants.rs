//! The proof is proved: each ordering, fence, re-check and wake of the protocol is broken in turn,
//! and a named model must fail.
//!
//! A site is named where it stands, by `planted("...")` or `ordering_at("...")`; the variable
//! `TWELVEFOLD_MUTANT` breaks one of them for a process. Each mutant runs in a process of its own,
//! since a failing model may abort.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Site, and the model that must fail when it is broken.
const KILLED: &[(&str, &str)] = &[
    ("drive.alarm", "crew::the_cause_is_reported_and_not_its_echo"),
    ("drive.stopped", "crew::a_cancel_reaches_stages_that_sleep"),
    ("edge.close.acquire", "crew::the_cause_is_reported_and_not_its_echo"),
    ("edge.close.wake", "edge::a_sleeping_receiver_is_woken_by_the_close"),
    ("edge.count.acquire", "edge::no_snapshot_shows_more_out_than_in"),
    ("edge.fill.load_again", "edge::the_last_buffered_item_is_seen_before_the_close"),
    ("edge.leave.acquire", "crew::a_failing_stage_ends_the_others_and_is_named"),
    ("edge.leave.release", "crew::the_cause_is_reported_and_not_its_echo"),
    ("edge.leave.wake", "edge::a_sender_on_a_full_ring_learns_that_the_receiver_has_gone"),
    ("edge.recv.acquire", "edge::the_last_item_is_seen_before_the_close"),
    ("edge.recv.pop_again", "edge::the_last_item_is_seen_before_the_close"),
    ("edge.recv.wake", "edge::a_sender_that_waits_for_room_is_woken_by_it"),
    ("edge.released.release", "edge::no_snapshot_shows_more_out_than_in"),
    ("edge.send.wake", "edge::a_wake_between_the_last_look_and_the_sleep_is_kept"),
    ("edge.unload.wake", "edge::buffered_ends_hand_over_every_item"),
    ("edge.want_no_more.wake", "edge::a_receiver_that_closes_takes_all_that_was_sent"),
    ("event.announce", "edge::a_wake_between_the_last_look_and_the_sleep_is_kept"),
    ("event.announce.fence", "edge::a_wake_between_the_last_look_and_the_sleep_is_kept"),
    ("event.wake.fence", "edge::a_wake_between_the_last_look_and_the_sleep_is_kept"),
    ("event.wake.unpark", "edge::a_wake_between_the_last_look_and_the_sleep_is_kept"),
    ("latch.arrive.acquire", "latch::the_last_arriver_sees_what_all_wrote"),
    ("latch.arrive.release", "latch::the_last_arriver_sees_what_all_wrote"),
    ("latch.complete.release", "latch::the_publisher_is_woken_and_sees_the_results"),
    ("latch.complete.wake", "latch::the_publisher_is_woken_and_sees_the_results"),
    ("latch.completed.acquire", "latch::the_publisher_is_woken_and_sees_the_results"),
    ("latch.is_idle.acquire", "latch::the_gap_between_two_phases_is_not_the_end"),
    ("park.leave.order", "edge::a_wake_between_the_last_look_and_the_sleep_is_kept"),
    ("park.leave_again", "edge::items_arrive_in_order_and_then_the_edge_ends"),
    ("park.take.order", "edge::a_wake_between_the_last_look_and_the_sleep_is_kept"),
    ("pool.carry_off.wake", "pool::two_tasks_that_wait_for_each_other_meet"),
    ("pool.claim.retry", "pool::two_tasks_that_wait_for_each_other_meet"),
    ("pool.close.wake", "pool::a_close_without_a_step_ends_the_leaf"),
    ("pool.complete.helper", "workers::a_helper_that_sleeps_is_woken_by_the_last_task"),
    ("pool.complete.wake", "pool::a_close_drains_and_no_leaf_leaves_early"),
    ("pool.count.acquire", "pool::no_snapshot_shows_more_finished_than_taken"),
    ("pool.finish.release", "pool::no_snapshot_shows_more_finished_than_taken"),
    ("pool.help.retry", "workers::a_step_wakes_a_leaf_for_what_the_helper_does_not_run"),
    ("pool.is_over.acquire", "pool::a_close_drains_and_no_leaf_leaves_early"),
    ("pool.is_over.pending", "pool::a_close_drains_and_no_leaf_leaves_early"),
    ("pool.open.wake", "pool::a_spawned_task_and_its_parent_meet"),
    ("pool.publish.helped", "workers::a_step_wakes_a_leaf_for_what_the_helper_does_not_run"),
    ("pool.publish.wake", "pool::a_leaf_that_goes_to_sleep_is_woken_by_a_task"),
    ("pool.spawn.wake", "workers::a_spawned_task_wakes_the_helper"),
    ("shutdown.is_stopped.acquire", "shutdown::a_poison_publishes_what_came_before_it"),
    ("shutdown.stop.release", "shutdown::a_poison_publishes_what_came_before_it"),
    ("shutdown.stop.wake", "shutdown::a_parked_thread_is_woken_by_a_cancel"),
    ("sleepers.announce", "pool::a_leaf_that_goes_to_sleep_is_woken_by_a_task"),
    ("sleepers.announce.fence", "pool::a_leaf_that_goes_to_sleep_is_woken_by_a_task"),
    ("sleepers.wake.fence", "pool::a_leaf_that_goes_to_sleep_is_woken_by_a_task"),
    ("sleepers.wake.unpark", "pool::a_leaf_that_goes_to_sleep_is_woken_by_a_task"),
    ("sleepers.wake_all.fence", "pool::a_close_without_a_step_ends_the_leaf"),
    ("sleepers.withdraw.pass_on", "pool::two_tasks_that_wait_for_each_other_meet"),
    ("wait.look_again", "edge::a_wake_between_the_last_look_and_the_sleep_is_kept"),
];

/// Site, the model that comes nearest to it and must go on holding, and why breaking the site changes
/// nothing that a thread could see.
const EQUIVALENT: &[(&str, &str, &str)] = &[
    (
        "edge.close.release",
        "edge::the_last_item_is_seen_before_the_close",
        "every send ends with the SeqCst fence of its wake, which already orders the item before the \
         bit; the Release stands for itself, should a send ever spare its wake",
    ),
    (
        "pool.close.release",
        "pool::a_close_without_a_step_ends_the_leaf",
        "what a leaf that sees `closed` must see is the latch's count, which `publish` raised before \
         the SeqCst fence of its wake; that fence and the Relaxed store after it pair with the leaf's \
         Acquire",
    ),
];

/// Longer than any model runs unbroken.
const LIMIT: Duration = Duration::from_secs(300);

#[test]
fn every_planted_bug_is_caught_by_its_model() {
    let survivors: Vec<String> = KILLED
        .iter()
        .filter(|(site, model)| run(site, model) != Verdict::Fails)
        .map(|(site, model)| format!("{site} survives {model}"))
        .collect();
    assert!(survivors.is_empty(), "{survivors:#?}");
}

/// An entry that could be caught after all belongs on the other list.
#[test]
fn what_is_called_equivalent_is_not_caught() {
    for (site, model, why) in EQUIVALENT {
        assert_eq!(run(site, model), Verdict::Holds, "{site} is not equivalent: {why}");
    }
}

#[test]
fn every_site_in_the_code_is_listed_and_every_listed_site_is_there() {
    let mut code = BTreeSet::new();
    read_sites(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../src"), &mut code);
    let listed: BTreeSet<String> = KILLED
        .iter()
        .map(|k| k.0)
        .chain(EQUIVALENT.iter().map(|e| e.0))
        .map(str::to_owned)
        .collect();
    assert_eq!(code, listed);
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Holds,
    Fails,
    /// It branched without end or took too long: a bug that only wastes time is not caught by it.
    Capped,
}

/// What becomes of `model` with the bug at `site`.
fn run(site: &str, model: &str) -> Verdict {
    let log = std::env::temp_dir().join(format!("mutant-{}-{site}", std::process::id()));
    let output = std::fs::File::create(&log).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", model, "--test-threads=1", "--nocapture"])
        .env("TWELVEFOLD_MUTANT", site)
        .stdout(Stdio::null())
        .stderr(output)
        .spawn()
        .unwrap();
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if started.elapsed() > LIMIT {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let said = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
    std::fs::remove_file(&log).unwrap();
    match status {
        Some(status) if status.success() => Verdict::Holds,
        Some(_) if !said.contains("exceeded maximum number of branches") => Verdict::Fails,
        _ => Verdict::Capped,
    }
}

/// Adds the sites named in the sources below `folder`.
fn read_sites(folder: &Path, sites: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sites(&path, sites);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for call in ["planted(\"", "ordering_at(\""] {
                let names = text.split(call).skip(1).filter_map(|rest| rest.split('"').next());
                sites.extend(names.filter(|name| *name != "...").map(str::to_owned));
            }
        }
    }
}
