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
    path 5_000,
    request 5_000,
    credentials 2_000,
    response 10_000,
    json 10_000,
    form 10_000,
    multipart 10_000,
    text 10_000,
    media_type 10_000,
    envelope 2_000,
    payload 200,
    headers 10_000,
    upstream_head 20_000,
    guard 2_000,
    wire 2_000,
    frames 2_000,
    proxy_protocol 20_000,
    introspection 20_000,
    revocations 20_000,
}
