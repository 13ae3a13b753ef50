//! Runs `tidegate_fuzz::routes` under libFuzzer.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::routes(data));

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("run this by: cargo fuzz run --fuzz-dir tests/fuzz routes");
}
