//! libFuzzer around one target, which `STOCKADE_FUZZ_TARGET` names: one program for all, since building takes longer than fuzzing.
#![no_main]

use std::sync::LazyLock;

use stockade_fuzz::{Target, find};

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("STOCKADE_FUZZ_TARGET").unwrap_or_default();
    find(&name).unwrap_or_else(|| {
        eprintln!("stockade-libfuzzer: error: `{name}` in STOCKADE_FUZZ_TARGET is not a target");
        std::process::exit(2)
    })
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    (TARGET.run)(data);
});
