use super::*;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A link between threads of one process.
#[derive(Debug)]
pub(crate) struct Local {
    rank: usize,
    to: Vec<Sender<Sent>>,
    inbox: Receiver<Sent>,
    /// What came before it was asked for.
    early: Vec<Sent>,
    wanted: Vec<Wanted>,
    done: VecDeque<Done>,
}

#[derive(Debug)]
struct Sent {
    from: usize,
    tag: u32,
    words: Words,
}

#[derive(Debug)]
struct Wanted {
    from: usize,
    tag: u32,
    key: Key,
    room: Words,
}

/// The ends of so many ranks.
pub(crate) fn local(ranks: usize) -> Vec<Local> {
    let (to, inboxes): (Vec<_>, Vec<_>) = (0..ranks).map(|_| channel()).unzip();
    let link = |(rank, inbox)| Local {
        rank,
        to: to.clone(),
        inbox,
        early: Vec::new(),
        wanted: Vec::new(),
        done: VecDeque::new(),
    };
    inboxes.into_iter().enumerate().map(link).collect()
}

impl Link for Local {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.to.len()
    }

    fn host(&self) -> String {
        "here".to_owned()
    }

    fn send(&mut self, to: usize, tag: u32, key: Key, words: Words) {
        let _ = self.to[to].send(Sent { from: self.rank, tag, words: words.clone() });
        self.done.push_back(Done::Sent { key, words });
    }

    fn send_all(&mut self, tag: u32, key: Key, words: Words) {
        for to in (0..self.ranks()).filter(|&to| to != self.rank) {
            let _ = self.to[to].send(Sent { from: self.rank, tag, words: words.clone() });
        }
        self.done.push_back(Done::Sent { key, words });
    }

    fn receive(&mut self, from: usize, tag: u32, key: Key, room: Words) {
        self.wanted.push(Wanted { from, tag, key, room });
    }

    fn progress(&mut self) -> Option<Done> {
        self.early.extend(self.inbox.try_iter());
        let mut at = 0;
        while at < self.early.len() {
            let Sent { from, tag, .. } = self.early[at];
            let Some(wanted) = self.wanted.iter().position(|w| (w.from, w.tag) == (from, tag))
            else {
                at += 1;
                continue;
            };
            let (sent, mut wanted) = (self.early.remove(at), self.wanted.remove(wanted));
            assert!(sent.words.len() <= wanted.room.len(), "{} words too many", sent.words.len());
            wanted.room.clear();
            wanted.room.extend(sent.words);
            self.done.push_back(Done::Received { key: wanted.key, from, words: wanted.room });
        }
        self.done.pop_front()
    }

    fn close(self: Box<Self>) {}

    fn abort(&self, code: u8) -> ! {
        panic!("rank {} aborted with {code}", self.rank)
    }
}

/// The tree written down: left half (the largest power of two below n), right half.
fn tree(parts: &[f32]) -> f32 {
    if parts.len() == 1 {
        return parts[0];
    }
    let half = parts.len().next_power_of_two() / 2;
    tree(&parts[..half]) + tree(&parts[half..])
}

#[test]
fn any_number_of_ranks_sums_along_the_tree_that_one_would_use() {
    for n in 1..=33 {
        let value = |k: usize| 1.0 / (k * k + 3) as f32 * 1e3f32.powi(k as i32 % 3);
        let parts: Vec<f32> = (0..n).map(value).collect();
        for ranks in 1..=n {
            let shares = Shares::new(ranks - 1, ranks, n, &[1]);
            let mut sums: Vec<f32> =
                shares.nodes().iter().map(|node| tree(&parts[node.span.clone()])).collect();
            for &(into, left) in shares.sums() {
                sums[into] += sums[left];
            }
            let sum = sums.last().unwrap();
            assert_eq!(sum.to_bits(), tree(&parts).to_bits(), "{n} parts on {ranks} ranks");
        }
    }
}

#[test]
fn every_micro_batch_and_every_tile_has_one_rank() {
    let tiles: Vec<usize> = (0..41).map(|i| 1 + i * 37 % 11).collect();
    for n in 1..=40 {
        for ranks in 1..=n {
            let shares = Shares::new(0, ranks, n, &tiles);
            let blocks: Vec<usize> = (0..ranks).flat_map(|rank| shares.block(rank)).collect();
            assert_eq!(blocks, (0..n).collect::<Vec<_>>());
            assert!((0..ranks).all(|rank| shares.block(rank).len().abs_diff(n / ranks) <= 1));
            let owned: Vec<usize> = (0..ranks).flat_map(|rank| shares.owned(rank)).collect();
            assert_eq!(owned, (0..tiles.len()).collect::<Vec<_>>());
            for rank in 0..ranks {
                assert!(shares.owned(rank).all(|tile| shares.owner(tile) == rank));
            }
            let spans = shares.nodes().iter().flat_map(|node| {
                assert!(shares.block(node.rank).contains(&node.span.start));
                assert!(node.span.end <= shares.block(node.rank).end);
                node.span.clone()
            });
            assert_eq!(spans.collect::<Vec<_>>(), (0..n).collect::<Vec<_>>());
            for k in 0..n {
                assert!(shares.nodes()[shares.node_of(k)].span.contains(&k));
            }
        }
    }
}

#[test]
fn one_rank_alone_and_ranks_with_powers_of_two_have_one_node_each() {
    for (ranks, micro_batches) in [(1, 1), (1, 7), (2, 8), (4, 8), (3, 12), (3, 6), (5, 20)] {
        let shares = Shares::new(0, ranks, micro_batches, &[1]);
        assert_eq!(shares.nodes().len(), ranks, "{micro_batches} on {ranks}");
    }
    assert!(Shares::new(0, 3, 8, &[1]).nodes().len() > 3, "blocks that are no subtrees");
}

#[test]
fn what_was_written_is_read() {
    for text in ["", "a", "four", "longer: \u{e4}\u{2208}"] {
        let mut message = Write::default();
        message.text(text).number(u64::MAX - 1).float(-0.0).all(&[5, 6, 7]);
        let words = message.words();
        let mut read = Read::new(&words);
        assert_eq!((read.text().as_str(), read.number()), (text, u64::MAX - 1));
        assert_eq!(read.float().to_bits(), (-0.0f64).to_bits());
        assert_eq!(read.rest(), [5, 6, 7]);
    }
}

#[test]
fn a_message_that_is_cut_short_reads_as_nothing() {
    let mut read = Read::new(&[9]);
    assert_eq!((read.number(), read.number(), read.text().as_str()), (9, 0, ""));
    let mut read = Read::new(&[100, 0, 0x61_61_61_61]);
    assert_eq!(read.text(), "aaaa");
}

/// What each of these ranks is told.
fn agreed(all: Vec<Credentials>) -> Vec<Verdict> {
    std::thread::scope(|scope| {
        let links = local(all.len()).into_iter().zip(all);
        let threads: Vec<_> =
            links.map(|(mut link, own)| scope.spawn(move || agree(&mut link, &own))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn ranks_that_differ_do_not_begin_and_all_hear_in_what() {
    let given = |kernels: &str, lr: &str| {
        let facts = [("kernels", kernels), ("--lr", lr)];
        Credentials::ready(facts.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec())
    };
    let same = || given("avx512", "0.001");
    assert_eq!(agreed(vec![same(), same(), same()]), vec![Verdict::Begin; 3]);
    assert_eq!(agreed(vec![same()]), [Verdict::Begin], "alone");
    let why_of = |all: Vec<Credentials>| -> Vec<(String, u8)> {
        let why = |verdict| match verdict {
            Verdict::Refused { why, code } => (why, code),
            Verdict::Begin => panic!("they differ"),
        };
        agreed(all).into_iter().map(why).collect()
    };
    for (other, said) in [
        (given("avx2", "0.001"), "rank 2 on here has kernels avx2, and rank 0 has avx512"),
        (given("avx512", "0.01"), "rank 2 on here has --lr 0.01, and rank 0 has 0.001"),
        (Credentials::ready(Vec::new()), "rank 2 on here has kernels none"),
    ] {
        for (why, code) in why_of(vec![same(), same(), other.clone()]) {
            assert!(why.starts_with(said), "{why}");
            assert_eq!(code, 2);
        }
    }
    let refused = Credentials::refused("no such flag".to_owned(), 2);
    let all = why_of(vec![same(), refused.clone()]);
    assert_eq!(all, vec![("rank 1 on here: no such flag".to_owned(), 2); 2]);
    assert_eq!(why_of(vec![refused, same()])[1].0, "no such flag");
}

#[test]
fn more_settings_than_a_message_holds_end_in_a_message_all_the_same() {
    let long = |n: usize| Credentials::ready(vec![("paths".to_owned(), "x".repeat(n))]);
    assert_eq!(agreed(vec![long(10_000), long(10_000)]), vec![Verdict::Begin; 2]);
    assert!(matches!(agreed(vec![long(1), long(1_000_000)])[1], Verdict::Refused { .. }));
}
