//! The proof is proved: each ordering, fence, re-check and wake of the protocol is broken in turn,
//! and a named model must fail.
//!
//! A site is named where it stands, by `planted("...")` or `ordering_at("...")`; the variable
//! `TWELVEFOLD_MUTANT` breaks one of them for a process. `cargo loom` compares the lists with the
//! code; `cargo loom-mutants` breaks each site. A new site needs a line in one of the
//! lists.

use crate::child::{Case, Verdict, run_all};
use std::collections::BTreeSet;
use std::path::Path;

/// Site, and the model that must fail when it is broken; after a `+`, what is broken with it.
const KILLED: &[(&str, &str)] = &[
    ("core.close.wake", "pipeline::a_thread_for_the_source_and_one_for_the_sink_wake_each_other"),
    ("core.finish.wake", "pipeline::a_thread_for_the_source_and_one_for_the_sink_wake_each_other"),
    ("core.postpone.rung", "pipeline::a_ring_between_question_and_answer_is_not_lost"),
    ("drive.alarm", "crew::the_cause_is_reported_and_not_its_echo"),
    ("drive.pass.wake", "pipeline::a_thread_for_the_source_and_one_for_the_sink_wake_each_other"),
    ("drive.stopped", "crew::a_cancel_reaches_stages_that_sleep"),
    ("edge.close.acquire", "crew::the_cause_is_reported_and_not_its_echo"),
    // On real hardware the send's fence is the compiler's alone and orders nothing for the close; to
    // the model it is a full one, which has to go before the Release shows that it is needed.
    (
        "edge.close.release+event.wake.fence",
        "edge::a_close_that_is_polled_comes_after_the_last_item",
    ),
    ("edge.close.wake", "edge::a_sleeping_receiver_is_woken_by_the_close"),
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
    ("latch.arrive.acquire", "latch::the_last_arriver_sees_what_all_wrote"),
    ("latch.arrive.release", "latch::the_last_arriver_sees_what_all_wrote"),
    ("latch.complete.fence", "latch::the_publisher_is_woken_and_sees_the_results"),
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
    ("pool.is_over.acquire", "pool::a_close_drains_and_no_leaf_leaves_early"),
    ("pool.is_over.pending", "pool::a_close_drains_and_no_leaf_leaves_early"),
    ("pool.open.wake", "pool::a_spawned_task_and_its_parent_meet"),
    ("pool.publish.helped", "workers::a_step_wakes_a_leaf_for_what_the_helper_does_not_run"),
    ("pool.publish.wake", "pool::a_leaf_that_goes_to_sleep_is_woken_by_a_task"),
    ("pool.share.wake", "workers::a_step_that_turns_out_long_is_shared"),
    ("pool.spawn.wake", "workers::a_spawned_task_wakes_the_helper"),
    ("shutdown.is_stopped.acquire", "shutdown::a_poison_publishes_what_came_before_it"),
    ("shutdown.stop.release", "shutdown::a_poison_publishes_what_came_before_it"),
    ("shutdown.stop.wake", "shutdown::a_parked_thread_is_woken_by_a_cancel"),
    ("sleepers.announce", "pool::a_leaf_that_goes_to_sleep_is_woken_by_a_task"),
    ("sleepers.announce.fence", "pool::a_leaf_that_goes_to_sleep_is_woken_by_a_task"),
    ("sleepers.wake.fence", "pool::a_leaf_that_goes_to_sleep_is_woken_by_a_task"),
    ("sleepers.wake.unpark", "pool::a_leaf_that_goes_to_sleep_is_woken_by_a_task"),
    ("sleepers.wake_all.fence", "pool::a_close_without_a_step_ends_the_leaf"),
    (
        "sleepers.wake_among.unpark",
        "pipeline::a_thread_for_the_source_and_one_for_the_sink_wake_each_other",
    ),
    ("sleepers.withdraw.pass_on", "pool::two_tasks_that_wait_for_each_other_meet"),
    ("source.publish", "pipeline::a_thread_for_the_source_and_one_for_the_sink_wake_each_other"),
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
/// site changes nothing that a thread could see. One that could be caught after all belongs above.
const EQUIVALENT: &[(&str, &str, &str)] = &[(
    "pool.close.release",
    "pool::a_close_without_a_step_ends_the_leaf",
    "what a leaf that sees `closed` must see is the latch's count, which `publish` raised before \
         the SeqCst fence of its wake; that fence and the Relaxed store after it pair with the leaf's \
         Acquire",
)];

/// Sites that no model breaks yet: two threads that step every stage have more states than a model gets
/// through, and a pipeline that is looked at from outside is made known by a cell that loom cannot see.
/// They are neither proved nor argued equivalent; the stress runs and shuttle pass over them.
const OPEN: &[&str] = &[
    "claim.acquire",
    "claim.dirty",
    "claim.look_again",
    "claim.mark",
    "claim.release",
    "core.close.release",
    "core.end.acquire",
    "core.publish.fence",
    "drive.withdraw.pass_on",
    "meter.count.acquire",
    "meter.ended.release",
    "meter.took.release",
    "node.publish",
    "sleepers.wake_among.fence",
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

fn compare_lists_with_code() {
    let mut code = BTreeSet::new();
    read_sites(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../src"), &mut code);
    let first = |sites: &'static str| sites.split('+').next().unwrap_or(sites);
    let settled = KILLED.iter().map(|k| first(k.0)).chain(EQUIVALENT.iter().map(|e| e.0));
    let sites: Vec<&str> = settled.chain(OPEN.iter().copied()).collect();
    let listed: BTreeSet<String> = sites.iter().map(|&site| site.to_owned()).collect();
    assert_eq!(code, listed, "left: in the code; right: listed");
    assert_eq!(listed.len(), sites.len(), "a site is listed twice");
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
