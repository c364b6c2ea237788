//! Runs `tollgate_fuzz::scrub` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tollgate_fuzz::scrub(data));
