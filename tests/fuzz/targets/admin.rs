//! Runs `tidegate_fuzz::admin` under libFuzzer.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::admin(data));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("run this by: cargo fuzz run --fuzz-dir tests/fuzz admin");
}
