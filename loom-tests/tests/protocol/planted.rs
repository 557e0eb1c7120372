//! shuttle can fail: planted bugs that it must find among a dozen workers, and one that it cannot.
//!
//! The proof by mutation is loom's (`cargo loom-mutants`); this shows that the crowd's tests see.

use crate::child::{Case, Verdict, run_all};

/// Lost wakes, a look left out, an alarm left out: what one order of all accesses can show. Not all
/// of that: `sleepers.withdraw.pass_on` it finds in some runs and not in others.
#[test]
fn planted_bugs_are_found() {
    let found = [
        ("stage.drive.alarm", "crew::the_cause_is_reported_and_not_its_echo"),
        ("edge.close.wake", "crowd::a_chain_of_a_dozen_stages_drains"),
        ("edge.recv.pop_again", "edge::the_last_item_is_seen_before_the_close"),
        ("pool.carry_off.wake", "crowd::a_dozen_tasks_that_wait_for_each_other_meet"),
        ("pool.complete.wake", "crowd::a_close_drains_what_a_dozen_tasks_spawn"),
        ("shutdown.stop.wake", "crowd::a_cancel_ends_two_dozen_leaves_at_any_moment"),
        ("wait.look_again", "edge::a_wake_between_the_last_look_and_the_sleep_is_kept"),
    ];
    expect(&found, Verdict::Fails);
}

/// A missing fence is not seen: to shuttle every access is SeqCst. loom sees it.
#[test]
fn an_ordering_is_beyond_it() {
    expect(
        &[("event.wake.fence", "edge::a_sleeping_receiver_is_woken_by_the_close")],
        Verdict::Holds,
    );
}

fn expect(sites: &[(&'static str, &'static str)], wanted: Verdict) {
    let cases: Vec<Case> =
        sites.iter().map(|&(site, model)| Case { site, model, wanted }).collect();
    let wrong = run_all(&cases);
    assert!(wrong.is_empty(), "{wrong:#?}");
}
