//! A short, repeatable run of every target: its corpus, then a fixed number of mutations from a fixed seed.

use stockade_fuzz::driver::{Until, run};
use stockade_fuzz::find;

/// About a second each on one quiet core.
fn smoke(name: &str, executions: u64) {
    let target = find(name).expect("a target");
    let corpus = target.corpus().len() as u64;
    assert!(corpus > 0, "{name} has no corpus");
    let report = run(target, 0x5eed, Until::Executions(corpus + executions));
    let broken = report.broken.map(|broken| (broken.message, String::from_utf8_lossy(&broken.input).into_owned()));
    assert_eq!(broken, None, "{name}");
    assert!(report.behaviours > 3, "{name} does one thing only: {} behaviours", report.behaviours);
}

macro_rules! smoke {
    ($($name:ident $executions:literal),* $(,)?) => {
        $(#[test] fn $name() { smoke(stringify!($name), $executions); })*

        #[test]
        fn every_target_is_smoked() {
            let known: Vec<&str> = stockade_fuzz::TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(known, [$(stringify!($name)),*]);
        }
    };
}

smoke! {
    path 15_000,
    request 15_000,
    credentials 6_000,
    dpop 10_000,
    response 30_000,
    json 30_000,
    form 30_000,
    multipart 30_000,
    text 30_000,
    media_type 30_000,
    envelope 6_000,
    payload 6_000,
    headers 30_000,
    upstream_head 60_000,
    guard 6_000,
    wire 6_000,
    frames 6_000,
    proxy_protocol 60_000,
    introspection 60_000,
    revocations 60_000,
}
