//! Runs `tollgate_fuzz::json_field` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tollgate_fuzz::json_field(data));
