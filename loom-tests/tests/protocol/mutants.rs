//! The proof is proved: each ordering, fence, re-check and wake of the protocol is broken in turn,
//! and a named model must fail.
//!
//! A site is named where it stands, by `planted("...")` or `ordering_at("...")`; the variable
//! `TWELVEFOLD_MUTANT` breaks one of them for a process. `cargo loom` compares the lists with the
//! code; `cargo loom-mutants` breaks each site. A new site needs a line in one of the
//! lists.

use crate::child::{Case, Verdict, run_all};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Site, and the model that must fail when it is broken; after a `+`, what is broken with it.
const KILLED: &[(&str, &str)] = &[
    ("claim.acquire", "pipeline::two_threads_that_step_every_stage_keep_the_order"),
    ("claim.release", "pipeline::two_threads_that_step_every_stage_keep_the_order"),
    ("core.close.wake", "pipeline::a_thread_for_the_source_and_one_for_the_sink_wake_each_other"),
    ("core.finish.wake", "pipeline::a_thread_for_the_source_and_one_for_the_sink_wake_each_other"),
    ("core.postpone.rung", "pipeline::a_ring_between_question_and_answer_is_not_lost"),
    (
        "core.retire.release",
        "steps::what_the_sink_did_with_an_item_comes_before_the_room_that_it_leaves",
    ),
    (
        "core.room.acquire",
        "steps::what_the_sink_did_with_an_item_comes_before_the_room_that_it_leaves",
    ),
    (
        "drive.loop.finished",
        "pipeline::a_thread_for_the_source_and_one_for_the_sink_wake_each_other",
    ),
    ("drive.loop.stopped", "pipeline::a_cancel_wakes_a_run_that_sleeps"),
    ("drive.pass.fence", "pipeline::a_thread_for_the_source_and_one_for_the_sink_wake_each_other"),
    ("drive.pass.wake", "pipeline::a_thread_for_the_source_and_one_for_the_sink_wake_each_other"),
    (
        "drive.withdraw.fence",
        "steps::a_wake_spent_on_a_worker_that_is_busy_goes_to_one_that_sleeps",
    ),
    (
        "drive.withdraw.pass_on",
        "steps::a_wake_spent_on_a_worker_that_is_busy_goes_to_one_that_sleeps",
    ),
    ("edge.close.acquire", "crew::the_cause_is_reported_and_not_its_echo"),
    // On real hardware the send's fence is the compiler's alone and orders nothing for the close; to
    // the model it is a full one, which has to go before the Release shows that it is needed.
    (
        "edge.close.release+event.wake.fence",
        "edge::a_close_that_is_polled_comes_after_the_last_item",
    ),
    ("edge.close.wake", "edge::a_sleeping_receiver_is_woken_by_the_close"),
    ("edge.count.acquire", "edge::no_count_of_an_edge_shows_more_out_than_in"),
    ("edge.fill.load_again", "edge::the_last_buffered_item_is_seen_before_the_close"),
    ("edge.leave.acquire", "crew::a_failing_stage_ends_the_others_and_is_named"),
    ("edge.leave.release", "crew::the_cause_is_reported_and_not_its_echo"),
    ("edge.leave.wake", "edge::a_sender_on_a_full_ring_learns_that_the_receiver_has_gone"),
    ("edge.recv.acquire", "edge::the_last_item_is_seen_before_the_close"),
    ("edge.recv.pop_again", "edge::the_last_item_is_seen_before_the_close"),
    ("edge.recv.wake", "edge::a_sender_that_waits_for_room_is_woken_by_it"),
    ("edge.send.wake", "edge::a_wake_between_the_last_look_and_the_sleep_is_kept"),
    ("edge.unload.wake", "edge::buffered_ends_hand_over_every_item"),
    ("edge.want_no_more.wake", "edge::a_close_by_the_receiver_wakes_a_sender_on_a_full_ring"),
    ("event.announce", "edge::a_wake_between_the_last_look_and_the_sleep_is_kept"),
    ("event.announce.fence", "edge::a_wake_between_the_last_look_and_the_sleep_is_kept"),
    ("event.wake.fence", "edge::a_wake_between_the_last_look_and_the_sleep_is_kept"),
    ("event.wake.unpark", "edge::a_wake_between_the_last_look_and_the_sleep_is_kept"),
    ("flags.count", "flags::a_raise_between_the_last_look_and_the_sleep_is_kept"),
    ("flags.raise", "flags::every_part_is_seen_by_who_takes_its_flag"),
    ("flags.raised", "flags::a_raise_between_the_last_look_and_the_sleep_is_kept"),
    ("flags.take", "flags::every_part_is_seen_by_who_takes_its_flag"),
    ("flags.wake", "flags::a_raise_between_the_last_look_and_the_sleep_is_kept"),
    ("gate.ask.acquire", "pipeline::a_ring_brings_what_it_is_for"),
    ("gate.ring.fence", "pipeline::a_ring_brings_what_it_is_for"),
    ("gate.ring.wake", "pipeline::a_ring_brings_what_it_is_for"),
    ("handles.ring.fence", "pipeline::a_ring_brings_what_it_is_for"),
    ("latch.arrive.acquire", "latch::the_last_arriver_sees_what_all_wrote"),
    ("latch.arrive.release", "latch::the_last_arriver_sees_what_all_wrote"),
    ("latch.complete.fence", "latch::the_publisher_is_woken_and_sees_the_results"),
    ("latch.complete.release", "latch::the_publisher_is_woken_and_sees_the_results"),
    ("latch.complete.wake", "latch::the_publisher_is_woken_and_sees_the_results"),
    ("latch.completed.acquire", "latch::the_publisher_is_woken_and_sees_the_results"),
    ("latch.is_idle.acquire", "latch::the_gap_between_two_phases_is_not_the_end"),
    (
        "latest.read.swap",
        "latest::a_reader_has_the_numbers_of_one_moment_and_none_older_than_before",
    ),
    (
        "latest.write.swap",
        "latest::a_reader_has_the_numbers_of_one_moment_and_none_older_than_before",
    ),
    ("meter.abandoned.release", "steps::no_count_shows_more_ended_than_taken"),
    ("meter.count.abandoned", "steps::no_count_shows_more_ended_than_taken"),
    ("meter.count.failed", "steps::no_count_shows_more_ended_than_taken"),
    ("meter.count.finished", "steps::no_count_shows_more_ended_than_taken"),
    ("meter.count.taken", "pipeline::no_snapshot_shows_more_out_than_in"),
    ("meter.failed.release", "steps::no_count_shows_more_ended_than_taken"),
    ("meter.finished.release", "steps::no_count_shows_more_ended_than_taken"),
    ("meter.took.release", "steps::no_edge_shows_more_taken_than_made"),
    ("node.goodbye.fence", "steps::who_sleeps_when_the_last_item_is_taken_says_goodbye"),
    ("node.goodbye.wake", "steps::who_sleeps_when_the_last_item_is_taken_says_goodbye"),
    ("node.parallel.in_vain", "steps::room_reserved_in_vain_is_looked_at_again"),
    ("node.publish", "pipeline::one_thread_carries_every_item_to_the_sink"),
    ("node.serial.in_vain", "steps::a_sink_claimed_in_vain_is_looked_at_again"),
    ("park.leave.acquire", "edge::a_wake_between_the_last_look_and_the_sleep_is_kept"),
    ("park.leave.release", "edge::a_wake_between_the_last_look_and_the_sleep_is_kept"),
    ("park.leave_again", "edge::items_arrive_in_order_and_then_the_edge_ends"),
    ("park.take.acquire", "edge::a_wake_between_the_last_look_and_the_sleep_is_kept"),
    ("park.take.release", "edge::a_wake_between_the_last_look_and_the_sleep_is_kept"),
    ("pool.carry_off.wake", "pool::two_tasks_that_wait_for_each_other_meet"),
    ("pool.claim.retry", "pool::two_tasks_that_wait_for_each_other_meet"),
    ("pool.close.release", "workers::a_close_after_a_step_that_wakes_nobody_drains"),
    ("pool.close.wake", "pool::a_close_without_a_step_ends_the_leaf"),
    ("pool.complete.helper", "workers::a_helper_that_sleeps_is_woken_by_the_last_task"),
    ("pool.complete.wake", "pool::a_close_drains_and_no_leaf_leaves_early"),
    ("pool.count.acquire", "pool::no_snapshot_shows_more_finished_than_taken"),
    ("pool.finish.release", "pool::no_snapshot_shows_more_finished_than_taken"),
    ("pool.is_over.acquire", "pool::a_close_drains_and_no_leaf_leaves_early"),
    ("pool.is_over.pending", "pool::a_close_drains_and_no_leaf_leaves_early"),
    ("pool.open.wake", "pool::a_spawned_task_and_its_parent_meet"),
    ("pool.publish.helped", "workers::a_step_wakes_a_leaf_for_what_the_helper_does_not_run"),
    ("pool.publish.wake", "pool::a_leaf_that_goes_to_sleep_is_woken_by_a_task"),
    ("pool.share.wake", "workers::a_step_that_turns_out_long_is_shared"),
    ("pool.spawn.wake", "workers::a_spawned_task_wakes_the_helper"),
    ("run.plan.fence", "pipeline::a_ring_brings_what_it_is_for"),
    ("shutdown.first_fault.acquire", "shutdown::who_knows_why_a_run_stops_sees_what_came_before"),
    ("shutdown.is_cancelled.acquire", "shutdown::who_knows_why_a_run_stops_sees_what_came_before"),
    ("shutdown.is_stopped.acquire", "shutdown::a_poison_publishes_what_came_before_it"),
    ("shutdown.stop.fence", "pipeline::a_cancel_wakes_a_run_that_sleeps"),
    ("shutdown.stop.release", "shutdown::a_poison_publishes_what_came_before_it"),
    ("shutdown.stop.wake", "shutdown::a_parked_thread_is_woken_by_a_cancel"),
    ("sleepers.announce", "pool::a_leaf_that_goes_to_sleep_is_woken_by_a_task"),
    ("sleepers.announce.fence", "pool::a_leaf_that_goes_to_sleep_is_woken_by_a_task"),
    ("sleepers.wake.fence", "pool::a_leaf_that_goes_to_sleep_is_woken_by_a_task"),
    ("sleepers.wake.unpark", "pool::a_leaf_that_goes_to_sleep_is_woken_by_a_task"),
    ("sleepers.wake_all.fence", "pool::a_close_without_a_step_ends_the_leaf"),
    ("sleepers.wake_all.unpark", "pool::a_close_without_a_step_ends_the_leaf"),
    (
        "sleepers.wake_among.unpark",
        "pipeline::a_thread_for_the_source_and_one_for_the_sink_wake_each_other",
    ),
    ("sleepers.wake_at.unpark", "workers::a_helper_that_sleeps_is_woken_by_the_last_task"),
    ("sleepers.withdraw.pass_on", "pool::two_tasks_that_wait_for_each_other_meet"),
    ("source.in_vain", "steps::a_source_claimed_in_vain_is_looked_at_again"),
    ("source.publish", "pipeline::a_thread_for_the_source_and_one_for_the_sink_wake_each_other"),
    ("stage.drive.alarm", "crew::the_cause_is_reported_and_not_its_echo"),
    ("stage.drive.stopped", "crew::a_cancel_reaches_stages_that_sleep"),
    (
        "track.publish.release",
        "pipeline::a_thread_for_the_source_and_one_for_the_sink_wake_each_other",
    ),
    (
        "track.take.acquire",
        "pipeline::a_thread_for_the_source_and_one_for_the_sink_wake_each_other",
    ),
    ("wait.look_again", "edge::a_wake_between_the_last_look_and_the_sleep_is_kept"),
];

/// What must go on holding without one of two sites that are broken together above.
const ALONE: &[(&str, &str)] =
    &[("event.wake.fence", "edge::a_close_that_is_polled_comes_after_the_last_item")];

/// Survivors: site, the model that comes nearest to it and must go on holding, and why breaking the
/// site changes nothing that a thread could see. There is none: what is not needed is not in the code.
const EQUIVALENT: &[(&str, &str, &str)] = &[];

/// Wakes without a site of their own: file, the line, and why.
const BARE: &[(&str, &str, &str)] = &[
    (
        "engine/pipeline/drive.rs",
        "self.wake(&self.core.posts[s]);",
        "to share the work: a question of speed, and not there under a model checker",
    ),
    (
        "engine/pipeline/drive.rs",
        "let woken = self.core.gate.sleepers.wake_among(&post.threads, 1);",
        "what `drive.pass.wake` and `drive.withdraw.pass_on` leave out",
    ),
    (
        "engine/pipeline/gate.rs",
        "self.sleepers.wake_all();",
        "what `shutdown.stop.wake` leaves out",
    ),
    ("engine/pool/mod.rs", "self.sleepers.wake_all();", "what `shutdown.stop.wake` leaves out"),
    ("sync/park.rs", "self.token.unpark();", "what each site called `unpark` leaves out"),
    ("sync/park.rs", "unsafe { Arc::from_raw(handle) }.unpark();", "as before"),
];

/// Each in a process of its own. Run by `cargo loom-mutants`.
#[test]
#[ignore = "minutes: cargo loom-mutants"]
fn each_site_is_killed_by_its_model_or_argued_equivalent() {
    compare_lists_with_code();
    let killed = KILLED.iter().map(|&(site, model)| (site, model, Verdict::Fails));
    let equivalent = EQUIVALENT.iter().map(|&(site, model, _)| (site, model, Verdict::Holds));
    let alone = ALONE.iter().map(|&(site, model)| (site, model, Verdict::Holds));
    let cases: Vec<Case> = killed
        .chain(equivalent)
        .chain(alone)
        .map(|(site, model, wanted)| Case { site, model, wanted })
        .collect();
    let wrong = run_all(&cases);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_site_in_the_code_is_listed_and_every_listed_site_is_there() {
    compare_lists_with_code();
}

/// A site stands beside each ordering that is more than Relaxed, each fence and each wake.
#[test]
fn every_ordering_fence_and_wake_of_the_engine_has_a_site() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
    let mut files = vec![src.join("sync/park.rs")];
    collect(&src.join("engine"), &mut files);
    let mut bare = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(&src).unwrap().display().to_string();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(&text);
        let lines: Vec<&str> = code.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate().filter(|(at, _)| !is_sited(&lines, *at)) {
            if !BARE.iter().any(|(file, text, _)| (*file, *text) == (&*name, *line)) {
                bare.push(format!("{name}:{}: {line}", at + 1));
            }
        }
    }
    assert!(bare.is_empty(), "{bare:#?}");
}

/// Whether line `at` is none that needs a site, or has one within a few lines.
fn is_sited(lines: &[&str], at: usize) -> bool {
    let holds = |any: &[&str]| any.iter().any(|part| lines[at].contains(part));
    let is_strong = holds(&["Ordering::Acquire", "Ordering::Release", "Ordering::AcqRel"]);
    let is_act = holds(&["fence(", ".wake(", ".wake_all(", ".wake_among(", ".wake_at("])
        || holds(&[".wake_fenced(", ".unpark("]);
    if lines[at].starts_with("//") || lines[at].contains("fn ") || !(is_strong || is_act) {
        return true;
    }
    // Whether to fence or to wake is asked before; which order it is, may be written out after.
    let to = if is_act { at + 1 } else { lines.len().min(at + 7) };
    let mut beside = lines[at.saturating_sub(6)..to].iter();
    beside.any(|line| line.contains("planted(\"") || line.contains("ordering_at(\""))
}

fn compare_lists_with_code() {
    let mut code = BTreeSet::new();
    read_sites(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../src"), &mut code);
    let first = |sites: &'static str| sites.split('+').next().unwrap_or(sites);
    let settled = KILLED.iter().map(|k| first(k.0)).chain(EQUIVALENT.iter().map(|e| e.0));
    let sites: Vec<&str> = settled.collect();
    let listed: BTreeSet<String> = sites.iter().map(|&site| site.to_owned()).collect();
    assert_eq!(code, listed, "left: in the code; right: listed");
    assert_eq!(listed.len(), sites.len(), "a site is listed twice");
}

/// Adds the sites named in the sources below `folder`.
fn read_sites(folder: &Path, sites: &mut BTreeSet<String>) {
    let mut files = Vec::new();
    collect(folder, &mut files);
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        for call in ["planted(\"", "ordering_at(\""] {
            let names = text.split(call).skip(1).filter_map(|rest| rest.split('"').next());
            sites.extend(names.filter(|name| *name != "...").map(str::to_owned));
        }
    }
}

/// Adds the Rust files below `folder`.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}
