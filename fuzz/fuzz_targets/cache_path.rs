#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| kithara::cache::fuzzing::path(text));
