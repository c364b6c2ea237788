//! Runs `tollgate_fuzz::handles` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tollgate_fuzz::handles(data));
