//! Runs `tollgate_fuzz::usage` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tollgate_fuzz::usage(data));
