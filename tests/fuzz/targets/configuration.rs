//! Runs `tidegate_fuzz::configuration` under libFuzzer.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::configuration(data));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("run this by: cargo fuzz run --fuzz-dir tests/fuzz configuration");
}
