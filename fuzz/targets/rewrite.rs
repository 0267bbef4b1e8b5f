#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| incus_gate_fuzz::rewrite::holds(data));
