//! Runs `tollgate_fuzz::authority` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tollgate_fuzz::authority(data));
