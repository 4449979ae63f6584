//! A mutating driver for stable Rust: seeded, bounded in memory, guided by the fingerprints that targets answer with.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::Target;

const MAX_INPUT_BYTES: usize = 4_096;
const MAX_POOL: usize = 4_096;
const MAX_POOL_BYTES: usize = 16 << 20;
/// No input of this size may take so long, on however busy a machine.
const MAX_SECONDS_PER_INPUT: u64 = 20;

/// When to stop.
#[derive(Clone, Copy)]
pub enum Until {
    Executions(u64),
    Elapsed(Duration),
}

/// What a run did.
pub struct Report {
    pub executions: u64,
    /// Inputs that showed something new.
    pub behaviours: usize,
    pub seconds: f64,
    pub broken: Option<Broken>,
}

/// An input that broke a property, smaller than it was found, and which.
#[derive(Debug)]
pub struct Broken {
    pub input: Vec<u8>,
    pub message: String,
}

/// xorshift64*: a failure can be repeated from its seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        ((self.next() >> 33) % limit.max(1) as u64) as usize
    }
}

/// Runs the corpus, then mutations of it. Panics are caught; whoever wants no noise sets a quiet hook.
pub fn run(target: &Target, seed: u64, until: Until) -> Report {
    let started = Instant::now();
    let mut session =
        Session { target, pool: Vec::new(), pool_bytes: 0, known: HashSet::new(), executions: 0, behaviours: 0 };
    let mut broken = session.run_corpus();
    let mut random = Random::new(seed);
    while broken.is_none() {
        let enough = match until {
            Until::Executions(limit) => session.executions >= limit,
            Until::Elapsed(limit) => started.elapsed() >= limit,
        };
        if enough {
            break;
        }
        let input = session.mutate(&mut random);
        broken = session.execute(input);
    }
    let broken = broken.map(|broken| minimise(target, broken));
    let Session { executions, behaviours, .. } = session;
    Report { executions, behaviours, seconds: started.elapsed().as_secs_f64(), broken }
}

struct Session<'t> {
    target: &'t Target,
    pool: Vec<Vec<u8>>,
    pool_bytes: usize,
    known: HashSet<u64>,
    executions: u64,
    behaviours: usize,
}

impl Session<'_> {
    fn run_corpus(&mut self) -> Option<Broken> {
        let mut corpus = self.target.corpus();
        corpus.push(Vec::new());
        corpus.into_iter().find_map(|input| self.execute(input))
    }

    fn execute(&mut self, input: Vec<u8>) -> Option<Broken> {
        self.executions += 1;
        match attempt(self.target, &input) {
            Ok(print) => {
                if self.known.insert(print) {
                    self.behaviours += 1;
                    self.keep(input);
                }
                None
            }
            Err(message) => Some(Broken { input, message }),
        }
    }

    fn keep(&mut self, input: Vec<u8>) {
        self.pool_bytes += input.len();
        self.pool.push(input);
        while self.pool.len() > MAX_POOL || self.pool_bytes > MAX_POOL_BYTES {
            // The older half has been mutated often enough.
            let gone = self.pool.swap_remove(self.executions as usize % self.pool.len());
            self.pool_bytes -= gone.len();
        }
    }

    fn pick(&self, random: &mut Random) -> &[u8] {
        // What was found last is mutated most.
        let from = if random.below(3) == 0 { self.pool.len().saturating_sub(32) } else { 0 };
        self.pool.get(from + random.below(self.pool.len() - from)).map(Vec::as_slice).unwrap_or_default()
    }

    fn mutate(&self, random: &mut Random) -> Vec<u8> {
        let mut input = self.pick(random).to_vec();
        for _ in 0..1 + random.below(4) {
            self.change(&mut input, random);
        }
        input.truncate(MAX_INPUT_BYTES);
        input
    }

    fn change(&self, input: &mut Vec<u8>, random: &mut Random) {
        let at = random.below(input.len() + 1);
        let span = at..(at + 1 + random.below(16)).min(input.len());
        let words = self.target.words;
        match random.below(10) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = random.next() as u8,
            2 => input.insert(at, random.next() as u8),
            3 if at < input.len() => drop(input.drain(span)),
            4 if at < input.len() => {
                let copy = input[span].to_vec();
                let place = random.below(input.len() + 1);
                drop(input.splice(place..place, copy));
            }
            5 if at < input.len() => input[at] = input[at].wrapping_add([1, 255, 32, 224][random.below(4)]),
            6 | 7 if !words.is_empty() => {
                let word = words[random.below(words.len())].bytes();
                let end = if random.below(2) == 0 { at } else { (at + word.len()).min(input.len()) };
                drop(input.splice(at..end, word));
            }
            8 => {
                let other = self.pick(random);
                let from = random.below(other.len() + 1);
                let piece = &other[from..(from + 1 + random.below(64)).min(other.len())];
                drop(input.splice(at..at, piece.iter().copied()));
            }
            _ => {
                let other = self.pick(random);
                input.truncate(at);
                input.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
        }
    }
}

/// The fingerprint, or which property broke.
fn attempt(target: &Target, input: &[u8]) -> Result<u64, String> {
    let started = Instant::now();
    let print = catch_unwind(AssertUnwindSafe(|| (target.run)(input))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
    })?;
    let seconds = started.elapsed().as_secs();
    if seconds < MAX_SECONDS_PER_INPUT { Ok(print) } else { Err(format!("took {seconds} s")) }
}

/// Cuts pieces out for as long as the rest still breaks something.
fn minimise(target: &Target, mut broken: Broken) -> Broken {
    let mut size = broken.input.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < broken.input.len() {
            let mut input = broken.input.clone();
            drop(input.drain(at..(at + size).min(input.len())));
            match attempt(target, &input) {
                Ok(_) => at += size,
                Err(message) => broken = Broken { input, message },
            }
        }
        size /= 2;
    }
    broken
}

/// Where crashers go.
pub fn artifacts(target: &Target) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(target.name)
}
