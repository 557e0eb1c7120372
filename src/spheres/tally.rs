//! What the ranks' losses and gradients come to: each tells rank 0, which tells all.

use super::Spheres;
use super::plan::Outcome;
use super::task::MicroBatch;
use super::team::{ANSWER, COMMAND};
use crate::ranks::{Read, Words, Write};

impl Spheres {
    /// Words of the largest tally.
    pub(super) fn tally_words(&self) -> usize {
        let shares = self.work.shares();
        let words = |rank| 6 * shares.block(rank).len() + 2 * shares.owned(rank).len();
        (0..shares.ranks()).map(words).max().unwrap_or(0)
    }

    /// What all ranks' losses and gradients come to, by rank 0. `None`: this rank was stopped.
    pub(super) fn agree(&mut self) -> Option<Outcome> {
        let (rank, ranks) = (self.work.shares().rank(), self.work.shares().ranks());
        let own = self.tally();
        if rank != 0 {
            self.team().send(0, ANSWER, own);
            self.team().expect(0, COMMAND, VERDICT_WORDS);
            let verdict = self.next_message()?;
            let outcome = read_outcome(&mut Read::new(&verdict));
            self.team().give_back(verdict);
            return Some(outcome);
        }
        let mut tallies = vec![own.words()];
        tallies.resize_with(ranks, Words::new);
        if !self.drive(|_, team| team.messages() == ranks - 1) {
            return None;
        }
        while let Some((from, words)) = self.team().message() {
            tallies[from] = words;
        }
        let outcome = self.outcome_of(&tallies);
        tallies.into_iter().for_each(|words| self.team().give_back(words));
        let mut verdict = self.team().buffer();
        write_outcome(&mut verdict, &outcome);
        self.team().send_all(COMMAND, verdict);
        Some(outcome)
    }

    /// What this rank's micro-batches and owned tiles gave.
    fn tally(&mut self) -> Write {
        let mut tally = self.team().buffer();
        for MicroBatch { loss, bad } in self.work.micros() {
            tally.float(loss);
            let (sequence, sphere) = bad.map_or((NONE, NONE), |(q, s)| (q as u64, s as u64));
            tally.number(sequence).number(sphere);
        }
        for tile in self.owned() {
            tally.float(self.work.with_state(tile, |state| state.squares));
        }
        tally
    }

    fn outcome_of(&self, tallies: &[Words]) -> Outcome {
        let shares = self.work.shares();
        let mut outcome = self.work.outcome();
        let mut squares = Vec::with_capacity(self.work.tiles().len());
        // In the order of micro-batches and of tiles, as one process adds them.
        for (rank, tally) in tallies.iter().enumerate() {
            let mut read = Read::new(tally);
            let micro = |_| {
                let (loss, sequence, sphere) = (read.float(), read.number(), read.number());
                let bad = (sequence != NONE).then_some((sequence as usize, sphere as usize));
                MicroBatch { loss, bad }
            };
            let block = shares.block(rank);
            let micros: Vec<MicroBatch> = block.clone().map(micro).collect();
            outcome.add(rank, block.start, &micros);
            squares.extend(shares.owned(rank).map(|_| read.float()));
        }
        outcome.grad_norm = squares.iter().sum::<f64>().sqrt();
        outcome
    }
}

/// No number.
const NONE: u64 = u64::MAX;

/// Words of an outcome.
pub(super) const VERDICT_WORDS: usize = 14;

pub(super) fn write_outcome(message: &mut Write, outcome: &Outcome) {
    let number = |n: Option<usize>| n.map_or(NONE, |n| n as u64);
    let Outcome { loss_sum, targets, grad_norm, bad_sequence, bad_sphere, bad_rank } = *outcome;
    message.float(loss_sum).number(targets).float(grad_norm);
    message
        .number(number(bad_sequence.map(|bad| bad.0)))
        .number(number(bad_sequence.map(|bad| bad.1)));
    message.number(number(bad_sphere)).number(bad_rank as u64);
}

pub(super) fn read_outcome(read: &mut Read<'_>) -> Outcome {
    let (loss_sum, targets, grad_norm) = (read.float(), read.number(), read.float());
    let mut number = || Some(read.number()).filter(|&n| n != NONE).map(|n| n as usize);
    let bad_sequence = number().zip(number());
    let (bad_sphere, bad_rank) = (number(), number().unwrap_or(0));
    Outcome { loss_sum, targets, grad_norm, bad_sequence, bad_sphere, bad_rank }
}
