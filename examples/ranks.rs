//! How far one model's training would scale over ranks: step time on paper and simulated, up to 1,024.
//!
//! `cargo run --release --example ranks` measures what a core of this machine needs and prints tables for
//! four networks; `-- --help` lists the flags. What the columns mean, and what follows from them, stands
//! in the guide's page on ranks; how it is computed, in `twelvefold::ranks::forecast`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "that is what it is for")]

#[path = "ranks/measure.rs"]
mod measure;
#[path = "ranks/tables.rs"]
mod tables;

use std::process::ExitCode;
use std::str::FromStr;
use tables::{Asked, Table};
use twelvefold::model::{Config, tiles};
use twelvefold::ranks::forecast::{Costs, Network};

const HELP: &str = "How far training would scale over ranks, on paper and simulated

  --vocab 4096 --layers 6 --heads 6 --width 384 --context 256 --batch 4
                         the model, and the sequences of a micro-batch
  --micro-batches 1024   in a step of the first table, whatever the ranks
  --per-rank 4           in a step of the second table
  --speed 1              a rank is so many times as fast as what was measured: its cores
  --costs A,B,ADD,SQUARE,UPDATE,ADOPT
                         seconds of the two phases of a micro-batch, and of four passes over a parameter;
                         measured where not given
  --network NAME         shared-memory, loopback-tcp, 10gbe, infiniband-100g; all where not given
  --network LATENCY,BANDWIDTH,OVERHEAD
                         another: seconds, bytes a second, seconds a message
  --ranks N,N,...        the rows
  --bytes-per-token 4    of text, for what rank 0 has to read
  --table strong|weak|batch|ways
                         one table alone; `ways`, other protocols, is shown only so
  --parts                the parts of the step, on paper";

fn main() -> ExitCode {
    let mut flags: Vec<String> = std::env::args().skip(1).collect();
    if flags.iter().any(|flag| flag == "-h" || flag == "--help") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match ask(&mut flags) {
        Ok(asked) => asked.print(),
        Err(message) => {
            eprintln!("error: {message}\nhint: --help lists the flags");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Takes a flag's value out of the flags.
fn take<T: FromStr>(flags: &mut Vec<String>, name: &str) -> Result<Option<T>, String> {
    let Some(at) = flags.iter().position(|flag| flag == name) else {
        return Ok(None);
    };
    if at + 1 == flags.len() {
        return Err(format!("{name} lacks its value"));
    }
    let value = flags.drain(at..at + 2).nth(1).unwrap_or_default();
    let parsed = value.parse().map_err(|_| format!("{name} {value}: not a value of it"));
    parsed.map(Some)
}

/// Numbers with commas between.
#[derive(Debug)]
struct List<T>(Vec<T>);

impl<T: FromStr> FromStr for List<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(List)
    }
}

fn ask(flags: &mut Vec<String>) -> Result<Asked, String> {
    let size = |flags: &mut Vec<String>, name, usual| {
        let size = take(flags, name)?.unwrap_or(usual);
        if size == 0 { Err(format!("{name} 0: it must be at least 1")) } else { Ok(size) }
    };
    let config = Config {
        vocab: size(flags, "--vocab", 4096)?,
        layers: size(flags, "--layers", 6)?,
        heads: size(flags, "--heads", 6)?,
        width: size(flags, "--width", 384)?,
        context: size(flags, "--context", 256)?,
    };
    config.check().map_err(|error| error.to_string())?;
    let batch = size(flags, "--batch", 4)?;
    let micro_batches = size(flags, "--micro-batches", 1024)?;
    let per_rank = size(flags, "--per-rank", 4)?;
    let speed: f64 = take(flags, "--speed")?.unwrap_or(1.0);
    let bytes_per_token = take(flags, "--bytes-per-token")?.unwrap_or(4.0);
    let given: Option<List<f64>> = take(flags, "--costs")?;
    let networks = networks(flags)?;
    let rows: Option<List<usize>> = take(flags, "--ranks")?;
    let usual = || [1, 2, 3, 4, 5, 6, 8, 12, 16, 32, 48, 64, 128, 256, 512, 1024].to_vec();
    if rows.as_ref().is_some_and(|rows| rows.0.contains(&0)) {
        return Err("--ranks: each must be at least 1".to_owned());
    }
    let table = take::<String>(flags, "--table")?.map(|name| Table::of(&name)).transpose()?;
    let parts = flags.iter().position(|flag| flag == "--parts").map(|at| flags.remove(at));
    if let Some(unknown) = flags.first() {
        return Err(format!("{unknown}: no such flag"));
    }
    let costs = match given.map(|list| list.0).as_deref() {
        Some(costs @ &[phase_a, phase_b, add, square, update, adopt])
            if costs.iter().all(|cost| (0.0..f64::MAX).contains(cost)) =>
        {
            Costs { phase_a, phase_b, add, square, update, adopt }
        }
        Some(_) => return Err("--costs: six numbers of at least 0 with commas between".to_owned()),
        None => measure::costs(config, batch).map_err(|error| error.to_string())?,
    };
    if speed.is_nan() || speed <= 0.0 {
        return Err(format!("--speed {speed}: it must be above 0"));
    }
    let Costs { phase_a, phase_b, add, square, update, adopt } = costs;
    println!("--costs {phase_a:.4},{phase_b:.4},{add:.2e},{square:.2e},{update:.2e},{adopt:.2e}");
    Ok(Asked {
        tiles: tiles(&config).iter().map(|tile| tile.len()).collect(),
        tokens: batch * config.context,
        micro_batches,
        per_rank,
        costs: costs.sped_up(speed),
        networks,
        rows: rows.map_or_else(usual, |rows| rows.0),
        bytes_per_token,
        table,
        has_parts: parts.is_some(),
    })
}

fn networks(flags: &mut Vec<String>) -> Result<Vec<Network>, String> {
    let mut networks = Vec::new();
    while let Some(name) = take::<String>(flags, "--network")? {
        let preset = Network::PRESETS.into_iter().find(|network| network.name == name);
        let own = || match name.parse::<List<f64>>().map(|list| list.0).as_deref() {
            Ok(&[latency, bandwidth, overhead])
                if latency >= 0.0 && bandwidth > 0.0 && overhead >= 0.0 =>
            {
                Ok(Network { name: "own", latency, bandwidth, overhead })
            }
            _ => Err(format!("--network {name}: no such network")),
        };
        networks.push(preset.map_or_else(own, Ok)?);
    }
    Ok(if networks.is_empty() { Network::PRESETS.to_vec() } else { networks })
}
