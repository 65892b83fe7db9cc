#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kithara::decode::fuzzing::ogg(bytes));
