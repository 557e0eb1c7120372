//! The tables, in Markdown.

use twelvefold::ranks::Shares;
use twelvefold::ranks::forecast::{Costs, Network, Order, Parts, Step, halving, paper, simulate};

/// What is to be shown.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) tiles: Vec<usize>,
    /// Of a micro-batch.
    pub(super) tokens: usize,
    pub(super) micro_batches: usize,
    pub(super) per_rank: usize,
    pub(super) costs: Costs,
    pub(super) networks: Vec<Network>,
    pub(super) rows: Vec<usize>,
    pub(super) bytes_per_token: f64,
    pub(super) table: Option<Table>,
    pub(super) has_parts: bool,
}

/// One of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// A fixed number of micro-batches.
    Strong,
    /// A fixed number for each rank.
    Weak,
    /// Which number for each rank keeps how much of the speed.
    Batch,
    /// Other ways to send the same.
    Ways,
}

impl Table {
    const ALL: [(&str, Table); 4] = [
        ("strong", Table::Strong),
        ("weak", Table::Weak),
        ("batch", Table::Batch),
        ("ways", Table::Ways),
    ];

    pub(super) fn of(name: &str) -> Result<Table, String> {
        let found = Table::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, table)| *table).ok_or_else(|| format!("--table {name}: no such table"))
    }
}

/// Milliseconds.
fn ms(seconds: f64) -> String {
    let ms = 1e3 * seconds;
    if ms >= 100.0 { format!("{ms:.0}") } else { format!("{ms:.1}") }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

/// Prints a row.
fn row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

/// Prints the names of columns.
fn head(names: &[&str]) {
    row(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    println!("|{}", "---|".repeat(names.len()));
}

impl Asked {
    pub(super) fn print(&self) {
        let n: usize = self.tiles.iter().sum();
        let largest = self.tiles.iter().max().copied().unwrap_or_default();
        println!(
            "{n} parameters in {} tiles of at most {largest}; {} tokens a micro-batch, {} ms of a rank; \
             update {} ms, sum {} ms a node",
            self.tiles.len(),
            self.tokens,
            ms(self.costs.phase_a + self.costs.phase_b),
            ms(self.costs.update * n as f64),
            ms(self.costs.add * n as f64),
        );
        for network in &self.networks {
            println!(
                "\n## {}: {:.1} us, {:.2} GB/s, {:.1} us a message",
                network.name,
                1e6 * network.latency,
                network.bandwidth / 1e9,
                1e6 * network.overhead
            );
            for (_, table) in Table::ALL {
                if self.table.map_or(table != Table::Ways, |wanted| wanted == table) {
                    self.table(table, network);
                }
            }
        }
    }

    fn step(&self, micro_batches: usize) -> Step<'_> {
        Step { tiles: &self.tiles, micro_batches, tokens: self.tokens, costs: self.costs }
    }

    fn table(&self, table: Table, network: &Network) {
        match table {
            Table::Strong => {
                println!("\n{} micro-batches in a step, in milliseconds\n", self.micro_batches);
                self.scaling(network, |_| self.micro_batches);
            }
            Table::Weak => {
                println!("\n{} micro-batches a rank, in milliseconds\n", self.per_rank);
                self.scaling(network, |ranks| ranks * self.per_rank);
            }
            Table::Batch => self.batch(network),
            Table::Ways => self.ways(network),
        }
    }

    fn scaling(&self, network: &Network, micro_batches: impl Fn(usize) -> usize) {
        let mut names = vec!["ranks", "owners", "block", "nodes"];
        if self.has_parts {
            names.extend(Parts::default().named().map(|(name, _)| name));
        }
        names.extend(["paper", "simulated", "speed-up", "efficiency", "limit", "text MB/s"]);
        head(&names);
        let alone = simulate(&self.step(micro_batches(1)), 1, network, Order::default()).total();
        for &ranks in &self.rows {
            let step = self.step(micro_batches(ranks));
            if ranks > step.micro_batches {
                println!("| {ranks} |{}", " – |".repeat(names.len() - 1));
                continue;
            }
            let shares = Shares::new(0, ranks, step.micro_batches, &self.tiles);
            let owners = (0..ranks).filter(|&rank| !shares.owned(rank).is_empty()).count();
            let nodes = shares.nodes().len() as f64 / ranks as f64;
            let on_paper = paper(&step, ranks, network);
            let simulated = simulate(&step, ranks, network, Order::default());
            let seconds = simulated.total();
            let work = step.micro_batches as f64 / micro_batches(1) as f64;
            let speed_up = work * alone / seconds;
            let text = self.bytes_per_token * (step.micro_batches * self.tokens) as f64 / seconds;
            let blocks = step.micro_batches.div_ceil(ranks);
            let mut cells = vec![
                ranks.to_string(),
                owners.to_string(),
                blocks.to_string(),
                format!("{nodes:.1}"),
            ];
            if self.has_parts {
                cells.extend(on_paper.named().map(|(_, seconds)| ms(seconds)));
            }
            cells.extend([ms(on_paper.total()), ms(seconds), format!("{speed_up:.1}")]);
            cells.extend([percent(speed_up / ranks as f64), simulated.limit().to_owned()]);
            cells.push(format!("{:.2}", text / 1e6));
            row(&cells);
        }
    }

    fn batch(&self, network: &Network) {
        let numbers = [1, 2, 4, 8, 16, 32];
        println!("\nefficiency by micro-batches a rank\n");
        let names = numbers.map(|number| number.to_string());
        head(&[&["ranks"][..], &names.each_ref().map(|name| name.as_str())].concat());
        for &ranks in self.rows.iter().filter(|ranks| **ranks > 1) {
            let efficiency = |number: usize| {
                let step = self.step(ranks * number);
                let alone = self.step(number);
                let alone = simulate(&alone, 1, network, Order::default()).total();
                percent(alone / simulate(&step, ranks, network, Order::default()).total())
            };
            let cells = numbers.map(efficiency);
            row(&[&[ranks.to_string()][..], &cells].concat());
        }
    }

    /// The step as it is and by number, with tiles that are cut until each rank owns as much, and summed
    /// otherwise. 1,024 ranks with cut tiles are two million messages: ten seconds.
    fn ways(&self, network: &Network) {
        println!("\nother ways, {} micro-batches a rank, in milliseconds\n", self.per_rank);
        head(&["ranks", "ideal", "now", "by number", "now, cut", "by number, cut", "halving"]);
        for &ranks in self.rows.iter().filter(|ranks| ranks.is_power_of_two() && **ranks > 1) {
            let step = self.step(ranks * self.per_rank);
            let cut = self.cut(ranks);
            let cut = Step { tiles: &cut, ..step };
            let ideal = simulate(&cut, ranks, &Network::IDEAL, Order::default()).total();
            let seconds = |step, order| ms(simulate(step, ranks, network, order).total());
            row(&[
                ranks.to_string(),
                ms(ideal),
                seconds(&step, Order::default()),
                seconds(&step, Order::Numbered),
                seconds(&cut, Order::default()),
                seconds(&cut, Order::Numbered),
                ms(halving(&step, ranks, network).total()),
            ]);
        }
    }

    /// The tiles, cut into pieces of nearly one size that are no larger than what a rank would own.
    fn cut(&self, ranks: usize) -> Vec<usize> {
        let share = self.tiles.iter().sum::<usize>().div_ceil(ranks);
        let pieces = |&tile: &usize| {
            let pieces = tile.div_ceil(share);
            (0..pieces).map(move |piece| (piece + 1) * tile / pieces - piece * tile / pieces)
        };
        self.tiles.iter().flat_map(pieces).collect()
    }
}
