#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| segue_redis::fuzz_bus(data));
