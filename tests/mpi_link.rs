//! The link over MPI, between processes that really are several.
//!
//! This program starts itself under `mpirun` (Open MPI's), where it plays a rank, and looks at how the job
//! ends and what it says. An argument runs only the tests whose names contain it.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![expect(clippy::print_stdout, reason = "this program reports its tests itself")]

#[path = "common/mpirun.rs"]
mod launcher;
#[path = "common/watchdog.rs"]
mod watchdog;

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Output};
use twelvefold::ranks::mpi::{Mpi, abort_if_open, is_launched};
use twelvefold::ranks::{Done, Key, Link, Patience, Words};
use watchdog::watchdog;

/// Shared memory and TCP between processes of one machine.
const WAYS: [&[&str]; 2] =
    [&[], &["--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "lo"]];

type Play = fn(&mut Mpi);

/// What a rank plays.
const PLAYS: [(&str, Play); 10] = [
    ("ring", ring),
    ("all_to_all", all_to_all),
    ("send_all", send_all),
    ("late_receiver", late_receiver),
    ("early_leaver", early_leaver),
    ("too_long", too_long),
    ("abort", abort),
    ("panic", panic),
    ("drop", give_up),
    ("drop_between", fail_between),
];

/// What a rank says at last, when MPI has ended.
const WELL: &str = "all as it should be";

const TESTS: [(&str, fn()); 9] = [
    ("messages_of_all_sizes_go_round_in_a_ring", || every_number_of_ranks("ring")),
    ("hundreds_of_messages_come_whole_and_in_order_of_their_tag", || {
        every_number_of_ranks("all_to_all");
    }),
    ("a_message_to_all_comes_to_all_and_its_buffer_back_once", || {
        every_number_of_ranks("send_all");
    }),
    ("a_buffer_is_not_given_back_while_it_is_needed", || every_number_of_ranks("late_receiver")),
    ("a_rank_that_is_done_waits_for_the_others", || every_number_of_ranks("early_leaver")),
    ("a_message_larger_than_its_room_ends_the_job", || drop(ends_badly("too_long", ""))),
    ("an_abort_ends_the_job_with_its_code", || {
        for output in ends_badly("abort", "") {
            assert_eq!(output.status.code(), Some(7));
        }
    }),
    ("a_panic_ends_the_job", || drop(ends_badly("panic", "the last rank fell over"))),
    ("a_link_that_is_dropped_waits_for_nobody_and_what_follows_can_end_the_job", || {
        for output in ["drop", "drop_between"].into_iter().flat_map(|play| ends_badly(play, "")) {
            assert!(String::from_utf8_lossy(&output.stdout).contains("the link is gone"));
            assert_eq!(output.status.code(), Some(9));
        }
    }),
];

fn main() -> ExitCode {
    let argument = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    if is_launched() {
        let (name, play) =
            PLAYS.iter().find(|(name, _)| Some(*name) == argument.as_deref()).unwrap();
        let mut link = Mpi::join().unwrap();
        play(&mut link);
        if name.starts_with("drop") {
            // As after an error, of which is told before the job is ended.
            drop(link);
            println!("the link is gone");
            abort_if_open(9);
        } else {
            Box::new(link).close();
        }
        println!("{WELL}");
        return ExitCode::SUCCESS;
    }
    let _watchdog = watchdog("a job of several ranks");
    for (name, test) in TESTS {
        if argument.as_ref().is_none_or(|part| name.contains(part)) {
            println!("test {name} ...");
            test();
        }
    }
    println!("test result: ok");
    ExitCode::SUCCESS
}

/// Runs so many ranks of a play.
fn job(ranks: usize, way: &[&str], play: &str) -> Output {
    launcher::output(
        Command::new("mpirun")
            .args(["--allow-run-as-root", "--oversubscribe", "--mca", "mpi_yield_when_idle", "1"])
            .args(way)
            .args(["-np", &ranks.to_string()])
            .arg(std::env::current_exe().unwrap())
            .arg(play),
    )
}

fn every_number_of_ranks(play: &str) {
    for way in WAYS {
        for ranks in [1, 2, 3, 5] {
            let output = job(ranks, way, play);
            let said = String::from_utf8_lossy(&output.stdout);
            let why = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{play} of {ranks} {way:?}: {said}\n{why}");
            assert_eq!(
                said.matches(WELL).count(),
                ranks,
                "{play} of {ranks} {way:?}: {said}\n{why}"
            );
        }
    }
}

/// No rank is left, none says that it ended well, and one says what happened.
fn ends_badly(play: &str, what: &str) -> Vec<Output> {
    let jobs = WAYS.iter().flat_map(|way| [(way, 2), (way, 3)]);
    let run = |(way, ranks): (&&[&str], usize)| {
        let output = job(ranks, way, play);
        let said = String::from_utf8_lossy(&output.stdout);
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{play} of {ranks} {way:?}: {said}\n{why}");
        assert!(!said.contains(WELL), "{play} of {ranks} {way:?}: {said}\n{why}");
        assert!(why.contains(what), "{play} of {ranks} {way:?}: {said}\n{why}");
        output
    };
    jobs.map(run).collect()
}

/// The words of the `nth` message from one rank to another with a tag.
fn words(from: usize, to: usize, tag: u32, nth: usize, len: usize) -> Words {
    let seed = ((from * 31 + to) * 31 + nth) as u32 * 65_537 + tag;
    (0..len as u32).map(|i| (i ^ seed).wrapping_mul(0x9E37_79B1)).collect()
}

/// The next message that is done.
fn next(link: &mut Mpi) -> Done {
    let mut patience = Patience::default();
    loop {
        if let Some(done) = link.progress() {
            return done;
        }
        patience.pause();
    }
}

/// Waits for all that was begun, by key, and spoils each buffer that comes back.
fn finish(link: &mut Mpi, begun: usize) -> BTreeMap<Key, (usize, Words)> {
    let mut received = BTreeMap::new();
    for _ in 0..begun {
        match next(link) {
            Done::Sent { mut words, .. } => words.fill(u32::MAX),
            Done::Received { key, from, words } => {
                assert!(received.insert(key, (from, words)).is_none(), "{key} came twice");
            }
        }
    }
    assert_eq!(link.progress(), None);
    received
}

/// Each to the next, and the last to the first; with the rooms larger than what comes, before and after it.
fn ring(link: &mut Mpi) {
    let (me, ranks) = (link.rank(), link.ranks());
    if ranks == 1 {
        return;
    }
    let (to, from) = ((me + 1) % ranks, (me + ranks - 1) % ranks);
    let sizes = [0, 1, 1_000, 100_000, 3_000_000];
    for (tag, len) in sizes.into_iter().enumerate() {
        let tag = tag as u32;
        let room = vec![7; len + len / 2 + 5];
        let place = room.as_ptr();
        if tag.is_multiple_of(2) {
            link.receive(from, tag, 1, room);
            link.send(to, tag, 0, words(me, to, tag, 0, len));
        } else {
            link.send(to, tag, 0, words(me, to, tag, 0, len));
            link.receive(from, tag, 1, room);
        }
        let received = finish(link, 2);
        assert_eq!(received.keys().collect::<Vec<_>>(), [&1]);
        assert_eq!(received[&1].0, from);
        assert!(received[&1].1 == words(from, me, tag, 0, len), "{len} words");
        assert_eq!(received[&1].1.as_ptr(), place, "the room that was given");
    }
}

/// Several messages with each tag, the large ones first, begun in another order on each side.
fn all_to_all(link: &mut Mpi) {
    const SIZES: [usize; 5] = [100_000, 0, 1_000, 1, 30_000];
    let (me, ranks) = (link.rank(), link.ranks());
    let tags: Vec<u32> = (0..80 / ranks as u32).map(|tag| (tag + 1) * 65_535 % 65_536).collect();
    let others: Vec<usize> = (0..ranks).filter(|&rank| rank != me).collect();
    let key = |from: usize, tag: usize, nth: usize| ((from * 100 + tag) * 10 + nth) as Key;
    let mut begins: Vec<(bool, usize, usize)> = others
        .iter()
        .flat_map(|&rank| {
            (0..tags.len()).flat_map(move |tag| [(true, rank, tag), (false, rank, tag)])
        })
        .collect();
    // Another order on each rank, that of a linear congruential generator.
    let mut state = me as u64 + 1;
    for i in (1..begins.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        begins.swap(i, (state >> 33) as usize % (i + 1));
    }
    for &(sends, other, tag) in &begins {
        for (nth, len) in SIZES.into_iter().enumerate() {
            if sends {
                link.send(other, tags[tag], 0, words(me, other, tags[tag], nth, len));
            } else {
                link.receive(other, tags[tag], key(other, tag, nth), vec![7; 100_000]);
            }
        }
    }
    let received = finish(link, begins.len() * SIZES.len());
    assert_eq!(received.len(), others.len() * tags.len() * SIZES.len());
    for (tag, &number) in tags.iter().enumerate() {
        for &other in &others {
            for (nth, len) in SIZES.into_iter().enumerate() {
                let (from, came) = &received[&key(other, tag, nth)];
                let sent = words(other, me, number, nth, len);
                assert!(*from == other && *came == sent, "{nth} of {number} from {other}");
            }
        }
    }
}

fn send_all(link: &mut Mpi) {
    let (me, ranks) = (link.rank(), link.ranks());
    for (tag, len) in [0, 1, 1_000, 100_000, 1_000_000].into_iter().enumerate() {
        let tag = tag as u32;
        let buffer = words(me, 0, tag, 0, len);
        let place = buffer.as_ptr();
        link.send_all(tag, 99, buffer);
        for from in (0..ranks).filter(|&rank| rank != me) {
            link.receive(from, tag, from as Key, vec![7; len + 1]);
        }
        let mut back = 0;
        for _ in 0..ranks {
            match next(link) {
                Done::Sent { key, words: mut sent } => {
                    assert_eq!((key, sent.as_ptr()), (99, place));
                    assert!(sent == words(me, 0, tag, 0, len));
                    sent.fill(u32::MAX);
                    back += 1;
                }
                Done::Received { key, from, words: came } => {
                    assert_eq!(key, from as Key);
                    assert!(came == words(from, 0, tag, 0, len), "{len} words from {from}");
                }
            }
        }
        assert_eq!((back, link.progress()), (1, None));
    }
}

/// The receiver asks only when the sender has looked many times, and spoiled what came back to it.
fn late_receiver(link: &mut Mpi) {
    const LEN: usize = 3_000_000;
    let me = link.rank();
    if me == 0 {
        let others = 1..link.ranks();
        others.clone().for_each(|to| link.send(to, 1, 0, words(0, to, 1, 0, LEN)));
        let mut left = others.len();
        for _ in 0..10_000 {
            if let Some(Done::Sent { mut words, .. }) = link.progress() {
                words.fill(u32::MAX);
                left -= 1;
            }
        }
        link.send_all(2, 1, vec![1]);
        finish(link, left + 1);
    } else {
        link.receive(0, 2, 1, vec![0; 1]);
        assert_eq!(finish(link, 1)[&1].1, [1]);
        link.receive(0, 1, 0, vec![7; LEN]);
        assert!(finish(link, 1)[&0].1 == words(0, me, 1, 0, LEN));
    }
}

/// Rank 0 leaves as soon as its own messages are done; the others still speak.
fn early_leaver(link: &mut Mpi) {
    let (me, ranks) = (link.rank(), link.ranks());
    if me == 0 {
        (1..ranks).for_each(|to| link.send(to, 1, 0, words(0, to, 1, 0, 1_000)));
        finish(link, ranks - 1);
        return;
    }
    let (to, from) = (me % (ranks - 1) + 1, (me + ranks - 3) % (ranks - 1) + 1);
    for round in 0..100 {
        if ranks > 2 {
            link.send(to, 2, 0, words(me, to, 2, round, 20_000));
            link.receive(from, 2, 0, vec![7; 20_000]);
            assert!(finish(link, 2)[&0].1 == words(from, me, 2, round, 20_000));
        }
    }
    link.receive(0, 1, 0, vec![7; 1_000]);
    assert!(finish(link, 1)[&0].1 == words(0, me, 1, 0, 1_000));
}

/// What Open MPI says of it is at times lost on its own way (`ORTE_ERROR_LOG` in its place).
fn too_long(link: &mut Mpi) {
    let last = link.ranks() - 1;
    if link.rank() == last {
        link.send(0, 1, 0, vec![1; 11]);
    } else if link.rank() == 0 {
        link.receive(last, 1, 0, vec![0; 10]);
    } else {
        link.receive(0, 2, 0, vec![0; 10]);
    }
    finish(link, 1);
}

/// Begins what will never be done.
fn wait_in_vain(link: &mut Mpi) -> usize {
    let last = link.ranks() - 1;
    let other = if link.rank() == last { 0 } else { last };
    link.receive(other, 3, 0, vec![0; 100_000]);
    link.send(other, 4, 0, vec![0; 1_000_000]);
    last
}

fn abort(link: &mut Mpi) {
    if wait_in_vain(link) == link.rank() {
        link.abort(7);
    }
    finish(link, 2);
}

fn panic(link: &mut Mpi) {
    if wait_in_vain(link) == link.rank() {
        panic!("the last rank fell over");
    }
    finish(link, 2);
}

/// The last rank fails while messages are under way, as `main` then plays it.
fn give_up(link: &mut Mpi) {
    if wait_in_vain(link) != link.rank() {
        finish(link, 2);
    }
}

/// The last rank fails between messages; the others wait for its next.
fn fail_between(link: &mut Mpi) {
    let last = link.ranks() - 1;
    if link.rank() != last {
        link.receive(last, 1, 0, vec![0; 10]);
        finish(link, 1);
    }
}
